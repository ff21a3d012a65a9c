"""Times at rest, twice: as BSON dates, which have milliseconds, and exactly, in microseconds since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.retention import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from datetime import datetime

to_stamp = to_microseconds
from_stamp = from_microseconds


def to_stamp_or_none(moment: datetime | None) -> int | None:
    """As ``to_stamp``; None stays None."""
    return None if moment is None else to_microseconds(moment)


def from_stamp_or_none(stamp: int | None) -> datetime | None:
    """As ``from_stamp``; None stays None."""
    return None if stamp is None else from_microseconds(stamp)
