"""Whether tables are ours, and how they are made.

Under default names our version record decides. Under names of the user's the columns do: then a table that is absent is
made, and one that is there is never altered; what it lacks is named, with the statement that adds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import DDL, Text, and_, cast, func, insert, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from turnkeep.contract import YOURS
from turnkeep.errors import ConfigurationError, ForeignTable, SchemaMissing, SchemaTooNew
from turnkeep_sqlalchemy._errors import NAME
from turnkeep_sqlalchemy.columns import MYSQL
from turnkeep_sqlalchemy.fitting import find_misfits

if TYPE_CHECKING:
    from sqlalchemy import Connection, Inspector, Table
    from sqlalchemy.schema import ExecutableDDLElement

    from turnkeep_sqlalchemy.tables import Tables

VERSION: Final = 1
_THEIRS: Final = {"postgresql": 2, "sqlite": 2}
"""Up to which version tables of turnkeep-postgres and turnkeep-sqlite are ours, too: the second has more, for searches,
that the database itself fills in. Those packages bring tables of ours there when they migrate them."""
_STEP: Final = "0001_initial"
_LOCK: Final = 0x7475726E  # "turn"
_LOCK_SECONDS: Final = 30
_RECORD_COLUMNS: Final = ["version", "name", "applied_at"]


@dataclass(slots=True)
class Found:
    """What is there.

    Attributes:
        version: what our record says; 0 where there is none, or it is unfinished.
        recorded: there is a record.
        absent: tables that are not there.
        unindexed: the table of words has no index yet.
        misfits: per table that is there under a name of the user's, what it lacks and the statement that mends it.
        counts: ``message_count`` is a plain column, so it has to be written.
    """

    version: int = 0
    recorded: bool = False
    absent: list[Table] = field(default_factory=list["Table"])
    unindexed: bool = False
    misfits: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    counts: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be done."""
        return not self.absent and not self.unindexed and not self.misfits


