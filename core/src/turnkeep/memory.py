"""The adapter that keeps everything in this process: for tests, notebooks, and as the oracle the others are held to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from turnkeep.contract import (
    PAST_COMMITS,
    WIDEN_LIMIT,
    Capability,
    Check,
    Erased,
    HealthReport,
    Level,
    MessagePage,
    SessionPage,
    Stats,
    StorageAdapter,
    StoredSession,
    Support,
    Swept,
)
from turnkeep.cursors import make_cursor, read_cursor
from turnkeep.ids import new_id
from turnkeep.judge import (
    PastCommit,
    committed,
    find_visible,
    is_live,
    judge,
    next_head,
    number_messages,
    past_commit,
    session_conflict,
    session_not_found,
)
from turnkeep.retention import Marks, add_mark, floor_at, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
        MessageQuery,
        Scope,
        SessionKey,
        SessionQuery,
        StatsQuery,
        StoredMessage,
        Token,
    )
    from turnkeep.urls import StorageURL

_CAPABILITIES = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.NONE, "the store ends with its process"),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.NONE, "not offered yet"),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


@dataclass(slots=True)
class _Record:
    head: Head
    data: str
    state: str
    messages: list[StoredMessage]
    marks: Marks
    past: dict[str, PastCommit]


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
        self._records: dict[tuple[str, str], _Record] = {}

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
            if record is None:
                return None
            past = record.past.get(query.commit_id) if query.commit_id is not None else None
            replay = None
            if past is not None:
                replay = past.replay(
                    record.head, tuple(message for message in record.messages if message.commit_id == past.commit_id)
                )
            return StoredSession(record.head, record.data, record.state, _window(record.messages, query.window), replay)

    async def commit(self, commit: Commit) -> Committed:
        with self._lock:
            now = self._clock()
            identity = (commit.key.scope.namespace, commit.key.session_id)
            record = self._current(identity, now)
            before = record.head if record else None
            past = record.past.get(commit.commit_id) if record else None
            replayed = judge(commit, before, past, now, adapter=self.name)
            if replayed is not None:
                return replayed
            if record is None or not is_live(before, now):
                record, before = None, None
            after = next_head(commit, before, before.token.incarnation if before else new_id(), now)
            result = committed(commit, before, after)
            self._records[identity] = _apply(commit, record, after, result, now)
            return result

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        with self._lock:
            record = self._visible(key)
            if record is None:
                raise session_not_found(key.session_id, self.name, "read_messages")
            if query.after is not None:
                found = [message for message in record.messages if message.seq > query.after]
                return MessagePage(tuple(found[: query.limit]), more=len(found) > query.limit)
            found = [message for message in record.messages if query.before is None or message.seq < query.before]
            return MessagePage(tuple(found[-query.limit :]), more=len(found) > query.limit)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        by_activity = query.order == "activity"

        def position(head: Head) -> tuple[int, str]:
            moment = head.updated_at if by_activity else head.created_at
            return (-to_microseconds(moment) if by_activity else to_microseconds(moment), head.session_id)

        with self._lock:
            now = self._clock()
            heads = [record.head for record in self._live(query.scope, now) if _matches(record.head, query, now)]
        heads.sort(key=position)
        if query.cursor is not None:
            stamp, session_id = read_cursor(query.cursor, query.order, int, str)
            heads = [head for head in heads if position(head) > (stamp, session_id)]
        page = tuple(heads[: query.limit])
        more = len(heads) > query.limit
        return SessionPage(page, make_cursor(query.order, *position(page[-1])) if more else None)

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
            due = [identity for identity, record in self._records.items() if _is_due(record, now)]
            sessions = messages = 0
            for identity in due[:limit]:
                record = self._records[identity]
                messages += len(record.messages)
                if not is_live(record.head, now):
                    del self._records[identity]
                    sessions += 1
                elif (kept := self._current(identity, now)) is not None:
                    messages -= len(kept.messages)
            return Swept(sessions, messages, more=len(due) > limit)

    async def stats(self, query: StatsQuery) -> Stats:
        with self._lock:
            now = self._clock()
            records = list(self._live(query.scope, now))
            return Stats(
                sessions=len(records),
                messages=sum(record.head.message_count for record in records),
                bytes=sum(_size(record) for record in records),
                by_status=_count(record.head.status for record in records),
                by_agent=_count(record.head.agent_name for record in records),
                by_route=_count(record.head.current_route for record in records),
                oldest=min((record.head.created_at for record in records), default=None),
                newest=max((record.head.updated_at for record in records), default=None),
            )

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

    def _current(self, identity: tuple[str, str], now: datetime) -> _Record | None:
        """The record with every mark that has passed applied."""
        record = self._records.get(identity)
        if record is not None:
            floor = floor_at(record.head.floor, record.marks, now)
            if floor > record.head.floor:
                record.head = replace(record.head, floor=floor)
                record.messages = [message for message in record.messages if message.seq > floor]
        return record

    def _visible(self, key: SessionKey) -> _Record | None:
        now = self._clock()
        record = self._current((key.scope.namespace, key.session_id), now)
        return record if record is not None and find_visible(record.head, key, now) is not None else None

    def _live(self, scope: Scope, now: datetime) -> Iterable[_Record]:
        for identity in list(self._records):
            record = self._current(identity, now)
            if record is None or identity[0] != scope.namespace:
                continue
            if is_live(record.head, now) and scope.sees(record.head.user_id):
                yield record


def _is_due(record: _Record, now: datetime) -> bool:
    """Whether a part of it, or all, has passed and is still kept."""
    return not is_live(record.head, now) or floor_at(record.head.floor, record.marks, now) > record.head.floor


def _apply(commit: Commit, record: _Record | None, after: Head, result: Committed, now: datetime) -> _Record:
    """Writes a commit that takes effect into the record; into a new one where there is None."""
    record = record or _Record(after, "{}", "{}", [], (), {})
    record.head = after
    if commit.drop_history:
        record.messages = []
    record.messages += number_messages(commit, result)
    if commit.data is not None:
        record.data = commit.data
    if commit.state is not None:
        record.state = commit.state
    if commit.message_ttl is not None and commit.messages:
        record.marks = add_mark(record.marks, after.floor, after.last_seq, now + commit.message_ttl)
    record.past[commit.commit_id] = past_commit(commit, result)
    if len(record.past) > PAST_COMMITS:
        del record.past[next(iter(record.past))]
    return record


def _window(messages: list[StoredMessage], window: int | None) -> tuple[StoredMessage, ...]:
    if window is None or window >= len(messages):
        return tuple(messages)
    if window == 0:
        return ()
    start = len(messages) - window
    wanted = messages[start].turn_seq
    while start > 0 and messages[start - 1].seq >= wanted and len(messages) - start < window + WIDEN_LIMIT:
        start -= 1
    return tuple(messages[start:])


def _matches(head: Head, query: SessionQuery, now: datetime) -> bool:
    before = now - query.older_than if isinstance(query.older_than, timedelta) else query.older_than
    return (
        (query.status is None or head.status == query.status)
        and (query.agent_name is None or head.agent_name == query.agent_name)
        and (query.route is None or head.current_route == query.route)
        and (before is None or head.updated_at < before)
    )


def _size(record: _Record) -> int:
    texts = [record.data, record.state]
    for message in record.messages:
        texts += [part for part in (message.content, message.tool_calls, message.event, message.metadata) if part]
    return sum(len(text.encode()) for text in texts)


def _count(values: Iterable[str | None]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
