"""What a load finds: rows as they arrive, taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from turnkeep.errors import CorruptRecord
from turnkeep_sqlalchemy._errors import NAME
from turnkeep_sqlalchemy.messages import to_messages
from turnkeep_sqlalchemy.statements import HEAD, MESSAGE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Head, LoadQuery, SessionKey, StoredMessage


class Loaded(NamedTuple):
    """A session as a load finds it.

    Attributes:
        head: the fields of ``HEAD``.
        documents: those of ``DOCUMENTS``.
        moment: the server's time, where it was asked for.
        past: the fields of ``PAST``; the first is None where nothing is known of the commit.
        messages: rows that begin with the fields of ``MESSAGE``, oldest first; some may be no messages.
    """

    head: Sequence[Any]
    documents: Sequence[Any]
    moment: datetime | None
    past: Sequence[Any]
    messages: Sequence[Sequence[Any]]


def split(rows: Sequence[Sequence[Any]], key: SessionKey, query: LoadQuery) -> Loaded | None:
    """What the rows of a load hold: messages, newest first, and the rest in the first of them.

    Raises:
        CorruptRecord: the newest message is not among them.
    """
    if not rows:
        return None
    first = rows[0] if query.window == 0 else rows[0][len(MESSAGE) :]
    head, rest = first[: len(HEAD)], first[len(HEAD) :]
    if head[-1] is None:
        raise CorruptRecord(f"session {key.session_id!r:.200} lacks its newest message", adapter=NAME)
    return Loaded(head, rest[:2], rest[2], rest[3:], rows[::-1])


def in_window(rows: Sequence[Sequence[Any]], head: Head, window: int | None) -> tuple[StoredMessage, ...]:
    """The messages of a load; those that marks have passed fall away."""
    found = [row for row in rows if row[13] is not None and row[13] > head.floor]
    low = head.floor + 1
    if window is not None:
        low = max(low, head.last_seq - window + 1)
    if found:
        low = min(low, found[0][13])
    return to_messages(found, head, low, head.last_seq)
