"""Whether a table of the user's can hold what we store: every column, exact types, a unique key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import DateTime, Integer, LargeBinary, String
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateColumn

from turnkeep_sqlalchemy.columns import MYSQL, Body, Id, Instant, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Column, Connection, Inspector, Table

_LONG: Final = {"content", "collected_data", "state", "tool_calls", "event", "metadata", "reply", "marks", "words"}
"""Fields whose texts may be megabytes."""
_PADLESS: Final = ("binary", "nopad_bin", "0900_bin")


def find_misfits(connection: Connection, inspector: Inspector, table: Table, *, mapped: bool) -> list[tuple[str, str]]:
    """What the table lacks, each with the statement that mends it; empty where it fits, whatever else is there."""
    there = {column["name"].lower(): column for column in inspector.get_columns(table.name, table.schema)}
    misfits = list(_columns(connection, table, there, mapped=mapped))
    misfits += _required_of_the_user(table, there)
    if not misfits and not _has_key(inspector, table):
        key = ", ".join(connection.dialect.identifier_preparer.quote(column.name) for column in table.primary_key)
        name = connection.dialect.identifier_preparer.format_table(table)
        statement = f"CREATE UNIQUE INDEX {table.name}_key ON {name} ({key});"
        misfits.append((f"{table.name} has no unique key ({key})", statement))
    return misfits


def _columns(
    connection: Connection, table: Table, there: Mapping[str, Any], *, mapped: bool
) -> Iterator[tuple[str, str]]:
    dialect = connection.dialect
    name = dialect.identifier_preparer.format_table(table)
    for column in table.c:
        found = there.get(column.name.lower())
        if found is None:
            if column.key == "message_count":
                continue
            hint = ""
            if mapped and column.key == "namespace":
                kind = "sessions" if "id" in table.c and "floor" in table.c else "messages"
                hint = f" (or say field_mappings={{'{kind}': {{'namespace': None}}}} if it is one namespace)"
            definition = " ".join(str(CreateColumn(column).compile(dialect=dialect)).split())
            yield f"{table.name} has no column {column.name!r}{hint}", f"ALTER TABLE {name} ADD COLUMN {definition};"
            continue
        why = _why_unfit(dialect.name, column, found["type"])
        if why:
            wanted = column.type.compile(dialect=dialect)
            yield f"{table.name}.{column.name} is {found['type']!s}, {why}; it has to be {wanted}", ""


def _why_unfit(dialect: str, column: Column[Any], found: Any) -> str:
    """Why a column of this type cannot hold the field; empty where it can."""
    if isinstance(column.type, Instant):
        return _why_no_instant(dialect, found)
    if isinstance(column.type, Tokens) and dialect == "postgresql":
        return "" if isinstance(found, postgresql.ARRAY) else "which is no array of texts"
    if isinstance(column.type, (Id, Body, Tokens)):
        return _why_no_text(dialect, column, found)
    return "" if isinstance(found, Integer) or column.key == "created" else "which holds no whole numbers"


def _why_no_instant(dialect: str, found: Any) -> str:
    if dialect == "postgresql":
        fits = isinstance(found, DateTime) and found.timezone
        return "" if fits else "which does not know its time zone"
    if dialect in MYSQL:
        fits = isinstance(found, mysql.DATETIME) and found.fsp == 6
        return "" if fits else "which does not hold microseconds of any year"
    return "" if isinstance(found, String) else "which is no text"


def _why_no_text(dialect: str, column: Column[Any], found: Any) -> str:
    is_binary = isinstance(found, (LargeBinary, mysql.VARBINARY, mysql.BINARY))
    if not (isinstance(found, String) or (is_binary and dialect in MYSQL)):
        return "which would change or refuse some texts"
    if dialect not in MYSQL:
        return ""
    if isinstance(column.type, Id) and not is_binary:
        collation = str(getattr(found, "collation", None) or "")
        return "" if collation.endswith(_PADLESS) else "which takes different ids for the same"
    long = isinstance(found, (mysql.LONGTEXT, mysql.MEDIUMTEXT, mysql.LONGBLOB, mysql.MEDIUMBLOB))
    return "which ends at 64 KB" if column.key in _LONG and not long else ""


def _required_of_the_user(table: Table, there: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Columns of the user's that no insert of ours could fill."""
    ours = {column.name.lower() for column in table.c}
    for name, column in there.items():
        filled = column["nullable"] or column.get("default") is not None or column.get("computed")
        if name not in ours and not filled and column.get("autoincrement") is not True and not column.get("identity"):
            yield f"{table.name}.{column['name']} is NOT NULL and has no default; give it one, or allow NULL", ""


def _has_key(inspector: Inspector, table: Table) -> bool:
    """Whether two rows cannot have the same identity."""
    wanted = {column.name.lower() for column in table.primary_key}
    return any({str(name).lower() for name in key} == wanted for key in _keys(inspector, table) if key)


def _keys(inspector: Inspector, table: Table) -> Iterator[Any]:
    """Columns that are unique together, the likeliest first."""
    yield inspector.get_pk_constraint(table.name, table.schema)["constrained_columns"]
    for unique in inspector.get_unique_constraints(table.name, table.schema):
        yield unique["column_names"]
    for index in inspector.get_indexes(table.name, table.schema):
        if index["unique"] and not index.get("dialect_options", {}).get("postgresql_where"):
            yield index["column_names"]
