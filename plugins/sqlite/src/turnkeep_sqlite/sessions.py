"""Sessions at rest: the head, the marks of ``message_ttl`` and the two documents in one row."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from turnkeep.contract import ANYONE, Head, Token
from turnkeep.cursors import page_of_heads, position_of, read_position
from turnkeep.errors import CorruptRecord
from turnkeep.retention import Marks, floor_at, from_microseconds, read_marks, to_microseconds, write_marks
from turnkeep.tallies import Group, add_up
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.times import LATER, from_text, from_text_or_none, to_text, to_text_or_none

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from turnkeep.contract import Scope, SessionPage, SessionQuery, Stats, StatsQuery
    from turnkeep_sqlite.statements import Queries

_STATUSES: Final = ("active", "completed", "abandoned")


class Record(NamedTuple):
    """A session as it is at some instant: marks that have passed have moved the head's floor."""

    head: Head
    stored_floor: int
    marks: Marks
    """Those still to pass."""


class Sessions:
    """The sessions table. Every method runs within the caller's transaction."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def find(self, connection: sqlite3.Connection, namespace: str, session_id: str, now: datetime) -> Record | None:
        """The session of this id, whoever owns it, expired or not."""
        row = connection.execute(self._queries.find_head, (namespace, session_id)).fetchone()
        return None if row is None else _record(row, now)

    def find_whole(
        self, connection: sqlite3.Connection, namespace: str, session_id: str, now: datetime
    ) -> tuple[Head, str, str] | None:
        """Its head, data and state."""
        row = connection.execute(self._queries.find_session, (namespace, session_id)).fetchone()
        return None if row is None else (_record(row, now).head, row[-2], row[-1])

    def insert(
        self, connection: sqlite3.Connection, head: Head, marks: Marks, documents: tuple[str | None, str | None]
    ) -> None:
        """Writes a new session; a document that is None becomes ``{}``."""
        unchanging = (head.token.incarnation, to_text(head.created_at), head.user_id)
        connection.execute(self._queries.insert_session, (*_to_columns(head, marks, documents), *unchanging))

    def update(
        self, connection: sqlite3.Connection, head: Head, marks: Marks, documents: tuple[str | None, str | None]
    ) -> None:
        """Writes the head of a session, and those documents that are not None."""
        connection.execute(self._queries.update_session, _to_columns(head, marks, documents))

    def set_owner(self, connection: sqlite3.Connection, head: Head) -> None:
        """Writes the owner, which ``update`` does not."""
        connection.execute(self._queries.set_owner, (head.user_id, head.namespace, head.session_id))

    def delete(self, connection: sqlite3.Connection, namespace: str, session_id: str) -> None:
        """Removes the row."""
        connection.execute(self._queries.delete_session, (namespace, session_id))

    def page(self, connection: sqlite3.Connection, query: SessionQuery, now: datetime) -> SessionPage:
        """The heads that follow the cursor."""
        by_activity = query.order == "activity"
        sql, parameters = self._listing(query, now)
        # Each status walks its own index; what they yield is merged here.
        statuses = [query.status] if query.status or not by_activity else _STATUSES
        heads = [
            _record(row, now).head
            for status in statuses
            for row in connection.execute(sql, parameters | {"status": status})
        ]

        if len(statuses) > 1:
            heads.sort(key=lambda head: position_of(head, query.order))
        return page_of_heads(heads, query)

    def _listing(self, query: SessionQuery, now: datetime) -> tuple[str, dict[str, str | int | None]]:
        """The statement that lists, and what it takes."""
        by_activity = query.order == "activity"
        last, last_id = (LATER, "") if by_activity else ("", "")
        if query.cursor is not None:
            moment, last_id = read_position(query.cursor, query.order)
            last = to_text(moment)
        before = now - query.older_than if isinstance(query.older_than, timedelta) else query.older_than
        parameters: dict[str, str | int | None] = {
            "namespace": query.scope.namespace,
            "agent_name": query.agent_name,
            "route": query.route,
            "before": LATER if before is None else to_text(before),
            "last": last,
            "last_id": last_id,
            "now": to_text(now),
            "limit": query.limit + 1,
        }
        if query.scope.owner is ANYONE:
            return self._queries.list_activity if by_activity else self._queries.list_created, parameters
        parameters["owner"] = query.scope.owner
        return self._queries.list_owner_activity if by_activity else self._queries.list_owner_created, parameters

    def owned(self, connection: sqlite3.Connection, scope: Scope, now: datetime) -> list[Head]:
        """Every head of the scope's owner, expired ones included."""
        rows = connection.execute(self._queries.list_owned, (scope.namespace, scope.owner))
        return [_record(row, now).head for row in rows]

    def expired(self, connection: sqlite3.Connection, now: datetime, limit: int) -> list[tuple[str, str]]:
        """Namespace and id of sessions that have expired, longest ago first."""
        return connection.execute(self._queries.list_expired, (to_text(now), limit)).fetchall()

    def trimmable(self, connection: sqlite3.Connection, now: datetime, limit: int) -> list[Record]:
        """Sessions with marks that have passed but were not applied to the stored floor, longest ago first."""
        rows = connection.execute(self._queries.list_trimmable, (to_text(now), limit)).fetchall()
        return [_record(row, now) for row in rows]

    def apply_marks(self, connection: sqlite3.Connection, record: Record) -> None:
        """Stores a floor that marks have moved, and the marks still to pass."""
        head = record.head
        parameters = (head.floor, *_marks_to_columns(record.marks), head.namespace, head.session_id)
        connection.execute(self._queries.set_floor, parameters)

    def count(self, connection: sqlite3.Connection, query: StatsQuery, now: datetime) -> Stats:
        """Counts over living sessions of the scope."""
        owner = query.scope.owner
        rows = connection.execute(
            self._queries.count,
            {
                "namespace": query.scope.namespace,
                "anyone": owner is ANYONE,
                "owner": None if owner is ANYONE else owner,
                "now": to_text(now),
                "stamp": to_microseconds(now),
            },
        ).fetchall()
        return add_up(_group(*row) for row in rows)


