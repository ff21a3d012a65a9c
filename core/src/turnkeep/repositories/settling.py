"""What becomes of a write whose caller is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnkeep.errors import CommitOutcomeUnknown

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait for the outcome of a write that was cancelled under way."""


class Work:
    """How far a write has come, and whether anybody still waits for it.

    Attributes:
        busy: it is writing, and must be told how that ends.
        withdrawn: its caller was cancelled: it is not to be tried again.
    """

    __slots__ = ("busy", "withdrawn")

    def __init__(self) -> None:
        self.busy: bool = False
        self.withdrawn: bool = False


async def settle(job: Coroutine[Any, Any, T], work: Work, unknown: Callable[[], CommitOutcomeUnknown]) -> T:
    """What the job returns or raises. Cancelled, it is dropped while it writes nothing; else its outcome is awaited.

    Raises:
        CancelledError: it took no effect.
        CommitOutcomeUnknown: cancelled while it was writing, it did not come to an end in time.
    """
    task = asyncio.create_task(job)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task}, timeout=None if cancelled is None else PATIENCE)
        except asyncio.CancelledError as error:
            cancelled, work.withdrawn = error, True
            if not work.busy:
                task.cancel()
        else:
            if not task.done():
                task.cancel()
                task.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise unknown()
    try:
        return task.result()
    except asyncio.CancelledError:
        if work.busy:
            raise unknown() from None
        raise
    except Exception:
        if cancelled is not None and not work.busy:
            raise cancelled from None
        raise
