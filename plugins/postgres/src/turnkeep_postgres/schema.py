"""Whether a database is ours, of which version, and how it becomes this one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from psycopg.errors import UndefinedObject
from psycopg.rows import tuple_row

from turnkeep.errors import ConfigurationError, ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_postgres._errors import NAME
from turnkeep_postgres.statements import load_migrations, read_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnkeep_postgres.connections import Connection
    from turnkeep_postgres.statements import Migration, Tables

MIGRATIONS: Final = load_migrations()

_FORGET: Final = "ALTER TABLE turnkeep_messages DROP COLUMN words;"
_LEARN: Final = MIGRATIONS[1].sql[MIGRATIONS[1].sql.index("ALTER TABLE") :]
_TABLES: Final = ("sessions", "messages", "commits")
# turnkeep-sqlalchemy has the same key for the same tables, however each was told of them.
_LOCK: Final = """SELECT pg_advisory_xact_lock(
    hashtextextended(concat_ws(' ', 'turnkeep', coalesce(%s::text, current_schema()), %s::text), 0))"""
_FIND: Final = """
    SELECT wanted, relkind::text, array(
        SELECT attname::text FROM pg_attribute WHERE attrelid = oid AND attnum > 0 AND NOT attisdropped
    )
    FROM unnest(%s::text[]) AS wanted JOIN pg_class ON oid = to_regclass(wanted)
"""
_LANGUAGE: Final = """
    SELECT said, coalesce(said::regconfig::oid, 0) = coalesce(wanted::regconfig::oid, 0)
    FROM (SELECT %s::text) AS given (wanted) LEFT JOIN (
        SELECT substring(pg_get_expr(adbin, adrelid) FROM $$'(.+)'::regconfig$$)
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE adrelid = to_regclass(%s) AND attname = 'words'
    ) AS found (said) ON true
