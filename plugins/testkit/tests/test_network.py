"""The network suites pass an adapter without defects, and fail each defect they are for."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import warnings
from contextlib import suppress

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.errors import CommitOutcomeUnknown, StorageUnavailable, TurnkeepError
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit.faults import NetworkFaultSuite
from turnkeep_testkit.parameters import parameters_of

from .wire import WireAdapter, send, serving


class TestWire(NetworkFaultSuite):
    @pytest.fixture
    def server_url(self):
        with serving() as url:
            yield url

    @pytest.fixture
    def make_adapter_at(self):
        return WireAdapter


# Adapters with one defect each


class CallsALostReplyUnavailable(WireAdapter):
    def _lost(self, commit_id, operation):
        return StorageUnavailable("connection lost", adapter=self.name, operation=operation)


class SendsAgainByItself(WireAdapter):
    async def _write(self, operation, commit_id, *arguments, **options):
        try:
            return await super()._write(operation, commit_id, *arguments, **options)
        except CommitOutcomeUnknown:
            return await super()._write(operation, commit_id, *arguments, **options)


class TakesALostConnectionForAbsence(WireAdapter):
    async def load(self, key, query):
        try:
            return await super().load(key, query)
        except StorageUnavailable:
            return None


class KeepsTheConnectionOfACancelledRead(WireAdapter):
    def _drop(self, connection):
        if isinstance(sys.exception(), asyncio.CancelledError):
            self._idle.append(connection)
        else:
            super()._drop(connection)


class SettlesForEver(WireAdapter):
    async def _wait(self, exchange):
        while not exchange.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({exchange})


class LeavesConnectionsOpen(WireAdapter):
    def _drop(self, connection):
        pass  # stays in `_used`, closed at the end


class TakesOneReadForAMessage(WireAdapter):
    async def _exchange(self, connection, operation, arguments, options):
        await send(connection[1], (operation, arguments, options))
        data = await connection[0].read(1 << 20)
        try:
            return pickle.loads(data[4:])
        except (pickle.UnpicklingError, EOFError) as error:
            raise StorageUnavailable("this is no answer", adapter=self.name) from error


class AsksFirst(WireAdapter):
    async def load(self, key, query):
        await super()._read("check")
        return await super().load(key, query)


class ConnectsForEachCall(WireAdapter):
    def _settle(self, connection, answer):
        result = super()._settle(connection, answer)
        self._idle.remove(connection)
        connection[1].close()
        return result


class SendsTheHistoryAgain(WireAdapter):
    async def commit(self, commit):
        stored = await self.load(commit.key, LoadQuery())
        history = stored.messages if stored else ()
        return await self._write("commit", commit.commit_id, commit, ballast=history)


class ForgetsCommits(MemoryAdapter):
    async def commit(self, commit, ballast=()):
        for record in self._records.values():
            record.past.clear()
        return await super().commit(commit)


class HasBallast(MemoryAdapter):
    async def commit(self, commit, ballast=()):
        return await super().commit(commit)


CAUGHT_BY = {
    CallsALostReplyUnavailable: "test_t4_a_commit_that_is_cut_off_has_an_honest_outcome",
    SendsAgainByItself: "test_t4_a_commit_that_is_cut_off_has_an_honest_outcome",
    TakesALostConnectionForAbsence: "test_t4_a_read_that_is_cut_off_is_an_error_and_never_absence",
    KeepsTheConnectionOfACancelledRead: "test_t6_the_answer_of_a_cancelled_read_reaches_nobody",
    SettlesForEver: "test_t5_a_commit_without_an_answer_ends_at_the_deadline",
    LeavesConnectionsOpen: "test_t5_calls_without_an_answer_leave_no_connection",
    TakesOneReadForAMessage: "test_t5_one_byte_at_a_time_changes_nothing",
    AsksFirst: "test_a_load_takes_one_round_trip",
    ConnectsForEachCall: "test_a_commit_takes_one_round_trip",
    SendsTheHistoryAgain: "test_what_a_commit_sends_does_not_grow_with_the_history",
    ForgetsCommits: "test_t4_every_turn_lands_once_through_cuts",
}


def run(make_adapter_at, url, name):
    for arguments in parameters_of(getattr(NetworkFaultSuite, name)):
        suite = NetworkFaultSuite()
        suite.patience = 0.5
        suite.prepare(suite.lead_through(url, make_adapter_at))
        getattr(suite, name)(**arguments)


@pytest.fixture
def unheard():
    """What an adapter with a defect left open is its defect: the garbage collector tells no later test of it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.usefixtures("unheard")
@pytest.mark.parametrize("defect", CAUGHT_BY, ids=lambda defect: defect.__name__)
def test_the_defect_is_caught(defect):
    on_the_server = issubclass(defect, MemoryAdapter)
    with (
        serving(defect() if on_the_server else HasBallast()) as url,
        pytest.raises((AssertionError, pytest.fail.Exception, TurnkeepError)),
    ):
        run(WireAdapter if on_the_server else defect, url, CAUGHT_BY[defect])
