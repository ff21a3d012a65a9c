"""What ``check`` looks at: the server, the tables, and whether the settings keep the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.rows import tuple_row

from turnkeep.contract import Check
from turnkeep.errors import TurnkeepError
from turnkeep_postgres._errors import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from turnkeep_postgres.connections import Connection, Source
    from turnkeep_postgres.schema import Schema

_OLDEST: Final = 150000
_SETTINGS: Final = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
        current_setting('transaction_read_only'), current_setting('server_encoding'), current_setting('fsync'),
        current_setting('full_page_writes'), current_setting('synchronous_commit')
"""
_MAY_WRITE: Final = """
    SELECT bool_and(has_table_privilege(name, right_needed)) AND has_function_privilege(%s, 'EXECUTE')
    FROM unnest(%s::text[]) AS name, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS right_needed
"""


async def examine(source: Source, schema: Schema) -> AsyncIterator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    try:
        connection = await source.connect()
    except (psycopg.Error, TurnkeepError, OSError) as error:
        yield _failed("connection", error)
        return
    try:
        for check in await _server(connection, source.where):
            yield check
        yield await _schema(connection, schema)
    except (psycopg.Error, TurnkeepError) as error:
        yield _failed("database", error)
    finally:
        await source.disconnect(connection)


async def _server(connection: Connection, where: str) -> list[Check]:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_SETTINGS)
    row = await cursor.fetchone()
    assert row is not None
    version, number, in_recovery, read_only, encoding, *settings = row
    return [
        Check("connection", ok=True, detail=where),
        Check(
            "version",
            ok=number >= _OLDEST,
            warning=True,
            detail=f"PostgreSQL {version}",
            fix="" if number >= _OLDEST else "use PostgreSQL 15 or newer: what is older is not tested",
        ),
        _role(in_recovery=in_recovery, read_only=read_only == "on"),
        Check(
            "encoding",
            ok=encoding == "UTF8",
            detail=encoding,
            fix="" if encoding == "UTF8" else "make the database with ENCODING 'UTF8'",
        ),
        *_durability(*settings),
    ]


def _role(*, in_recovery: bool, read_only: bool) -> Check:
    if in_recovery:
        fix = "use the writer's address; target_session_attrs=read-write finds it among several"
        return Check("role", ok=False, detail="a replica: it only reads", fix=fix)
    if read_only:
        return Check("role", ok=False, detail="default_transaction_read_only is on", fix="turn it off for this role")
    return Check("role", ok=True, detail="writer")


def _durability(fsync: str, full_page_writes: str, synchronous_commit: str) -> Iterator[Check]:
    lost = "a power cut may damage the whole database"
    yield Check("fsync", ok=fsync == "on", detail=fsync, fix="" if fsync == "on" else f"turn it on: {lost}")
    whole = full_page_writes == "on"
    yield Check(
        "full_page_writes",
        ok=whole,
        warning=True,
        detail=full_page_writes,
        fix="" if whole else f"turn it on, unless the file system never tears a page: {lost}",
    )
    durable = synchronous_commit != "off"
    yield Check(
        "synchronous_commit",
        ok=durable,
        warning=True,
        detail=synchronous_commit,
        fix="" if durable else "a crash of the server may take the last turns along; on keeps them",
    )


async def _schema(connection: Connection, schema: Schema) -> Check:
    try:
        version = await schema.find_version(connection)
        schema.require(version)
        await schema.require_language(connection)
    except (psycopg.Error, TurnkeepError) as error:
        return _failed("schema", error)
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_MAY_WRITE, [schema.called, schema.written])
    if await cursor.fetchone() != (True,):
        return Check(
            "schema", ok=False, detail=f"version {version}, but the role may not write", fix="grant it (grants.sql)"
        )
    return Check("schema", ok=True, detail=f"version {version}")


def _failed(name: str, error: Exception) -> Check:
    said, _, fix = str(translate(error, "check")).partition("; ")
    return Check(name, ok=False, detail=said, fix=fix)
