"""Cursors of keyset pages: opaque texts that say where a page ended."""

from __future__ import annotations

import base64
import binascii
import json
from typing import cast

from turnkeep.errors import InvalidArgument


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
