"""An adapter that fails when it is told to: for tests of applications."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from turnkeep.contract import Commit
from turnkeep.errors import CommitOutcomeUnknown, InvalidArgument, StorageError, StorageUnavailable
from turnkeep_testkit.wrapping import WrappedAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep.contract import StorageAdapter

    Call = Callable[[], Awaitable[Any]]
    Fault = Callable[[Call], Awaitable[Any]]

T = TypeVar("T")

_WRITES = frozenset({"commit", "delete", "delete_owner"})
_OPERATIONS = _WRITES | {
    "open", "aclose", "check", "migrate", "load", "read_messages", "find_sessions", "sweep", "stats", "search_messages"
}  # fmt: skip


@dataclass(slots=True)
class _Planned:
    operation: str
    fault: Fault
    wait: int
    times: int | None

    def is_due(self, operation: str) -> bool:
        """Counts a call of its operation; whether it is one to spoil."""
        if operation != self.operation or self.times == 0:
            return False
        if self.wait:
            self.wait -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultyAdapter(WrappedAdapter):
    """Wraps any adapter, and spoils the calls it is told to.

    Each method below names an operation of the contract (``"load"``, ``"commit"``, ``"delete"`` …) and spoils the
    ``nth`` call of it from now on, and those after it, ``times`` in all; ``times=None`` spoils them until ``heal``.
    Where several are due at one call, the one planned first is taken and the others wait for the next call.

        adapter = FaultyAdapter(MemoryAdapter())
        adapter.lose_reply("commit")
        async with turnkeep.connect(adapter) as persistence:
            ...
    """

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self._planned: list[_Planned] = []

    def fail(self, operation: str, error: BaseException | None = None, *, nth: int = 1, times: int | None = 1) -> None:
        """Raises ``error`` and does nothing. Default: ``StorageUnavailable``, as if the database were down."""

        async def fault(_: Call) -> Any:
            raise error or self._unavailable(operation)

        self.spoil(operation, fault, nth=nth, times=times)

    def fail_after(
        self, operation: str, error: BaseException | None = None, *, nth: int = 1, times: int | None = 1
    ) -> None:
        """Makes the call, whatever it does takes effect, and raises ``error`` in place of its result.

        Default: what an adapter says then, as ``lose_reply`` has it.
        """

        async def fault(call: Call) -> Any:
            await call()
            raise error or self._lost(operation)

        self.spoil(operation, fault, nth=nth, times=times)

    def lose_reply(self, operation: str = "commit", *, nth: int = 1, times: int | None = 1) -> None:
        """The call takes effect, and its answer is lost on the way.

        A write raises ``CommitOutcomeUnknown``, a read ``StorageUnavailable``. Persistence sends such a commit again
        and finds out; ``times=None`` loses every answer, so that it cannot.
        """
        self.fail_after(operation, nth=nth, times=times)

    def lose_request(self, operation: str = "commit", *, nth: int = 1, times: int | None = 1) -> None:
        """The call is lost on the way and takes no effect; the adapter cannot tell that from a lost answer."""

        async def fault(_: Call) -> Any:
            raise self._lost(operation)

        self.spoil(operation, fault, nth=nth, times=times)

    def delay(self, operation: str, seconds: float, *, nth: int = 1, times: int | None = 1) -> None:
        """Waits before the call. With 0, other tasks run."""

        async def fault(call: Call) -> Any:
            await asyncio.sleep(seconds)
            return await call()

        self.spoil(operation, fault, nth=nth, times=times)

    def hang(self, operation: str, *, nth: int = 1, times: int | None = 1) -> None:
        """Never answers. Nothing is done; cancelled, by a deadline for example, it lets go."""

        async def fault(_: Call) -> Any:
            await asyncio.Event().wait()

        self.spoil(operation, fault, nth=nth, times=times)

    def precede(self, operation: str, action: Callable[[], object], *, nth: int = 1, times: int | None = 1) -> None:
        """Does something else just before the call: ``action`` is called, and awaited if that gives an awaitable.

        What ``action`` asks of this adapter is not spoiled by the same plan.
        """

        async def fault(call: Call) -> Any:
            done = action()
            if inspect.isawaitable(done):
                await done
            return await call()

        self.spoil(operation, fault, nth=nth, times=times)

    def spoil(self, operation: str, fault: Fault, *, nth: int = 1, times: int | None = 1) -> None:
        """Awaits ``fault(call)`` in place of ``call()``: for whatever the other methods do not do.

        Raises:
            InvalidArgument: there is no such operation, or ``nth`` or ``times`` is below 1.
        """
        if operation not in _OPERATIONS:
            raise InvalidArgument(
                f"adapters have no operation {operation!r:.80}; known: {', '.join(sorted(_OPERATIONS))}"
            )
        if nth < 1 or (times is not None and times < 1):
            raise InvalidArgument("nth and times count from 1")
        self._planned.append(_Planned(operation, fault, nth - 1, times))

    def heal(self) -> None:
        """Forgets every fault that has not happened."""
        self._planned.clear()

    @property
    def pending(self) -> int:
        """How many plans have calls left to spoil: 0 says that everything a test planned has happened."""
        return len(self._planned)

    async def pass_on(self, operation: str, call: Callable[[], Awaitable[T]], *arguments: Any) -> T:
        """Makes the call, or spoils it."""
        due = [planned for planned in self._planned if planned.is_due(operation)]
        for later in due[1:]:
            later.times = None if later.times is None else later.times + 1
        self._planned = [planned for planned in self._planned if planned.times != 0]
        if not due:
            return await call()
        try:
            return await due[0].fault(call)
        except CommitOutcomeUnknown as error:
            if not error.commit_id and arguments and isinstance(arguments[0], Commit):
                error.commit_id = arguments[0].commit_id
            raise

    def _unavailable(self, operation: str) -> StorageError:
        return StorageUnavailable("made up: no route to host", adapter=self.name, operation=operation)

    def _lost(self, operation: str) -> StorageError:
        if operation not in _WRITES:
            return StorageUnavailable("made up: the connection was lost", adapter=self.name, operation=operation)
        said = "made up: the connection was lost before the answer came"
        return CommitOutcomeUnknown(said, commit_id="", adapter=self.name, operation=operation)
