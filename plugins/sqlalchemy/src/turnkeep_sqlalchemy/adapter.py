"""The adapter: lifetime, options, and each call of the contract handed to the store on a connection."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from turnkeep.contract import Capability, HealthReport, Level, LoadQuery, Scope, SessionKey, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, InvalidArgument
from turnkeep_sqlalchemy._errors import NAME, missing_driver, wrong_url
from turnkeep_sqlalchemy.clauses import has_server_clock
from turnkeep_sqlalchemy.connections import Connections, make_durable, refuse_autocommit
from turnkeep_sqlalchemy.forms import make_store
from turnkeep_sqlalchemy.health import examine, failed, refuse_settings
from turnkeep_sqlalchemy.options import engine_options, read_url
from turnkeep_sqlalchemy.schema import Schema
from turnkeep_sqlalchemy.search import Search
from turnkeep_sqlalchemy.statements import statements_for
from turnkeep_sqlalchemy.store import first_result
from turnkeep_sqlalchemy.tables import read_names, shared

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from turnkeep.contract import (
        Check,
        Commit,
        Committed,
        Erased,
        MessagePage,
        MessageQuery,
        SearchPage,
        SearchQuery,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        StoredSession,
        Swept,
        Token,
    )
    from turnkeep.urls import StorageURL
    from turnkeep_sqlalchemy.connections import Attempt
    from turnkeep_sqlalchemy.options import Read
    from turnkeep_sqlalchemy.schema import Found
    from turnkeep_sqlalchemy.store import Store
    from turnkeep_sqlalchemy.tables import Names

T = TypeVar("T")

_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.FULL),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.FULL),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.FULL),
    Capability.LARGE_VALUES: Support(Level.FULL),
}
_SEARCHED: Final = frozenset({"mariadb", "postgresql"})
"""Databases whose index of words is known."""
_OTHERS: Final = {"sqlite": "turnkeep-sqlite", "postgresql": "turnkeep-postgres"}
TESTED: Final = frozenset({"postgresql", "mariadb", "sqlite"})
"""Databases that the whole conformance suite runs on."""


class SQLAlchemyAdapter(StorageAdapter):
    """Keeps sessions in a SQL database through an async engine of SQLAlchemy.

    PostgreSQL: one statement to load and one to commit. MariaDB: one to load; to commit one that reads with a lock, one
    that writes, and COMMIT. Any other database: statements that every database knows, within a transaction.

    An engine that is handed in stays the caller's and is never disposed.

    Args:
        engine: the engine.
        tables: other names for ``sessions``, ``messages`` and ``commits``, all or some of them. With names of yours
            there are searches if you name a table for ``words``, too; it is made where it is absent.
        field_mappings: for ``sessions`` and ``messages``, the name of the column that holds a field, where that is not
            the field's own: ``{"sessions": {"user_id": "uid"}}``. ``{"sessions": {"namespace": None}}``: the table is
            one namespace. With names of yours, tables that are there are never altered; other columns are left alone.
        schema: of the database, in which the tables are.
        clock: the time of commits, aware; for tests. Otherwise the server's, on databases that are asked for it.

    Raises:
        InvalidArgument: an argument makes no sense.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        tables: Mapping[str, str] | None = None,
        field_mappings: Mapping[str, Mapping[str, str | None]] | None = None,
        schema: str | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if not isinstance(engine, AsyncEngine):
            raise InvalidArgument(
                f"SQLAlchemyAdapter takes an AsyncEngine (create_async_engine), not {type(engine).__name__}"
            )
        refuse_autocommit(engine)
        self._connections = Connections(engine, owned=False)
        names = read_names(tables, field_mappings, schema)
        if self._connections.dialect not in _SEARCHED:
            names = replace(names, words=None)
        elif names.is_default and self._connections.dialect not in _OTHERS:
            names = names.with_words()
        self._tables = shared(names)
        self._schema = Schema(self._tables)
        self._clock = clock
        self._store: Store | None = None
        self._search: Search | None = None
        self._namespace: str | None = None

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``sqlalchemy+<dialect>+<driver>://user:password@host:port/database``, and every argument as an option.

        Options: ``tables.sessions`` and so on, ``field_mappings.sessions.user_id`` and so on (empty: no such column),
        ``schema``, ``pool_size``, ``max_overflow``, ``pool_timeout``, ``pool_recycle``, ``pool_pre_ping``,
        ``connect_timeout``; any other goes to the driver.
        """
        read = read_url(url)
        adapter = cls(make_engine(read), **read.adapter)
        adapter._connections.owned = True
        return adapter

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        dialect = self._connections.dialect
        able = _CAPABILITIES
        if self._tables.words is None:
            able = able | {Capability.SEARCH: Support(Level.NONE, _why_unsearched(dialect, self._tables.names))}
        if dialect in TESTED:
            return able
        reason = f"by generic SQL that was not tested on {dialect}; run the test kit on yours"
        return able | {
            capability: Support(Level.PARTIAL, reason)
            for capability in (Capability.ATOMIC_TURN, Capability.DURABLE, Capability.LARGE_VALUES)
        }

    async def open(self, *, auto_create: bool = True) -> None:
        if self._store is not None:
            return
        try:
            found = await self._run(lambda connection: self._prepare(connection, create=auto_create), "open")
        except BaseException:
            await self._connections.aclose()
            raise
        dialect = self._connections.dialect
        clock = self._clock if self._clock or has_server_clock(dialect) else _utc_now
        statements = statements_for(self._tables, dialect, counts=found.counts, client_clock=clock is not None)
        self._store = make_store(statements, self._connections.engine.dialect, clock)
        self._search = None if self._tables.words is None else Search(statements, self._tables.words, clock)

    def _prepare(self, connection: Connection, *, create: bool) -> Found:
        refuse_settings(connection)
        found = self._schema.look(connection)
        if create and not found.is_complete and not found.misfits:
            self._schema.make(connection)
            found = self._schema.look(connection)
        self._schema.require(found)
        return found

    async def aclose(self) -> None:
        """Lets writes that were begun end; disposes the engine unless it was handed in."""
        self._store = None
        await self._connections.aclose()

    async def check(self) -> HealthReport:
        async def look(connection: AsyncConnection) -> tuple[Check, ...]:
            return await connection.run_sync(lambda plain: tuple(examine(plain, self._schema)))

        try:
            checks = await self._connections.read(look, "check")
        except Exception as error:  # noqa: BLE001 - a line of the report, whatever it is
            checks = (failed("database", error),)
        finally:
            if self._store is None:
                await self._connections.aclose()
        return HealthReport(NAME, checks)

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        """As the contract says; what tables of yours lack is returned, never done."""

        def work(connection: Connection) -> list[str]:
            if dry_run:
                return self._schema.steps(connection, self._schema.look(connection))
            return self._schema.make(connection)

        try:
            return await self._run(work, "migrate")
        finally:
            if self._store is None:
                await self._connections.aclose()

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        store = self._current(key.scope)
        return await self._connections.read(lambda connection: store.load(connection, key, query), "load")

    async def commit(self, commit: Commit) -> Committed:
        store = self._current(commit.key.scope)

        async def work(attempt: Attempt) -> Committed:
            result = await store.commit_through(self._connections, attempt, commit)
            if result.replayed and attempt.was_sealed:  # sent again here, because its answer was lost
                return await self._first_result(commit) or result
            return result

        async def resolve() -> Committed | None:
            return await self._first_result(commit)

        return await self._connections.write(work, "commit", commit_id=commit.commit_id, resolve=resolve)

    async def _first_result(self, commit: Commit) -> Committed | None:
        """What came of a commit whose answer was lost; None if it did not take effect so far."""
        scope = commit.key.scope if commit.claim is None else Scope(commit.key.scope.namespace, commit.claim)
        key, query = SessionKey(scope, commit.key.session_id), LoadQuery(window=0, commit_id=commit.commit_id)
        store = self._current(scope)
        stored = await self._connections.read(lambda connection: store.load(connection, key, query), "commit")
        if stored is None or stored.replay is None:
            return None
        return first_result(commit, stored.replay)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        store = self._current(key.scope)
        return await self._connections.read(
            lambda connection: store.read_messages(connection, key, query), "read_messages"
        )

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        store = self._current(query.scope)
        return await self._connections.read(lambda connection: store.find_sessions(connection, query), "find_sessions")

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        store = self._current(key.scope)

        async def resolve() -> bool | None:
            there = await self._connections.read(
                lambda connection: store.load(connection, key, LoadQuery(window=0)), "delete"
            )
            return True if there is None else None

        async def work(attempt: Attempt) -> bool:
            async with self._connections.writing(attempt) as connection:
                removed = await store.delete(connection, key, expect)
            return removed or attempt.was_sealed  # it was there when this was sent for the first time

        return await self._connections.write(work, "delete", commit_id="", resolve=resolve)

    async def delete_owner(self, scope: Scope) -> Erased:
        store = self._current(scope)
        return await self._write(lambda connection: store.delete_owner(connection, scope), "delete_owner")

    async def sweep(self, limit: int) -> Swept:
        store = self._current(None)
        return await self._write(lambda connection: store.sweep(connection, limit), "sweep")

    async def stats(self, query: StatsQuery) -> Stats:
        store = self._current(query.scope)
        return await self._connections.read(lambda connection: store.stats(connection, query), "stats")

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """As the contract says; first it reads what was said since the last search, a portion in each transaction."""
        self._current(query.scope)
        search = self._search
        if search is None:
            raise self._lacks(Capability.SEARCH, "search_messages")
        while behind := await self._connections.read(
            lambda connection: search.behind(connection, query), "search_messages"
        ):
            await self._read_on(search, query.scope.namespace, behind)
        return await self._connections.read(lambda connection: search.search(connection, query), "search_messages")

    async def _read_on(self, search: Search, namespace: str, sessions: list[str]) -> None:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0

        async def given_up() -> None:
            raise asyncio.CancelledError  # what became of the portion matters to nobody

        await self._write(
            lambda connection: search.read_on(connection, namespace, sessions), "search_messages", given_up
        )
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError  # this portion was written all the same; the next one is not begun

    async def _write(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        operation: str,
        resolve: Callable[[], Coroutine[Any, Any, T | None]] | None = None,
    ) -> T:
        """Does work in a transaction."""

        async def transact(attempt: Attempt) -> T:
            async with self._connections.writing(attempt) as connection:
                return await work(connection)

        return await self._connections.write(transact, operation, commit_id="", resolve=resolve)

    async def _run(self, work: Callable[[Connection], T], operation: str) -> T:
        """Does work on tables themselves, in a transaction where the database has one for that."""

        async def transact(attempt: Attempt) -> T:
            async with self._connections.writing(attempt) as connection:
                return await connection.run_sync(work)

        return await self._connections.write(transact, operation, commit_id="")

    def _current(self, scope: Scope | None) -> Store:
        if self._store is None:
            raise ConfigurationError("this store is not open: await open() first")
        if scope is not None and "namespace" not in self._tables.sessions.c:
            self._namespace = self._namespace or scope.namespace
            if scope.namespace != self._namespace:
                raise ConfigurationError(
                    f"the sessions table is one namespace, in use as {self._namespace!r}; "
                    f"{scope.namespace!r} needs a table of its own, or a column for namespace"
                )
        return self._store


def make_engine(read: Read) -> AsyncEngine:
    """The engine for a URL; connects to nothing yet.

    Raises:
        MissingDriver: the driver is not installed.
        InvalidArgument: it is not an async one.
    """
    dialect = read.engine.get_backend_name()
    try:
        engine = create_async_engine(read.engine, **engine_options(dialect) | read.settings)
    except ImportError as error:
        raise missing_driver(read.engine.drivername, error) from error
    except SQLAlchemyError as error:
        raise wrong_url(read.engine.drivername, error) from None
    if dialect == "sqlite":
        make_durable(engine)
    return engine


def _why_unsearched(dialect: str, names: Names) -> str:
    """Why there is no search on this database, or over these tables."""
    if dialect == "sqlite" or (dialect in _OTHERS and names.is_default):
        return f"{_OTHERS[dialect]} searches the same tables"
    if dialect in _SEARCHED:
        return "among tables of yours there is none for words; name one with tables={'words': …}"
    if dialect == "mysql":
        return "it was not tested on MySQL; the URL of a MariaDB begins with sqlalchemy+mariadb"
    return f"its index of words on {dialect} is not known"


def _utc_now() -> datetime:
    return datetime.now(UTC)
