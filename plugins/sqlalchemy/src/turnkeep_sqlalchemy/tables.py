"""The tables as SQLAlchemy knows them, under names of your choosing.

Every column has two names: its ``key`` is what the adapter calls it, always the same, and its ``name`` is what the
database calls it. Statements are written with keys, so renaming a column changes nothing but this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Column,
    Computed,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    column,
)

from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_identifier
from turnkeep_sqlalchemy.columns import MYSQL, Body, Id, Instant, Tokens, flag, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS: Final = ("sessions", "messages", "commits", "words")
MAPPED: Final = ("sessions", "messages")
WORDS: Final = "turnkeep_words"
_DEFAULTS: Final = {kind: f"turnkeep_{kind}" for kind in KINDS if kind != "words"}


_MYSQL: Final[dict[str, Any]] = {
    f"{dialect}_{option}": value
    for dialect in MYSQL
    for option, value in {"engine": "InnoDB", "charset": "utf8mb4"}.items()
}


@dataclass(frozen=True, slots=True)
class Names:
    """What the tables and columns are called.

    Attributes:
        tables: kind to table name; all kinds but words.
        words: the table of words, for searches; None: there is none.
        fields: kind to field to column name, for those that were mapped; None: the table has no such column.
        schema: of the database; None: the connection's own.
        record: the table that notes which version the others are of.
        history: the view for people.
    """

    tables: Mapping[str, str]
    words: str | None
    fields: Mapping[str, Mapping[str, str | None]]
    schema: str | None
    record: str
    history: str

    def __hash__(self) -> int:
        """Equal names have it in common; mappings have none."""
        return hash((self.record, self.schema))

    def with_words(self) -> Names:
        """These, with a table of words of our own name."""
        return replace(self, words=WORDS)

    @property
    def is_default(self) -> bool:
        """Whether every name is ours, so that tables of these names have to be."""
        return dict(self.tables) == _DEFAULTS and not self.is_mapped

    @property
    def is_mapped(self) -> bool:
        """Whether columns have names of the user's."""
        return any(self.fields.values())


def read_names(
    tables: Mapping[str, str] | None = None,
    field_mappings: Mapping[str, Mapping[str, str | None]] | None = None,
    schema: str | None = None,
) -> Names:
    """The default names, overlaid by those given; what cannot be named is named after the sessions table.

    Raises:
        InvalidArgument: a key is none of ours, or a name cannot be one.
    """
    given, mappings = dict(tables or {}), {kind: dict(mapping) for kind, mapping in (field_mappings or {}).items()}
    for kind, name in given.items():
        if kind not in KINDS:
            raise InvalidArgument(f"tables has no {kind!r:.80}; it names sessions, messages and commits, and words")
        check_identifier(name, f"the table name for {kind}")
    for kind, mapping in mappings.items():
        _check_mapping(kind, mapping)
    if (
        mappings.get("messages", {}).get("namespace", "")
        is None
        is not mappings.get("sessions", {}).get("namespace", "")
    ):
        raise InvalidArgument(
            "messages without a namespace need sessions without one: {'sessions': {'namespace': None}}"
        )
    if schema is not None:
        check_identifier(schema, "the schema")
    stem = given.get("sessions", _DEFAULTS["sessions"]).removesuffix("sessions")
    stem = stem if not stem or stem.endswith("_") else f"{stem}_"
    words = given.pop("words", None)
    names = Names(_DEFAULTS | given, words, mappings, schema, f"{stem}schema", f"{stem}history")
    all_names = [*names.tables.values(), names.record, names.history, *([words] if words else [])]
    if len({name.lower() for name in all_names}) < len(all_names):
        raise InvalidArgument(f"tables must have different names, not {', '.join(all_names)}")
    return names


