"""The door from blocking code to the one asynchronous implementation: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from turnkeep.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds that settling an interrupted call, and closing what was left open at exit, may take."""


class Closable(Protocol):
    """Something that is closed at interpreter exit if nobody did before."""

    async def aclose(self) -> None:
        """Closes it."""
        ...


class Door:
    """One event loop in one thread, for everything blocking in this process.

    The thread is a daemon, so that a program that forgot to close still ends; ``atexit`` closes what is open before.
    """

    def __init__(self) -> None:
        self.pid: Final = os.getpid()
        self._left_open: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="turnkeep-door", daemon=True)
        self._thread.start()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine returns or raises. It sees the caller's context variables, so it joins open turns.

        Interrupted while it waits, it cancels the coroutine, waits for that to settle, and raises the interruption.

        Raises:
            ConfigurationError: called on the door's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a blocking call was made on the event loop of turnkeep.sync, which would wait for itself; async hooks "
                "and tools await the asynchronous API, plain functions may use the blocking one"
            )
        settled = threading.Event()

        async def call() -> T:
            try:
                return await make()
            finally:
                settled.set()

        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            settled.wait(PATIENCE)
            raise

    def close_at_exit(self, left_open: Closable) -> None:
        """Has it closed at interpreter exit, if it is still around then."""
        self._left_open.add(left_open)

    def close(self) -> None:
        """Closes what is open, patiently but not for ever, and ends the thread. Does nothing in a forked child."""
        if self.pid != os.getpid() or not self._thread.is_alive():
            return
        for left_open in list(self._left_open):
            try:
                self.run(lambda it=left_open: asyncio.wait_for(it.aclose(), PATIENCE))
            except Exception:  # noqa: BLE001, S112 - the process ends; the others are closed all the same
                continue
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()


class _Process:
    """What there is one of in each process."""

    lock = threading.Lock()
    door: Door | None = None


def the_door() -> Door:
    """This process's door, opened when it is first needed."""
    with _Process.lock:
        if _Process.door is None:
            _Process.door = Door()
            atexit.register(_Process.door.close)
        return _Process.door


def _after_fork() -> None:
    # Neither the parent's thread nor, if it was taken, its lock lives on in the child.
    _Process.lock = threading.Lock()
    _Process.door = None


os.register_at_fork(after_in_child=_after_fork)
