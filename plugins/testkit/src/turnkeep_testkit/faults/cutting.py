"""T4: connections that break, before, during and after the call that matters."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from turnkeep.contract import Committed, Expect, LoadQuery, MessageQuery, SessionQuery
from turnkeep.errors import CommitOutcomeUnknown, StorageTimeout, StorageUnavailable
from turnkeep_testkit.faults.cuts import Cut
from turnkeep_testkit.faults.through import ThroughProxy
from turnkeep_testkit.honesty import LOST, expect_honest, insist, outcome_of
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import seqs, texts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from turnkeep.contract import Commit
    from turnkeep_testkit.faults.cuts import Strike

_MOST_REQUESTS = 60
_TALKERS = 4
_OUTAGE = 2.0
_SHARE = 0.4

_places = pytest.mark.parametrize("place", list(Cut), ids=lambda place: place.name.lower())


class CutConnectionSuite(ThroughProxy):
    """A connection is cut at every request a call makes, in every place of it: outcomes are honest, nothing is lost."""

    @_places
    @pytest.mark.parametrize("kind", ["new", "token", "any"])
    async def test_t4_a_commit_that_is_cut_off_has_an_honest_outcome(self, kind: str, place: Cut) -> None:
        """Cut at each of its requests in turn, a commit tells what happened; sent again it lands exactly once.

        On failure: an error after the request was sent is `CommitOutcomeUnknown`, unless the commit id was looked up
        since; `StorageUnavailable` promises that nothing was written. A driver that sends again by itself needs the
        commit id looked up within the server's atomic step, and its answer is not `replayed` to the caller.
        """
        async for _ in self._cuts(place):
            commit = await self._commit_of(kind)
            outcome = await self._struck(self.adapter.commit(commit))
            await expect_honest(commit, outcome, self.adapter, witness=self.direct)

    @_places
    async def test_t4_a_delete_that_is_cut_off_has_an_honest_outcome(self, place: Cut) -> None:
        """Cut at each of its requests in turn, a delete tells what happened; called again it is complete.

        On failure: as for a commit. `False` says that there was nothing to delete.
        """
        async for _ in self._cuts(place):
            key = self.new_key()
            await self.direct.commit(new_commit(key, "one"))
            outcome = await self._struck(self.adapter.delete(key))
            there = await self.direct.load(key, LoadQuery()) is not None
            match outcome:
                case True:
                    assert not there
                case CommitOutcomeUnknown(commit_id=""):
                    pass
                case StorageUnavailable() | StorageTimeout():
                    assert there, f"the delete raised {type(outcome).__name__}, which says that nothing was written"
                case _:
                    raise AssertionError(f"the delete ended with {outcome!r}")
            await insist(partial(self.adapter.delete, key))
            assert await self.direct.load(key, LoadQuery()) is None

    @_places
    async def test_t4_a_read_that_is_cut_off_is_an_error_and_never_absence(self, place: Cut) -> None:
        """Cut at each of their requests in turn, reads give the right answer or an error, and work afterwards.

        On failure: the error of a lost connection was taken for an empty answer; the caller would begin anew and
        overwrite what is there.
        """
        key = self.new_key("ana")
        await self.direct.commit(new_commit(key, "one", "two", user_id="ana"))
        reads: dict[str, Callable[[], Awaitable[Any]]] = {
            "load": lambda: self.adapter.load(key, LoadQuery()),
            "read_messages": lambda: self.adapter.read_messages(key, MessageQuery(10)),
            "find_sessions": lambda: self.adapter.find_sessions(SessionQuery(key.scope, 10)),
        }
        await self.lists_settle()
        for name, read in reads.items():
            right = await insist(read)
            async for _ in self._cuts(place):
                outcome = await self._struck(read())
                if isinstance(outcome, BaseException):
                    assert isinstance(outcome, (StorageUnavailable, StorageTimeout)), f"{name}: {outcome!r}"
                else:
                    assert outcome == right, f"{name} answered otherwise"
                assert await insist(read) == right

    async def test_t4_every_turn_lands_once_through_cuts(self) -> None:
        """Sessions go on while their connections are cut again and again, each turn sent until it is acknowledged.

        In the end every turn is there once, whole and in order, and the version counts them.

        On failure: a turn that is there twice was sent again under a commit id that the server did not look up; one
        that lacks was acknowledged before it was durable, or lost with a connection that others shared.
        """
        turns = self.size("T4")
        talkers = [_Talker(self, number, turns // _TALKERS) for number in range(_TALKERS)]
        await asyncio.gather(*(talker.talk() for talker in talkers))
        self.proxy.heal()
        for talker in talkers:
            stored = await self.load(talker.key, adapter=self.direct)
            assert texts(stored.messages) == talker.said
            assert seqs(stored.messages) == list(range(1, len(talker.said) + 1))
            assert stored.head.token.version == turns // _TALKERS
        cuts = sum(strike.struck for talker in talkers for strike in talker.strikes)
        assert cuts > 0
        self.figure("T4", "turns", turns)
        self.figure("T4", "turns lost, torn or stored twice", 0)
        self.figure("T4", "connections cut", cuts)
        self.figure("T4", "outcomes found out by commit id", sum(talker.found_out for talker in talkers))

    async def test_t4_the_server_goes_away_and_comes_back(self) -> None:
        """While nothing can be reached every call is an error that says so; afterwards the same adapter works.

        On failure: a pool hands out connections that are long closed, or an error of connecting is not mapped to
        `StorageUnavailable`.
        """
        key, _ = await self.create("before")
        self.proxy.refuse()
        for call in (
            lambda: self.adapter.load(key, LoadQuery()),
            lambda: self.adapter.commit(new_commit(key, "lost", expect=Expect.ANY)),
        ):
            outcome = await outcome_of(asyncio.wait_for(call(), _OUTAGE))
            # A driver that goes on trying is left at the caller's deadline.
            assert isinstance(outcome, (*LOST, TimeoutError)), f"{outcome!r}"
        report = await asyncio.wait_for(self.adapter.check(), self.deadline / 2)
        assert not report.ok
        self.proxy.heal()
        await insist(lambda: self.adapter.commit(new_commit(key, "after", expect=Expect.ANY)))
        assert texts((await self.load(key)).messages) == ["before", "after"]

    async def _cuts(self, place: Cut) -> AsyncGenerator[Strike]:
        """A cut at the first request from then on, one at the second, …, until there is no such request."""
        for nth in range(1, _MOST_REQUESTS):
            strike = self.proxy.cut(place, nth=nth)
            yield strike
            if not strike.struck:
                assert nth > 1, "no request went through the proxy: does the adapter go around it?"
                return
        raise AssertionError(f"a call made more than {_MOST_REQUESTS} requests")

    async def _struck(self, call: Awaitable[Any]) -> object:
        """The outcome of the call. What is needed to look at it goes through undisturbed."""
        outcome = await outcome_of(call)
        self.proxy.heal()
        return outcome

    async def _commit_of(self, kind: str) -> Commit:
        key = self.new_key()
        if kind == "new":
            return new_commit(key, "one", "two", data='{"a":1}')
        first = await self.direct.commit(new_commit(key, "zero"))
        if kind == "token":
            return new_commit(key, "one", "two", expect=first.token, data='{"a":1}')
        return new_commit(key, "one", "two", expect=Expect.ANY)


class _Talker:
    """One session through bad weather, as Persistence holds it: the same commit until its outcome is known."""

    def __init__(self, suite: CutConnectionSuite, number: int, turns: int) -> None:
        self.key = suite.new_key()
        self.said: list[str] = []
        self.strikes: list[Strike] = []
        self.found_out = 0
        self._suite = suite
        self._rng = random.Random(number)  # noqa: S311 - the same cuts are planned in every run
        self._turns = turns

    async def talk(self) -> None:
        """Says everything."""
        adapter, token = self._suite.adapter, None
        for turn in range(self._turns):
            said = [f"question {turn}", f"answer {turn}"]
            commit = new_commit(self.key, *said, expect=token or Expect.NEW, state=str(turn))
            if self._rng.random() < _SHARE:
                place = self._rng.choice(list(Cut))
                self.strikes.append(self._suite.proxy.cut(place, nth=self._rng.randint(1, 3)))
            result: Committed = await insist(lambda commit=commit: adapter.commit(commit))
            self.found_out += result.replayed
            assert result.token.version == turn + 1
            stored = await insist(lambda: adapter.load(self.key, LoadQuery(0)))
            assert stored is not None
            assert (stored.head.token, stored.state) == (result.token, str(turn))
            self.said += said
            token = result.token
