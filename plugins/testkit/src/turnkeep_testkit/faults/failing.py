"""T7: the n-th call of the driver fails, for every n."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery, SessionKey, SessionQuery, StatsQuery
from turnkeep.errors import CommitOutcomeUnknown, NotSupported, StorageError, StorageTimeout, StorageUnavailable
from turnkeep_testkit.honesty import insist, outcome_of
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep.contract import StorageAdapter, Token
    from turnkeep_testkit.faults.driver import DriverCalls, When

    Operation = Callable[["_Scene"], Awaitable[object]]

_MOST_CALLS = 200

_HOW = """Override the fixture `driver_calls` in your test class: it makes every call of the driver pass through a
`DriverCalls`, for example with pytest's `monkeypatch`, and returns that:

    class TestDriverCalls(DriverFaultSuite):
        @pytest.fixture
        def driver_calls(self, monkeypatch):
            calls = DriverCalls(lambda: mydriver.ConnectionError("made up"))
            execute = mydriver.Connection.execute

            async def failing(connection, statement, *arguments):
                with calls.call(statement):
                    return await execute(connection, statement, *arguments)

            monkeypatch.setattr(mydriver.Connection, "execute", failing)
            return calls"""


class _Scene:
    """A session with a past, one that is not there yet, and the calls that are made on them."""

    def __init__(self, adapter: StorageAdapter, key: SessionKey, token: Token, number: str) -> None:
        self.adapter = adapter
        self.key = key
        self.token = token
        self.other = SessionKey(key.scope, f"other {number}")
        self.commit_id = f"commit {number}"

    def commit(self, *messages: str, **fields: Any) -> Awaitable[object]:
        return self.adapter.commit(new_commit(self.key, *messages, commit_id=self.commit_id, **fields))


OPERATIONS: dict[str, Operation] = {
    "create": lambda scene: scene.adapter.commit(
        new_commit(scene.other, "a", "b", user_id="ana", commit_id=scene.commit_id)
    ),
    "commit": lambda scene: scene.commit("b", "c", expect=scene.token, data="[2]", state="[2]"),
    "append": lambda scene: scene.commit("b", expect=Expect.ANY),
    "clear": lambda scene: scene.commit(expect=Expect.ANY, drop_history=True),
    "delete": lambda scene: scene.adapter.delete(scene.key),
    "erase": lambda scene: scene.adapter.delete_owner(scene.key.scope),
    "load": lambda scene: scene.adapter.load(scene.key, LoadQuery(1, "first")),
    "read": lambda scene: scene.adapter.read_messages(scene.key, MessageQuery(5)),
    "list": lambda scene: scene.adapter.find_sessions(SessionQuery(scene.key.scope, 5)),
    "count": lambda scene: scene.adapter.stats(StatsQuery(scene.key.scope)),
    "sweep": lambda scene: scene.adapter.sweep(5),
}
"""What is called while the driver fails."""


class DriverFaultSuite(Suite):
    """Whichever call of the driver fails: what is stored is the old or the new, and the adapter goes on."""

    @pytest.fixture
    def driver_calls(self) -> DriverCalls:
        """The adapter's author says here how driver calls are made to fail."""
        raise NotImplementedError(_HOW)

    @pytest.fixture(autouse=True)
    def _driver_calls(self, driver_calls: DriverCalls, _prepared: None) -> None:
        self.calls = driver_calls

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_t7_the_nth_driver_call_fails(self, operation: str, when: When) -> None:
        """The first call of the driver fails, then the second, …, until the operation makes no more.

        Each time the error is a `StorageError` with the driver's as its cause, what is stored is the old or the new,
        the old where the error says that nothing was written, and repeating the call succeeds.

        On failure: `calls.failed` in the message names the call. A transaction was left open, a part was committed by
        itself, or the error of a COMMIT was taken for a refusal.
        """
        for nth in range(1, _MOST_CALLS):
            scene = await self._scene(f"{operation} {when} {nth}")
            before = await self._seen(scene)
            self.calls.arm(nth, when)
            outcome = await outcome_of(OPERATIONS[operation](scene))
            failed = self.calls.failed
            self.calls.arm(0)
            if isinstance(outcome, NotSupported):
                return
            after = await self._seen(scene)
            self._expect_fitting(outcome, failed, changed=after != before)
            new = await insist(lambda scene=scene: OPERATIONS[operation](scene))
            assert type(new) is type(outcome) or isinstance(outcome, StorageError), f"after {failed!r}: {new!r}"
            repeated = await self._seen(scene)
            assert after in (before, repeated), f"half of it took effect when this failed: {failed!r}"
            await self._goes_on(scene)
            if failed is None:
                assert nth > 1, "no driver call was counted: does the adapter make others?"
                self.figure("T7", f"driver calls of {operation} that failed, {when}", nth - 1)
                return
        raise AssertionError(f"{operation} made more than {_MOST_CALLS} driver calls")

    def _expect_fitting(self, outcome: object, failed: str | None, *, changed: bool) -> None:
        if not isinstance(outcome, BaseException):
            return
        assert failed is not None, f"nothing was made to fail, and it ended with {outcome!r}"
        assert isinstance(outcome, StorageError), f"{failed!r} failed, and it ended with {outcome!r}"
        assert outcome.__cause__ is not None, f"the error that {failed!r} failed with is lost"
        if isinstance(outcome, (StorageUnavailable, StorageTimeout)):
            assert not changed, f"{failed!r} failed; {type(outcome).__name__} says that nothing was written"
        else:
            assert isinstance(outcome, CommitOutcomeUnknown), f"{failed!r} failed, and it ended with {outcome!r}"

    async def _scene(self, number: str) -> _Scene:
        key = self.new_key("ana", f"session {number}")
        committed = await self.adapter.commit(
            new_commit(key, "a", user_id="ana", data="[1]", state="[1]", commit_id="first", digest="d")
        )
        return _Scene(self.adapter, key, committed.token, number)

    async def _seen(self, scene: _Scene) -> list[object]:
        """All that there is of the two sessions, by the contract and behind it."""
        seen: list[object] = []
        for key in (scene.key, scene.other):
            stored = await insist(lambda key=key: self.adapter.load(key, LoadQuery()))
            seen += [stored, await self.remains(key)]
        return seen

    async def _goes_on(self, scene: _Scene) -> None:
        created = await self.adapter.commit(new_commit(self.new_key(), "afterwards"))
        assert created.created
        await self.adapter.delete_owner(scene.key.scope)
