"""Writes that are cancelled: what is known is told, what is not is said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from turnkeep.errors import CommitOutcomeUnknown, StorageError
from turnkeep_redis._errors import find_meaning, is_lost, outcome_unknown, translate
from turnkeep_redis.wire import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

GRACE: Final = 0.3
"""Seconds for which the answer to a write that was sent is still waited for once its caller has given up."""


class Writes:
    """The writes that are under way, each in a task of its own, which its caller's cancellation does not reach."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[Attempt], Coroutine[Any, Any, T]], operation: str, commit_id: str) -> T:
        """What ``work`` returns.

        Raises:
            asyncio.CancelledError: the caller was cancelled, and nothing was written.
            CommitOutcomeUnknown: it was sent and not answered.
            StorageError: it failed, and nothing was written.
        """
        attempt = Attempt()
        task = asyncio.create_task(_told(work, attempt, operation, commit_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            return await _settle(task, attempt, operation, commit_id)

    async def drain(self) -> None:
        """Waits until none is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


async def _told(
    work: Callable[[Attempt], Coroutine[Any, Any, T]], attempt: Attempt, operation: str, commit_id: str
) -> T:
    try:
        return await work(attempt)
    except Exception as error:
        if isinstance(error, StorageError):
            raise
        if attempt.unanswered and (is_lost(error) or find_meaning(error) is not None):
            raise outcome_unknown(error, commit_id, operation) from error
        told = translate(error, operation)
        raise told from told.__cause__


async def _settle(task: asyncio.Task[T], attempt: Attempt, operation: str, commit_id: str) -> T:
    """The outcome for a caller that was cancelled, however often."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE
    while not task.done():
        left = deadline - loop.time()
        if not attempt.began or left <= 0:
            task.cancel()
            left = None
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            continue
    if task.cancelled():
        if attempt.began:
            raise outcome_unknown(None, commit_id, operation)
        raise asyncio.CancelledError
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, CommitOutcomeUnknown):
        raise error
    raise asyncio.CancelledError from error