class Schema:
    """The tables in one database. Every method runs on a plain connection, in SQLAlchemy's own thread of execution."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._names = tables.names

    def look(self, connection: Connection) -> Found:
        """What is there, changing nothing.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: one of our names is taken.
        """
        inspector = inspect(connection)
        there = {name.lower() for name in inspector.get_table_names(self._names.schema)}
        views = {name.lower() for name in inspector.get_view_names(self._names.schema)}
        found = Found(absent=[table for table in self._tables if table.name.lower() not in there])
        for table in found.absent:
            if table.name.lower() in views:
                raise ForeignTable(f"{table.name!r} is a view; choose other names with tables=", adapter=NAME)
        if not self._names.is_mapped:
            self._read_record(connection, inspector, there, found)
        if self._names.is_default:
            self._judge_default(there | views, found)
        if not found.version and (found.recorded or not self._names.is_default):
            # Nobody noted that they are ours, as with tables that the user's own migrations made: the columns tell.
            for table in self._tables:
                if table not in found.absent:
                    found.misfits += find_misfits(
                        connection, inspector, table, mapped=table in {self._tables.sessions, self._tables.messages}
                    )
            found.counts = self._counts_plainly(inspector, found)
        words = self._tables.words
        if words is not None and words not in found.absent:
            there = {index["name"] for index in inspector.get_indexes(words.name, words.schema)}
            found.unindexed = any(index.name not in there for index in words.indexes)
        return found

    def require(self, found: Found) -> None:
        """Refuses to work with what is there.

        Raises:
            SchemaMissing, ForeignTable: as they say, with the remedy.
        """
        if found.misfits:
            lacks = "; ".join(problem for problem, _ in found.misfits)
            remedy = "\n".join(statement for _, statement in found.misfits if statement)
            help_ = f". These statements add what is missing:\n{remedy}" if remedy else ""
            raise ForeignTable(f"the tables do not fit: {lacks}{help_}", adapter=NAME)
        if not found.is_complete:
            lacking = [table.name for table in found.absent] or [f"{self._names.words} with an index"]
            names = ", ".join(lacking)
            raise SchemaMissing(
                f"there is no table {names}; make what is missing with: turnkeep migrate URL", adapter=NAME
            )

    def steps(self, connection: Connection, found: Found) -> list[str]:
        """The statements that ``make`` executes, then those that are the user's to run."""
        elements = self._elements(connection, found)
        statements = [str(element.compile(dialect=connection.dialect)).strip() for element in elements]
        return [*statements, *(f"{YOURS}{statement or f'-- {problem}'}" for problem, statement in found.misfits)]

    def make(self, connection: Connection) -> list[str]:
        """Makes what is absent, and returns the statements; safe to kill, and to run twice or at the same time.

        Where DDL cannot be rolled back, the record is begun first and completed last.
        """
        self._lock(connection)
        try:
            found = self.look(connection)
            steps = self.steps(connection, found)
            for element in self._elements(connection, found):
                connection.execute(element)
            if self._completes_record(found):
                connection.execute(_note(self._tables.record))
        finally:
            self._unlock(connection)
        return steps

    def _elements(self, connection: Connection, found: Found) -> list[Any]:
        """What brings the tables to this version."""
        elements: list[Any] = []
        if self._completes_record(found) and not found.recorded:
            elements.append(CreateTable(self._tables.record, if_not_exists=True))
        for table in found.absent:
            elements.append(CreateTable(table, if_not_exists=True))
            elements += [CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name))]
        if found.unindexed and self._tables.words is not None:
            elements += [CreateIndex(index) for index in self._tables.words.indexes]
        if self._completes_record(found):
            elements.append(_view(connection, self._tables))
        return elements

    def _completes_record(self, found: Found) -> bool:
        """Whether the tables are all of our making, and no version is told of them yet.

        The table of words has no part in it: it may be made later.
        """
        absent = [table for table in found.absent if table is not self._tables.words]
        if self._names.is_mapped or found.version or not absent:
            return False
        return found.recorded or len(absent) == len(self._names.tables)

    def _read_record(self, connection: Connection, inspector: Inspector, there: set[str], found: Found) -> None:
        if self._names.record.lower() not in there:
            return
        columns = inspector.get_columns(self._names.record, self._names.schema)
        if [column["name"] for column in columns] != _RECORD_COLUMNS:
            return
        version = connection.execute(select(func.max(self._tables.record.c.version))).scalar_one()
        found.recorded, found.version = True, version or 0
        newest = _THEIRS.get(connection.dialect.name, VERSION)
        if found.version > newest:
            raise SchemaTooNew(
                f"the tables are of version {version}, this package knows {newest}; "
                "upgrade it: pip install --upgrade turnkeep-sqlalchemy",
                adapter=NAME,
            )

    def _judge_default(self, taken: set[str], found: Found) -> None:
        missing = [table for table in found.absent if table is not self._tables.words]
        if found.version and missing:
            raise ForeignTable(
                f"there are tables of turnkeep here, but none named {missing[0].name!r}; "
                "were they made with other names? pass the same tables=",
                adapter=NAME,
            )
        if not found.recorded:
            words = [self._names.words] if self._names.words else []
            for name in (*self._names.tables.values(), *words, self._names.record, self._names.history):
                if name.lower() in taken:
                    raise ForeignTable(
                        f"there is a table {name!r} that turnkeep did not make; choose other names with tables=, "
                        "or another database or schema=",
                        adapter=NAME,
                    )

    def _counts_plainly(self, inspector: Inspector, found: Found) -> bool:
        sessions = self._tables.sessions
        if sessions in found.absent or "message_count" not in sessions.c:
            return False
        name = sessions.c.message_count.name
        return any(
            column["name"] == name and not column.get("computed")
            for column in inspector.get_columns(sessions.name, sessions.schema)
        )

    def _lock(self, connection: Connection) -> None:
        """Of several that start at once, the others wait here. SQLite's transaction is one already."""
        if connection.dialect.name == "postgresql":
            # turnkeep-postgres has the same key for the same tables, however each was told of them.
            schema = func.coalesce(cast(self._names.schema, Text), func.current_schema())
            key = func.concat_ws(" ", "turnkeep", schema, self._names.tables["sessions"])
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
        elif connection.dialect.name in MYSQL:
            got = connection.execute(select(func.get_lock(f"turnkeep {_LOCK:x}", _LOCK_SECONDS))).scalar_one()
            if got != 1:
                raise ConfigurationError("another process has been making the tables for too long; look at it")

    def _unlock(self, connection: Connection) -> None:
        if connection.dialect.name in MYSQL:
            connection.execute(select(func.release_lock(f"turnkeep {_LOCK:x}")))


def _note(record: Table) -> Any:
    """The record that makes the tables ours."""
    return insert(record).values(version=VERSION, name=_STEP, applied_at=datetime.now(UTC))


def _history(tables: Tables) -> Any:
    """Messages with the owner of their session, who may be set later and is therefore not copied into each."""
    session, message = tables.sessions.alias("session"), tables.messages.alias("message")
    m, s = message.c, session.c
    same = and_(s.namespace == m.namespace, s.id == m.session_id, s.incarnation == m.incarnation)
    columns = (m.id, m.namespace, m.session_id, s.user_id, m.seq, m.role, m.name, m.content, m.route, m.step)
    return (
        select(*columns, m.tool_calls, m.event, m.created_at)
        .select_from(message.join(session, same))
        .where(m.seq > s.floor)
    )


def _view(connection: Connection, tables: Tables) -> ExecutableDDLElement:
    name = connection.dialect.identifier_preparer.quote(tables.names.history)
    schema = f"{connection.dialect.identifier_preparer.quote(tables.names.schema)}." if tables.names.schema else ""
    query = str(_history(tables).compile(dialect=connection.dialect))
    kind = "CREATE VIEW" if connection.dialect.name not in MYSQL else "CREATE OR REPLACE VIEW"
    return DDL(f"{kind} {schema}{name} AS {query}".replace("%", "%%"))
