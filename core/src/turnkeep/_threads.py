"""Plain functions run in threads of their own, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def run_in_thread(function: Callable[[], T], /) -> Awaitable[T]:
    """What the function returns or raises, awaited on the running loop. It sees the caller's context variables.

    Each call has a thread of its own: a pool could fill up with functions that wait for each other. One that is given
    up on is left behind; it is a daemon, and its result goes nowhere.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # given up on: too late, or cancelled
        if error is None:
            future.set_result(result)  # pyright: ignore[reportArgumentType] - a result of T where there is no error
        else:
            future.set_exception(RuntimeError(str(error)) if isinstance(error, StopIteration) else error)

    def work() -> None:
        result, failure = None, None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised where the function is awaited
            failure = error
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    context = contextvars.copy_context()
    thread = threading.Thread(target=partial(context.run, work), name="turnkeep-callback", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        context.run(work)  # the interpreter is ending and starts no threads any more; its last hooks run all the same
    return future
