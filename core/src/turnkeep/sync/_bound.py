"""Where an object of the door finds the asynchronous object behind it, also after a fork."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from turnkeep.errors import ConfigurationError
from turnkeep.sync._door import Door, process_lock, the_door

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Inner = TypeVar("Inner")
Outer = TypeVar("Outer")
Found_co = TypeVar("Found_co", covariant=True)


class Source(Protocol[Found_co]):
    """Finds an asynchronous object, and the door it lives behind."""

    @property
    def door(self) -> Door:
        """The door of the object that ``find`` found last."""
        ...

    def find(self) -> Found_co:
        """The object, of this process.

        Raises:
            ConfigurationError: it was made before a fork, and only the parent has it.
        """
        ...


class Made(Generic[Inner]):
    """An object made on the loop of its door, and made again in a forked child.

    Args:
        make: makes it, on the loop of the door it is given; in a forked child it is also given the parent's, to make
            the same of.
        what: what it is called in errors.
        again: whether it can be made again. A client that was handed in cannot: its connections are the parent's.
        upon: what it is made from, to be found first.
    """

    def __init__(
        self,
        make: Callable[[Door, Inner | None], Coroutine[Any, Any, Inner]],
        *,
        what: str,
        again: bool,
        upon: Source[object] | None = None,
    ) -> None:
        self._make = make
        self._what = what
        self._again = again
        self._upon = upon
        self._lock = (os.getpid(), threading.Lock())
        self.door: Door = the_door()
        self._made = self.door.run(lambda: make(self.door, None))

    def _lock_of(self, pid: int) -> threading.Lock:
        """One of this process: the parent's may have been taken when it forked. Several threads may ask at once."""
        with process_lock():
            if self._lock[0] != pid:
                self._lock = (pid, threading.Lock())
            return self._lock[1]

    def find(self) -> Inner:
        """The object, of this process."""
        if self._upon is not None:
            self._upon.find()
        if self.door.pid == os.getpid():
            return self._made
        with self._lock_of(os.getpid()):
            door = the_door()
            if door is self.door:
                return self._made
            if not self._again:
                raise ConfigurationError(
                    f"this {self._what} was made before a fork, around a client or a store in memory that only the "
                    "parent process has: make it in the child, or from a URL"
                )
            self._made = door.run(lambda: self._make(door, self._made))
            self.door = door
            return self._made


class Part(Generic[Outer, Inner]):
    """An object that belongs to another one."""

    def __init__(self, whole: Source[Outer], pick: Callable[[Outer], Inner]) -> None:
        self._whole = whole
        self._pick = pick

    @property
    def door(self) -> Door:
        """The door of the whole."""
        return self._whole.door

    def find(self) -> Inner:
        """The object, of this process."""
        return self._pick(self._whole.find())


class Bound(Generic[Inner]):
    """An object of the door: blocking calls to the asynchronous object that its source finds."""

    def __init__(self, source: Source[Inner]) -> None:
        self._source = source

    def __repr__(self) -> str:
        return repr(self._source.find())

    @property
    def _inner(self) -> Inner:
        return self._source.find()

    def _run(self, call: Callable[[Inner], Coroutine[Any, Any, T]]) -> T:
        inner = self._source.find()
        return self._source.door.run(lambda: call(inner))
