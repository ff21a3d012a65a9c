"""Whether a database is ours, of which version, and how it becomes this one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.search import teach
from turnkeep_sqlite.statements import load_migrations, split
from turnkeep_sqlite.times import to_text

if TYPE_CHECKING:
    import sqlite3

    from turnkeep_sqlite.statements import Migration, Tables

MIGRATIONS: Final = load_migrations()

_TABLES: Final = """
    SELECT lower(name), type FROM sqlite_master
    WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
"""
_COLUMNS: Final = ["version", "name", "applied_at"]


class Schema:
    """The tables of these names in one database.

    Args:
        tables: their names.
        where: what to call the database in messages.
        shared: they may stand beside somebody else's.
        migrations: the steps from nothing to the newest version; those of this package unless given.
    """

    def __init__(
        self, tables: Tables, where: str, *, shared: bool, migrations: tuple[Migration, ...] | None = None
    ) -> None:
        self._tables = tables
        self._where = where
        self._shared = shared
        self._migrations = MIGRATIONS if migrations is None else migrations

    def find_version(self, connection: sqlite3.Connection) -> int:
        """The version of our tables, 0 where there are none.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: the database is somebody else's, or one of our names is taken.
        """
        there = dict(connection.execute(_TABLES).fetchall())
        ours = [self._tables.sessions, self._tables.messages, self._tables.commits]
        version = self._read_version(connection, there)
        if version is not None:
            missing = [name for name in ours if there.get(name.lower()) != "table"]
            if missing:
                raise ForeignTable(
                    f"{self._where} has tables of turnkeep, but none named {missing[0]!r}; "
                    "were they made with other names? pass the same tables=",
                    adapter=NAME,
                )
            return version
        for name in (*ours, self._tables.schema, self._tables.history, self._tables.words):
            if name.lower() in there:
                raise ForeignTable(
                    f"{self._where} has a table {name!r} that turnkeep did not make; "
                    "choose other names with tables=, or another file",
                    adapter=NAME,
                )
        if there and not self._shared:
            raise ForeignTable(
                f"{self._where} is the database of something else (it has a table {next(iter(there))!r}); "
                "choose another file, or allow turnkeep's tables beside those with shared=true",
                adapter=NAME,
            )
        return 0

    def require(self, version: int) -> None:
        """Refuses to work with tables of this version.

        Raises:
            SchemaMissing, SchemaOutdated: they are not of the newest one; the message names the command.
        """
        if version == 0:
            raise SchemaMissing(
                f"{self._where} has no tables of turnkeep; make them with: turnkeep migrate {self._where}", adapter=NAME
            )
        if version < len(self._migrations):
            raise SchemaOutdated(
                f"{self._where} has tables of version {version}, this package works with {len(self._migrations)}; "
                f"make a copy of the file, then run: turnkeep migrate {self._where}",
                adapter=NAME,
            )

    def steps(self, version: int) -> list[str]:
        """What ``migrate`` does to tables of this version."""
        return [f"{step.name}: {step.purpose}" for step in self._migrations[version:]]

    def migrate(self, connection: sqlite3.Connection) -> list[str]:
        """Brings the tables to the newest version, in one transaction; returns the steps taken.

        A version in between is never seen: who opens a new file meanwhile would take it for an old one.
        """
        teach(connection)
        connection.execute("BEGIN IMMEDIATE")  # of several that migrate at once, the others wait here
        try:
            version = self.find_version(connection)
            for step in self._migrations[version:]:
                for statement in split(self._tables.fill(step.sql)):
                    connection.execute(statement)
                record = (step.version, step.name, to_text(datetime.now(UTC)))
                connection.execute(self._tables.fill("INSERT INTO turnkeep_schema VALUES (?, ?, ?)"), record)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return self.steps(version)

    def _read_version(self, connection: sqlite3.Connection, there: dict[str, str]) -> int | None:
        """What our record says; None if there is no such record."""
        if there.get(self._tables.schema.lower()) != "table":
            return None
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (self._tables.schema,))
        if [name for (name,) in columns] != _COLUMNS:
            return None
        (version,) = connection.execute(self._tables.fill("SELECT max(version) FROM turnkeep_schema")).fetchone()
        if version is not None and version > len(self._migrations):
            raise SchemaTooNew(
                f"{self._where} has tables of version {version}, this package knows {len(self._migrations)}; "
                "upgrade it: pip install --upgrade turnkeep-sqlite",
                adapter=NAME,
            )
        return version
