"""When messages leave the history of a session that lives on (``message_ttl``).

A session remembers *marks*: pairs of (last seq of a commit, instant at which that commit's messages leave). A mark that
has passed moves the floor to its seq, so history leaves by whole commits and always from the oldest end.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

MAX_MARKS = 64

Marks = tuple[tuple[int, int], ...]
"""(seq, instant in microseconds since 1970 UTC), both rising."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(stamp: int) -> datetime:
    """The aware instant, in UTC, of ``to_microseconds``."""
    return _EPOCH + timedelta(microseconds=stamp)


def floor_at(floor: int, marks: Marks, now: datetime) -> int:
    """The floor once every mark that has passed was applied."""
    stamp = to_microseconds(now)
    for seq, leaves in reversed(marks):
        if leaves <= stamp:
            return max(floor, seq)
    return floor


def add_mark(marks: Marks, floor: int, last_seq: int, leaves: datetime) -> Marks:
    """The marks after a commit whose messages end at ``last_seq`` and leave at ``leaves``.

    Beyond ``MAX_MARKS`` the two neighbours that lie closest in time become one, at the later of the two: a message may
    then stay longer than asked for, never shorter.
    """
    stamp = to_microseconds(leaves)
    kept = [mark for mark in marks if mark[0] > floor]
    if kept:
        stamp = max(stamp, kept[-1][1])  # a clock that stepped back, or a shorter ttl, must not overtake older messages
    kept.append((last_seq, stamp))
    if len(kept) > MAX_MARKS:
        closest = min(range(len(kept) - 1), key=lambda index: kept[index + 1][1] - kept[index][1])
        del kept[closest]
    return tuple(kept)


def write_marks(marks: Marks) -> str | None:
    """The marks as JSON, for a column; None where there are none."""
    return json.dumps(marks, separators=(",", ":")) if marks else None


def read_marks(text: str | None) -> Marks:
    """The marks of ``write_marks``.

    Raises:
        ValueError, TypeError: the text is not that.
    """
    return () if text is None else tuple((seq, leaves) for seq, leaves in json.loads(text))
