"""T5: servers that do not answer, or slowly."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import CommitOutcomeUnknown, StorageTimeout, StorageUnavailable
from turnkeep_testkit.bridge import describe_tasks
from turnkeep_testkit.faults.through import ThroughProxy
from turnkeep_testkit.honesty import expect_honest, insist
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import texts

if TYPE_CHECKING:
    from collections.abc import Coroutine

_DEADLINE = 0.1
_LATENCY = 0.05
_SLOW = 0.5

_ways = pytest.mark.parametrize("way", ["requests", "replies"])


class StalledServerSuite(ThroughProxy):
    """Half-open connections and slow ones: the caller's deadline holds, and afterwards the adapter works."""

    spare_connections: ClassVar[int] = 4
    """So many connections of which bytes were lost may stay open, for a driver that watches its server on its own."""

    @_ways
    async def test_t5_a_read_without_an_answer_ends_at_the_deadline(self, way: Any) -> None:
        """Cancelled while the connection is half-open, a read ends; the next one works.

        On failure: the driver waits for an answer in its own clean-up; close the connection without asking the server.
        """
        key, _ = await self.create("one")
        self.proxy.swallow(way)
        outcome, _ = await self._at_deadline(self.adapter.load(key, LoadQuery()))
        assert isinstance(outcome, (asyncio.CancelledError, StorageUnavailable, StorageTimeout)), repr(outcome)
        self.proxy.heal()
        assert texts((await insist(lambda: self.load(key))).messages) == ["one"]

    @_ways
    async def test_t5_a_commit_without_an_answer_ends_at_the_deadline(self, way: Any) -> None:
        """Cancelled while the connection is half-open, a commit ends with an honest outcome and lands once if repeated.

        On failure: settling waits for the answer for ever. What cannot be known within a moment is
        `CommitOutcomeUnknown`; the connection is closed.
        """
        key, _ = await self.create("zero")
        commit = new_commit(key, "one", expect=Expect.ANY)
        self.proxy.swallow(way)
        outcome, _ = await self._at_deadline(self.adapter.commit(commit))
        self.proxy.heal()
        await expect_honest(commit, outcome, self.adapter, witness=self.direct)

    @_ways
    async def test_t5_a_delete_without_an_answer_ends_at_the_deadline(self, way: Any) -> None:
        """Cancelled while the connection is half-open, a delete ends with an honest outcome.

        On failure: as for a commit.
        """
        key, _ = await self.create("one")
        self.proxy.swallow(way)
        outcome, _ = await self._at_deadline(self.adapter.delete(key))
        self.proxy.heal()
        there = await self.direct.load(key, LoadQuery()) is not None
        match outcome:
            case True:
                assert not there
            case asyncio.CancelledError() | StorageUnavailable() | StorageTimeout():
                assert there, f"the delete ended with {outcome!r}, and took effect"
            case CommitOutcomeUnknown(commit_id=""):
                pass
            case _:
                raise AssertionError(f"a delete without an answer ended with {outcome!r}")
        await insist(lambda: self.adapter.delete(key))
        assert await self.direct.load(key, LoadQuery()) is None

    async def test_t5_calls_without_an_answer_leave_no_connection(self) -> None:
        """After many calls that were never answered no connection is left waiting, and the adapter works.

        On failure: the connection of a cancelled call is neither closed nor used again; the pool runs dry.
        """
        key, _ = await self.create("one")
        rounds = self.size("T5")
        slowest = 0.0
        for number in range(rounds):
            self.proxy.swallow("replies" if number % 2 else "requests")
            call: Coroutine[Any, Any, object] = (
                self.adapter.commit(new_commit(key, "lost", expect=Expect.ANY))
                if number % 3 == 0
                else self.adapter.load(key, LoadQuery())
            )
            _, late = await self._at_deadline(call, deadline=_DEADLINE / 5)
            slowest = max(slowest, late)
            self.proxy.heal()
        assert texts((await insist(lambda: self.load(key))).messages)[0] == "one"
        await self._expect_few_silent()
        self.figure("T5", "calls never answered", rounds)
        self.figure("T5", "longest time beyond the deadline, ms", slowest * 1000)

    async def test_t5_a_slow_network_changes_nothing(self) -> None:
        """With latency on every way, turns and pages are as ever.

        On failure: a time limit of the adapter's own is shorter than the caller's.
        """
        self.proxy.delay(_SLOW if self.campaign else _LATENCY)
        key, last = await self.create("one", data="1")
        for turn in range(3):
            last = await self.adapter.commit(new_commit(key, str(turn), expect=last.token, data=str(turn)))
        stored = await self.load(key)
        assert (texts(stored.messages), stored.data) == (["one", "0", "1", "2"], "2")

    async def test_t5_one_byte_at_a_time_changes_nothing(self) -> None:
        """Answers and requests that arrive byte by byte are read whole and exact.

        On failure: one read of a socket was taken for one message of the protocol.
        """
        self.proxy.trickle(1)
        content = "\u00e4 \U0001f600 " * 40
        key, first = await self.create(content, data='{"a":"\u00fc"}')
        stored = await self.load(key)
        assert (texts(stored.messages), stored.data) == ([content], '{"a":"\u00fc"}')
        again = new_commit(key, "two", expect=first.token)
        assert (await self.adapter.commit(again)).last_seq == 2

    async def test_t5_a_trickling_answer_ends_at_the_deadline(self) -> None:
        """An answer of which a byte arrives now and then is no reason to wait beyond the caller's deadline.

        On failure: a limit per read of the socket is not a limit per call.
        """
        key, _ = await self.create("x" * 200)
        self.proxy.trickle(1, pause=1.0 if self.campaign else 0.1)
        outcome, _ = await self._at_deadline(self.adapter.load(key, LoadQuery()))
        assert isinstance(outcome, (asyncio.CancelledError, StorageUnavailable, StorageTimeout)), repr(outcome)
        # Bytes were not lost, only late: the rest may still come.
        self.proxy.heal()
        assert texts((await insist(lambda: self.load(key))).messages) == ["x" * 200]

    async def _at_deadline(
        self, call: Coroutine[Any, Any, Any], *, deadline: float = _DEADLINE
    ) -> tuple[object, float]:
        """How the call ended, cancelled at the deadline, and how many seconds later.

        Raises:
            AssertionError: it did not end within ``patience``.
        """
        task = asyncio.create_task(call)
        await asyncio.wait({task}, timeout=deadline)
        cancelled = time.perf_counter()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=self.patience)
        if not done:
            where = describe_tasks({task})
            self.proxy.cut_all()
            await asyncio.wait({task}, timeout=self.patience)
            raise AssertionError(f"cancelled, the call did not end within {self.patience:g} s. It hung at:\n{where}")
        late = time.perf_counter() - cancelled
        if task.cancelled():
            return asyncio.CancelledError(), late
        return task.exception() or task.result(), late

    async def _expect_few_silent(self) -> None:
        for _ in range(100):
            if self.proxy.silent <= self.spare_connections:
                return
            await asyncio.sleep(self.patience / 100)
        raise AssertionError(
            f"{self.proxy.silent} connections on which an answer was lost are still open; "
            f"`spare_connections` allows {self.spare_connections}"
        )
