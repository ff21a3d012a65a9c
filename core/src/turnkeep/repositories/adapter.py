"""The adapter that is made of two repositories.

It keeps the contract's promises as long as their author keeps the few that stand at the repositories' methods. How, and
why it holds:

- A commit takes effect by *one* ``create`` or ``update`` of the session's record, which carries the whole turn, its
  messages included (``tail``). So a turn is atomic, and a writer that loses the race, or dies, leaves nothing.
- The next commit with messages moves that tail to the message repository first, then replaces the record. So messages
  are put only once they are acknowledged: a (namespace, session, incarnation, seq) has one content for ever, and
  putting it again, late, or by many writers at once changes nothing.
- Every record ever written has a version of its own: an ``update`` that succeeds proves that nobody touched the record,
  and so erased no messages, since it was read. (A counted version would come again after delete and re-create.)
- Hence a record and the messages between its floor and its tail are one version, whenever they are read. If one of them
  is missing, somebody moved on and the record is read again; missing at the same version twice, it is corrupt.
- What is erased can never be wanted again: messages at or below a floor that a record had, or of an incarnation whose
  record was made a tombstone, which never lives again. Who put a tail and then finds it erased takes it back.

What remains open: a process that dies, or loses its store, between putting a tail and taking it back, while another
deletes the session or clears its history, leaves copies of those messages. No read shows them. Where a store can, let
the end of a record delete the messages of its ``incarnation``, or delete those without a record from time to time.
"""

# ruff: noqa: D102 - the promises of an adapter's methods stand in the contract

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from turnkeep.contract import (
    PAST_COMMITS,
    WIDEN_LIMIT,
    Capability,
    Check,
    Erased,
    HealthReport,
    Level,
    MessagePage,
    SessionKey,
    SessionPage,
    StorageAdapter,
    StoredSession,
    Support,
    Swept,
)
from turnkeep.cursors import make_cursor, read_cursor
from turnkeep.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    CorruptRecord,
    DataError,
    InvalidArgument,
    StorageError,
    StorageUnavailable,
)
from turnkeep.ids import check_id
from turnkeep.judge import find_visible, is_live, judge, session_conflict, session_not_found
from turnkeep.repositories.authors import HistoryKey, RecordQuery
from turnkeep.repositories.recorded import TOMBSTONE, apply, bury, read_record, write_record
from turnkeep.repositories.settling import Work, settle
from turnkeep.retention import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
        MessageQuery,
        Order,
        Scope,
        SessionQuery,
        StoredMessage,
        Token,
    )
    from turnkeep.repositories.authors import MessageRepository, RepositoryRecord, SessionRepository
    from turnkeep.repositories.recorded import Recorded
    from turnkeep.urls import StorageURL

T = TypeVar("T")

_CAPABILITIES: Final = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.PARTIAL, "as durable as the two repositories"),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.NONE, "repositories have no search; ask your database"),
    Capability.STATS: Support(Level.NONE, "repositories have no statistics; ask your database"),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, f"the last {PAST_COMMITS} commits of a session"),
    Capability.LARGE_VALUES: Support(Level.PARTIAL, "as large as a record may be: it holds data, state and last turn"),
}

_MOST_ATTEMPTS: Final = 1000
"""Each one lost means that another writer won. This many mean that the repository does not keep its promises."""