def _check_mapping(kind: str, mapping: Mapping[str, str | None]) -> None:
    if kind not in MAPPED:
        raise InvalidArgument(f"field_mappings has no {kind!r:.80}; it maps columns of sessions and messages")
    for field, name in mapping.items():
        if field not in FIELDS[kind]:
            raise InvalidArgument(f"{kind} has no field {field!r:.80}; it has {', '.join(FIELDS[kind])}")
        if name is not None:
            check_identifier(name, f"the column for {kind}.{field}")
        elif field not in {"namespace", "message_count"}:
            raise InvalidArgument(
                f"{kind}.{field} needs a column; only namespace (the table is one namespace) and "
                "message_count can be None"
            )
    named = [name.lower() for field in FIELDS[kind] if (name := mapping.get(field, field)) is not None]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice:
        raise InvalidArgument(f"two fields of {kind} have the column {twice!r}; a column holds one field")


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables, in one ``MetaData``."""

    names: Names
    sessions: Table
    messages: Table
    commits: Table
    words: Table | None
    record: Table

    def __iter__(self) -> Iterator[Table]:
        """Those that hold conversations, in the order in which they can be made."""
        yield from (self.sessions, self.messages, self.commits)
        if self.words is not None:
            yield self.words


def make_tables(
    metadata: MetaData,
    *,
    tables: Mapping[str, str] | None = None,
    field_mappings: Mapping[str, Mapping[str, str | None]] | None = None,
    schema: str | None = None,
) -> Tables:
    """Adds Turnkeep's tables to your metadata, for your own Alembic or your own mapped classes.

    Args:
        metadata: where they go.
        tables: as for ``SQLAlchemyAdapter``.
        field_mappings: as for ``SQLAlchemyAdapter``.
        schema: as for ``SQLAlchemyAdapter``.

    Raises:
        InvalidArgument: a name makes no sense.
    """
    return build(metadata, read_names(tables, field_mappings, schema))


@lru_cache(maxsize=32)
def shared(names: Names) -> Tables:
    """The tables of these names, for the adapters of this process: to build them takes 10 ms."""
    return build(MetaData(), names)


def build(metadata: MetaData, names: Names) -> Tables:
    """The tables of these names, added to ``metadata``."""
    record = Table(
        names.record,
        metadata,
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("name", Body(), nullable=False),
        Column("applied_at", Instant(), nullable=False),
        schema=names.schema,
    )
    sessions = _make(metadata, names, "sessions", ("namespace", "id"))
    _add_indexes(sessions)
    messages = _make(metadata, names, "messages", ("namespace", "session_id", "incarnation", "seq"))
    commits = _make(metadata, names, "commits", ("namespace", "session_id", "incarnation", "commit_id"))
    for table in (messages, commits):
        _add_reference(table, sessions)
    words = None if names.words is None else _make_words(metadata, names.words, messages)
    return Tables(names, sessions, messages, commits, words, record)


def _make_words(metadata: MetaData, name: str, messages: Table) -> Table:
    """However a message goes, its words go with it."""
    key = [column.key for column in messages.primary_key]
    table = Table(
        name,
        metadata,
        *(Column(field, messages.c[field].type, nullable=False, autoincrement=False) for field in key),
        Column("user_id", Id()),
        Column("words", Tokens(), nullable=False),
        PrimaryKeyConstraint(*key),
        ForeignKeyConstraint(key, [messages.c[field] for field in key], ondelete="CASCADE"),
        schema=messages.schema,
        **_MYSQL,
    )
    Index(f"{name}_text", table.c.words, mysql_prefix="FULLTEXT", mariadb_prefix="FULLTEXT", postgresql_using="gin")
    return table


def _make(metadata: MetaData, names: Names, kind: str, key: tuple[str, ...]) -> Table:
    mapping = names.fields.get(kind, {})
    called = {field: name for field in FIELDS[kind] if (name := mapping.get(field, field)) is not None}
    columns: list[Column[Any]] = []
    for field, name in called.items():
        type_, nullable = FIELDS[kind][field]
        if field == "message_count" and kind == "sessions":
            count = column(called["last_seq"], number()) - column(called["floor"], number())
            columns.append(Column(name, type_(), Computed(count, persisted=True), key=field))
        else:
            columns.append(Column(name, type_(), key=field, nullable=nullable, autoincrement=False))
    return Table(
        names.tables[kind],
        metadata,
        *columns,
        PrimaryKeyConstraint(*(field for field in key if field in called)),
        schema=names.schema,
        sqlite_with_rowid=kind != "commits",
        **_MYSQL,
    )


def _add_reference(table: Table, sessions: Table) -> None:
    """The cascade sees what a commit added while a DELETE waited for it."""
    shared = ["namespace"] if "namespace" in sessions.c else []
    table.append_constraint(
        ForeignKeyConstraint(
            [*shared, "session_id"], [sessions.c[field] for field in (*shared, "id")], ondelete="CASCADE"
        )
    )


def _add_indexes(sessions: Table) -> None:
    """Two indexes move with every commit, the two of creation never."""
    c, name = sessions.c, sessions.name
    space = [c.namespace] if "namespace" in c else []
    Index(f"{name}_activity", *space, c.status, c.updated_at.desc(), c.id)
    Index(f"{name}_owner_activity", *space, c.user_id, c.status, c.updated_at.desc(), c.id)
    Index(f"{name}_created", *space, c.created_at, c.id)
    Index(f"{name}_owner_created", *space, c.user_id, c.created_at, c.id)
    for suffix, field in (("expiry", c.expires_at), ("trim", c.trim_at)):
        condition = field.is_not(None)
        Index(f"{name}_{suffix}", field, postgresql_where=condition, sqlite_where=condition)


def _id() -> Id:
    return Id()


def _short() -> Id:
    return Id(64)


def _label() -> Id:
    return Id(1024)


Field = tuple[Any, bool]

FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "sessions": {
        "namespace": (_short, False),
        "id": (_id, False),
        "user_id": (_id, True),
        "agent_name": (_label, True),
        "status": (lambda: Id(16), False),
        "current_route": (_label, True),
        "current_step": (_label, True),
        "message_count": (number, True),
        "last_message_at": (Instant, True),
        "completed_at": (Instant, True),
        "created_at": (Instant, False),
        "updated_at": (Instant, False),
        "expires_at": (Instant, True),
        "incarnation": (_short, False),
        "version": (number, False),
        "last_commit": (_short, False),
        "last_seq": (number, False),
        "floor": (number, False),
        "trim_at": (Instant, True),
        "marks": (Body, True),
        "collected_data": (Body, False),
        "state": (Body, False),
    },
    "messages": {
        "namespace": (_short, False),
        "session_id": (_id, False),
        "incarnation": (_short, False),
        "seq": (number, False),
        "turn_seq": (number, False),
        "commit_id": (_short, False),
        "id": (_id, False),
        "role": (Body, False),
        "name": (Body, True),
        "content": (Body, False),
        "encoding": (Body, False),
        "tool_calls": (Body, True),
        "tool_call_id": (Body, True),
        "route": (Body, True),
        "step": (Body, True),
        "event": (Body, True),
        "metadata": (Body, True),
        "reply": (Body, True),
        "created_at": (Instant, False),
        "committed_at": (Instant, False),
    },
    "commits": {
        "namespace": (_short, False),
        "session_id": (_id, False),
        "incarnation": (_short, False),
        "commit_id": (_short, False),
        "digest": (_id, False),
        "version": (number, False),
        "created": (flag, False),
        "first_seq": (number, True),
        "last_seq": (number, True),
        "message_count": (number, False),
        "committed_at": (Instant, False),
    },
}
"""Field by field, in the order of the columns: its type, and whether it may be NULL."""
