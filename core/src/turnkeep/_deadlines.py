"""The deadlines of calls that all may take equally long, under one timer.

To arm and cancel a timer for each call takes longer than all else that is done around it, and next to no call ever
meets its deadline. Here the timer waits for the oldest call under way, then for the oldest of those that are left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Deadlines:
    """Gives each call so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watch: _Watch | None = None

    def begin(self) -> Deadline:
        """``with`` it around what may take its seconds from now on, in the running task."""
        loop = asyncio.get_running_loop()
        watch = self._watch
        if watch is None or watch.loop is not loop:  # what another loop runs keeps the watch it began with
            watch = self._watch = _Watch(loop)
        return Deadline(watch, loop.time() + self._seconds)


class Deadline:
    """Does to its block what ``asyncio.timeout`` does: cancels it when the time is over and raises ``TimeoutError``.

    Attributes:
        due: when the time is over, by the loop's clock.
        expired: that moment has come while the block ran.
    """

    __slots__ = ("_cancelling", "_task", "_watch", "due", "expired")

    def __init__(self, watch: _Watch, due: float) -> None:
        self._watch = watch
        self.due = due
        self.expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._watch.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.expired:
            self._watch.remove(self)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancels the block."""
        self.expired = True
        self._task.cancel()


class _Watch:
    """Expires the deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._running: dict[Deadline, None] = {}  # in order: those begun first are due first
        self._is_armed = False

    def add(self, deadline: Deadline) -> None:
        self._running[deadline] = None
        if not self._is_armed:
            self._is_armed = True
            self.loop.call_at(deadline.due, self._look)

    def remove(self, deadline: Deadline) -> None:
        del self._running[deadline]

    def _look(self) -> None:
        now = self.loop.time()
        for deadline in list(self._running):
            if deadline.due > now:
                self.loop.call_at(deadline.due, self._look)
                return
            del self._running[deadline]
            deadline.expire()
        self._is_armed = False
