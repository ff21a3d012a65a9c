"""What statements are made of: columns to select, and conditions on rows, for the names and the database at hand.

Parameters are named ``of_…`` where they choose rows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Interval, LargeBinary, bindparam, case, cast, func, literal_column, null, or_, text

from turnkeep.contract import ANYONE
from turnkeep_sqlalchemy.columns import MYSQL, Id, Instant, number, utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Table

    from turnkeep.contract import Owner, SessionQuery
    from turnkeep_sqlalchemy.tables import Tables

_SERVER_CLOCKS: Final = {
    "postgresql": "clock_timestamp()",
    "mysql": "UTC_TIMESTAMP(6)",
    "mariadb": "UTC_TIMESTAMP(6)",
}

_GREATEST: Final = {"postgresql": "greatest", "mysql": "greatest", "mariadb": "greatest", "sqlite": "max"}
"""The function that finds the larger of two; SQL has none of its own."""


def has_server_clock(dialect: str) -> bool:
    """Whether this database is asked for the time; elsewhere it is the application's."""
    return dialect in _SERVER_CLOCKS


class Clauses:
    """Columns and conditions over these tables on this database.

    Args:
        tables: the tables.
        dialect: SQLAlchemy's name of the database.
        client_clock: the time is a parameter, ``now``, and not the server's.
    """

    def __init__(self, tables: Tables, dialect: str, *, client_clock: bool) -> None:
        self.tables = tables
        self.dialect = dialect
        self._s, self._m, self._c = tables.sessions, tables.messages, tables.commits
        self.has_namespace = "namespace" in self._s.c
        self.client_clock = client_clock
        self.now: ColumnElement[Any] = (
            bindparam("now", type_=Instant()) if client_clock else literal_column(_SERVER_CLOCKS[dialect], Instant())
        )

    def selected(self, table: Table, field: str) -> ColumnElement[Any]:
        """A column under its field's name; NULL for a namespace that there is none of."""
        if field not in table.c:
            return null().label(field)
        column = table.c[field]
        chosen = utc(column, self.dialect) if isinstance(column.type, Instant) else column
        return chosen.label(field)

    def moment(self) -> ColumnElement[Any]:
        """The time of the decision, to be selected."""
        if self.client_clock:
            return null().label("moment")
        return utc(self.now, self.dialect).label("moment")

    def _namespace(self) -> ColumnElement[Any]:
        return self.selected(self._s, "namespace")

    def _is_session(self, session_id: ColumnElement[Any], table: Table | None = None) -> list[ColumnElement[bool]]:
        """The rows of one session, in the table of ``session_id``."""
        source: Any = session_id.table if table is None else table  # pyright: ignore[reportAttributeAccessIssue]
        conditions = [session_id == bindparam("of_session", type_=Id())]
        if self.has_namespace:
            conditions.insert(0, source.c.namespace == bindparam("of_namespace", type_=Id()))
        return conditions

    def life(self, table: Table) -> list[ColumnElement[bool]]:
        """The rows of one incarnation of a session."""
        incarnation = table.c.incarnation == bindparam("of_incarnation", type_=Id())
        return [*self._is_session(table.c.session_id), incarnation]

    def same_life(self, table: Table, sessions: Any = None) -> list[ColumnElement[bool]]:
        """The rows of what a session is now."""
        s = (self._s if sessions is None else sessions).c
        conditions = [table.c.session_id == s.id, table.c.incarnation == s.incarnation]
        return [table.c.namespace == s.namespace, *conditions] if self.has_namespace else conditions

    def in_namespace(self) -> list[ColumnElement[bool]]:
        """Sessions of the namespace of the parameters."""
        return [self._s.c.namespace == bindparam("of_namespace", type_=Id())] if self.has_namespace else []

    def owned_by(self, owner: Owner) -> list[ColumnElement[bool]]:
        """Sessions of this owner."""
        if owner is ANYONE:
            return []
        return [self._s.c.user_id.is_(None) if owner is None else self._s.c.user_id == owner]

    def living(self) -> list[ColumnElement[bool]]:
        """Sessions that have not expired."""
        return [or_(self._s.c.expires_at.is_(None), self._s.c.expires_at > self.now)]

    def _matching(self, query: SessionQuery) -> Iterable[ColumnElement[bool]]:
        yield from self.in_namespace()
        if query.agent_name is not None:
            yield self._s.c.agent_name == query.agent_name
        if query.route is not None:
            yield self._s.c.current_route == query.route
        if isinstance(query.older_than, timedelta):
            yield self._s.c.updated_at < self._ago(query.older_than)
        elif query.older_than is not None:
            yield self._s.c.updated_at < query.older_than

    def _ago(self, time: timedelta) -> ColumnElement[Any]:
        """So long before the server's time."""
        if self.dialect == "postgresql":
            return self.now - cast(time, Interval())
        microseconds = time // timedelta(microseconds=1)
        return func.timestampadd(text("MICROSECOND"), -microseconds, self.now, type_=Instant())

    def _bytes(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Its length in bytes."""
        if self.dialect in MYSQL:
            return func.length(column)
        if self.dialect == "sqlite":
            return func.length(cast(column, LargeBinary()))
        return func.octet_length(column)

    def _greatest(self, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        """The larger of two."""
        name = _GREATEST.get(self.dialect)
        if name is None:
            return case((one > other, one), else_=other)
        return getattr(func, name)(one, other, type_=number())
