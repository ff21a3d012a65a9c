"""An event loop that goes on while somebody thinks about what to type."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Background:
    """Runs coroutines in a thread of its own: ``with Background() as background: background.run(…)``.

    Reading the terminal stays with the main thread, the only one that Ctrl-C interrupts and that may not leave the
    terminal in the middle of a line.
    """

    def __enter__(self) -> Self:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="turnkeep-chat")
        self._thread.start()
        self._loop, self._stop = started.result()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises. Ctrl-C cancels it, and is raised once it has settled."""
        tasks: list[asyncio.Task[T]] = []
        settled: Future[None] = Future()

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda _: settled.set_result(None))

        self._loop.call_soon_threadsafe(begin)
        try:
            settled.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 - not there yet
            settled.result()  # a turn that is committing ends first
            raise
        return tasks[0].result()
