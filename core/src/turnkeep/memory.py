"""The adapter that keeps everything in this process: for tests, notebooks, and as the oracle the others are held to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from turnkeep.contract import (
    PAST_COMMITS,
    Capability,
    Check,
    HealthReport,
    Level,
    StorageAdapter,
    Support,
)
from turnkeep.held import (
    HeldSession,
    commit_to,
    count,
    erased,
    load_from,
    may_delete,
    page_of,
    read_from,
    search,
    swept,
)
from turnkeep.judge import is_live

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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

_CAPABILITIES = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.NONE, "the store ends with its process"),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.FULL),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryAdapter(StorageAdapter):
    """Keeps sessions in this process, as strictly as a database would; each instance is a store of its own.

    Values are immutable texts, so nothing is shared with the caller. Safe to use from several threads.

    Args:
        clock: the "server's" time, aware; for tests.
    """

    def __init__(self, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], HeldSession] = {}

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """A new, empty store: ``memory://``."""
        url.expect_no_location()
        return cls()

    @property
    def name(self) -> str:
        return "memory"

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        return _CAPABILITIES

    async def open(self, *, auto_create: bool = True) -> None:
        """Does nothing: there is no schema."""

    async def aclose(self) -> None:
        """Does nothing: the store lives as long as this object."""

    async def check(self) -> HealthReport:
        return HealthReport(
            self.name, (Check("store", ok=True, detail=f"{len(self._records)} sessions in this process"),)
        )

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        return []

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        with self._lock:
            return load_from(self._record(key), key, query, self._clock())

    async def commit(self, commit: Commit) -> Committed:
        with self._lock:
            record, result = commit_to(self._record(commit.key), commit, self._clock(), adapter=self.name)
            self._records[_identity(commit.key)] = record
            return result

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        with self._lock:
            return read_from(self._record(key), key, query, self._clock(), adapter=self.name)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        with self._lock:
            return page_of(self._in(query.scope), query, self._clock())

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        with self._lock:
            found = may_delete(self._record(key), key, expect, self._clock(), adapter=self.name)
            if found:
                del self._records[_identity(key)]
            return found

    async def delete_owner(self, scope: Scope) -> Erased:
        with self._lock:
            gone = [record for record in self._in(scope) if scope.sees(record.head.user_id)]
            for record in gone:
                del self._records[scope.namespace, record.head.session_id]
            return erased(gone, self._clock())

    async def sweep(self, limit: int) -> Swept:
        with self._lock:
            now = self._clock()
            due = [record for record in self._records.values() if record.is_due(now)]
            for record in due[:limit]:
                if not is_live(record.head, now):
                    del self._records[record.head.namespace, record.head.session_id]
            return swept(due, limit, now)

    async def stats(self, query: StatsQuery) -> Stats:
        with self._lock:
            return count(self._in(query.scope), query, self._clock())

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """As the contract says, by reading every message of the scope."""
        with self._lock:
            return search(self._in(query.scope), query, self._clock())

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Everything stored, as plain copies: ``{"sessions": […], "messages": […]}``. For tests."""
        with self._lock:
            records = [record for _, record in sorted(self._records.items())]
        return {
            "sessions": [
                {
                    "namespace": record.head.namespace,
                    "id": record.head.session_id,
                    "user_id": record.head.user_id,
                    "agent_name": record.head.agent_name,
                    "status": record.head.status,
                    "current_route": record.head.current_route,
                    "current_step": record.head.current_step,
                    "collected_data": record.data,
                    "state": record.state,
                    "message_count": record.head.message_count,
                    "last_message_at": record.head.last_message_at,
                    "completed_at": record.head.completed_at,
                    "created_at": record.head.created_at,
                    "updated_at": record.head.updated_at,
                    "expires_at": record.head.expires_at,
                    "version": record.head.token.version,
                }
                for record in records
            ],
            "messages": [
                {"namespace": record.head.namespace, "session_id": record.head.session_id, **message._asdict()}
                for record in records
                for message in record.messages
            ],
        }

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._records.clear()

    def _record(self, key: SessionKey) -> HeldSession | None:
        return self._records.get(_identity(key))

    def _in(self, scope: Scope) -> list[HeldSession]:
        return [record for (namespace, _), record in self._records.items() if namespace == scope.namespace]


def _identity(key: SessionKey) -> tuple[str, str]:
    return key.scope.namespace, key.session_id
