"""Threads that go in step: what goes wrong when two do the same at the same moment goes wrong in every run."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Future
    from types import FrameType

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that the others are waited for: one of them may wait for a lock, or there may be fewer."""

_LINES = 2000
"""So many lines of Python they go in step."""


class Together(ThreadPoolExecutor):
    """For ``set_default_executor``: within ``in_step`` so many calls begin together and go on line by line.

    As soon as one of them ends, or waits for another, each goes its own way.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number
        self._barrier: threading.Barrier | None = None

    @contextmanager
    def in_step(self) -> Generator[None]:
        """Until it is left, what is handed in goes in step."""
        self._barrier = threading.Barrier(self._number)
        try:
            yield
        finally:
            self._barrier = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As the base does; within ``in_step`` with others."""
        barrier = self._barrier
        if barrier is None:
            return super().submit(fn, *args, **kwargs)
        return super().submit(_in_step, barrier, lambda: fn(*args, **kwargs))


def _in_step(barrier: threading.Barrier, work: Callable[[], T]) -> T:
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if barrier.broken or lines == _LINES:
            return None
        lines += event == "line"
        with suppress(threading.BrokenBarrierError):
            barrier.wait(_PATIENCE)
        return trace

    before = sys.gettrace()  # a debugger's, or that of coverage
    sys.settrace(trace)
    try:
        return work()
    finally:
        sys.settrace(before)
        barrier.abort()
