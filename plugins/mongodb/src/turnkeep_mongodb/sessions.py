"""Sessions at rest: the head document, with the newest messages, the commits it remembers and the two documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pymongo.errors import DuplicateKeyError

from turnkeep.contract import ANYONE, PAST_COMMITS, Head, Scope, SessionKey, Token
from turnkeep.errors import CorruptRecord
from turnkeep.retention import Marks, add_mark, floor_at
from turnkeep_mongodb._errors import NAME
from turnkeep_mongodb.commits import to_line
from turnkeep_mongodb.messages import identity
from turnkeep_mongodb.tail import keep
from turnkeep_mongodb.times import from_stamp, from_stamp_or_none, to_stamp, to_stamp_or_none

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pymongo.asynchronous.collection import AsyncCollection

    from turnkeep.contract import Commit
    from turnkeep.judge import PastCommit
    from turnkeep_mongodb.names import Document

STATUSES: Final = ("active", "completed", "abandoned")

HEAD_ONLY: Final = {"tail": 0, "recent": 0, "collected_data": 0, "state": 0}
"""The projection of lists."""

WITHOUT_DOCUMENTS: Final = {"collected_data": 0, "state": 0}
"""The projection of what decides over a commit."""

WITH_TAIL: Final = {"recent": 0, "collected_data": 0, "state": 0}
"""The projection of searches."""


class Grave(NamedTuple):
    """A session that was deleted, whose message documents may still be there."""

    session: str
    incarnation: str


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
        """The ``_id`` of its document."""
        return identity(self.head.namespace, self.head.session_id)

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


def read_record(document: Document, now: datetime) -> Record:
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
            f"the document {document.get('_id')!r:.600} cannot be read: {error}", adapter=NAME
        ) from error


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
        last_message_at=from_stamp_or_none(document["last_message_us"]),
        completed_at=from_stamp_or_none(document["completed_us"]),
        created_at=from_stamp(document["created_us"]),
        updated_at=from_stamp(document["updated_us"]),
        expires_at=from_stamp_or_none(document["expires_us"]),
    )


def next_record(
    commit: Commit, before: Record | None, after: Head, past: PastCommit, items: Sequence[Document], now: datetime
) -> Record:
    """The session once a commit took effect, ``items`` being its messages."""
    added = sum(item["bytes"] for item in items)
    total = added + (before.total_bytes if before else 0)
    marks, sizes = _next_marks(commit, before, after, total, now)
    if commit.drop_history:
        tail, floor_bytes = tuple(items), total - added
    else:
        tail = (*keep(before.tail, after.floor, before.flushed), *items) if before else tuple(items)
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
    """The fields of a head document that a commit writes each time."""
    head = record.head
    return {
        "user_id": head.user_id,
        "agent_name": head.agent_name,
        "status": head.status,
        "current_route": head.current_route,
        "current_step": head.current_step,
        "last_message_at": head.last_message_at,
        "last_message_us": to_stamp_or_none(head.last_message_at),
        "completed_at": head.completed_at,
        "completed_us": to_stamp_or_none(head.completed_at),
        "updated_at": head.updated_at,
        "updated_us": to_stamp(head.updated_at),
        "expires_at": head.expires_at,
        "expires_us": to_stamp_or_none(head.expires_at),
        "version": head.token.version,
        "last_commit": head.token.commit_id,
        "last_seq": head.last_seq,
        **retention_fields(record, now),
    }


def retention_fields(record: Record, now: datetime) -> Document:
    """The fields that say what has left the history, what will, and when a sweep is to look at it."""
    debris = record.erased < min(record.head.floor, record.flushed)
    first = from_stamp(record.marks[0][1]) if record.marks else None
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


class Sessions:
    """The collection of heads."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self._collection = collection

    async def find(self, key: SessionKey, projection: Document | None = None) -> Document | None:
        """The document of a session that the key's scope sees, expired or deleted ones included."""
        return await self._collection.find_one(_seen_by(key), projection)

    async def find_any(self, session: str) -> Document | None:
        """What decides over a commit: the head of this id, whoever owns it."""
        return await self._collection.find_one({"_id": session}, WITHOUT_DOCUMENTS)

    async def insert(self, record: Record, documents: tuple[str | None, str | None], now: datetime) -> bool:
        """Writes the head of a new session, unless there is one; a document that is None becomes ``{}``."""
        head = record.head
        data, state = documents
        document: Document = {
            "_id": record.session,
            "namespace": head.namespace,
            "session_id": head.session_id,
            **to_fields(record, now),
            "created_at": head.created_at,
            "created_us": to_stamp(head.created_at),
            "incarnation": head.token.incarnation,
            "collected_data": "{}" if data is None else data,
            "state": "{}" if state is None else state,
            "recent": list(record.recent),
            "tail": list(record.tail),
        }
        try:
            await self._collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def swap(
        self, before: Record, after: Record, added: int, documents: tuple[str | None, str | None], now: datetime
    ) -> bool:
        """Writes a head, if it is still at the token of ``before``; only what is new of tail and ring is sent."""
        fields = to_fields(after, now)
        fields |= {
            name: text for name, text in zip(("collected_data", "state"), documents, strict=True) if text is not None
        }
        pushed: Document = {"recent": {"$each": [after.recent[-1]], "$slice": -PAST_COMMITS}}
        if after.tail:
            # What leaves the tail is cut off at its old end. A sweep may have cut off some of it already.
            pushed["tail"] = {"$each": list(after.tail[len(after.tail) - added :]), "$slice": -len(after.tail)}
        else:
            fields["tail"] = []
        result = await self._collection.update_one(at_token(before), {"$set": fields, "$push": pushed})
        return result.matched_count == 1

    async def bury(self, record: Record, now: datetime, *, at: Token | None = None) -> bool:
        """Puts a grave in place of a head, if it is still of this life and, where given, at this token."""
        condition: Document = {"_id": record.session, "incarnation": record.head.token.incarnation}
        condition |= at_token(record) if at is not None else {"buried": None}
        grave = {"incarnation": record.head.token.incarnation, "buried": True, "sweep_at": now}
        result = await self._collection.replace_one(condition, grave)
        return result.matched_count == 1

    async def remove(self, grave: Grave) -> None:
        """Removes a grave."""
        await self._collection.delete_one({"_id": grave.session, "incarnation": grave.incarnation, "buried": True})

    async def trim(self, record: Record, now: datetime) -> bool:
        """Writes what has left the history, without making a version of it: nothing that can be seen changes."""
        changes = {"$set": retention_fields(record, now), "$pull": {"tail": {"seq": {"$lte": record.head.floor}}}}
        result = await self._collection.update_one(at_token(record), changes)
        return result.matched_count == 1


def at_token(record: Record) -> Document:
    """The condition that a session is exactly where it was. A grave has no version."""
    token = record.head.token
    return {
        "_id": record.session,
        "incarnation": token.incarnation,
        "version": token.version,
        "last_commit": token.commit_id,
    }


def read_grave(document: Document) -> Grave | None:
    """The grave, if the document is one."""
    return Grave(document["_id"], document["incarnation"]) if document.get("buried") else None


def owned_by(scope: Scope) -> Document:
    """The condition on the owner."""
    return {} if scope.owner is ANYONE else {"user_id": scope.owner}


def _seen_by(key: SessionKey) -> dict[str, Any]:
    return {"_id": identity(key.scope.namespace, key.session_id), **owned_by(key.scope)}
