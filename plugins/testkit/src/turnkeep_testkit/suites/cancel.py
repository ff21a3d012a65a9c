"""G10: a cancelled call settles."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from turnkeep.contract import Committed, Erased, Expect, LoadQuery, MessageQuery, SessionQuery, StatsQuery, Swept
from turnkeep.errors import CommitOutcomeUnknown, NotSupported
from turnkeep_testkit.honesty import expect_honest
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, starts_closed, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from turnkeep.contract import Commit

T = TypeVar("T")

_MOST_AWAITS = 200


class CancelAt:
    """Awaits a coroutine and cancels the task while it is suspended for the ``times``-th time, counted from 1.

    Attributes:
        reached: whether it was suspended that often.
    """

    def __init__(self, work: Coroutine[Any, Any, T], *times: int) -> None:
        self._work = work
        self._times = times
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        """As the coroutine does."""
        count = 0
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._work.send(answer) if error is None else self._work.throw(error)
            except StopIteration as stop:
                return stop.value
            count += 1
            if count in self._times:
                self.reached = self.reached or count == self._times[0]
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                answer, error = (yield waits_for), None
            except BaseException as raised:  # noqa: BLE001 - handed on to the coroutine, whatever it is
                answer, error = None, raised


async def run_cancelled(work: Coroutine[Any, Any, T], *times: int) -> tuple[bool, T | BaseException]:
    """Whether the work was cancelled at all, and its result or what it raised."""
    cancelling = CancelAt(work, *times)

    async def run() -> T:
        return await cancelling

    task = asyncio.create_task(run())
    await asyncio.wait({task})
    if task.cancelled():
        return cancelling.reached, asyncio.CancelledError()
    return cancelling.reached, task.exception() or task.result()


class CancellationSuite(Suite):
    """`CancelledError` means no effect, a result means effect, and nothing hangs or mixes up replies afterwards."""

    @pytest.mark.parametrize("kind", ["new", "token", "any"])
    async def test_g10_a_cancelled_commit_settles(self, kind: str) -> None:
        """Cancelled at each of its awaits in turn, a commit's outcome says exactly whether it took effect.

        On failure: shield the write and wait for it, then report what happened; a `CancelledError` after the write
        took effect makes the caller repeat or lose a turn.
        """
        for number in range(1, _MOST_AWAITS):
            commit = await self._prepare(kind)
            reached, outcome = await run_cancelled(self.adapter.commit(commit), number)
            await expect_honest(commit, outcome, self.adapter)
            if not reached:
                return
        raise AssertionError(f"a commit was suspended more than {_MOST_AWAITS} times")

    async def test_g10_a_commit_cancelled_twice_settles(self) -> None:
        """A second cancellation, while the first is being settled, changes nothing.

        On failure: the wait for the outcome is itself cancelled; wait again until it is known.
        """
        for number in range(1, _MOST_AWAITS):
            commit = await self._prepare("any")
            reached, outcome = await run_cancelled(self.adapter.commit(commit), number, number + 1, number + 2)
            await expect_honest(commit, outcome, self.adapter)
            if not reached:
                return
        raise AssertionError(f"a commit was suspended more than {_MOST_AWAITS} times")

    async def test_g10_a_cancelled_delete_settles(self) -> None:
        """Cancelled at each of its awaits in turn, `delete` either took effect and says so, or did not.

        On failure: as for a commit.
        """
        for number in range(1, _MOST_AWAITS):
            key, _ = await self.create("one")
            reached, outcome = await run_cancelled(self.adapter.delete(key), number)
            there = await self.is_there(key)
            match outcome:
                case True:
                    assert not there
                case asyncio.CancelledError():
                    assert there, "the delete raised CancelledError and took effect"
                case CommitOutcomeUnknown(commit_id=""):
                    pass
                case _:
                    raise AssertionError(f"a cancelled delete ended with {outcome!r}")
            if not reached:
                assert not there
                return
        raise AssertionError(f"a delete was suspended more than {_MOST_AWAITS} times")

    @pytest.mark.parametrize("operation", ["load", "read_messages", "find_sessions", "stats"])
    async def test_g10_a_cancelled_read_lets_go(self, operation: str) -> None:
        """Reads cancelled at each of their awaits leave the adapter able to answer others, with their own answers.

        On failure: a reply that was not read stays in the connection, and the next caller reads it (ChatGPT's incident
        of 2023): do not use such a connection again.
        """
        mine, _ = await self.create("of Ana", key=self.new_key("ana"), user_id="ana")
        other, _ = await self.create("of Bob", key=self.new_key("bob"), user_id="bob")
        reads: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "load": lambda: self.adapter.load(mine, LoadQuery()),
            "read_messages": lambda: self.adapter.read_messages(mine, MessageQuery(10)),
            "find_sessions": lambda: self.adapter.find_sessions(SessionQuery(mine.scope, 10)),
            "stats": lambda: self.adapter.stats(StatsQuery(mine.scope)),
        }
        for number in range(1, _MOST_AWAITS):
            reached, outcome = await run_cancelled(reads[operation](), number)
            if not isinstance(outcome, (asyncio.CancelledError, NotSupported)):
                assert not isinstance(outcome, BaseException), repr(outcome)
            assert texts((await self.load(other)).messages) == ["of Bob"]
            assert texts((await self.page(other)).items) == ["of Bob"]
            assert texts((await self.load(mine)).messages) == ["of Ana"]
            if not reached:
                return
        raise AssertionError(f"{operation} was suspended more than {_MOST_AWAITS} times")

    async def test_g10_a_cancelled_erasure_can_be_repeated(self) -> None:
        """`delete_owner` cancelled at each of its awaits leaves each session whole or gone; repeated, it is complete.

        On failure: a part of a session was removed by itself.
        """
        for number in range(1, _MOST_AWAITS):
            keys = [self.new_key("ana", f"{number} {name}") for name in "ab"]
            for key in keys:
                await self.create("one", "two", key=key, user_id="ana")
            await self.lists_settle()
            reached, outcome = await run_cancelled(self.adapter.delete_owner(self.owned("ana")), number)
            assert isinstance(outcome, (asyncio.CancelledError, CommitOutcomeUnknown, Erased)), repr(outcome)
            for key in keys:
                stored = await self.adapter.load(key, LoadQuery())
                assert stored is None or texts(stored.messages) == ["one", "two"]
            await self.adapter.delete_owner(self.owned("ana"))
            for key in keys:
                assert not await self.is_there(key)
            if not reached:
                return
        raise AssertionError(f"delete_owner was suspended more than {_MOST_AWAITS} times")

    async def test_g10_a_cancelled_sweep_can_be_repeated(self) -> None:
        """`sweep` cancelled at each of its awaits hurts no session that lives; repeated, it comes to its end.

        On failure: what the clean-up had begun keeps a lock, a transaction or a connection.
        """
        key, _ = await self.create("one", "two")
        await self.append(key, "three", drop_history=True)
        for number in range(1, _MOST_AWAITS):
            reached, outcome = await run_cancelled(self.adapter.sweep(100), number)
            assert isinstance(outcome, (asyncio.CancelledError, CommitOutcomeUnknown, Swept)), repr(outcome)
            await self.adapter.sweep(100)
            assert texts((await self.load(key)).messages) == ["three"]
            if not reached:
                return
        raise AssertionError(f"sweep was suspended more than {_MOST_AWAITS} times")

    @starts_closed
    async def test_g10_a_cancelled_open_can_be_repeated(self) -> None:
        """`open` cancelled at each of its awaits leaves an adapter that can be opened, and then works.

        On failure: it is taken to be open, or still opening, when it was interrupted; or what it had begun is not
        closed.
        """
        for number in range(1, _MOST_AWAITS):
            self.adapter = await self.unopened()
            reached, outcome = await run_cancelled(self.adapter.open(), number)
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), repr(outcome)
            await self.adapter.open()
            await self.create("one")
            await self.adapter.aclose()
            if not reached:
                return
        raise AssertionError(f"open was suspended more than {_MOST_AWAITS} times")

    async def test_g10_many_cancelled_at_once(self) -> None:
        """Of many commits some of which are cancelled, each one's outcome is honest and later ones succeed.

        On failure: a cancelled commit takes others of its batch or its connection with it.
        """
        for delay in (0, 0.0005, 0.002, 0.01):
            key, _ = await self.create()
            commits = [new_commit(key, f"message {number}", expect=Expect.ANY) for number in range(12)]
            tasks = [asyncio.create_task(self.adapter.commit(commit)) for commit in commits]
            await asyncio.sleep(delay)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, Committed) for outcome in outcomes[1::2])
            stored = await self.load(key)  # at once: one whose outcome is not known may still land
            landed = set(texts(stored.messages))
            for number, outcome in enumerate(outcomes):
                if isinstance(outcome, Committed):
                    assert f"message {number}" in landed
                elif isinstance(outcome, asyncio.CancelledError):
                    assert f"message {number}" not in landed
                else:
                    assert isinstance(outcome, CommitOutcomeUnknown)
            assert len(landed) == stored.head.message_count
            await self.append(key, "after")

    async def test_g10_a_deadline_is_a_cancellation(self) -> None:
        """With a deadline that has passed already, a commit still has an honest outcome.

        On failure: see `test_g10_a_cancelled_commit_settles`.
        """
        key, _ = await self.create()
        for number in range(10):
            commit = new_commit(key, str(number), expect=Expect.ANY)
            outcome: Committed | BaseException
            try:
                async with asyncio.timeout(number / 2000):
                    outcome = await self.adapter.commit(commit)
            except TimeoutError:
                outcome = asyncio.CancelledError()
            except CommitOutcomeUnknown as error:
                outcome = error
            await expect_honest(commit, outcome, self.adapter)

    async def _prepare(self, kind: str) -> Commit:
        if kind == "new":
            return new_commit(self.new_key(), "one", data='{"a":1}')
        key, first = await self.create("zero")
        if kind == "token":
            return new_commit(key, "one", expect=first.token, data='{"a":1}')
        return new_commit(key, "one", expect=Expect.ANY)
