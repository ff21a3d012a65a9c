"""Cursors of keyset pages: opaque texts that say where a page ended."""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, cast

from turnkeep.contract import SearchPage, SessionPage
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_id
from turnkeep.retention import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Head, Order, SearchHit, SearchQuery, SessionQuery


def make_cursor(kind: str, *position: str | int) -> str:
    """A cursor of this kind that stands after ``position``."""
    text = json.dumps([kind, *position], ensure_ascii=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def read_cursor(cursor: str, kind: str, *types: type[str] | type[int]) -> list[str | int]:
    """The position of a cursor of this kind, whose parts are of these types.

    Raises:
        InvalidArgument: it is not such a cursor.
    """
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
    except (ValueError, AttributeError, binascii.Error, RecursionError):
        found = None
    if isinstance(found, list):
        parts = cast("list[object]", found)
        if parts[:1] == [kind] and [type(part) for part in parts[1:]] == list(types):
            return cast("list[str | int]", parts[1:])
    raise InvalidArgument(
        f"this is not the cursor of a page of this kind ({kind}): {cursor!r:.80}; pass next_cursor back"
    )


def position_of(head: Head, order: Order) -> tuple[int, str]:
    """Where a session stands in a list of this order: positions rise along it."""
    if order == "activity":
        return -to_microseconds(head.updated_at), head.session_id
    return to_microseconds(head.created_at), head.session_id


def page_of_heads(heads: Sequence[Head], query: SessionQuery) -> SessionPage:
    """The page of these heads: in order, and one more than was asked for where there are more."""
    items = tuple(heads[: query.limit])
    more = len(heads) > query.limit
    return SessionPage(items, make_cursor(query.order, *position_of(items[-1], query.order)) if more else None)


def read_position(cursor: str, order: Order) -> tuple[datetime, str]:
    """Where a page of sessions ended: the instant and the id of its last one.

    Raises:
        InvalidArgument: the cursor is not one of this order, or no session can stand there.
    """
    stamp, session_id = cast("tuple[int, str]", tuple(read_cursor(cursor, order, int, str)))
    try:
        check_id(session_id or "-", "the session id")
        return from_microseconds(-stamp if order == "activity" else stamp), session_id
    except (OverflowError, InvalidArgument):
        raise InvalidArgument(f"this cursor was not made here: {cursor!r:.80}; pass next_cursor back") from None


def rank_of(hit: SearchHit) -> tuple[float, str, int]:
    """Where a hit stands among the others: ranks rise from the best on."""
    return -hit.score, hit.session_id, hit.message.seq


def page_of_hits(hits: Sequence[SearchHit], query: SearchQuery) -> SearchPage:
    """The page of these hits: in order, and one more than was asked for where there are more."""
    items = tuple(hits[: query.limit])
    return SearchPage(items, cursor_after(items[-1]) if len(hits) > query.limit else None)


def cursor_after(hit: SearchHit) -> str:
    """The cursor of a page that ends with this hit."""
    return make_cursor("search", hit.score.hex(), hit.session_id, hit.message.seq)


def read_rank(cursor: str) -> tuple[float, str, int]:
    """Where a page of hits ended: score, session id and seq of its last one.

    Raises:
        InvalidArgument: the cursor is not one of a search, or no message can stand there.
    """
    score, session_id, seq = cast("tuple[str, str, int]", tuple(read_cursor(cursor, "search", str, str, int)))
    with suppress(ValueError, OverflowError, InvalidArgument):
        value = float.fromhex(score)
        if isfinite(value) and 0 <= seq < 2**63:
            return value, check_id(session_id, "the session id"), seq
    raise InvalidArgument(f"this cursor was not made here: {cursor!r:.80}; pass next_cursor back")
