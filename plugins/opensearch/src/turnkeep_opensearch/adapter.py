"""The adapter: lifetime, options, and each call of the contract handed to the store."""

from __future__ import annotations

import asyncio
import os
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from turnkeep.contract import PAST_COMMITS, Capability, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ConfigurationError, InvalidArgument, StorageUnavailable
from turnkeep.outbox import GivenClock, ServerClock, Settler, Store, Sweeper
from turnkeep.urls import parse_flag, parse_text
from turnkeep_opensearch._errors import FAILURES, NAME, translating
from turnkeep_opensearch.calls import Calls
from turnkeep_opensearch.clients import Address, HandedIn
from turnkeep_opensearch.health import BOUNDS, examine, require_server
from turnkeep_opensearch.lists import count, find_page
from turnkeep_opensearch.messages import Messages
from turnkeep_opensearch.names import KINDS, Indices
from turnkeep_opensearch.schema import Schema, migrations
from turnkeep_opensearch.search import Search
from turnkeep_opensearch.sessions import Sessions
from turnkeep_opensearch.wording import Wording

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime

    from opensearchpy import AsyncOpenSearch

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
    from turnkeep_opensearch.calls import Refresh
    from turnkeep_opensearch.clients import Source

_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.FULL),
    Capability.IMMEDIATE_LISTS: Support(
        Level.PARTIAL, "lists are searches: they show what was there at the last refresh, about a second ago"
    ),
    Capability.SEARCH: Support(Level.PARTIAL, "it finds what was there at the last refresh, about a second ago"),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}
_REFRESHED: Final = _CAPABILITIES | dict.fromkeys((Capability.IMMEDIATE_LISTS, Capability.SEARCH), Support(Level.FULL))


class _Open(NamedTuple):
    """What there is between ``open`` and ``aclose``."""

    client: AsyncOpenSearch
    calls: Calls
    sessions: Sessions
    store: Store
    search: Search
    sweeper: Sweeper
    settler: Settler
    pid: int


