"""The adapter: lifetime, options, and each call of the contract handed to the writer or a reader."""

from __future__ import annotations

import os
import sqlite3
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from turnkeep.contract import Capability, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, InvalidArgument, StorageUnavailable
from turnkeep.urls import duration, parse_count, parse_flag, parse_seconds, parse_text
from turnkeep_sqlite._errors import NAME, translate
from turnkeep_sqlite.connections import DatabaseFile, HandedIn, Settings, check_version
from turnkeep_sqlite.health import examine
from turnkeep_sqlite.jobs import run_in_thread
from turnkeep_sqlite.readers import Readers, snapshot
from turnkeep_sqlite.schema import Schema
from turnkeep_sqlite.statements import Queries, Tables
from turnkeep_sqlite.store import Store
from turnkeep_sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

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
    from turnkeep_sqlite.connections import Durability, Source

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
_AT_MOST_NORMAL: Final = Support(Level.PARTIAL, "durability=normal: a power cut may take the last turns along")

_inherited: list[object] = []
"""Connections of a parent process: SQLite forbids to close them here, so they must not even be collected."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SQLiteAdapter(StorageAdapter):
    """Keeps sessions in an SQLite file, which several processes on one machine may use at the same time.

    One thread writes and commits the turns that wait together, each with its own outcome; others read beside it. All of
    them end with ``aclose``. After a fork the child opens anew.

    A file is made with access for its owner only and switched to write-ahead logging, so while it is open ``-wal`` and
    ``-shm`` files lie beside it. Its path is made absolute here and now; a missing directory is not made, and a path
    that begins with ``~`` is refused rather than expanded.

    A connection that is handed in stays the caller's: it is never closed, and its settings are left, or put back, as
    they were; how durable it is depends on them. It must be made with ``check_same_thread=False``, because the adapter
    uses it from a thread of its own. While the adapter is open, use it elsewhere only between calls, and leave no
    transaction open on it: a call that meets one fails.

    Args:
        database: a path, or a connection.
        durability: ``"full"``: an acknowledged commit survives a power cut. ``"normal"``: a power cut may take the last
            commits along, a crash of the process may not.
        tables: other names for ``sessions``, ``messages`` and ``commits``, all or some of them.
        shared: allows our tables in a file that has tables of something else. A connection that is handed in does.
        busy_timeout: how long to wait for other processes, in seconds.
        readers: how many threads read.
        max_page_count: how many pages (of 4 KB, usually) the file may have; ``StorageFull`` beyond.
        clock: the time of commits, aware; for tests.

    Raises:
        InvalidArgument, ConfigurationError: an argument makes no sense.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | sqlite3.Connection,
        *,
        durability: Durability = "full",
        tables: Mapping[str, str] | None = None,
        shared: bool = False,
        busy_timeout: float | timedelta = 5.0,
        readers: int = 2,
        max_page_count: int | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        timeout = duration(busy_timeout, "busy_timeout").total_seconds()
        settings = Settings(durability, timeout, readers, max_page_count)
        names = Tables.named(tables or {})
        self._source: Source
        if isinstance(database, sqlite3.Connection):
            if settings != Settings():
                raise InvalidArgument(
                    "a connection that is handed in keeps its own settings; "
                    "durability, busy_timeout, readers and max_page_count are for paths"
                )
            self._source = HandedIn(database)
        else:
            self._source = DatabaseFile(_read_path(database), settings)
        self._schema = Schema(names, self._source.where, shared=shared or isinstance(database, sqlite3.Connection))
        self._store = Store(Queries.load(names), clock)
        self._settings = settings
        self._writer: Writer | None = None
        self._readers: Readers | None = None

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``sqlite:///relative.db`` or ``sqlite:////absolute.db``, and every argument as an option.

        Options: ``durability``, ``tables.sessions``, ``tables.messages``, ``tables.commits``, ``shared``,
        ``busy_timeout``, ``readers``, ``max_page_count``.
        """
        if url.host or url.username or url.password or url.port:
            raise InvalidArgument(
                "an SQLite URL has no host: write sqlite:///relative.db with three slashes, "
                "or sqlite:////absolute.db with four"
            )
        if not url.path.strip("/") or url.path.endswith("/"):
            raise InvalidArgument("an SQLite URL names a file: sqlite:///conversations.db")
        tables = {key: url.take(f"tables.{key}", parse_text, "") for key in ("sessions", "messages", "commits")}
        return cls(
            url.path[1:],
            durability=url.take("durability", _parse_durability, "full"),
            tables={key: name for key, name in tables.items() if name},
            shared=url.take("shared", parse_flag, default=False),
            busy_timeout=url.take("busy_timeout", parse_seconds, timedelta(seconds=5)),
            readers=url.take("readers", parse_count, 2),
            max_page_count=url.take("max_page_count", parse_count, None),
        )

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        if self._settings.durability == "normal":
            return _CAPABILITIES | {Capability.DURABLE: _AT_MOST_NORMAL}
        return _CAPABILITIES

    async def open(self, *, auto_create: bool = True) -> None:
        if self._writer is not None:
            if self._writer.pid == os.getpid():
                return
            if isinstance(self._source, HandedIn):
                raise StorageUnavailable(
                    "the connection that was handed in belongs to the process this one was forked from; make another",
                    adapter=NAME,
                    retryable=False,
                )
            self._forget()
        writer = Writer(self._source)
        await writer.start(lambda: self._start(create=auto_create))
        if self._writer is not None:  # somebody else opened it meanwhile
            writer.stop()
            await run_in_thread(writer.join, "close")
            return
        self._writer = writer
        if isinstance(self._source, DatabaseFile):
            self._readers = Readers(self._settings.readers, self._source.connect_to_read)

    async def aclose(self) -> None:
        """Lets what was begun end, then ends the threads; a connection that was handed in stays open."""
        writer, readers = self._writer, self._readers
        if writer is None:
            return
        if writer.pid != os.getpid():
            self._forget()
            return
        self._writer = self._readers = None

        def join() -> None:
            if readers is not None:
                readers.join()
            writer.stop()  # last, because the last connection tidies up the files
            writer.join()

        if readers is not None:
            readers.stop()
        await run_in_thread(join, "close")

    def __del__(self) -> None:
        # An adapter whose construction failed has no such attributes.
        writer: Writer | None = getattr(self, "_writer", None)
        if writer is None or writer.pid != os.getpid():
            return
        said = f"{self._source.where} was never closed: await aclose()"
        warnings.warn(said, ResourceWarning, stacklevel=2, source=self)
        writer.stop()
        if self._readers is not None:
            self._readers.stop()

    async def check(self) -> HealthReport:
        def look() -> HealthReport:
            return HealthReport(NAME, tuple(examine(self._source, self._schema)))

        if isinstance(self._source, HandedIn) and self._writer is not None:
            return await self._current_writer().run(lambda _: look(), "check", alone=True)
        return await run_in_thread(look, "check")

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        if isinstance(self._source, HandedIn) and self._writer is not None:
            return await self._current_writer().run(lambda _: self._migrate(dry_run=dry_run), "migrate", alone=True)
        return await run_in_thread(lambda: self._migrate(dry_run=dry_run), "migrate")

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        def work(connection: sqlite3.Connection) -> StoredSession | None:
            return self._store.load(connection, key, query)

        writer = self._current_writer()
        if query.window is not None and not writer.is_committing:
            # It still has the pages of the last commit at hand, which a reader must fetch anew: half the time, and
            # threads that take turns at Python's lock are slower than one (both measured).
            return await writer.run(snapshot(work), "load", alone=True)
        return await self._read(work, "load")

    async def commit(self, commit: Commit) -> Committed:
        return await self._current_writer().run(
            lambda connection: self._store.commit(connection, commit), "commit", commit_id=commit.commit_id
        )

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        return await self._read(lambda connection: self._store.read_messages(connection, key, query), "read_messages")

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._read(lambda connection: self._store.find_sessions(connection, query), "find_sessions")

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        return await self._current_writer().run(
            lambda connection: self._store.delete(connection, key, expect), "delete"
        )

    async def delete_owner(self, scope: Scope) -> Erased:
        return await self._current_writer().run(
            lambda connection: self._store.delete_owner(connection, scope), "delete_owner"
        )

    async def sweep(self, limit: int) -> Swept:
        return await self._current_writer().run(lambda connection: self._store.sweep(connection, limit), "sweep")

    async def stats(self, query: StatsQuery) -> Stats:
        return await self._read(lambda connection: self._store.stats(connection, query), "stats")

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """As the contract says. What was said since the last search is read first, in transactions of their own."""
        if await self._read(self._store.words_are_behind, "search_messages"):
            while await self._current_writer().run(self._store.read_words, "search_messages"):
                pass
        return await self._read(lambda connection: self._store.search_messages(connection, query), "search_messages")

    def _read(self, work: Callable[[sqlite3.Connection], T], operation: str) -> Awaitable[T]:
        writer = self._current_writer()
        if self._readers is None:
            return writer.run(snapshot(work), operation, alone=True)
        return self._readers.run(snapshot(work), operation)

    def _current_writer(self) -> Writer:
        writer = self._writer
        if writer is None:
            raise ConfigurationError("this store is not open: await open() first")
        if writer.pid != os.getpid():
            raise StorageUnavailable(
                "this process was forked from the one that opened the store, and SQLite forbids to use its connections "
                "here; await open() once more",
                adapter=NAME,
                retryable=False,
            )
        return writer

    def _forget(self) -> None:
        """In a child process: lets go of what belongs to the parent, without closing it."""
        _inherited.append((self._writer, self._readers))
        self._writer = self._readers = None

    def _start(self, *, create: bool) -> sqlite3.Connection:
        """As ``_connect``; an error names the file, which who opens it may not know."""
        try:
            return self._connect(create=create)
        except sqlite3.Error as error:
            raise translate(error, "open", self._source.where) from error

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        """In the writer's thread: a connection to tables of the right version."""
        check_version()
        connection = self._source.connect(create=create)
        try:
            with self._source.in_use(connection):
                version = self._schema.find_version(connection)
                if version or not create:
                    self._schema.require(version)
                self._source.settle_in(connection)
                if not version:
                    self._schema.migrate(connection)
            self._source.keep_place()
        except BaseException:
            self._source.release(connection)
            raise
        return connection

    def _migrate(self, *, dry_run: bool) -> list[str]:
        check_version()
        if dry_run and not self._source.exists():
            return self._schema.steps(0)
        connection = self._source.connect(create=not dry_run)
        try:
            with self._source.in_use(connection):
                version = self._schema.find_version(connection)
                if dry_run:
                    return self._schema.steps(version)
                self._source.settle_in(connection)
                return self._schema.migrate(connection)
        finally:
            self._source.release(connection)


def _read_path(database: object) -> Path:
    path = os.fspath(cast("os.PathLike[str]", database)) if isinstance(database, os.PathLike) else database
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgument(f"the path of the database must be a text that names a file, not {path!r:.80}")
    if path == ":memory:" or path.startswith("file:"):
        raise InvalidArgument(
            f"{path!r:.80} is not a path; for a store that ends with the process use memory://, "
            "for SQLite's own URIs hand in a connection"
        )
    if path.startswith("~"):
        raise InvalidArgument(f"~ is not expanded in {path!r:.80}; write the path out, or pass Path(…).expanduser()")
    return Path(path)


def _parse_durability(text: str) -> Durability:
    return cast("Durability", text)  # judged where all settings are
