"""The adapter: lifetime, options, and each call of the contract handed to the store."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg import conninfo, pq

from turnkeep.contract import Capability, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, InvalidArgument, StorageUnavailable
from turnkeep.ids import check_identifier
from turnkeep.urls import duration, parse_count, parse_seconds, parse_text
from turnkeep_postgres._errors import NAME, translate
from turnkeep_postgres.connections import HandedIn, OwnPool, Settings, check_pool, read_dsn
from turnkeep_postgres.health import examine
from turnkeep_postgres.schema import Schema
from turnkeep_postgres.statements import Queries, Tables
from turnkeep_postgres.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from psycopg_pool import AsyncConnectionPool

    from turnkeep.contract import (
        Commit,
        Committed,
        Erased,
        LoadQuery,
        MessagePage,
        MessageQuery,
        Scope,
        SearchPage,
        SearchQuery,
        SessionKey,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        StoredSession,
        Swept,
        Token,
    )
    from turnkeep.urls import StorageURL
    from turnkeep_postgres.connections import Source

_HOST: Final = re.compile(r"\[?(?P<name>[^\[\],]*?)\]?(?::(?P<port>\d+))?")
_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.FULL),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.FULL),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.FULL),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


class PostgreSQLAdapter(StorageAdapter):
    """Keeps sessions in PostgreSQL: one statement loads a turn, one commits it, each in one round trip.

    Nothing is kept on a connection between two statements, so a pooler in transaction mode may stand in between.
    Without such a one, ``prepare_threshold`` saves the server the work of planning each statement anew.

    A pool that is handed in stays the caller's: it is neither opened nor closed, and the settings of its connections
    are put back as they were. Its connections must not be in a transaction while they lie in the pool.

    After a fork the child opens anew; with a pool that was handed in it makes another adapter.

    Args:
        dsn: libpq's connection string, as a URL or as ``host=… dbname=…``; for a pool of the adapter's own.
        pool: a pool instead.
        tables: other names for ``sessions``, ``messages`` and ``commits``, all or some of them.
        schema: the PostgreSQL schema of the tables, which must be there; None for the first of the ``search_path``.
        min_size: connections that the adapter's own pool keeps open.
        max_size: connections it opens at most.
        pool_timeout: seconds to wait for one of them to become free or to be opened.
        prepare_threshold: how often a connection sends a statement before it is prepared on the server; None for never.
        search_language: a text search configuration of the database, such as ``english``, by whose rules messages are
            searched; None: every word counts as it is written.
        clock: the time of commits, aware; for tests. None: the server's.

    Raises:
        InvalidArgument: an argument makes no sense.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: AsyncConnectionPool[Any] | None = None,
        tables: Mapping[str, str] | None = None,
        schema: str | None = None,
        min_size: int = 1,
        max_size: int = 10,
        pool_timeout: float | timedelta = 4.0,
        prepare_threshold: int | None = None,
        search_language: str | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        timeout = duration(pool_timeout, "pool_timeout").total_seconds()
        settings = Settings(min_size, max_size, timeout, prepare_threshold)
        if (dsn is None) == (pool is None):
            raise InvalidArgument("pass either dsn= or pool=")
        names = Tables.named(tables or {}, schema)
        if search_language is not None:
            check_identifier(search_language, "search_language")
        self._source: Source
        if pool is not None:
            if settings != Settings():
                raise InvalidArgument(
                    "a pool that is handed in keeps its own settings; "
                    "min_size, max_size, pool_timeout and prepare_threshold are for a dsn"
                )
            self._source = HandedIn(check_pool(pool))
        else:
            self._source = OwnPool(read_dsn(dsn or ""), settings)
        self._language = search_language
        self._schema = Schema(names, self._source.where, search_language)
        queries = Queries.load_for(names, search_language)
        self._store = Store(queries, self._source, clock, exact=search_language is None)
        self._opening = asyncio.Lock()
        self._is_open = False
        self._pid = os.getpid()

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``postgresql://user:password@host:port/database``, and every argument and parameter of libpq as an option.

        Options: ``tables.sessions``, ``tables.messages``, ``tables.commits``, ``schema``, ``min_size``, ``max_size``,
        ``pool_timeout``, ``prepare_threshold``, ``search_language``; then libpq's, such as ``sslmode`` or
        ``target_session_attrs``. Several hosts are separated by commas; of those the one that writes is used.
        """
        tables = {key: url.take(f"tables.{key}", parse_text, "") for key in ("sessions", "messages", "commits")}
        ours: dict[str, Any] = {
            "tables": {key: name for key, name in tables.items() if name},
            "schema": url.take("schema", parse_text, None),
            "min_size": url.take("min_size", parse_count, 1),
            "max_size": url.take("max_size", parse_count, 10),
            "pool_timeout": url.take("pool_timeout", parse_seconds, timedelta(seconds=4)),
            "prepare_threshold": url.take("prepare_threshold", parse_count, None),
            "search_language": url.take("search_language", parse_text, None),
        }
        parameters = _read_location(url)
        for keyword in _libpq_keywords():
            value = url.take(keyword, str, None)
            if value is not None:
                if keyword in parameters:
                    raise InvalidArgument(f"the URL names {keyword} twice: before the ? and as an option")
                parameters[keyword] = value
        return cls(conninfo.make_conninfo("", **parameters), **ours)

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        if self._language is None:
            return _CAPABILITIES
        by = f"by the rules of the text search configuration {self._language!r}"
        return {**_CAPABILITIES, Capability.SEARCH: Support(Level.PARTIAL, by)}

    async def open(self, *, auto_create: bool = True) -> None:
        self._leave_parent()
        async with self._opening:
            if self._is_open:
                return
            try:
                await self._settle_schema(create=auto_create)
                await self._source.open()
            except (psycopg.Error, OSError) as error:
                raise translate(error, "open") from error
            self._is_open = True

    async def aclose(self) -> None:
        """Closes the adapter's own pool once every connection is back; one that was handed in stays open."""
        self._leave_parent()
        async with self._opening:
            if self._is_open:
                self._is_open = False
                await self._source.close()

    async def check(self) -> HealthReport:
        return HealthReport(NAME, tuple([check async for check in examine(self._source, self._schema)]))

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        """Each step is the SQL of it, ready for ``psql``; with ``dry_run`` for a DBA to read and run."""
        try:
            connection = await self._source.connect()
            try:
                if dry_run:
                    return await self._schema.find_steps(connection)
                return await self._schema.migrate(connection)
            finally:
                await self._source.disconnect(connection)
        except (psycopg.Error, OSError) as error:
            raise translate(error, "migrate") from error

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        return await self._opened().load(key, query)

    async def commit(self, commit: Commit) -> Committed:
        return await self._opened().commit(commit)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        return await self._opened().read_messages(key, query)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._opened().find_sessions(query)

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        return await self._opened().delete(key, expect)

    async def delete_owner(self, scope: Scope) -> Erased:
        return await self._opened().delete_owner(scope)

    async def sweep(self, limit: int) -> Swept:
        return await self._opened().sweep(limit)

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        return await self._opened().search_messages(query)

    async def stats(self, query: StatsQuery) -> Stats:
        return await self._opened().stats(query)

    def _opened(self) -> Store:
        if not self._is_open:
            raise ConfigurationError("this store is not open: await open() first")
        if self._pid != os.getpid():
            raise StorageUnavailable(
                "this process was forked from the one that opened the store, and must not use its connections; "
                "await open() once more",
                adapter=NAME,
                retryable=False,
            )
        return self._store

    def _leave_parent(self) -> None:
        """In a forked child: nothing is open yet, and what its parent opened, or is opening, is not the child's."""
        if self._pid != os.getpid():
            self._source.forget()
            self._opening, self._is_open, self._pid = asyncio.Lock(), False, os.getpid()

    async def _settle_schema(self, *, create: bool) -> None:
        """Makes the tables where there are none, if allowed; refuses those that are not of this version."""
        connection = await self._source.connect()
        try:
            version = await self._schema.find_version(connection)
            if version or not create:
                self._schema.require(version)
                await self._schema.require_language(connection)
            else:
                await self._schema.migrate(connection)
        finally:
            await self._source.disconnect(connection)


def _read_location(url: StorageURL) -> dict[str, str]:
    """Libpq's parameters in a URL before its options."""
    places = [_HOST.fullmatch(place) for place in (url.host or "").split(",")] if "," in (url.host or "") else []
    hosts = [place["name"] for place in places if place]
    ports = [place["port"] or "" for place in places if place]
    found = {
        "user": url.username,
        "password": url.password,
        "host": ",".join(hosts) or url.host,
        "port": ",".join(ports) if any(ports) else (str(url.port) if url.port else None),
        "dbname": url.path.removeprefix("/") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _libpq_keywords() -> list[str]:
    """The parameters that this libpq knows."""
    return sorted(option.keyword.decode() for option in pq.Conninfo.get_defaults())
