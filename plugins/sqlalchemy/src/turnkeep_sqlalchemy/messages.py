"""Messages and commits at rest: rows as the contract's values, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turnkeep.contract import MessageQuery, StoredMessage
from turnkeep.errors import CorruptRecord
from turnkeep.judge import PastCommit
from turnkeep_sqlalchemy._errors import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from turnkeep.contract import Head

_make = cast("Callable[[Iterable[Any]], StoredMessage]", StoredMessage._make)


def to_messages(rows: Iterable[Sequence[Any]], head: Head, low: int, high: int) -> tuple[StoredMessage, ...]:
    """The messages in rows that begin with the fields of one, from ``low`` to ``high``.

    Raises:
        CorruptRecord: the head says they are there, and they are not.
    """
    messages = tuple([_make(row[:16]) for row in rows])
    if len(messages) != max(0, high - low + 1):
        raise CorruptRecord(
            f"session {head.session_id!r:.200} counts messages {low} to {high}, but {len(messages)} are there",
            adapter=NAME,
        )
    return messages


def to_rows(messages: Iterable[StoredMessage], head: Head, committed_at: datetime) -> list[dict[str, Any]]:
    """Messages as they are written."""
    place = {
        "namespace": head.namespace,
        "session_id": head.session_id,
        "incarnation": head.token.incarnation,
        "committed_at": committed_at,
    }
    return [message._asdict() | place for message in messages]


def to_past(row: Sequence[Any]) -> PastCommit:
    """What the session remembers of a commit."""
    commit_id, digest, version, created, first_seq, last_seq, message_count, time = row
    return PastCommit(commit_id, digest, version, bool(created), first_seq, last_seq, message_count, time)


def past_to_row(past: PastCommit, head: Head) -> dict[str, Any]:
    """A commit as it is written."""
    return {
        "namespace": head.namespace,
        "session_id": head.session_id,
        "incarnation": head.token.incarnation,
        "commit_id": past.commit_id,
        "digest": past.digest,
        "version": past.version,
        "created": past.created,
        "first_seq": past.first_seq,
        "last_seq": past.last_seq,
        "message_count": past.message_count,
        "committed_at": past.time,
    }


def stretch(head: Head, query: MessageQuery) -> tuple[int, int, bool]:
    """The first and last seq of a page, and whether there is more in the direction of reading."""
    low, high = head.floor + 1, head.last_seq
    if query.after is not None:
        low = max(low, query.after + 1)
        last = min(high, low + query.limit - 1)
        return low, last, last < high
    if query.before is not None:
        high = min(high, query.before - 1)
    first = max(low, high - query.limit + 1)
    return first, high, first > low
