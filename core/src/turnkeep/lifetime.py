"""When an adapter is opened and closed, where several persistences share it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from turnkeep.errors import PersistenceClosed, StorageTimeout

if TYPE_CHECKING:
    from turnkeep.contract import StorageAdapter


class Lifetime:
    """Opens an adapter once, however many ask at the same time, and closes it when the last who opened it closes.

    Args:
        adapter: the adapter.
        auto_create: it may make its tables.
        timeout: seconds that opening may take.

    Attributes:
        is_open: it was opened here, and not closed since.
        closed: it was closed here, for good.
    """

    _openings: ClassVar[WeakKeyDictionary[StorageAdapter, int]] = WeakKeyDictionary()

    def __init__(self, adapter: StorageAdapter, *, auto_create: bool, timeout: float) -> None:
        self._adapter = adapter
        self._auto_create = auto_create
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self.is_open: bool = False
        self.closed: bool = False

    async def open(self) -> bool:
        """Opens; False where it was open already."""
        async with self._lock:
            if self.closed:
                raise PersistenceClosed("this persistence was closed; connect again")
            if self.is_open:
                return False
            try:
                async with asyncio.timeout(self._timeout):
                    await self._adapter.open(auto_create=self._auto_create)
            except TimeoutError as error:
                raise StorageTimeout(
                    f"{self._adapter.name} could not be opened within {self._timeout:g} s",
                    adapter=self._adapter.name,
                    operation="open",
                ) from error
            self._openings[self._adapter] = self._openings.get(self._adapter, 0) + 1
            self.is_open = True
            return True

    async def aclose(self) -> None:
        """Closes, unless others have it open; where it was never opened it cannot be any more."""
        async with self._lock:
            self.closed = True
            if not self.is_open:
                return
            self.is_open = False
            self._openings[self._adapter] -= 1
            if not self._openings[self._adapter]:
                await asyncio.shield(self._adapter.aclose())
