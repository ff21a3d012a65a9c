"""Sessions at rest: rows as heads, heads as parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from turnkeep.contract import Head, Token
from turnkeep.errors import CorruptRecord
from turnkeep.retention import Marks, floor_at, from_microseconds, read_marks, write_marks
from turnkeep_sqlalchemy._errors import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class Record(NamedTuple):
    """A session as it is at some instant: marks that have passed have moved the head's floor."""

    head: Head
    stored_floor: int
    marks: Marks
    """Those still to pass."""


def to_record(row: Sequence[Any], now: datetime, namespace: str) -> Record:
    """The record in a row that begins with the fields of a head.

    Raises:
        CorruptRecord: it cannot be read.
    """
    session_id = row[17]
    try:
        floor = row[14]
        marks = read_marks(row[15])
        head = Head(
            namespace=namespace if row[16] is None else row[16],
            session_id=session_id,
            user_id=row[0],
            token=Token(row[10], row[11], row[12]),
            status=row[2],
            agent_name=row[1],
            current_route=row[3],
            current_step=row[4],
            last_seq=row[13],
            floor=floor_at(floor, marks, now) if marks else floor,
            last_message_at=row[5],
            completed_at=row[6],
            created_at=row[7],
            updated_at=row[8],
            expires_at=row[9],
        )
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"the row of session {session_id!r:.200} cannot be read: {error}", adapter=NAME) from error
    return Record(head, floor, tuple(mark for mark in marks if mark[0] > head.floor))


def to_parameters(head: Head, marks: Marks, documents: tuple[str | None, str | None]) -> dict[str, Any]:
    """What a commit writes, field by field."""
    return {
        "agent_name": head.agent_name,
        "status": head.status,
        "current_route": head.current_route,
        "current_step": head.current_step,
        "last_message_at": head.last_message_at,
        "completed_at": head.completed_at,
        "updated_at": head.updated_at,
        "expires_at": head.expires_at,
        "version": head.token.version,
        "last_commit": head.token.commit_id,
        "last_seq": head.last_seq,
        "floor": head.floor,
        "user_id": head.user_id,
        "collected_data": documents[0],
        "state": documents[1],
        **marks_to_parameters(marks),
    }


def to_new_row(head: Head, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a commit writes that creates the session."""
    return parameters | {
        "namespace": head.namespace,
        "id": head.session_id,
        "incarnation": head.token.incarnation,
        "created_at": head.created_at,
        "collected_data": "{}" if parameters["collected_data"] is None else parameters["collected_data"],
        "state": "{}" if parameters["state"] is None else parameters["state"],
    }


def marks_to_parameters(marks: Marks) -> dict[str, Any]:
    """When the first mark passes, and all of them as JSON."""
    if not marks:
        return {"trim_at": None, "marks": None}
    return {"trim_at": from_microseconds(marks[0][1]), "marks": write_marks(marks)}
