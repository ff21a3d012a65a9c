"""Commits at rest: JSON texts in the head's ring, ``[id, digest, version, created, first, last, count, time]``.

A text and not a document: the ring travels with every load, and is looked into only when a commit id is asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from turnkeep.errors import CorruptRecord
from turnkeep.judge import PastCommit
from turnkeep_mongodb._errors import NAME
from turnkeep_mongodb.times import from_stamp, to_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence


def to_line(past: PastCommit) -> str:
    """The text."""
    return _dump(
        past.commit_id,
        past.digest,
        past.version,
        past.created,
        past.first_seq,
        past.last_seq,
        past.message_count,
        to_stamp(past.time),
    )


def find_past(ring: Sequence[str], commit_id: str) -> PastCommit | None:
    """What the ring remembers of a commit id."""
    begin = f"{_dump(commit_id)[:-1]},"
    line = next((line for line in ring if line.startswith(begin)), None)
    if line is None:
        return None
    try:
        commit_id, digest, version, created, first_seq, last_seq, message_count, time = json.loads(line)
        return PastCommit(commit_id, digest, version, created, first_seq, last_seq, message_count, from_stamp(time))
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptRecord(f"what is remembered of commit {commit_id!r:.80} cannot be read", adapter=NAME) from error


def _dump(*parts: str | int | None) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
