"""Times at rest: ``2026-11-23T16:21:00.123456Z``, UTC, of one width, so that texts sort as the instants do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

LATER: Final = "~"
"""Sorts after every time."""

from_text = datetime.fromisoformat


def to_text(moment: datetime) -> str:
    """An aware instant, exact to the microsecond."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"


def to_text_or_none(moment: datetime | None) -> str | None:
    """As ``to_text``; None stays None."""
    return None if moment is None else to_text(moment)


def from_text_or_none(text: str | None) -> datetime | None:
    """As ``from_text``; None stays None."""
    return None if text is None else from_text(text)
