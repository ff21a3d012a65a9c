"""Blocking calls of an adapter, in threads, for drivers and files that know no asyncio.

What an adapter has to promise about cancellation, these two keep: a read that is cancelled lets go, a write settles.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from turnkeep.errors import CommitOutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def read_in_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Cancelled, it lets go; the thread ends by itself, and nobody sees its result."""
    return await asyncio.to_thread(work)


async def write_in_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Once it was begun its outcome is awaited, however often this is cancelled.

    So ``work`` must come to an end by itself, and must have had no effect where it raises anything but
    ``CommitOutcomeUnknown``.

    Raises:
        CancelledError: it was cancelled, and ``work`` raised an error: it took no effect.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        return task.result()
    except CommitOutcomeUnknown:
        raise
    except Exception:
        if cancelled is not None:
            raise cancelled from None
        raise
    finally:
        cancelled = None  # a raised error holds this frame: they would keep each other alive
