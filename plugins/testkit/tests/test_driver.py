"""The suite of failing driver calls passes an adapter without defects, and fails each defect it is for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from turnkeep.contract import Expect
from turnkeep.errors import StorageUnavailable
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite

from .wire import WireAdapter, serving


def through(calls, kind=WireAdapter):
    """The adapter, whose driver is its exchange with the server."""

    class Failing(kind):
        async def _exchange(self, connection, operation, arguments, options):
            with calls.call(operation):
                return await super()._exchange(connection, operation, arguments, options)

    return Failing


class TestWire(DriverFaultSuite):
    @pytest.fixture
    def driver_calls(self):
        return DriverCalls(lambda: ConnectionResetError("made up"))

    @pytest.fixture
    def make_adapter(self, driver_calls):
        with serving() as url:
            yield lambda: through(driver_calls)(url)


class CallsALostReplyUnavailable(WireAdapter):
    def _lost(self, commit_id, operation):
        return StorageUnavailable("connection lost", adapter=self.name, operation=operation)


class CommitsInTwoSteps(WireAdapter):
    async def commit(self, commit):
        if not isinstance(commit.expect, Expect) and commit.messages:
            one, *rest = commit.messages
            first = await super().commit(replace(commit, messages=(one,), data=None, state=None))
            commit = replace(commit, messages=tuple(rest), expect=first.token, commit_id=f"{commit.commit_id} 2")
        return await super().commit(commit)


class LetsTheDriversErrorThrough(WireAdapter):
    async def _read(self, operation, *arguments, **options):
        connection = await self._borrow()
        answer = await self._exchange(connection, operation, arguments, options)
        return self._settle(connection, answer)


class LosesTheCause(WireAdapter):
    async def load(self, key, query):
        try:
            return await super().load(key, query)
        except StorageUnavailable as error:
            raise StorageUnavailable(str(error), adapter=self.name) from None


DEFECTS = {
    CallsALostReplyUnavailable: ("commit", "after", "says that nothing was written"),
    CommitsInTwoSteps: ("commit", "before", "half of it took effect"),
    LetsTheDriversErrorThrough: ("load", "before", "ended with ConnectionResetError"),
    LosesTheCause: ("load", "before", "is lost"),
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_the_defect_is_caught(defect):
    operation, when, said = DEFECTS[defect]
    suite, calls = DriverFaultSuite(), DriverCalls(lambda: ConnectionResetError("made up"))
    with serving() as url:
        suite.prepare(lambda: through(calls, defect)(url))
        suite.calls = calls
        with pytest.raises(AssertionError, match=said):
            suite.test_t7_the_nth_driver_call_fails(operation, when)


def test_an_adapter_whose_calls_are_not_counted_is_told():
    suite, calls = DriverFaultSuite(), DriverCalls(lambda: ConnectionResetError("made up"))
    with serving() as url:
        suite.prepare(lambda: WireAdapter(url))
        suite.calls = calls
        with pytest.raises(AssertionError, match="no driver call was counted"):
            suite.test_t7_the_nth_driver_call_fails("load", "before")


async def test_the_nth_call_fails_once_before_or_after():
    calls, done = DriverCalls(lambda: OSError("made up")), []

    async def work(name):
        with calls.call(name):
            await asyncio.sleep(0)
            done.append(name)

    for when, expected in (("before", ["one", "three"]), ("after", ["one", "two", "three"])):
        calls.arm(2, when)
        done.clear()
        await work("one")
        assert calls.failed is None
        with pytest.raises(OSError, match="made up"):
            await work("two")
        await work("three")
        assert (calls.failed, done) == ("two", expected)
