"""The SQL files beside this module, with table names filled in.

The files are plain SQL that names the default tables; other names are put in their place once, when an adapter is made.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import astuple, dataclass, fields
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, Self

from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILES = files("turnkeep_sqlite") / "sql"
_NAMED = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*", re.MULTILINE)
_TABLE = re.compile(r"\bturnkeep_(sessions|messages|commits|schema|history|words)(\w*)")


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of our tables, of the view beside them and of the table of words."""

    sessions: str = "turnkeep_sessions"
    messages: str = "turnkeep_messages"
    commits: str = "turnkeep_commits"
    schema: str = "turnkeep_schema"
    history: str = "turnkeep_history"
    words: str = "turnkeep_words"

    @classmethod
    def named(cls, names: Mapping[str, str]) -> Self:
        """The defaults, overlaid by ``names``; what cannot be named is named after the sessions table.

        Raises:
            InvalidArgument: a key is not one of sessions, messages and commits, or a name cannot be a table's.
        """
        unknown = sorted(set(names) - {"sessions", "messages", "commits"})
        if unknown:
            raise InvalidArgument(f"tables has no {unknown[0]!r:.80}; it names sessions, messages and commits")
        for key, name in names.items():
            check_identifier(name, f"the table name for {key}")
            if name.lower().startswith("sqlite_"):
                raise InvalidArgument(f"table names that begin with sqlite_ are SQLite's own: {name!r}")
        stem = names.get("sessions", cls().sessions).removesuffix("sessions")
        stem = stem if not stem or stem.endswith("_") else f"{stem}_"
        tables = cls(**names, schema=f"{stem}schema", history=f"{stem}history", words=f"{stem}words")
        if len({name.lower() for name in astuple(tables)}) < len(fields(cls)):
            raise InvalidArgument(f"tables must have different names, not {', '.join(astuple(tables))}")
        return tables

    def fill(self, sql: str) -> str:
        """``sql`` with these names in place of the default ones, quoted."""
        return _TABLE.sub(lambda found: f'"{getattr(self, found[1])}{found[2]}"', sql)


@dataclass(frozen=True, slots=True)
class Queries:
    """The statements of ``queries.sql``; what each does is said there."""

    find_head: str
    find_session: str
    insert_session: str
    update_session: str
    set_owner: str
    set_floor: str
    delete_session: str
    list_activity: str
    list_owner_activity: str
    list_created: str
    list_owner_created: str
    list_owned: str
    list_expired: str
    list_trimmable: str
    insert_message: str
    read_messages: str
    erase_messages: str
    delete_messages: str
    insert_commit: str
    find_commit: str
    delete_commits: str
    list_unread: str
    insert_words: str
    search: str
    count: str

    @classmethod
    def load(cls, tables: Tables) -> Self:
        """The statements for these tables."""
        parts = _NAMED.split(tables.fill((_FILES / "queries.sql").read_text(encoding="utf-8")))
        return cls(**{name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)})


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    purpose: str
    sql: str


def load_migrations() -> tuple[Migration, ...]:
    """The migrations in order, with default table names; each has the next version, from 1 on."""
    found = sorted((_FILES / "migrations").iterdir(), key=lambda file: file.name)
    texts = [(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in found]
    return tuple(
        Migration(int(name[:4]), name, text.partition("\n")[0].removeprefix("-- "), text) for name, text in texts
    )


def split(script: str) -> Iterator[str]:
    """The statements of a script: ``executescript`` would end the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
