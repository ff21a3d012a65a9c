"""Cancelling a write that may have been sent: its outcome is waited for, for a moment, and told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from turnkeep.errors import CommitOutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

SETTLE_SECONDS: Final = 0.25
"""How long a cancelled write may go on: many times a round trip, and little beside the caller's own deadline."""


class Effect:
    """Whether the step that decides is under way.

    Attributes:
        begun: it was sent, and its reply was not read yet; or it took effect.
    """

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun: bool = False


class Settler:
    """Runs writes so that cancelling one of them leaves no doubt where there need not be any."""

    def __init__(self, adapter: str) -> None:
        self._adapter = adapter
        self._pending: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[Effect], Coroutine[Any, Any, T]], operation: str, commit_id: str = "") -> T:
        """What the work returns. Cancelled, it is withdrawn before its effect begins, and waited for after.

        Raises:
            CancelledError: it took no effect.
            CommitOutcomeUnknown: it was given up while its effect was under way; the driver closes the connection.
        """
        effect = Effect()
        task = asyncio.create_task(work(effect))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        cancelled = await _wait(task, effect)
        if cancelled is None:
            return task.result()
        if task.cancelled():
            if not effect.begun:
                raise cancelled
            raise CommitOutcomeUnknown(
                f"{operation} was cancelled, and the server did not answer within {SETTLE_SECONDS:g} s; "
                "repeat it with the same commit id",
                commit_id=commit_id,
                adapter=self._adapter,
                operation=operation,
            )
        error = task.exception()
        if error is None:
            return task.result()
        raise error if isinstance(error, CommitOutcomeUnknown) else cancelled

    async def finish(self) -> None:
        """Waits for everything that was begun."""
        if self._pending:
            await asyncio.wait(set(self._pending))


async def _wait(task: asyncio.Task[Any], effect: Effect) -> asyncio.CancelledError | None:
    """Waits for the end of the task, however often it is cancelled; the first cancellation, or None."""
    loop = asyncio.get_running_loop()
    first: asyncio.CancelledError | None = None
    deadline: float | None = None
    while not task.done():
        left = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            if first is None:
                first, deadline = error, loop.time() + SETTLE_SECONDS
            if not effect.begun:
                task.cancel()
            continue
        if deadline is not None and not task.done():
            task.cancel()
            deadline = None
    return first
