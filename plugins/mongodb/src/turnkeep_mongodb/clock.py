"""Which time rules: the server's, asked for now and then, and carried forward by this machine's steady clock.

MongoDB tells its time in the reply to ``hello``. It can put its time into a document by itself, but not compare it with
one and add to it without updates by pipeline. So each process knows the server's time to within a round trip, whatever
its own clock says; within a session the times of commits rise all the same, because each is compared with the last.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from pymongo.errors import PyMongoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.asynchronous.database import AsyncDatabase

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

    async def set(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        """Asks the server; a server that does not answer leaves the clock as it is."""
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

    async def set(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        """As ``Clock`` says."""
        with suppress(PyMongoError):
            began = time.monotonic()
            told: datetime = (await database.command("hello"))["localTime"]
            ended = time.monotonic()
            self._server, self._asked = told.replace(tzinfo=UTC), (began + ended) / 2


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

    async def set(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        """Does nothing."""
