"""The SQL files beside this module, with the names of tables filled in.

The files are SQL that names the default tables; other names are put in their place once, when an adapter is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from turnkeep.contract import ANYONE
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnkeep.contract import Owner

_FILES = files("turnkeep_postgres") / "sql"
_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_TABLE = re.compile(r"\bturnkeep_(sessions|messages|commits|schema|history|words)(\w*)")
_TSQUERY = re.compile(r"(%\(\w+\)s)::tsquery")
_COMMENT = re.compile(r"--.*")
_LOOSE = re.compile(r" ?([,=<>()]) ?")  # no text in our SQL has a blank beside one of these
_OWNED: Final = "user_id=%(owner)s"
_LONGEST_SUFFIX: Final = "_owner_activity"


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of our tables, of the view and the function beside them, and the PostgreSQL schema they are in.

    ``namespace`` is that schema; None for whatever the connection's ``search_path`` finds.
    """

    sessions: str = "turnkeep_sessions"
    messages: str = "turnkeep_messages"
    commits: str = "turnkeep_commits"
    schema: str = "turnkeep_schema"
    history: str = "turnkeep_history"
    words: str = "turnkeep_words"
    namespace: str | None = None

    @classmethod
    def named(cls, names: Mapping[str, str], namespace: str | None = None) -> Self:
        """The defaults, overlaid by ``names``; what cannot be named is named after the sessions table.

        Raises:
            InvalidArgument: a key is not one of sessions, messages and commits, or a name cannot be a table's.
        """
        unknown = sorted(set(names) - {"sessions", "messages", "commits"})
        if unknown:
            raise InvalidArgument(f"tables has no {unknown[0]!r:.80}; it names sessions, messages and commits")
        for key, name in names.items():
            check_identifier(name, f"the table name for {key}")
            if len(name) > 63 - len(_LONGEST_SUFFIX):
                raise InvalidArgument(
                    f"the table name for {key} has {len(name)} characters; PostgreSQL cuts names at 63, and indexes "
                    f"are named after tables, so {63 - len(_LONGEST_SUFFIX)} are the most"
                )
        if namespace is not None:
            check_identifier(namespace, "schema")
        stem = names.get("sessions", cls().sessions).removesuffix("sessions")
        stem = stem if not stem or stem.endswith("_") else f"{stem}_"
        tables = cls(
            **names, schema=f"{stem}schema", history=f"{stem}history", words=f"{stem}words", namespace=namespace
        )
        if len(set(tables.all())) < len(tables.all()):
            raise InvalidArgument(f"tables must have different names, not {', '.join(tables.all())}")
        return tables

    def all(self) -> tuple[str, ...]:
        """The names, those of tables first, without their schema."""
        return tuple(getattr(self, field.name) for field in fields(self) if field.name != "namespace")

    def relations(self) -> tuple[str, ...]:
        """The same without the function, whose name a table may have too."""
        return tuple(name for name in self.all() if name != self.words)

    def qualified(self, name: str) -> str:
        """A name as statements write it."""
        return f'"{name}"' if self.namespace is None else f'"{self.namespace}"."{name}"'

    def fill(self, sql: str) -> str:
        """``sql`` with these names in place of the default ones, quoted."""

        def name(found: re.Match[str]) -> str:
            ours: str = getattr(self, found[1])
            return f'"{ours}{found[2]}"' if found[2] else self.qualified(ours)  # an index is where its table is

        return _TABLE.sub(name, sql)


class Scoped(NamedTuple):
    """One statement for each kind of scope: an index is of no use to a condition that serves all three."""

    owned: bytes
    unowned: bytes
    anyone: bytes

    @classmethod
    def of(cls, sql: str) -> Self:
        """The three forms of a statement that is written for one owner."""
        return cls(sql.encode(), sql.replace(_OWNED, "user_id IS NULL").encode(), sql.replace(_OWNED, "true").encode())

    def seen_by(self, owner: Owner) -> bytes:
        """The statement for this owner."""
        if owner is ANYONE:
            return self.anyone
        return self.unowned if owner is None else self.owned


@dataclass(frozen=True, slots=True)
class Queries:
    """The statements of ``queries.sql``; what each does is said there."""

    find_head: Scoped
    load: Scoped
    load_head: Scoped
    read_messages: Scoped
    create: Scoped
    commit: Scoped
    copy_messages: Scoped
    delete: Scoped
    delete_owner: Scoped
    list_status: Scoped
    list_activity: Scoped
    list_created: Scoped
    sweep_expired: Scoped
    list_trimmable: Scoped
    trim: Scoped
    search: Scoped
    search_phrases: Scoped
    count: Scoped

    @classmethod
    @lru_cache(maxsize=64)  # a program may make an adapter for each request; to read and fill takes 5 ms
    def load_for(cls, tables: Tables, language: str | None = None) -> Self:
        """The statements for these tables; ``language`` is the text search configuration that words are read by."""
        text = (_FILES / "queries.sql").read_text(encoding="utf-8")
        if language is not None:
            # Which makes lexemes of the words between quotes; there is nothing else to read.
            text = _TSQUERY.sub(f"to_tsquery('{language}'::regconfig, \\1)", text)
        parts = _NAMED.split(text)
        found = {
            name: Scoped.of(tables.fill(_shorten(sql))) for name, sql in zip(parts[1::2], parts[2::2], strict=True)
        }
        search = found["search"]._replace(owned=found["search"].owned.replace(b"OFFSET 0", b""))
        phrases = Scoped(*(form.replace(b"IS NOT DISTINCT FROM", b"=") for form in search))
        return cls(**found | {"search": search, "search_phrases": phrases})


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


def read_schema() -> str:
    """What the migrations add up to, with default table names."""
    return (_FILES / "schema.sql").read_text(encoding="utf-8")


def _shorten(sql: str) -> str:
    """Without comments and blanks: where nothing is prepared, the whole statement travels with every call."""
    return _LOOSE.sub(r"\1", " ".join(_COMMENT.sub("", sql).split()).rstrip(";"))
