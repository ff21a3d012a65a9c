"""The adapter: lifetime, options, and each call of the contract handed to the store."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar, cast

from redis.exceptions import NoPermissionError

from turnkeep.contract import PAST_COMMITS, Capability, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, InvalidArgument, StorageUnavailable
from turnkeep.urls import duration, parse_count, parse_seconds, parse_text
from turnkeep_redis._errors import NAME, translate
from turnkeep_redis.clients import HandedIn, Source, read_address
from turnkeep_redis.health import examine, find_facts, require
from turnkeep_redis.keys import Keys
from turnkeep_redis.schema import Schema
from turnkeep_redis.settling import Writes
from turnkeep_redis.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from datetime import datetime, timedelta

    from redis.asyncio import Redis, RedisCluster

    from turnkeep.contract import (
        Commit,
        Committed,
        Erased,
        LoadQuery,
        MessagePage,
        MessageQuery,
        Scope,
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
    from turnkeep_redis.wire import Wire

Durability = Literal["server", "synced"]
T = TypeVar("T")

DEFAULT_PREFIX: Final = "turnkeep:"
_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.FULL),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.NONE, "Redis has no full-text search of its own"),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


class RedisAdapter(StorageAdapter):
    """Keeps sessions in Redis 6.2 or newer: one server, the master that Sentinel names, or a cluster.

    A commit is one script on the session's two keys, and so is a load. Everything of a session lies in one slot and
    has one expiry, by the server's clock. Lists are sorted sets: on a cluster they lie in other slots and are written
    beside the commit, before it is acknowledged.

    How durable a commit is depends on the server's settings, which ``check`` reads; a failover may lose the last ones,
    which a later commit then meets as a conflict.

    A client that is handed in stays the caller's: it is never closed. Its own time-outs hold; its own retries do not
    matter, for a write that is sent twice takes effect once.

    Args:
        client: a ``redis.asyncio.Redis``, of Sentinel's ``master_for`` too, or a ``redis.asyncio.RedisCluster``.
            (``from_url`` gives a way to make one.)
        key_prefix: what every key begins with; letters, digits and ``_ . : / -``.
        session_ttl: default of idle time, in seconds or as ``timedelta``, after which a session goes; None: never.
        message_ttl: default of the age at which a message leaves the history; None: never.
        durability: ``"server"``: as durable as the server's settings. ``"synced"``: each commit waits until it is on
            the server's disk (WAITAOF, so Redis 7.2 or newer with ``appendonly yes``).
        replicas: with ``"synced"``, on the disks of how many replicas, too.
        clock: the time of commits, aware; for tests. Redis then expires nothing by itself, ``sweep`` does.

    Raises:
        InvalidArgument: an argument makes no sense.
    """

    def __init__(
        self,
        client: Redis | RedisCluster | Source,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        session_ttl: float | timedelta | None = None,
        message_ttl: float | timedelta | None = None,
        durability: Durability = "server",
        replicas: int = 0,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.session_ttl = None if session_ttl is None else duration(session_ttl, "session_ttl")
        self.message_ttl = None if message_ttl is None else duration(message_ttl, "message_ttl")
        if durability not in {"server", "synced"}:
            raise InvalidArgument(f"durability is server or synced, not {durability!r:.40}")
        if type(replicas) is not int or replicas < 0 or (replicas and durability == "server"):
            raise InvalidArgument("replicas is a count, and goes with durability=synced")
        self._wait_for = ("WAITAOF", 1, replicas, 0) if durability == "synced" else ()
        self._keys = Keys(key_prefix)
        self._clock = clock
        self._source = client if isinstance(client, Source) else HandedIn(client)
        self._opening = asyncio.Lock()
        self._store: Store | None = None
        self._writes = Writes()
        self._pid = 0

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``redis://user:password@host:port/0``, ``redis+cluster://…``, ``redis+sentinel://…``; with TLS ``rediss``.

        Options: ``key_prefix``, ``session_ttl``, ``message_ttl``, ``durability``, ``replicas``, ``max_connections``,
        ``connect_timeout``, ``tls.ca``, ``tls.cert``, ``tls.key``, ``tls.verify``, ``sentinel_username``,
        ``sentinel_password``.
        """
        return cls(
            read_address(url),
            key_prefix=url.take("key_prefix", parse_text, DEFAULT_PREFIX),
            session_ttl=url.take("session_ttl", parse_seconds, None),
            message_ttl=url.take("message_ttl", parse_seconds, None),
            durability=url.take("durability", _parse_durability, "server"),
            replicas=url.take("replicas", parse_count, 0),
        )

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        return _CAPABILITIES

    async def open(self, *, auto_create: bool = True) -> None:
        async with self._opening:
            if self._store is not None:
                if self._pid == os.getpid():
                    return
                self._refuse_fork("open")
                self._source.forget()
                self._store, self._writes = None, Writes()
            wire = self._source.connect()
            try:
                await self._tell(self._prepare(wire, create=auto_create), "open")
            except BaseException:
                await self._source.release()
                raise
            self._store = Store(wire, self._keys, self._clock, self._wait_for)
            self._pid = os.getpid()

    async def aclose(self) -> None:
        """Lets what was begun end, then closes the client; one that was handed in stays open."""
        if self._store is None:
            return
        self._store = None
        if self._pid != os.getpid():
            self._source.forget()
            return
        await self._writes.drain()
        await self._source.release()

    async def check(self) -> HealthReport:
        async with self._beside() as wire:
            schema = Schema(wire, self._keys)
            return HealthReport(NAME, tuple([check async for check in examine(wire, schema)]))

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        async with self._beside() as wire:
            schema = Schema(wire, self._keys)
            return await self._tell(schema.steps() if dry_run else schema.migrate(), "migrate")

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        return await self._tell(self._current_store("load").load(key, query), "load")

    async def commit(self, commit: Commit) -> Committed:
        store = self._current_store("commit")
        return await self._writes.run(lambda attempt: store.commit(commit, attempt), "commit", commit.commit_id)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        return await self._tell(self._current_store("read_messages").read_messages(key, query), "read_messages")

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._tell(self._current_store("find_sessions").find_sessions(query), "find_sessions")

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        store = self._current_store("delete")
        return await self._writes.run(lambda attempt: store.delete(key, expect, attempt), "delete", "")

    async def delete_owner(self, scope: Scope) -> Erased:
        return await self._tell(self._current_store("delete_owner").delete_owner(scope), "delete_owner")

    async def sweep(self, limit: int) -> Swept:
        return await self._tell(self._current_store("sweep").sweep(limit), "sweep")

    async def stats(self, query: StatsQuery) -> Stats:
        return await self._tell(self._current_store("stats").stats(query), "stats")

    async def _tell(self, work: Awaitable[T], operation: str) -> T:
        """What ``work`` gives; what it raises, as an error of ours."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - raised again, ours or as it is
            told = translate(error, operation)
            raise told from told.__cause__

    async def _prepare(self, wire: Wire, *, create: bool) -> None:
        try:
            facts = await find_facts(wire)
        except NoPermissionError:
            facts = {}  # whoever hides INFO vouches for the server
        require(facts, is_cluster=wire.is_cluster, waits=bool(self._wait_for))
        schema = Schema(wire, self._keys)
        if create and not await schema.find_version():
            await schema.migrate()
        else:
            await schema.require()

    @asynccontextmanager
    async def _beside(self) -> AsyncGenerator[Wire]:
        """A way to the server that needs no ``open``, and that leaves an open one alone."""
        source = self._source.copy()
        try:
            yield source.connect()
        finally:
            await source.release()

    def _current_store(self, operation: str) -> Store:
        if self._store is None:
            raise ConfigurationError("this store is not open: await open() first")
        if self._pid != os.getpid():
            raise StorageUnavailable(
                "this process was forked from the one that opened the store, and must not use its connections; "
                "await open() once more",
                adapter=NAME,
                operation=operation,
                retryable=False,
            )
        return self._store

    def _refuse_fork(self, operation: str) -> None:
        if isinstance(self._source, HandedIn):
            raise StorageUnavailable(
                "the client that was handed in belongs to the process this one was forked from; make another",
                adapter=NAME,
                operation=operation,
                retryable=False,
            )


def _parse_durability(text: str) -> Durability:
    return cast("Durability", text)  # judged where all settings are
