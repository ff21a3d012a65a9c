"""The adapter: lifetime, options, and each call of the contract handed to the store."""

from __future__ import annotations

import asyncio
import os
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pymongo.errors import PyMongoError

from turnkeep.contract import PAST_COMMITS, Capability, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, StorageUnavailable
from turnkeep.outbox import Bounds, GivenClock, ServerClock, Settler, Store, Sweeper
from turnkeep.urls import parse_text
from turnkeep_mongodb._errors import NAME, translating
from turnkeep_mongodb.clients import Address, HandedIn
from turnkeep_mongodb.health import examine
from turnkeep_mongodb.lists import count, find_page
from turnkeep_mongodb.messages import Messages
from turnkeep_mongodb.names import Collections, Names, check_database
from turnkeep_mongodb.schema import Schema
from turnkeep_mongodb.search import MOST_BYTES, MOST_MESSAGES, Search
from turnkeep_mongodb.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime

    from pymongo import AsyncMongoClient

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
    from turnkeep.outbox.clock import Clock
    from turnkeep.urls import StorageURL
    from turnkeep_mongodb.clients import Source
    from turnkeep_mongodb.names import Document

DEFAULT_DATABASE: Final = "turnkeep"

BOUNDS: Final = Bounds(kept_bytes=256 * 1024, outbox_bytes=256 * 1024)
"""A document may have 16 MB; a commit changes it in place, so that its size costs the server little."""

_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.FULL),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(
        Level.PARTIAL,
        f"it reads the newest {MOST_MESSAGES:,} messages, or {MOST_BYTES >> 20} MiB, of a namespace, owner or session",
    ),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(
        Level.PARTIAL, "each value fits, but the messages, data and state of one commit may have 14 MiB together"
    ),
}


class _Open(NamedTuple):
    """What there is between ``open`` and ``aclose``."""

    client: AsyncMongoClient[Document]
    collections: Collections
    store: Store
    sweeper: Sweeper
    settler: Settler
    pid: int


