"""Pages that are walked with ``for``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from turnkeep import paging
    from turnkeep.sync._door import Door

T = TypeVar("T")
C = TypeVar("C", str, int)


class Page(Generic[T, C]):
    """Some results, and where the next ones begin; ``for item in page`` walks to the end, page by page.

    Attributes:
        items: the results of this page, in order. May be fewer than asked for, even none, while ``next_cursor`` is set.
        next_cursor: pass it back to get the next page; None: there is no more.
    """

    __slots__ = ("_door", "_page", "items", "next_cursor")

    def __init__(self, page: paging.Page[T, C], door: Door) -> None:
        self.items: tuple[T, ...] = page.items
        self.next_cursor: C | None = page.next_cursor
        self._page = page
        self._door = door

    def __repr__(self) -> str:
        return repr(self._page)

    def __iter__(self) -> Iterator[T]:
        page = self._page
        while True:
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
            fetch = page._fetch
            page = self._door.run(lambda fetch=fetch, cursor=cursor: _fetched(fetch, cursor))


async def _fetched(fetch: Callable[[C], Awaitable[paging.Page[T, C]]], cursor: C) -> paging.Page[T, C]:
    return await fetch(cursor)