class _MissingMessage(Exception):
    """The message repository lacks one that the record counts."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RepositoryAdapter(StorageAdapter):
    """An adapter made of two repositories. It neither opens nor closes them; override ``open`` and ``aclose`` to do so.

    A load is one ``get`` and at most two ``page``; a commit one ``get``, one ``append`` of the turn before, one
    ``update``. Expiry goes by ``clock``: keep the clocks of several processes together.

    Args:
        sessions: where records are kept.
        messages: where messages are kept.
        name: the short name, in lower case: for errors, hooks and logs.
        capabilities: what differs from the usual, for example ``{Capability.DURABLE: Support(Level.FULL)}``.
            ``IMMEDIATE_LISTS`` below FULL allows ``find`` to lag behind.
        clock: the time of commits, aware.
    """

    def __init__(
        self,
        sessions: SessionRepository,
        messages: MessageRepository,
        *,
        name: str = "repositories",
        capabilities: Mapping[Capability, Support] | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.sessions = sessions
        self.messages = messages
        self._name = name
        self._capabilities = _CAPABILITIES | dict(capabilities or {})
        self._clock = clock

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:  # noqa: ARG003 - the contract's signature
        """Refuses: a subclass with a URL of its own overrides it."""
        raise ConfigurationError(
            f"{cls.__name__} is built from two repositories, not from a URL: override from_url, or hand connect() "
            "the adapter itself"
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        return self._capabilities

    async def open(self, *, auto_create: bool = True) -> None:
        """Does nothing: the repositories came open. Override it to make tables."""

    async def aclose(self) -> None:
        """Does nothing: whoever opened the repositories closes them."""

    async def check(self) -> HealthReport:
        history = HistoryKey("turnkeep", "turnkeep-check", "0")
        reads: dict[str, Callable[[], Awaitable[object]]] = {
            "sessions": lambda: self.sessions.get(history.namespace, history.session_id),
            "messages": lambda: self.messages.page(history, 1, 1),
        }
        checks: list[Check] = []
        for name, read in reads.items():
            try:
                await read()
            except Exception as error:  # noqa: BLE001 - a store that cannot be reached is a line of the report
                detail = f"a read failed with {type(error).__name__}"
                checks.append(Check(name, ok=False, detail=detail, fix="look at the database behind it"))
            else:
                checks.append(Check(name, ok=True, detail="answers a read"))
        return HealthReport(self.name, tuple(checks))

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        return []

    # Reading

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        async def read(session: Recorded) -> StoredSession:
            messages = await self._window(session, query.window)
            replay = None
            past = session.find_commit(query.commit_id)
            if past is not None:
                first, last = past.first_seq or 1, past.last_seq or 0
                replay = past.replay(session.head, await self._range(session, first, last))
            return StoredSession(session.head, session.data, session.state, messages, replay)

        return await self._read(key, read, "load")

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        async def read(session: Recorded) -> MessagePage:
            lowest, last = session.head.floor + 1, session.head.last_seq
            if query.after is not None:
                first = max(query.after + 1, lowest)
                end = min(first + query.limit - 1, last)
                return MessagePage(await self._range(session, first, end), more=end < last)
            end = last if query.before is None else min(query.before - 1, last)
            first = max(end - query.limit + 1, lowest)
            return MessagePage(await self._range(session, first, end), more=lowest < first <= end)

        page = await self._read(key, read, "read_messages")
        if page is None:
            raise session_not_found(key.session_id, self.name, "read_messages")
        return page

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        now = self._clock()
        before = now - query.older_than if isinstance(query.older_than, timedelta) else query.older_than
        wanted = RecordQuery(
            namespace=query.scope.namespace,
            user_id=query.scope.owner,
            order=query.order,
            limit=query.limit + 1,
            after=None if query.cursor is None else _read_position(query.cursor, query.order),
            status=query.status,
            agent_name=query.agent_name,
            route=query.route,
            updated_before=before,
        )
        records = await self._ask("find_sessions", self.sessions.find(wanted))
        page = records[: query.limit]
        items: list[Head] = []
        for record in page:
            key = SessionKey(query.scope, record.id)
            current = record
            if self.supports(Capability.IMMEDIATE_LISTS).level is not Level.FULL:
                current = await self._get(key, "find_sessions")
            session = self._visible(key, current, now)
            if session is not None and _fits(session.head, query, before):
                items.append(session.head)
        cursor = None
        if len(records) > query.limit:
            edge = page[-1].updated_at if query.order == "activity" else page[-1].created_at
            cursor = make_cursor(query.order, to_microseconds(edge), page[-1].id)
        return SessionPage(tuple(items), cursor)

    # Writing

    async def commit(self, commit: Commit) -> Committed:
        work = Work()
        unknown = partial(self._outcome_unknown, commit.commit_id, "commit")
        return await settle(self._commit(commit, work), work, unknown)

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        work = Work()
        unknown = partial(self._outcome_unknown, "", "delete")
        return await settle(self._delete(key, expect, work), work, unknown) is not None

    async def delete_owner(self, scope: Scope) -> Erased:
        sessions = messages = 0
        query = RecordQuery(scope.namespace, scope.owner, "created", limit=100)
        while True:
            records = await self._ask("delete_owner", self.sessions.find(query))
            for record in records:
                head = await self._delete(SessionKey(scope, record.id), None, Work())
                if head is not None:
                    sessions, messages = sessions + 1, messages + head.message_count
            if len(records) < query.limit:
                return Erased(sessions, messages)
            query = replace(query, after=(records[-1].created_at, records[-1].id))

    async def sweep(self, limit: int) -> Swept:
        now = self._clock()
        records = await self._ask("sweep", self.sessions.find_due(now, limit + 1))
        sessions = messages = 0
        unreadable: DataError | None = None
        for record in records[:limit]:
            try:
                session = read_record(record, now, self.name)
            except DataError as error:
                unreadable = error  # it must not keep the others
                continue
            if session is None or not is_live(session.head, now):
                sessions += await self._purge(record)
                messages += session.head.message_count if session else 0
            else:
                messages += await self._erase(record, session)
        if unreadable is not None:
            raise unreadable
        return Swept(sessions, messages, more=len(records) > limit)

    async def _commit(self, commit: Commit, work: Work) -> Committed:
        put: Recorded | None = None
        for _ in range(_MOST_ATTEMPTS):
            record = await self._get(commit.key, "commit")
            now = self._clock()
            session = None if record is None else read_record(record, now, self.name)
            if put is not None:
                await self._take_back(put, session)
                put = None
            work.busy = False
            if work.withdrawn:
                raise asyncio.CancelledError
            before = session.head if session else None
            past = session.find_commit(commit.commit_id) if session else None
            first_result = judge(commit, before, past, now, adapter=self.name)
            if first_result is not None:
                return first_result
            work.busy = True
            if record is None:
                after, result = apply(commit, None, now)
                won = await self._decide(commit, self.sessions.create(write_record(after)))
            elif session is None or not is_live(before, now):
                await self._purge(record)
                continue
            else:
                after, result = apply(commit, session, now)
                put = session
                await self._put_away(session, after)
                won = await self._decide(commit, self.sessions.update(write_record(after), record.version))
            if won:
                return result
        raise self._never_won("commit")

    async def _delete(self, key: SessionKey, expect: Token | None, work: Work) -> Head | None:
        """The head of what was deleted, or None where there was nothing."""
        for _ in range(_MOST_ATTEMPTS):
            record = await self._get(key, "delete")
            work.busy = False
            if work.withdrawn:
                raise asyncio.CancelledError
            if record is None:
                return None
            now = self._clock()
            session = read_record(record, now, self.name)
            if session is None or not is_live(session.head, now):
                await self._purge(record)  # expired, or a delete that did not come to its end
                return None
            if not key.scope.sees(session.head.user_id):
                return None
            if expect is not None and session.head.token != expect:
                raise session_conflict(key.session_id, expect, session.head.token, self.name)
            work.busy = True
            if await self._purge(record):
                return session.head
        raise self._never_won("delete")

    async def _put_away(self, session: Recorded, after: Recorded) -> None:
        """Brings the message repository to what a record of ``after`` counts on."""
        if session.floor > session.erased:
            await self._ask("commit", self.messages.delete_for_session(session.history, session.floor))
        stays = after.tail[0].seq if after.tail else after.head.last_seq + 1
        moved = [message for message in session.tail if after.head.floor < message.seq < stays]
        if moved:
            await self._ask("commit", self.messages.append(session.history, moved))

    async def _take_back(self, put: Recorded, now_at: Recorded | None) -> None:
        """Erases what this writer put, if others erased it before it was there."""
        if now_at is None or now_at.history != put.history:
            await self._ask("commit", self.messages.delete_for_session(put.history))
        elif put.tail and put.tail[0].seq <= now_at.floor:
            await self._ask("commit", self.messages.delete_for_session(put.history, now_at.floor))

    async def _purge(self, record: RepositoryRecord) -> bool:
        """Removes a session: at once from sight, then its messages, then its record. False: others changed it."""
        if record.document != TOMBSTONE:
            tombstone = bury(record)
            if not await self._ask("delete", self.sessions.update(tombstone, record.version)):
                return False
            record = tombstone
        history = HistoryKey(record.namespace, record.id, record.incarnation)
        await self._ask("delete", self.messages.delete_for_session(history))
        await self._ask("delete", self.sessions.delete(record.namespace, record.id, record.version))
        return True

    async def _erase(self, record: RepositoryRecord, session: Recorded) -> int:
        """Erases what is below the floor of a living session; 0 if others changed it."""
        floor, version = session.head.floor, record.version
        if floor > session.floor:
            # A floor that only a clock knows could move back.
            lowered = write_record(session)
            if not await self._ask("sweep", self.sessions.update(lowered, version)):
                return 0
            version = lowered.version
        await self._ask("sweep", self.messages.delete_for_session(session.history, floor))
        tail = tuple(message for message in session.tail if message.seq > floor)
        done = write_record(replace(session, erased=floor, tail=tail))
        await self._ask("sweep", self.sessions.update(done, version))
        return floor - session.erased

    # How it is done

    async def _read(self, key: SessionKey, read: Callable[[Recorded], Awaitable[T]], operation: str) -> T | None:
        """What is read of one version of a session; None where there is none."""
        failed_at = None
        while True:
            record = await self._get(key, operation)
            session = self._visible(key, record, self._clock())
            if record is None or session is None:
                return None
            try:
                return await read(session)
            except _MissingMessage:
                if record.version == failed_at:
                    raise CorruptRecord(
                        f"session {key.session_id!r:.200} counts messages that {self.name} does not have",
                        adapter=self.name,
                        operation=operation,
                    ) from None
                failed_at = record.version

    async def _window(self, session: Recorded, window: int | None) -> tuple[StoredMessage, ...]:
        lowest, last = session.head.floor + 1, session.head.last_seq
        if window is None:
            return await self._range(session, lowest, last)
        first = max(lowest, last - window + 1)
        messages = await self._range(session, first, last)
        if messages and messages[0].turn_seq < first:
            wider = max(lowest, messages[0].turn_seq, last - window - WIDEN_LIMIT + 1)
            messages = await self._range(session, wider, first - 1) + messages
        return messages

    async def _range(self, session: Recorded, first: int, last: int) -> tuple[StoredMessage, ...]:
        """The messages of these seqs that are in the history."""
        first = max(first, session.head.floor + 1)
        tail_from = session.tail[0].seq if session.tail else session.head.last_seq + 1
        stored_to = min(last, tail_from - 1)
        messages = tuple(message for message in session.tail if first <= message.seq <= last)
        if first <= stored_to:
            page = self.messages.page(session.history, first, stored_to)
            messages = (*await self._ask("read_messages", page), *messages)
        if [message.seq for message in messages] != list(range(first, last + 1)):
            raise _MissingMessage
        return messages

    async def _get(self, key: SessionKey, operation: str) -> RepositoryRecord | None:
        namespace, session_id = key.scope.namespace, key.session_id
        record = await self._ask(operation, self.sessions.get(namespace, session_id))
        if record is not None and (record.namespace, record.id) != (namespace, session_id):
            raise CorruptRecord(
                f"{self.name} answered a get of session {session_id!r:.200} with another record: ids must be compared "
                "byte by byte",
                adapter=self.name,
                operation=operation,
            )
        return record

    def _visible(self, key: SessionKey, record: RepositoryRecord | None, now: datetime) -> Recorded | None:
        session = None if record is None else read_record(record, now, self.name)
        return session if session is not None and find_visible(session.head, key, now) is not None else None

    async def _decide(self, commit: Commit, write: Awaitable[bool]) -> bool:
        """Whether the write that decides a commit took effect."""
        try:
            return await write
        except StorageError:
            raise
        except Exception as error:
            raise self._outcome_unknown(commit.commit_id, "commit") from error

    async def _ask(self, operation: str, call: Awaitable[T]) -> T:
        try:
            return await call
        except StorageError:
            raise
        except Exception as error:
            # Not its text: a driver may put a password there.
            message = f"a repository of {self.name} failed with {type(error).__name__}"
            raise StorageError(message, adapter=self.name, operation=operation) from error

    def _never_won(self, operation: str) -> StorageUnavailable:
        return StorageUnavailable(
            f"{self.name} refused {_MOST_ATTEMPTS} writes in a row although each had read the record anew: does it "
            "compare ids and versions byte by byte, and read what was written last?",
            adapter=self.name,
            operation=operation,
        )

    def _outcome_unknown(self, commit_id: str, operation: str) -> CommitOutcomeUnknown:
        return CommitOutcomeUnknown(
            f"{self.name} did not say whether the {operation} took effect",
            commit_id=commit_id,
            adapter=self.name,
            operation=operation,
        )


def _fits(head: Head, query: SessionQuery, before: datetime | None) -> bool:
    return (
        (query.status is None or head.status == query.status)
        and (query.agent_name is None or head.agent_name == query.agent_name)
        and (query.route is None or head.current_route == query.route)
        and (before is None or head.updated_at < before)
    )


def _read_position(cursor: str, order: Order) -> tuple[datetime, str]:
    stamp, session_id = read_cursor(cursor, order, int, str)
    try:
        return from_microseconds(int(stamp)), check_id(session_id, "the cursor's id")
    except OverflowError:
        raise InvalidArgument(f"this is not the cursor of a page of this kind ({order}): {cursor!r:.80}") from None
