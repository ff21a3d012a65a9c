"""A session as its record has it: what the document holds, and what a commit makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from turnkeep.contract import PAST_COMMITS, Head, StoredMessage, Token
from turnkeep.errors import CorruptRecord, DataTooNew
from turnkeep.ids import new_id
from turnkeep.judge import PastCommit, committed, next_head, number_messages, past_commit
from turnkeep.repositories.authors import HistoryKey, RepositoryRecord
from turnkeep.retention import Marks, add_mark, floor_at, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract import Commit, Committed

TOMBSTONE: Final = '{"gone":true}'
"""The document of a session that is gone and whose messages may not be yet."""

_FORMAT: Final = 1
_AT_ONCE: Final = from_microseconds(0)  # `updated_at` may be ahead of a clock that was put back


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record, read at some instant: what ``document`` holds, with the marks that have passed applied to ``head``."""

    head: Head
    data: str
    state: str
    marks: Marks
    past: list[list[Any]]
    """What is remembered of commits, as it is stored: one of them is looked at, if any."""
    tail: tuple[StoredMessage, ...]
    """The newest messages, which are not in the message repository for certain."""
    floor: int
    """As the record has it: what is at or below may be erased."""
    erased: int
    """Up to here it was."""

    @property
    def history(self) -> HistoryKey:
        """The key of its messages."""
        return HistoryKey(self.head.namespace, self.head.session_id, self.head.token.incarnation)

    def find_commit(self, commit_id: str | None) -> PastCommit | None:
        """What is remembered of a commit."""
        return next((_unpack_past(past) for past in self.past if past[0] == commit_id), None)


def apply(commit: Commit, session: Recorded | None, now: datetime) -> tuple[Recorded, Committed]:
    """The session after a commit that takes effect, and the commit's result. None: it creates the session."""
    before = session.head if session else None
    head = next_head(commit, before, before.token.incarnation if before else new_id(), now)
    result = committed(commit, before, head)
    base = session or Recorded(head, "{}", "{}", (), [], (), 0, 0)
    marks = base.marks
    if commit.message_ttl is not None and commit.messages:
        marks = add_mark(marks, head.floor, head.last_seq, now + commit.message_ttl)
    after = Recorded(
        head=head,
        data=base.data if commit.data is None else commit.data,
        state=base.state if commit.state is None else commit.state,
        marks=tuple([mark for mark in marks if mark[0] > head.floor]),
        past=[*base.past, _pack_past(past_commit(commit, result))][-PAST_COMMITS:],
        tail=tuple(number_messages(commit, result) or [message for message in base.tail if message.seq > head.floor]),
        floor=head.floor,
        erased=base.floor,
    )
    return after, result


def write_record(session: Recorded) -> RepositoryRecord:
    """A record of the session, with a version of its own."""
    head = session.head
    due = [from_microseconds(leaves) for seq, leaves in session.marks if seq > head.floor][:1]
    if head.expires_at is not None:
        due.append(head.expires_at)
    if head.floor > session.erased:
        due.append(_AT_ONCE)
    times = (head.last_message_at, head.completed_at, head.created_at, head.updated_at, head.expires_at)
    document = {
        "v": _FORMAT,
        "token": [head.token.version, head.token.commit_id],
        "head": [head.user_id, head.status, head.agent_name, head.current_route, head.current_step],
        "times": [None if time is None else to_microseconds(time) for time in times],
        "seqs": [head.last_seq, head.floor, session.erased],
        "state": session.state,
        "marks": [list(mark) for mark in session.marks],
        "past": session.past,
        "tail": [[*message[:12], to_microseconds(message.created_at), *message[13:]] for message in session.tail],
    }
    return RepositoryRecord(
        namespace=head.namespace,
        id=head.session_id,
        version=new_id(),
        incarnation=head.token.incarnation,
        user_id=head.user_id,
        status=head.status,
        agent_name=head.agent_name,
        current_route=head.current_route,
        current_step=head.current_step,
        collected_data=session.data,
        message_count=head.message_count,
        last_message_at=head.last_message_at,
        completed_at=head.completed_at,
        created_at=head.created_at,
        updated_at=head.updated_at,
        expires_at=head.expires_at,
        due_at=min(due, default=None),
        # Texts and numbers only, and the texts are encodable by now: the codec would take longer to find that out.
        document=json.dumps(document, ensure_ascii=False, separators=(",", ":")),
    )


def read_record(record: RepositoryRecord, now: datetime, adapter: str) -> Recorded | None:
    """What a record holds, as it is at this instant; None: a tombstone."""
    if record.document == TOMBSTONE:
        return None
    try:
        found = json.loads(record.document)
        if found["v"] > _FORMAT:
            raise DataTooNew(
                f"session {record.id!r:.200} was written by a newer version of turnkeep (record format {found['v']}, "
                f"this one reads {_FORMAT}); upgrade turnkeep",
                adapter=adapter,
            )
        version, commit_id = found["token"]
        user_id, status, agent_name, route, step = found["head"]
        last_message_at, completed_at, created_at, updated_at, expires_at = found["times"]
        last_seq, floor, erased = found["seqs"]
        marks = tuple([(seq, leaves) for seq, leaves in found["marks"]])
        head = Head(
            namespace=record.namespace,
            session_id=record.id,
            user_id=user_id,
            token=Token(record.incarnation, version, commit_id),
            status=status,
            agent_name=agent_name,
            current_route=route,
            current_step=step,
            last_seq=last_seq,
            floor=floor_at(floor, marks, now),
            last_message_at=_moment(last_message_at),
            completed_at=_moment(completed_at),
            created_at=from_microseconds(created_at),
            updated_at=from_microseconds(updated_at),
            expires_at=_moment(expires_at),
        )
        tail = tuple([StoredMessage._make([*row[:12], from_microseconds(row[12]), *row[13:]]) for row in found["tail"]])
        return Recorded(head, record.collected_data, found["state"], marks, found["past"], tail, floor, erased)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
        message = f"the document of session {record.id!r:.200} cannot be read: {error!r:.200}"
        raise CorruptRecord(message, adapter=adapter) from error


def _pack_past(past: PastCommit) -> list[Any]:
    return [
        past.commit_id,
        past.digest,
        past.version,
        past.created,
        past.first_seq,
        past.last_seq,
        past.message_count,
        to_microseconds(past.time),
    ]


def _unpack_past(item: list[Any]) -> PastCommit:
    commit_id, digest, version, created, first_seq, last_seq, message_count, time = item
    return PastCommit(commit_id, digest, version, created, first_seq, last_seq, message_count, from_microseconds(time))


def _moment(stamp: int | None) -> datetime | None:
    return None if stamp is None else from_microseconds(stamp)


def bury(record: RepositoryRecord) -> RepositoryRecord:
    """The record of a session that is gone, until its messages are: due at once, and with nothing of its content."""
    return replace(
        record,
        version=new_id(),
        user_id=None,
        status="abandoned",
        agent_name=None,
        current_route=None,
        current_step=None,
        collected_data="{}",
        message_count=0,
        last_message_at=None,
        completed_at=None,
        expires_at=record.updated_at,
        due_at=_AT_ONCE,
        document=TOMBSTONE,
    )
