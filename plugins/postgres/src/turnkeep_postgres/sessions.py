"""Sessions at rest: rows as heads, conditions as parameters."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from turnkeep.contract import Head, SessionPage, Token
from turnkeep.cursors import page_of_heads, read_position
from turnkeep.errors import CorruptRecord
from turnkeep.retention import Marks, floor_at, from_microseconds, read_marks, write_marks
from turnkeep_postgres._errors import NAME
from turnkeep_postgres.values import Instants, Texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from turnkeep.contract import SessionQuery

HEAD_WIDTH: Final = 17
"""How many columns a head has in every statement that gives one."""
MARKED_WIDTH: Final = HEAD_WIDTH + 2
"""The same with marks and the time, where marks that have passed are not in the floor yet."""

_STATUSES: Final = ("active", "completed", "abandoned")


def to_marked_head(row: Sequence[Any]) -> tuple[Head, datetime]:
    """The head that a row begins with, its floor where its marks have moved it, and the time."""
    head, (text, now) = to_head(row), row[HEAD_WIDTH:MARKED_WIDTH]
    if text is not None:
        head = replace(head, floor=floor_at(head.floor, _read_marks(text, head.session_id), now))
    return head, now


def to_head(row: Sequence[Any]) -> Head:
    """The head that a row begins with. Marks that have passed are in its floor already."""
    return Head(
        namespace=row[0],
        session_id=row[1],
        user_id=row[2],
        token=Token(row[3], row[4], row[5]),
        status=row[6],
        agent_name=row[7],
        current_route=row[8],
        current_step=row[9],
        last_seq=row[10],
        floor=row[11],
        last_message_at=row[12],
        completed_at=row[13],
        created_at=row[14],
        updated_at=row[15],
        expires_at=row[16],
    )


def list_parameters(query: SessionQuery, now: datetime | None) -> dict[str, object]:
    """What a listing takes."""
    last, last_id = None, ""
    if query.cursor is not None:
        last, last_id = read_position(query.cursor, query.order)
    relative = isinstance(query.older_than, timedelta)
    return {
        "now": now,
        "namespace": query.scope.namespace,
        "owner": query.scope.owner if isinstance(query.scope.owner, str) else None,
        "status": query.status,
        "statuses": Texts([query.status] if query.status else _STATUSES),
        "agent_name": query.agent_name,
        "route": query.route,
        "age": query.older_than if relative else None,
        "before": None if relative else query.older_than,
        "last": last,
        "last_id": last_id,
        "limit": query.limit + 1,
    }


def to_page(rows: Iterable[Sequence[Any]], query: SessionQuery) -> SessionPage:
    """The page that a listing's rows are: one more than asked for says that there are more."""
    return page_of_heads([to_marked_head(row)[0] for row in rows], query)


def trim_parameters(rows: Iterable[Sequence[Any]]) -> dict[str, object]:
    """What moves the floors of trimmable sessions to the marks that have passed, and keeps the marks that have not."""
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [], [])
    for namespace, session_id, incarnation, version, stored_floor, text, now in rows:
        marks = _read_marks(text, session_id)
        floor = floor_at(stored_floor, marks, now)
        kept = tuple(mark for mark in marks if mark[0] > floor)
        row = (
            namespace,
            session_id,
            incarnation,
            version,
            floor,
            write_marks(kept),
            from_microseconds(kept[0][1]) if kept else None,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    namespaces, ids, incarnations, versions, floors, texts, times = columns
    return {
        "namespaces": Texts(namespaces),
        "ids": Texts(ids),
        "incarnations": Texts(incarnations),
        "versions": versions,
        "floors": floors,
        "marks": Texts(texts),
        "trim_ats": Instants(times),
    }


def _read_marks(text: str | None, session_id: str) -> Marks:
    try:
        return tuple((int(seq), int(leaves)) for seq, leaves in read_marks(text or None))
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"the marks of session {session_id!r:.200} cannot be read", adapter=NAME) from error
