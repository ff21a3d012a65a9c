"""Which time rules: the server's, asked for now and then, and carried forward by this machine's steady clock.

Stores of documents tell their time, but cannot compare it with a document's and add to it in the swap of a head. So
each process knows the server's time to within a round trip, whatever its own clock says; within a session the times of
commits rise all the same, because each is compared with the last.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_KEEPS: Final = 60.0
"""Seconds until the server is asked again, beside the next load."""


class Clock(Protocol):
    """A clock that may have to be set."""

    @property
    def is_due(self) -> bool:
        """Whether it is to be set again."""
        ...

    def __call__(self) -> datetime:
        """The time, aware."""
        ...

    async def set(self, ask: Callable[[], Awaitable[datetime | None]]) -> None:
        """Asks the server for its time, aware; a server that does not tell leaves the clock as it is."""
        ...


class ServerClock:
    """The server's clock."""

    def __init__(self) -> None:
        self._server: datetime | None = None
        self._asked = 0.0

    @property
    def is_due(self) -> bool:
        """As ``Clock`` says."""
        return self._server is None or time.monotonic() - self._asked > _KEEPS

    def __call__(self) -> datetime:
        """The time, aware."""
        if self._server is None:
            return datetime.now(UTC)
        return self._server + timedelta(seconds=time.monotonic() - self._asked)

    async def set(self, ask: Callable[[], Awaitable[datetime | None]]) -> None:
        """As ``Clock`` says."""
        began = time.monotonic()
        told = await ask()
        ended = time.monotonic()
        if told is not None:
            self._server, self._asked = told, (began + ended) / 2


class GivenClock:
    """A clock of the caller's."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    @property
    def is_due(self) -> bool:
        """Never."""
        return False

    def __call__(self) -> datetime:
        """The time, aware."""
        return self._clock()

    async def set(self, ask: Callable[[], Awaitable[datetime | None]]) -> None:
        """Does nothing."""