class MongoDBAdapter(StorageAdapter):
    """Keeps sessions in MongoDB: a document for each, with its newest messages, and one for each older message.

    A commit changes one document, the head, so it needs no transaction and works alike on a standalone server, a
    replica set and a sharded cluster. Every write is acknowledged by a majority, in its journal; every read goes to the
    primary. A client that is handed in keeps its own settings for everybody else.

    Time is the server's; see ``clock``.

    Args:
        client: an ``AsyncMongoClient``, which stays the caller's and is never closed here.
        database: the database our collections lie in.
        collections: other names for ``sessions`` and ``messages``, both or one of them.
        clock: the time of commits, aware; for tests. The server's unless given.

    Raises:
        InvalidArgument, ConfigurationError: an argument makes no sense, or the client does not wait for writes (w=0).
    """

    def __init__(
        self,
        client: AsyncMongoClient[Any],
        database: str = DEFAULT_DATABASE,
        *,
        collections: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._set_up(HandedIn(client), database, Names.named(collections or {}), clock)

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``mongodb://host1,host2/database?replicaSet=rs0`` or ``mongodb+srv://…``.

        Options: ``database``, ``collections.sessions``, ``collections.messages``; every other is the driver's own.
        """
        names = {key: url.take(f"collections.{key}", parse_text, "") for key in ("sessions", "messages")}
        database = url.take("database", parse_text, url.path.lstrip("/") or DEFAULT_DATABASE)
        self = cls.__new__(cls)
        named = Names.named({key: name for key, name in names.items() if name})
        self._set_up(Address(url, database), database, named, None)
        return self

    def _set_up(self, source: Source, database: str, names: Names, clock: Callable[[], datetime] | None) -> None:
        self._database = check_database(database)
        self._names = names
        self._source = source
        self._clock: Clock = ServerClock() if clock is None else GivenClock(clock)
        self._schema = Schema(names, f"the database {database!r} on {source.where}")
        self._opening = asyncio.Lock()
        self._open: _Open | None = None

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        return _CAPABILITIES

    async def open(self, *, auto_create: bool = True) -> None:
        async with self._opening:
            if self._open is not None:
                if self._open.pid == os.getpid():
                    return
                self._forget()
            client = self._source.connect()
            try:
                with translating("open"):
                    await self._prepare(client, create=auto_create)
            except BaseException:
                await self._source.release(client)
                raise

    async def _prepare(self, client: AsyncMongoClient[Document], *, create: bool) -> None:
        collections = Collections.of(client, self._database, self._names)
        version = await self._schema.find_version(collections)
        if version or not create:
            self._schema.require(version)
        else:
            await self._schema.migrate(collections)
        sessions, messages = Sessions(collections.sessions), Messages(collections)
        if self._clock.is_due:
            await self._clock.set(sessions.tell_time)
        store = Store(sessions, messages, self._clock, bounds=BOUNDS, adapter=NAME, failures=PyMongoError)
        sweeper = Sweeper(sessions, messages, store, self._clock, adapter=NAME)
        self._open = _Open(client, collections, store, sweeper, Settler(NAME), os.getpid())

    def _forget(self) -> None:
        """In a child process: lets go of what belongs to the parent, without closing it."""
        if isinstance(self._source, HandedIn):
            raise StorageUnavailable(
                "the client that was handed in belongs to the process this one was forked from; make another",
                adapter=NAME,
                retryable=False,
            )
        self._open = None

    async def aclose(self) -> None:
        """Lets what was begun end, then closes the client; one that was handed in stays open."""
        found, self._open = self._open, None
        if found is None or found.pid != os.getpid():
            return
        await found.settler.finish()
        await self._source.release(found.client)

    def __del__(self) -> None:
        # An adapter whose construction failed has no such attributes.
        found: _Open | None = getattr(self, "_open", None)
        if found is not None and found.pid == os.getpid() and not isinstance(self._source, HandedIn):
            said = f"the client of {self._source.where} was never closed: await aclose()"
            warnings.warn(said, ResourceWarning, stacklevel=2, source=self)

    async def check(self) -> HealthReport:
        async with self._connected() as collections:
            found = [line async for line in examine(collections, self._schema, self._source.where)]
        return HealthReport(NAME, tuple(found))

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        with translating("migrate"):
            async with self._connected() as collections:
                return await self._schema.migrate(collections, dry_run=dry_run)

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        with translating("load"):
            return await self._current().store.load(key, query)

    async def commit(self, commit: Commit) -> Committed:
        now = self._current()
        with translating("commit"):
            return await now.settler.run(lambda effect: now.store.commit(commit, effect), "commit", commit.commit_id)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        with translating("read_messages"):
            return await self._current().store.read_messages(key, query)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        with translating("find_sessions"):
            return await find_page(self._current().collections.sessions, query, self._clock())

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        now = self._current()
        with translating("delete"):
            return await now.settler.run(lambda effect: now.store.delete(key, expect, effect), "delete")

    async def delete_owner(self, scope: Scope) -> Erased:
        with translating("delete_owner"):
            return await self._current().sweeper.delete_owner(scope)

    async def sweep(self, limit: int) -> Swept:
        with translating("sweep"):
            return await self._current().sweeper.sweep(limit)

    async def stats(self, query: StatsQuery) -> Stats:
        with translating("stats"):
            return await count(self._current().collections.sessions, query, self._clock())

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        with translating("search_messages"):
            return await Search(self._current().collections, query, self._clock()).page()

    def _current(self) -> _Open:
        found = self._open
        if found is None:
            raise ConfigurationError("this store is not open: await open() first")
        if found.pid != os.getpid():
            raise StorageUnavailable(
                "this process was forked from the one that opened the store, whose connections it cannot share; "
                "await open() once more",
                adapter=NAME,
                retryable=False,
            )
        return found

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Collections]:
        """Our collections, whether or not the adapter is open."""
        if self._open is not None:
            yield self._current().collections
            return
        client = self._source.connect()
        try:
            yield Collections.of(client, self._database, self._names)
        finally:
            await self._source.release(client)
