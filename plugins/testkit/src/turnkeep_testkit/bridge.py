"""Tests written with ``async``/``await`` that look synchronous to pytest.

pytest knows no coroutines, and the plugins that teach it disagree (anyio and pytest-asyncio each refuse the other's
marks, session loops break function loops). Here the test functions themselves become synchronous when their class is
made: the suites run without any plugin and beside every plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextlib import AbstractAsyncContextManager

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Synchronous")

_GRACE = 5.0
_LEFTOVER_GRACE = 0.25


class Loop:
    """One event loop, for any number of ``run`` calls; close it, or use it as a context manager."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stuck = False

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T], *, deadline: float | None = None) -> T:
        """What ``work`` returns.

        Raises:
            AssertionError: it did not end within ``deadline`` seconds; the message names the await it hung at.
        """
        return self._runner.run(self._within(work, deadline))

    def close(self) -> None:
        """Ends the loop. One whose task ignores its cancellation is left alone: closing it would hang, too."""
        if not self._stuck:
            self._runner.close()

    async def _within(self, work: Coroutine[Any, Any, T], deadline: float | None) -> T:
        # Not asyncio.timeout: the awaits have to be looked at before the cancellation unwinds them.
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=deadline)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            where = describe_tasks(asyncio.all_tasks() - {asyncio.current_task()})
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=_GRACE)
            self._stuck = not done
            stuck = f"; cancelled, it did not end within {_GRACE:.0f} s either" if self._stuck else ""
            raise AssertionError(f"not done after {deadline} s{stuck}. It hung at:\n{where}")
        return task.result()


def describe_tasks(tasks: set[asyncio.Task[Any] | None] | set[asyncio.Task[Any]]) -> str:
    """Where each task is suspended, line by line from its outermost to its innermost await."""
    return "\n".join(f"task {task.get_name()}:\n{_describe(task)}" for task in tasks if task is not None)


def _describe(task: asyncio.Task[Any]) -> str:
    lines: list[str] = []
    step: Any = task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None) or getattr(step, "ag_frame", None)
        if frame is not None:
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}")
        elif not inspect.isawaitable(step) and not hasattr(step, "__next__"):
            break
        else:
            lines.append(f"  {step!r:.200}")
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None) or getattr(step, "ag_await", None)
    return "\n".join(lines)


async def expect_no_tasks() -> None:
    """Gives tasks a moment to end.

    Raises:
        AssertionError: one is left beside the caller's; the message says where it is.
    """
    own = asyncio.current_task()
    # A task that waits for this one (it runs `Loop.run`) is not left over, it is ours.
    ours = {task for task in asyncio.all_tasks() if _is_runner(task)} | {own}
    left = asyncio.all_tasks() - ours
    if left:
        _, left = await asyncio.wait(left, timeout=_LEFTOVER_GRACE)
    if left:
        where = describe_tasks(left)
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_GRACE)
        raise AssertionError(f"left over when the test ended, after everything was closed:\n{where}")


def _is_runner(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").startswith("Loop._within")


class Synchronous:
    """A class whose ``async def test_…`` functions become synchronous ones, run on an event loop of their own each."""

    deadline: float = 60.0
    """Seconds after which a test fails, naming the await it hangs at."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in list(vars(cls).items()):
            if name.startswith("test") and inspect.iscoroutinefunction(member):
                setattr(cls, name, synchronous(member))

    def around(self, test: Callable[..., object]) -> AbstractAsyncContextManager[object]:
        """What is entered before each test and left after it, in the same task."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def running(self, test: Callable[..., object]) -> Generator[Loop]:
        """A loop inside ``around``, for tests that are synchronous themselves (Hypothesis runs no coroutines)."""
        with Loop() as loop:
            surroundings = self.around(test)
            loop.run(surroundings.__aenter__(), deadline=self.deadline)
            try:
                yield loop
            finally:
                loop.run(surroundings.__aexit__(None, None, None), deadline=self.deadline)
            loop.run(expect_no_tasks(), deadline=self.deadline)


def synchronous(test: Callable[Concatenate[S, P], Coroutine[Any, Any, None]]) -> Callable[Concatenate[S, P], None]:
    """The test as a plain function: marks, parameters and fixtures stay as they are."""

    async def whole(self: S, *args: P.args, **kwargs: P.kwargs) -> None:
        async with self.around(test):
            await test(self, *args, **kwargs)
        await expect_no_tasks()

    @functools.wraps(test)
    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> None:
        with Loop() as loop:
            loop.run(whole(self, *args, **kwargs), deadline=self.deadline)

    return run
