"""What ``check`` looks at: the connection, the tables, and whether the settings keep the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from turnkeep.contract import Check
from turnkeep.errors import ConfigurationError
from turnkeep_sqlalchemy._errors import translate
from turnkeep_sqlalchemy.columns import MYSQL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from turnkeep_sqlalchemy.schema import Schema

_STRICT: Final = {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "TRADITIONAL"}
_POSTGRESQL: Final = (
    ("fsync", "on", "a crash of the machine may damage the database"),
    ("full_page_writes", "on", "a crash of the machine may damage the database"),
    ("synchronous_commit", "on", "a crash of the server may take the last turns along"),
)
_MYSQL: Final = (
    ("innodb_flush_log_at_trx_commit", "1", "a crash of the machine may take the last turns along"),
    ("sync_binlog", "1", "replicas may miss the last turns after a crash"),
)


def examine(connection: Connection, schema: Schema) -> Iterator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    dialect = connection.dialect
    version = ".".join(map(str, dialect.server_version_info or ()))
    yield Check("database", ok=True, detail=f"{dialect.name} {version}, driver {dialect.driver}")
    try:
        found = schema.look(connection)
        schema.require(found)
    except Exception as error:  # noqa: BLE001 - a line of the report, whatever it is
        yield failed("schema", error)
        return
    yield Check("schema", ok=True, detail=f"version {found.version}" if found.recorded else "every column is there")
    yield from _settings(connection)


def failed(name: str, error: BaseException) -> Check:
    """The line for what could not be looked at."""
    said, _, fix = str(translate(error, "check")).partition("; ")
    return Check(name, ok=False, detail=said, fix=fix or "look at the database's log")


def refuse_settings(connection: Connection) -> None:
    """Refuses to write where the database would cut what does not fit.

    Raises:
        ConfigurationError: strict mode is off.
    """
    if connection.dialect.name in MYSQL:
        modes = str(connection.execute(text("SELECT @@SESSION.sql_mode")).scalar_one())
        if not _STRICT & set(modes.split(",")):
            raise ConfigurationError(
                "strict mode is off, so the database would cut texts that do not fit; "
                "set sql_mode to contain STRICT_TRANS_TABLES, for the server or for this engine's connections"
            )


def _settings(connection: Connection) -> Iterator[Check]:
    name = connection.dialect.name
    if name == "postgresql":
        (replica,) = connection.execute(text("SELECT pg_is_in_recovery()")).one()
        fix = "connect to the server that writes" if replica else ""
        yield Check("role", ok=not replica, detail="replica" if replica else "writer", fix=fix)
        for setting, wanted, otherwise in _POSTGRESQL:
            found = str(connection.execute(text(f"SHOW {setting}")).scalar_one())
            yield _setting(setting, found, wanted, otherwise)
    elif name in MYSQL:
        try:
            refuse_settings(connection)
            yield Check("sql_mode", ok=True, detail="strict")
        except ConfigurationError as error:
            yield failed("sql_mode", error)
        for setting, wanted, otherwise in _MYSQL:
            found = str(connection.execute(text(f"SELECT @@{setting}")).scalar_one())
            yield _setting(setting, found, wanted, otherwise)
    elif name == "sqlite":
        level = int(connection.execute(text("PRAGMA synchronous")).scalar_one())
        yield _setting("synchronous", str(level), "2", "a power cut may take the last turns along", at_least=level >= 2)


def _setting(name: str, found: str, wanted: str, otherwise: str, *, at_least: bool = False) -> Check:
    ok = found == wanted or at_least
    return Check(name, ok=ok, warning=True, detail=found, fix="" if ok else f"{otherwise}; set it to {wanted}")
