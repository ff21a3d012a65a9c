"""Forking while threads are inside SQLite: its locks would stay locked in the child for ever, so they come out first.

Whoever uses a connection passes the gate; a fork closes it, waits until nobody is inside, and opens it again on both
sides.
"""

from __future__ import annotations

import os
import threading
from typing import Final

PATIENCE: Final = 5.0
"""Seconds that a fork waits for what is under way. Beyond, it goes ahead: to hang would be worse."""


class _Gate:
    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._condition:
            while self._closed:
                self._condition.wait()
            self._inside += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._condition:
            self._inside -= 1
            if self._closed:
                self._condition.notify_all()

    def before(self) -> None:
        """In the thread that forks. The condition stays locked by it, so that both sides find it in a known state."""
        self._condition.acquire()
        self._closed = True
        self._condition.wait_for(lambda: not self._inside, PATIENCE)

    def in_parent(self) -> None:
        """Lets everybody in again."""
        self._closed = False
        self._condition.notify_all()
        self._condition.release()

    def in_child(self) -> None:
        """Begins anew: of those who waited or were inside, none lives on here."""
        self.__init__()


GATE: Final = _Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=GATE.before, after_in_parent=GATE.in_parent, after_in_child=GATE.in_child)
