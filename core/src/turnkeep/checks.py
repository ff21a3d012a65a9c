"""What callers hand over as a document, a time or a set of fields: checked, and put into one form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from turnkeep import codec
from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Set


def take_fields(value: object, known: Set[str], what: str) -> dict[str, Any]:
    """A dict's items, if it has no others than the known ones.

    Raises:
        InvalidArgument: it has, or it is no dict.
    """
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a dict with its fields, not {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    if not fields.keys() <= known:
        unknown = ", ".join(sorted(str(key) for key in fields.keys() - known))
        raise InvalidArgument(f"{what} has no field {unknown[:200]}; known: {', '.join(sorted(known))}")
    return dict(fields)


def take_document(value: object, what: str) -> str:
    """The encoded text of a dict.

    Raises:
        InvalidArgument: it is no dict.
        NotSerializable, ValueTooLarge: it cannot be stored exactly.
    """
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a dict, not {type(value).__name__}")
    return codec.encode(cast("dict[str, Any]", value), what=what)


def take_instant(moment: datetime | None, what: str) -> datetime:
    """An aware datetime in UTC; now for None.

    Raises:
        InvalidArgument: it is naive, no datetime, or outside the years 1 to 9999 in UTC.
    """
    if moment is None:
        return datetime.now(UTC)
    if type(moment) is not datetime or moment.utcoffset() is None:
        raise InvalidArgument(f"{what} must be an aware datetime, not {moment!r:.80}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(f"{what} is outside the years 1 to 9999 in UTC") from None