class OpenSearchAdapter(StorageAdapter):
    """Keeps sessions in OpenSearch: a document for each, with its newest messages, and one for each older message.

    A commit changes one document, the head, by a script that decides on the server. A session is read by its id, from
    the primary, as it is at that moment; only lists, counts and sweeps search, and what they find is read once more.

    Time is the server's; see ``clock``.

    Args:
        client: an ``AsyncOpenSearch``, which stays the caller's and is never closed here.
        indices: other names for ``sessions`` and ``messages``, both or one of them.
        auto_create_indices: whether ``open`` makes them where there are none.
        refresh: whether commits and deletes wait until lists show them: False, ``"wait_for"`` the next refresh, or
            True, refresh at once, which costs the server much.
        settings: of the indices, where they are made: ``{"number_of_shards": 3, "number_of_replicas": 1}``.
        analyzer: of messages' contents, one of OpenSearch's or one that ``settings`` define; then searches go by its
            rules. Unless given, they go by those of ``turnkeep.words``.
        index_templates: whether to keep settings and mappings in index templates, too.
        clock: the time of commits, aware; for tests. The server's unless given.

    Raises:
        InvalidArgument: an argument makes no sense.
    """

    def __init__(
        self,
        client: AsyncOpenSearch,
        indices: Mapping[str, str] | None = None,
        auto_create_indices: bool = True,
        refresh: bool | str = False,
        *,
        settings: Mapping[str, Any] | None = None,
        analyzer: str | None = None,
        index_templates: bool = False,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        named = Indices.named(indices or {})
        source = HandedIn(client)
        wording = Wording(analyzer)
        schema = Schema(named, source.where, steps=migrations(wording), settings=settings, templates=index_templates)
        self._set_up(source, named, schema, wording, auto_create_indices, _parse_refresh(refresh), clock)

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """``opensearch://user:password@host1:9200,host2:9200/prefix`` or ``opensearch+https://…``.

        Options: ``indices.sessions``, ``indices.messages``, ``auto_create_indices``, ``refresh``, ``settings.…`` (any
        setting of an index), ``analyzer``, ``index_templates``, ``max_retries``, and the driver's own.
        """
        names = {kind: url.take(f"indices.{kind}", parse_text, "") for kind in KINDS}
        named = Indices.named({kind: name for kind, name in names.items() if name})
        create = url.take("auto_create_indices", parse_flag, True)
        refresh = url.take("refresh", _parse_refresh, "false")
        wording = Wording(url.take("analyzer", parse_text, None))
        templates = url.take("index_templates", parse_flag, False)
        source = Address(url)
        schema = Schema(
            named,
            source.where,
            steps=migrations(wording),
            settings=url.take_all("settings."),
            templates=templates,
        )
        self = cls.__new__(cls)
        self._set_up(source, named, schema, wording, create, cast("Refresh", refresh), None)
        return self

    def _set_up(
        self,
        source: Source,
        indices: Indices,
        schema: Schema,
        wording: Wording,
        create: bool,
        refresh: Refresh,
        clock: Callable[[], datetime] | None,
    ) -> None:
        self._source = source
        self._indices = indices
        self._schema = schema
        self._wording = wording
        self._creates = create
        self._refresh: Refresh = refresh
        self._clock: Clock = ServerClock() if clock is None else GivenClock(clock)
        self._opening = asyncio.Lock()
        self._open: _Open | None = None

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        found = _CAPABILITIES if self._refresh == "false" else _REFRESHED
        if self._wording.analyzer is None:
            return found
        reasons = (f"it goes by the rules of the analyzer {self._wording.analyzer}", found[Capability.SEARCH].reason)
        return {**found, Capability.SEARCH: Support(Level.PARTIAL, "; ".join(filter(None, reasons)))}

    async def open(self, *, auto_create: bool = True) -> None:
        async with self._opening:
            if self._open is not None:
                if self._open.pid == os.getpid():
                    return
                self._forget()
            client = self._source.connect()
            try:
                with translating("open"):
                    await self._prepare(client, create=auto_create and self._creates)
            except BaseException:
                await self._source.release(client)
                raise

    async def _prepare(self, client: AsyncOpenSearch, *, create: bool) -> None:
        calls = self._calls(client)
        await require_server(calls, self._source.where)
        version = (await self._schema.find(calls)).version
        if version or not create:
            self._schema.require(version)
        else:
            await self._schema.migrate(calls)
        sessions, messages = Sessions(calls, self._indices.sessions), Messages(calls, self._indices, self._wording)
        if self._clock.is_due:
            await self._clock.set(sessions.tell_time)
        store = Store(sessions, messages, self._clock, bounds=BOUNDS, adapter=NAME, failures=FAILURES)
        search = Search(calls, self._indices, sessions, store, self._wording)
        sweeper = Sweeper(sessions, messages, store, self._clock, adapter=NAME)
        self._open = _Open(client, calls, sessions, store, search, sweeper, Settler(NAME), os.getpid())

    def _calls(self, client: AsyncOpenSearch) -> Calls:
        return Calls(client, tries=self._source.tries, refresh=self._refresh)

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
        async with self._connected() as calls:
            sessions = Sessions(calls, self._indices.sessions)
            lines = examine(calls, self._indices, self._schema, sessions, self._source.where)
            found = [line async for line in lines]
        return HealthReport(NAME, tuple(found))

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        with translating("migrate"):
            async with self._connected() as calls:
                await require_server(calls, self._source.where)
                return await self._schema.migrate(calls, dry_run=dry_run)

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
        now = self._current()
        with translating("find_sessions"):
            return await find_page(now.calls, self._indices.sessions, now.sessions, query, self._clock())

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
            return await count(self._current().calls, self._indices.sessions, query, self._clock())

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        with translating("search_messages"):
            return await self._current().search.page(query, self._clock())

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
    async def _connected(self) -> AsyncGenerator[Calls]:
        """The calls to our indices, whether or not the adapter is open."""
        if self._open is not None:
            yield self._current().calls
            return
        client = self._source.connect()
        try:
            yield self._calls(client)
        finally:
            await self._source.release(client)


def _parse_refresh(value: object) -> Refresh:
    names: dict[object, Refresh] = {False: "false", True: "true", "false": "false", "true": "true"}
    if value == "wait_for":
        return "wait_for"
    if not isinstance(value, (bool, str)) or value not in names:
        raise InvalidArgument(f"refresh must be False, True or 'wait_for', not {value!r:.40}")
    return names[value]
