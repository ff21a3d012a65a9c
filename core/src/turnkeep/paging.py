"""Pages of results that can be walked to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")
C = TypeVar("C", str, int)


class Page(Generic[T, C]):
    """Some results, and where the next ones begin.

    ``async for item in page`` walks this page and every one after it, fetching each when it is reached.

    Attributes:
        items: the results of this page, in order. May be fewer than asked for, even none, while ``next_cursor`` is set.
        next_cursor: pass it back to get the next page; None: there is no more.
    """

    __slots__ = ("_fetch", "items", "next_cursor")

    def __init__(
        self, items: tuple[T, ...], next_cursor: C | None, fetch: Callable[[C], Awaitable[Page[T, C]]]
    ) -> None:
        self.items: tuple[T, ...] = items
        self.next_cursor: C | None = next_cursor
        self._fetch = fetch

    def __repr__(self) -> str:
        return f"Page({len(self.items)} items, next_cursor={self.next_cursor!r:.80})"

    async def __aiter__(self) -> AsyncIterator[T]:
        page = self
        while True:
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            page = await self._fetch(page.next_cursor)


def check_page_limit(limit: object, most: int, *, default: int = 0) -> int:
    """``limit`` itself: 1 to ``most``. A default that nobody chose is brought down to ``most``.

    Raises:
        InvalidArgument: it is not.
    """
    if limit == default and type(limit) is int:
        return min(limit, most)
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidArgument(f"limit must be a number from 1 to {most} (Limits.page), not {limit!r:.40}")
    return limit


def check_seq(seq: object, what: str) -> int | None:
    """``seq`` itself: a sequence number, 0 or more, or None.

    Raises:
        InvalidArgument: it is neither.
    """
    if seq is not None and (type(seq) is not int or not 0 <= seq < 2**63):
        raise InvalidArgument(f"{what} must be a sequence number, not {seq!r:.40}")
    return seq
