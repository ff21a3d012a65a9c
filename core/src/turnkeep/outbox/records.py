"""Sessions at rest: what a head document says, and what a commit makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from turnkeep.contract import PAST_COMMITS, Head, Token
from turnkeep.errors import CorruptRecord
from turnkeep.outbox.items import identity
from turnkeep.outbox.ring import to_line
from turnkeep.outbox.tail import keep
from turnkeep.retention import Marks, add_mark, floor_at, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Commit
    from turnkeep.judge import PastCommit
    from turnkeep.outbox.items import Document
    from turnkeep.outbox.tail import Bounds

STATUSES: Final = ("active", "completed", "abandoned")


class Grave(NamedTuple):
    """A session that was deleted, whose message documents may still be there."""

    session: str
    incarnation: str
    erased: int
    """Documents up to this seq were removed before."""
    last_seq: int | None
    """There are none after this one; None where that was not written down."""


class Record(NamedTuple):
    """A session as it is at some instant: marks that have passed have moved the head's floor."""

    head: Head
    marks: Marks
    """Those still to pass."""
    mark_bytes: tuple[int, ...]
    """For each of them, the size of all text of this life up to it."""
    floor_bytes: int
    """The size of the text at or below the floor."""
    total_bytes: int
    """The size of all text of this life."""
    flushed: int
    """Messages up to this seq have documents of their own."""
    erased: int
    """Documents up to this seq were removed."""
    tail: tuple[Document, ...]
    """The newest messages, up to the last."""
    recent: tuple[str, ...]
    """The last commits, oldest first."""

    @property
    def session(self) -> str:
        """Its identity."""
        return identity(self.head.namespace, self.head.session_id)

    @property
    def grave(self) -> Grave:
        """What becomes of it when it is deleted as it is."""
        return Grave(self.session, self.head.token.incarnation, self.erased, self.head.last_seq)

    def at(self, now: datetime) -> Record:
        """The session at a later instant, if nobody commits until then."""
        floor = floor_at(self.head.floor, self.marks, now)
        left = sum(seq <= floor for seq, _ in self.marks)
        if left == 0:
            return self
        return self._replace(
            head=replace(self.head, floor=floor),
            marks=self.marks[left:],
            mark_bytes=self.mark_bytes[left:],
            floor_bytes=max(self.floor_bytes, self.mark_bytes[left - 1]),
            tail=tuple(item for item in self.tail if item["seq"] > floor),
        )


def read_record(document: Document, now: datetime, adapter: str) -> Record:
    """The session of a head document, which may lack its tail and ring.

    Raises:
        CorruptRecord: a field is missing, or none.
    """
    try:
        marks = document["marks"]
        return Record(
            _read_head(document),
            tuple((int(mark["seq"]), int(mark["leaves_us"])) for mark in marks),
            tuple(int(mark["bytes"]) for mark in marks),
            int(document["floor_bytes"]),
            int(document["total_bytes"]),
            int(document["flushed"]),
            int(document["erased"]),
            tuple(document.get("tail", ())),
            tuple(document.get("recent", ())),
        ).at(now)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptRecord(
            f"the document {document.get('_id')!r:.600} cannot be read: {error}", adapter=adapter
        ) from error


def read_grave(document: Document) -> Grave | None:
    """The grave, if the document is one."""
    if not document.get("buried"):
        return None
    return Grave(document["_id"], document["incarnation"], document.get("erased", 0), document.get("last_seq"))


def _read_head(document: Document) -> Head:
    status = document["status"]
    if status not in STATUSES:
        raise ValueError(f"the status is {status!r:.80}")
    return Head(
        namespace=document["namespace"],
        session_id=document["session_id"],
        user_id=document["user_id"],
        token=Token(document["incarnation"], int(document["version"]), document["last_commit"]),
        status=status,
        agent_name=document["agent_name"],
        current_route=document["current_route"],
        current_step=document["current_step"],
        last_seq=int(document["last_seq"]),
        floor=int(document["floor"]),
        last_message_at=_moment(document["last_message_us"]),
        completed_at=_moment(document["completed_us"]),
        created_at=from_microseconds(document["created_us"]),
        updated_at=from_microseconds(document["updated_us"]),
        expires_at=_moment(document["expires_us"]),
    )


