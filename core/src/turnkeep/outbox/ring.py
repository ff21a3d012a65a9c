"""Commits at rest: JSON texts in the head's ring, ``[id, digest, version, created, first, last, count, time]``.

A text and not a document: the ring travels with every load, and is looked into only when a commit id is asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from turnkeep.errors import CorruptRecord
from turnkeep.judge import PastCommit
from turnkeep.retention import from_microseconds, to_microseconds

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
        to_microseconds(past.time),
    )


def find_past(ring: Sequence[str], commit_id: str, adapter: str) -> PastCommit | None:
    """What the ring remembers of a commit id.

    Raises:
        CorruptRecord: it cannot be read.
    """
    begin = f"{_dump(commit_id)[:-1]},"
    line = next((line for line in ring if line.startswith(begin)), None)
    if line is None:
        return None
    try:
        commit_id, digest, version, created, first_seq, last_seq, message_count, time = json.loads(line)
        moment = from_microseconds(time)
    except (ValueError, TypeError, OverflowError) as error:
        said = f"what is remembered of commit {commit_id!r:.80} cannot be read"
        raise CorruptRecord(said, adapter=adapter) from error
    return PastCommit(commit_id, digest, version, created, first_seq, last_seq, message_count, moment)


def _dump(*parts: str | int | None) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