def _group(status: str, agent: str | None, route: str | None, day: str, *rest: Any) -> Group:
    sessions, messages, size, oldest, newest = rest
    created = date.fromisoformat(day)
    return Group(status, agent, route, created, sessions, messages, size, from_text(oldest), from_text(newest))


def _record(row: tuple[Any, ...], now: datetime) -> Record:
    session_id = row[17]
    try:
        floor = row[14]
        marks = read_marks(row[15])
        head = Head(
            namespace=row[16],
            session_id=session_id,
            user_id=row[0],
            token=Token(row[10], row[11], row[12]),
            status=row[2],
            agent_name=row[1],
            current_route=row[3],
            current_step=row[4],
            last_seq=row[13],
            floor=floor_at(floor, marks, now) if marks else floor,
            last_message_at=from_text_or_none(row[5]),
            completed_at=from_text_or_none(row[6]),
            created_at=from_text(row[7]),
            updated_at=from_text(row[8]),
            expires_at=from_text_or_none(row[9]),
        )
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"the row of session {session_id!r:.200} cannot be read: {error}", adapter=NAME) from error
    return Record(head, floor, tuple(mark for mark in marks if mark[0] > head.floor))


def _to_columns(head: Head, marks: Marks, documents: tuple[str | None, str | None]) -> tuple[str | int | None, ...]:
    return (
        head.agent_name,
        head.status,
        head.current_route,
        head.current_step,
        to_text_or_none(head.last_message_at),
        to_text_or_none(head.completed_at),
        to_text(head.updated_at),
        to_text_or_none(head.expires_at),
        head.token.version,
        head.token.commit_id,
        head.last_seq,
        head.floor,
        *_marks_to_columns(marks),
        *documents,
        head.namespace,
        head.session_id,
    )


def _marks_to_columns(marks: Marks) -> tuple[str | None, str | None]:
    """When the first mark passes, and all of them as JSON."""
    if not marks:
        return None, None
    return to_text(from_microseconds(marks[0][1])), write_marks(marks)