def next_record(
    commit: Commit,
    before: Record | None,
    after: Head,
    past: PastCommit,
    items: Sequence[Document],
    now: datetime,
    bounds: Bounds,
) -> Record:
    """The session once a commit took effect, ``items`` being its messages."""
    added = sum(item["bytes"] for item in items)
    total = added + (before.total_bytes if before else 0)
    marks, sizes = _next_marks(commit, before, after, total, now)
    if commit.drop_history:
        tail, floor_bytes = tuple(items), total - added
    else:
        tail = (*keep(before.tail, after.floor, before.flushed, bounds), *items) if before else tuple(items)
        floor_bytes = before.floor_bytes if before else 0
    return Record(
        after,
        marks,
        sizes,
        floor_bytes,
        total,
        before.flushed if before else 0,
        before.erased if before else 0,
        tail,
        (*(before.recent if before else ()), to_line(past))[-PAST_COMMITS:],
    )


def _next_marks(
    commit: Commit, before: Record | None, after: Head, total: int, now: datetime
) -> tuple[Marks, tuple[int, ...]]:
    marks = before.marks if before else ()
    sizes = dict(zip((seq for seq, _ in marks), before.mark_bytes, strict=True)) if before else {}
    if commit.message_ttl is not None and commit.messages:
        sizes[after.last_seq] = total
        marks = add_mark(marks, after.floor, after.last_seq, now + commit.message_ttl)
    else:
        marks = tuple(mark for mark in marks if mark[0] > after.floor)
    return marks, tuple(sizes[seq] for seq, _ in marks)


def to_fields(record: Record, now: datetime) -> Document:
    """The fields of a head document that a commit writes each time.

    Times are there twice: as dates, which a store may cut to milliseconds, and exactly, in microseconds since 1970.
    """
    head = record.head
    return {
        "user_id": head.user_id,
        "agent_name": head.agent_name,
        "status": head.status,
        "current_route": head.current_route,
        "current_step": head.current_step,
        "last_message_at": head.last_message_at,
        "last_message_us": _stamp(head.last_message_at),
        "completed_at": head.completed_at,
        "completed_us": _stamp(head.completed_at),
        "updated_at": head.updated_at,
        "updated_us": to_microseconds(head.updated_at),
        "expires_at": head.expires_at,
        "expires_us": _stamp(head.expires_at),
        "version": head.token.version,
        "last_commit": head.token.commit_id,
        "last_seq": head.last_seq,
        **retention_fields(record, now),
    }


def first_fields(record: Record) -> Document:
    """The fields of a head document that its first commit alone writes."""
    head = record.head
    return {
        "namespace": head.namespace,
        "session_id": head.session_id,
        "created_at": head.created_at,
        "created_us": to_microseconds(head.created_at),
        "incarnation": head.token.incarnation,
    }


def retention_fields(record: Record, now: datetime) -> Document:
    """The fields that say what has left the history, what will, and when a sweep is to look at it."""
    debris = record.erased < min(record.head.floor, record.flushed)
    first = from_microseconds(record.marks[0][1]) if record.marks else None
    return {
        "message_count": record.head.message_count,
        "floor": record.head.floor,
        "floor_bytes": record.floor_bytes,
        "total_bytes": record.total_bytes,
        "flushed": record.flushed,
        "erased": record.erased,
        "marks": [
            {"seq": seq, "leaves_us": leaves, "bytes": size}
            for (seq, leaves), size in zip(record.marks, record.mark_bytes, strict=True)
        ],
        "sweep_at": now if debris else first,
    }


def _stamp(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)


def _moment(stamp: int | None) -> datetime | None:
    return None if stamp is None else from_microseconds(stamp)
