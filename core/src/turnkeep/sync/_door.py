"""The door from blocking code to the one asynchronous implementation: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

from turnkeep.errors import ConfigurationError, PersistenceClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds that closing what was left open at exit may take."""

SETTLING: Final = 30.0
"""Seconds that an interrupted call may take to settle; every call to a database has a deadline well below."""


class Closable(Protocol):
    """Something that is closed at interpreter exit if nobody did before."""

    async def aclose(self) -> None:
        """Closes it."""
        ...


class _Call(Generic[T]):
    """One call through the door. Its task never raises: an exit in it must end the call, not the loop."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.settled = threading.Event()
        self._caller = threading.current_thread()
        self._door = door
        self._loop = loop
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """On the loop, with the caller's context variables."""
        if not self._given_up:
            self._task = self._loop.create_task(self._work())
            self._task.add_done_callback(self._settle)  # also of a task that was cancelled before it began

    async def _work(self) -> None:
        try:
            self._result = await self._make()
        except BaseException as error:  # noqa: BLE001 - raised where the call was made
            self._error = error

    def _settle(self, _: asyncio.Task[None]) -> None:
        # While the interpreter ends only daemon threads wait beside the one that closes: they end with it, quietly.
        if self._door.closer is None or self._door.closer is self._caller:
            self.settled.set()

    def give_up(self) -> None:
        """On the loop: cancels the call, or keeps it from starting."""
        self._given_up = True
        if self._task is None:
            self.settled.set()
        else:
            self._task.cancel()

    def outcome(self) -> T:
        """What it returned or raised."""
        if self._error is not None:
            raise self._error
        return cast("T", self._result)


class Door:
    """One event loop in one thread, for everything blocking in this process.

    The thread is a daemon, so that a program that forgot to close still ends; ``atexit`` closes what is open before.
    """

    def __init__(self) -> None:
        self.pid: Final = os.getpid()
        self.closed: bool = False
        self.closer: threading.Thread | None = None
        self._left_open: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="turnkeep-door", daemon=True)
        self._thread.start()

    @property
    def is_ours(self) -> bool:
        """Whether it leads anywhere: it is of this process, and was not closed."""
        return not self.closed and self.pid == os.getpid()

    def _serve(self) -> None:
        while not self.closed:
            with suppress(SystemExit, KeyboardInterrupt):  # of a task, which tells who waits for it
                self._loop.run_forever()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine returns or raises. It sees the caller's context variables, so it joins open turns.

        Interrupted while it waits, it cancels the coroutine, waits for that to settle, and raises the interruption.

        Raises:
            ConfigurationError: called on the door's own thread, which would wait for itself; or through the door of the
                parent process after a fork.
            PersistenceClosed: the interpreter is ending.
        """
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "a blocking call was made on the event loop of turnkeep.sync, which would wait for itself; async hooks "
                "and tools await the asynchronous API, plain functions may use the blocking one"
            )
        if self.pid != os.getpid():
            raise ConfigurationError("this was begun before a fork and is the parent process's; begin it anew here")
        if self.closed:
            raise PersistenceClosed("turnkeep.sync is closed: the interpreter is ending")
        call = _Call(self, self._loop, make)
        try:
            self._loop.call_soon_threadsafe(call.start)
            call.settled.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(call.give_up)
            call.settled.wait(SETTLING)
            raise
        return call.outcome()

    def close_at_exit(self, left_open: Closable) -> None:
        """Has it closed at interpreter exit, if it is still around then."""
        self._left_open.add(left_open)

    def close(self) -> None:
        """Closes what is open, patiently but not for ever, and ends the thread. Does nothing in a forked child."""
        if not self.is_ours:
            return
        for left_open in list(self._left_open):
            with suppress(Exception):  # the process ends; the others are closed all the same
                self.run(lambda it=left_open: asyncio.wait_for(it.aclose(), PATIENCE))
        self.closer = threading.current_thread()
        with suppress(Exception):
            self.run(_end_tasks)
        self.closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()


async def _end_tasks() -> None:
    """Cancels what still runs on the loop: the turns of streams that nobody left."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=PATIENCE)


class _Process:
    """What there is one of in each process."""

    lock = threading.RLock()
    door: Door | None = None


def process_lock() -> AbstractContextManager[Any]:
    """Held for a moment, to find what there is one of."""
    return _Process.lock


def the_door() -> Door:
    """This process's door, opened when it is first needed."""
    with _Process.lock:
        if _Process.door is None:
            _Process.door = Door()
            atexit.register(_Process.door.close)
        return _Process.door


def _after_fork() -> None:
    # Neither the parent's thread nor, if it was taken, its lock lives on in the child.
    _Process.lock = threading.RLock()
    _Process.door = None


os.register_at_fork(after_in_child=_after_fork)
