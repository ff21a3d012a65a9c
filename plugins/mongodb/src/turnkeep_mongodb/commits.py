"""Commits at rest: one line each in the head's ring, ``id version created first last count time digest``.

A line and not a document: the ring travels with every load, and is looked into only when a commit id is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.errors import CorruptRecord
from turnkeep.judge import PastCommit
from turnkeep_mongodb._errors import NAME
from turnkeep_mongodb.times import from_stamp, to_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

_NONE = "-"


def to_line(past: PastCommit) -> str:
    """The line. The digest stands last because it alone may contain blanks."""
    parts = (
        past.commit_id,
        past.version,
        int(past.created),
        _NONE if past.first_seq is None else past.first_seq,
        _NONE if past.last_seq is None else past.last_seq,
        past.message_count,
        to_stamp(past.time),
        past.digest,
    )
    return " ".join(map(str, parts))


def find_past(ring: Sequence[str], commit_id: str) -> PastCommit | None:
    """What the ring remembers of a commit id."""
    line = next((line for line in ring if line.startswith(f"{commit_id} ")), None)
    if line is None:
        return None
    try:
        _, version, created, first, last, count, time, digest = line.split(" ", 7)
        return PastCommit(
            commit_id,
            digest,
            int(version),
            created == "1",
            None if first == _NONE else int(first),
            None if last == _NONE else int(last),
            int(count),
            from_stamp(int(time)),
        )
    except (ValueError, OverflowError) as error:
        raise CorruptRecord(f"the line of commit {commit_id!r:.80} cannot be read", adapter=NAME) from error
