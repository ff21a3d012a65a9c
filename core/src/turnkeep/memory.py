"""The adapter that keeps everything in this process: for tests, notebooks, and as the oracle the others are held to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from turnkeep.contract import (
    PAST_COMMITS,
    Capability,
    Check,
    Erased,
    HealthReport,
    Level,
    StorageAdapter,
    Support,
    Swept,
)
from turnkeep.held import HeldSession, commit_to, count, page_of, search
from turnkeep.judge import is_live, session_conflict, session_not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turnkeep.contract import (
        Commit,
        Committed,
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
            record = self._visible(key)
            return None if record is None else record.load(query)

    async def commit(self, commit: Commit) -> Committed:
        with self._lock:
            now = self._clock()
            identity = (commit.key.scope.namespace, commit.key.session_id)
            self._records[identity], result = commit_to(self._current(identity, now), commit, now, adapter=self.name)
            return result

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        with self._lock:
            record = self._visible(key)
            if record is None:
                raise session_not_found(key.session_id, self.name, "read_messages")
            return record.read(query)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        with self._lock:
            now = self._clock()
            return page_of(self._live(query.scope, now), query, now)

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        with self._lock:
            record = self._visible(key)
            if record is None:
                return False
            if expect is not None and record.head.token != expect:
                raise session_conflict(key.session_id, expect, record.head.token, self.name, "delete")
            del self._records[key.scope.namespace, key.session_id]
            return True

    async def delete_owner(self, scope: Scope) -> Erased:
        with self._lock:
            now = self._clock()
            counted = list(self._live(scope, now))
            for identity in [
                identity
                for identity, record in self._records.items()
                if identity[0] == scope.namespace and scope.sees(record.head.user_id)
            ]:
                del self._records[identity]
            return Erased(len(counted), sum(record.head.message_count for record in counted))

    async def sweep(self, limit: int) -> Swept:
        with self._lock:
            now = self._clock()
            due = [identity for identity, record in self._records.items() if record.is_due(now)]
            sessions = messages = 0
            for identity in due[:limit]:
                record = self._records[identity]
                if is_live(record.head, now):
                    messages += record.pass_time(now)
                else:
                    del self._records[identity]
                    sessions, messages = sessions + 1, messages + len(record.messages)
            return Swept(sessions, messages, more=len(due) > limit)

    async def stats(self, query: StatsQuery) -> Stats:
        with self._lock:
            now = self._clock()
            return count(self._live(query.scope, now), query, now)

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """As the contract says, by reading every message of the scope."""
        with self._lock:
            now = self._clock()
            return search(self._live(query.scope, now), query, now)

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

    def _current(self, identity: tuple[str, str], now: datetime) -> HeldSession | None:
        """The record with every mark that has passed applied."""
        record = self._records.get(identity)
        if record is not None:
            record.pass_time(now)
        return record

    def _visible(self, key: SessionKey) -> HeldSession | None:
        now = self._clock()
        record = self._current((key.scope.namespace, key.session_id), now)
        return record if record is not None and record.visible_to(key, now) else None

    def _live(self, scope: Scope, now: datetime) -> Iterable[HeldSession]:
        for identity in list(self._records):
            record = self._current(identity, now)
            if record is None or identity[0] != scope.namespace:
                continue
            if is_live(record.head, now) and scope.sees(record.head.user_id):
                yield record