"""
_CREATED: Final = re.compile(r"^CREATE TABLE turnkeep_(\w+) \(\n(.*?)^\);", re.MULTILINE | re.DOTALL)
_COLUMN: Final = re.compile(r"^    ([a-z_]+) (.+?),?\s*(?:--.*)?$", re.MULTILINE)


class Schema:
    """The tables of these names in one database.

    Args:
        tables: their names.
        where: what to call the database in messages.
        language: the text search configuration that words are read by; None: as they are.
        migrations: the steps from nothing to the newest version; those of this package unless given.
    """

    def __init__(
        self,
        tables: Tables,
        where: str,
        language: str | None = None,
        *,
        migrations: tuple[Migration, ...] | None = None,
    ) -> None:
        self._tables = tables
        self._where = where
        self._language = language
        self._migrations = MIGRATIONS if migrations is None else migrations

    @property
    def written(self) -> list[str]:
        """The tables that a running application writes, as statements name them."""
        return [self._tables.qualified(getattr(self._tables, key)) for key in _TABLES]

    @property
    def called(self) -> str:
        """The function that every write of a message calls, as PostgreSQL tells functions apart."""
        return f"{self._tables.qualified(self._tables.words)}(text, text, regconfig)"

    async def find_version(self, connection: Connection) -> int:
        """The version of our tables, 0 where there are none.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: one of our names is taken, or a table of ours lacks a column.
        """
        require_utf8(connection, self._where)
        names = self._tables.relations()
        found = await _fetch(connection, _FIND, [[self._tables.qualified(name) for name in names]])
        there = {wanted: (kind, set(columns)) for wanted, kind, columns in found}
        version = await self._read_version(connection, there)
        if version is None:
            for name in names:
                if self._tables.qualified(name) in there:
                    raise ForeignTable(
                        f"{self._where} has a table {name!r} that turnkeep did not make; choose other names with "
                        "tables=, or another schema with schema=",
                        adapter=NAME,
                    )
            return 0
        for key, columns in _columns_wanted():
            name = getattr(self._tables, key)
            kind, present = there.get(self._tables.qualified(name), ("", set[str]()))
            if kind not in {"r", "p"}:
                raise ForeignTable(
                    f"{self._where} has tables of turnkeep, but none named {name!r}; "
                    "were they made with other names? pass the same tables= and schema=",
                    adapter=NAME,
                )
            if version == len(self._migrations):
                self._require_columns(name, columns, present)
        return version

    def require(self, version: int) -> None:
        """Refuses to work with tables of this version.

        Raises:
            SchemaMissing, SchemaOutdated: they are not of the newest one; the message names the command.
        """
        if version == 0:
            raise SchemaMissing(
                f"{self._where} has no tables of turnkeep; make them with: turnkeep migrate URL", adapter=NAME
            )
        if version < len(self._migrations):
            raise SchemaOutdated(
                f"{self._where} has tables of version {version}, this package works with {len(self._migrations)}; "
                "make a backup, then run: turnkeep migrate URL",
                adapter=NAME,
            )

    async def require_language(self, connection: Connection) -> None:
        """Refuses to search by other rules than those that words were read by.

        Raises:
            ConfigurationError: they are others, or the database does not know them.
        """
        said, is_wanted = await self._find_language(connection)
        if not is_wanted:
            there, wanted = said or "none", self._language or "none"
            raise ConfigurationError(
                f"the messages in {self._where} are searched by the search_language {there}, not {wanted}; open them "
                f"with that, or have their words read anew, with a URL whose search_language is {wanted}: "
                "turnkeep migrate URL"
            )

    async def find_steps(self, connection: Connection) -> list[str]:
        """What ``migrate`` does to the tables that are there: SQL, which psql runs too, in one transaction in all."""
        return _as_steps(await self._find_scripts(connection))

    async def migrate(self, connection: Connection) -> list[str]:
        """Brings the tables to the newest version, in one transaction; returns the steps taken.

        A version in between is never seen: who opens a new database meanwhile would take it for an old one.
        """
        async with connection.transaction():
            # Of several that migrate at once, the others wait here; the lock ends with the transaction, also
            # where the process is killed, and a pooler cannot give it to somebody else.
            await _fetch(connection, _LOCK, [self._tables.namespace, self._tables.sessions])
            scripts = await self._find_scripts(connection)
            for _, script in scripts:
                # Several statements at once: they cannot be prepared, which a pool that was handed in may ask for.
                await connection.execute(script.encode(), prepare=False)
        return _as_steps(scripts)

    async def _find_scripts(self, connection: Connection) -> list[tuple[str, str]]:
        """The names of the steps to take, and their SQL."""
        version = await self.find_version(connection)
        if version < len(self._migrations):
            await self._find_language(connection)
            return [(step.name, self._script(step)) for step in self._migrations[version:]]
        _, is_wanted = await self._find_language(connection)
        return [] if is_wanted else [("search_language", self._fill(f"{_FORGET}\n{_LEARN}"))]

    def _script(self, step: Migration) -> str:
        values = f"({step.version}, '{step.name}', clock_timestamp())"
        return self._fill(f"{step.sql}\nINSERT INTO turnkeep_schema VALUES {values};")

    def _fill(self, sql: str) -> str:
        """With our names, and the language that words are read by."""
        language = "NULL" if self._language is None else f"'{self._language}'"
        return self._tables.fill(sql).replace("NULL::regconfig", f"{language}::regconfig")

    async def _find_language(self, connection: Connection) -> tuple[str | None, bool]:
        """By which rules words were read, None where they are as written, and whether that is what is wanted.

        Raises:
            ConfigurationError: the database does not know what is wanted.
        """
        try:
            rows = await _fetch(connection, _LANGUAGE, [self._language, self._tables.qualified(self._tables.messages)])
        except UndefinedObject as error:
            raise ConfigurationError(
                f"{self._where} has no text search configuration {self._language!r}; "
                "its table pg_ts_config lists those it has"
            ) from error
        said, is_wanted = rows[0]
        return said, is_wanted

    async def _read_version(self, connection: Connection, there: dict[str, tuple[str, set[str]]]) -> int | None:
        """What our record says; None if there is no such record."""
        record = self._tables.qualified(self._tables.schema)
        if there.get(record) != ("r", {"version", "name", "applied_at"}):
            return None
        ((version,),) = await _fetch(connection, f"SELECT max(version) FROM {record}")  # noqa: S608 - a quoted name
        if version is not None and version > len(self._migrations):
            raise SchemaTooNew(
                f"{self._where} has tables of version {version}, this package knows {len(self._migrations)}; "
                "upgrade it: pip install --upgrade turnkeep-postgres",
                adapter=NAME,
            )
        return version

    def _require_columns(self, table: str, wanted: dict[str, str], present: set[str]) -> None:
        missing = [name for name in wanted if name not in present]
        if missing:
            column = self._fill(f"{missing[0]} {wanted[missing[0]]}")
            raise ForeignTable(
                f"the table {table!r} in {self._where} has no column {missing[0]!r}; was it changed by hand? Add it: "
                f"ALTER TABLE {self._tables.qualified(table)} ADD COLUMN {column};",
                adapter=NAME,
            )


def _as_steps(scripts: list[tuple[str, str]]) -> list[str]:
    """As texts that are one transaction in all."""
    steps = [f"{script}\n" for _, script in scripts]
    if steps:
        steps[0] = f"BEGIN;\n{steps[0]}"
        steps[-1] += "COMMIT;\n"
    return [f"-- {name}\n{step}" for (name, _), step in zip(scripts, steps, strict=True)]


def require_utf8(connection: Connection, where: str) -> None:
    """Refuses a database, or a connection, that cannot hold every text."""
    for side, name in (("server", "server_encoding"), ("client", "client_encoding")):
        encoding = connection.info.parameter_status(name)
        if encoding not in {"UTF8", None}:
            raise ConfigurationError(
                f"{where} has the {side} encoding {encoding}, which cannot hold every text; "
                "make the database with ENCODING 'UTF8', and leave client_encoding at that"
            )


def _columns_wanted() -> Iterator[tuple[str, dict[str, str]]]:
    """For each of our tables its columns with their types, as ``schema.sql`` has them."""
    for key, body in _CREATED.findall(read_schema()):
        if key in _TABLES:
            yield key, dict(_COLUMN.findall(body))


async def _fetch(connection: Connection, sql: str, parameters: list[object] | None = None) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(sql.encode(), parameters)
    return await cursor.fetchall()
