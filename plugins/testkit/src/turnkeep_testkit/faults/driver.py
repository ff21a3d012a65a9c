"""A place where driver calls are made to fail."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

When = Literal["before", "after"]
"""Whether a call fails before it did anything, or after it took effect (its answer is lost)."""


class DriverCalls:
    """Counts the calls an adapter makes to its driver, and lets one of them fail.

    An adapter's author wraps every call of the driver that talks to the database:

        class Failing(sqlite3.Connection):
            def execute(self, sql, *parameters):
                with calls.call(sql):
                    return super().execute(sql, *parameters)

    ``async def`` wrappers do the same around their ``await``. Threads may call at once.

    Args:
        make_error: makes the driver's own error of a connection or a disk that fails.

    Attributes:
        failed: what the call that failed was called; None as long as none did.
    """

    def __init__(self, make_error: Callable[[], BaseException]) -> None:
        self.failed: str | None = None
        self._make_error = make_error
        self._left = 0
        self._when: When = "before"

    def arm(self, nth: int, when: When = "before") -> None:
        """Lets the ``nth`` call from now on fail, once; 0: none."""
        self.failed = None
        self._left = nth
        self._when = when

    @contextmanager
    def call(self, what: str) -> Generator[None]:
        """One call of the driver.

        Raises:
            BaseException: what ``make_error`` makes, where it is this call's turn.
        """
        due = self._is_due()
        if due and self._when == "before":
            self._fail(what)
        yield
        if due:
            self._fail(what)

    def _is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _fail(self, what: str) -> None:
        self.failed = what
        raise self._make_error()
