"""What the contract asks for, on a connection: the decisions over the three tables.

Reads are one statement. Writes run within the caller's transaction: what decides is read with a lock where the
database has row locks, ``judge`` decides, and the update is guarded by the version it was decided upon.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from turnkeep.contract import ANYONE, Erased, Expect, MessagePage, StoredSession, Swept
from turnkeep.cursors import page_of_heads, read_position
from turnkeep.ids import new_id
from turnkeep.judge import (
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
from turnkeep.retention import add_mark
from turnkeep.tallies import add_up
from turnkeep_sqlalchemy._errors import NAME
from turnkeep_sqlalchemy.counting import take_away, to_groups
from turnkeep_sqlalchemy.loading import in_window, split
from turnkeep_sqlalchemy.messages import past_to_row, stretch, to_messages, to_past, to_rows
from turnkeep_sqlalchemy.sessions import (
    marks_to_parameters,
    to_new_row,
    to_parameters,
    to_record,
)
from turnkeep_sqlalchemy.statements import HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
        MessageQuery,
        Replay,
        Scope,
        SessionKey,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        StoredMessage,
        Token,
    )
    from turnkeep.judge import PastCommit
    from turnkeep.retention import Marks
    from turnkeep_sqlalchemy.connections import Attempt, Connections
    from turnkeep_sqlalchemy.loading import Loaded
    from turnkeep_sqlalchemy.sessions import Record
    from turnkeep_sqlalchemy.statements import Statements

_HEADS = len(HEAD)


class Raced(Exception):
    """Somebody else was faster between reading and writing; nothing was written."""


class Store:
    """Reads and writes on a connection it is given.

    Args:
        statements: for these tables and this database.
        clock: the time, aware, where it is not the server's.
    """

    def __init__(self, statements: Statements, clock: Callable[[], datetime] | None) -> None:
        self._q = statements
        self._clock = clock

    def _time(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    # Reading

    async def load(self, connection: AsyncConnection, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, if it is there and visible."""
        now = self._time()
        found = await self._loaded(connection, key, query)
        if found is None:
            return None
        moment = _moment(now, found.moment)
        head = to_record(found.head, moment, key.scope.namespace).head
        if find_visible(head, key, moment) is None:
            return None
        messages = () if query.window == 0 else in_window(found.messages, head, query.window)
        replay = None
        if found.past[0] is not None:
            replay = await self._replay(connection, head, to_past(found.past), messages)
        data, state = found.documents
        return StoredSession(head, data, state, messages, replay)

    async def _loaded(self, connection: AsyncConnection, key: SessionKey, query: LoadQuery) -> Loaded | None:
        """What is stored of a session that a load asks for, visible or not."""
        statement, parameters = self._loading(key, query)
        rows = (await connection.execute(statement, parameters)).fetchall()
        return split(rows, key, query)

    def _loading(self, key: SessionKey, query: LoadQuery) -> tuple[Any, dict[str, Any]]:
        """The statement that loads, and its parameters."""
        q, owner = self._q, key.scope.owner
        parameters = {
            **q.of(key.scope.namespace, key.session_id),
            "of_commit": query.commit_id,
            "of_anyone": int(owner is ANYONE),
            "of_owner": None if owner is ANYONE else owner,
        }
        if query.window is None:
            return q.load_all, parameters
        if query.window == 0:
            return q.load_head, parameters
        return q.load_window, parameters | {"of_window": query.window}

    async def _replay(
        self, connection: AsyncConnection, head: Head, past: PastCommit, loaded: tuple[StoredMessage, ...]
    ) -> Replay:
        """What a commit did; only where its messages were not loaded anyway, with another statement."""
        if past.first_seq is None or past.last_seq is None:
            return past.replay(head)
        first = max(past.first_seq, head.floor + 1)
        if first > past.last_seq:
            return past.replay(head)
        if loaded and loaded[0].seq <= first:
            return past.replay(head, loaded[first - loaded[0].seq : past.last_seq - loaded[0].seq + 1])
        return past.replay(head, await self._stretch(connection, head, first, past.last_seq))

    async def read_messages(self, connection: AsyncConnection, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history."""
        record, _ = await self._visible(connection, key)
        if record is None:
            raise session_not_found(key.session_id, NAME, "read_messages")
        low, high, more = stretch(record.head, query)
        return MessagePage(await self._stretch(connection, record.head, low, high), more=more)

    async def _stretch(self, connection: AsyncConnection, head: Head, low: int, high: int) -> tuple[StoredMessage, ...]:
        if low > high:
            return ()
        parameters = self._life(head) | {"of_low": low, "of_high": high}
        return to_messages((await connection.execute(self._q.read_messages, parameters)).fetchall(), head, low, high)

    async def find_sessions(self, connection: AsyncConnection, query: SessionQuery) -> SessionPage:
        """A page of heads."""
        position = None if query.cursor is None else read_position(query.cursor, query.order)
        now = self._time()
        if now is not None and isinstance(query.older_than, timedelta):
            query = replace(query, older_than=now - query.older_than)
        statement = self._q.page(query, position)
        rows = (
            await connection.execute(statement, self._q.in_scope(query.scope.namespace) | self._q.at(now))
        ).fetchall()
        return page_of_heads([self._record(row, now, query.scope.namespace)[0].head for row in rows], query)

    async def stats(self, connection: AsyncConnection, query: StatsQuery) -> Stats:
        """Counts, within a transaction."""
        now, owner = self._time(), query.scope.owner
        parameters = self._q.in_scope(query.scope.namespace) | self._q.at(now)
        rows = (await connection.execute(self._q.count(owner), parameters)).fetchall()
        sizes = (await connection.execute(self._q.count_bytes(owner), parameters)).fetchall()
        overdue = (await connection.execute(self._q.overdue(owner), parameters)).fetchall()
        groups = to_groups(rows, sizes)
        for row in overdue:
            record, _ = self._record(row, now, query.scope.namespace)
            take_away(groups, record)
        return add_up(groups.values())

    # Writing

    async def commit_through(self, connections: Connections, attempt: Attempt, commit: Commit) -> Committed:
        """Commits in a transaction of its own."""
        async with connections.writing(attempt) as connection:
            return await self.commit(connection, commit)

    async def commit(self, connection: AsyncConnection, commit: Commit) -> Committed:
        """Reads what decides, lets ``judge`` decide, and writes; raises before anything is written.

        Raises:
            Raced: try again in another transaction.
        """
        key = commit.key
        # Where nothing is there yet, a lock would be one of the gap, in which others want to insert, too.
        locked = commit.expect is not Expect.NEW
        record, now, past = await self._find(connection, key, commit.commit_id, lock=locked)
        replayed = judge(commit, record.head if record else None, past, now, adapter=NAME)
        if replayed is not None:
            return replayed
        if record is not None and not is_live(record.head, now):
            record, now, _ = await self._find(connection, key, commit.commit_id, lock=True)
            if record is not None:
                if is_live(record.head, now):
                    raise Raced
                await self._remove(connection, record.head)
            record = None
        return await self._apply(connection, commit, record, now)

    async def _apply(
        self, connection: AsyncConnection, commit: Commit, record: Record | None, now: datetime
    ) -> Committed:
        """Writes a commit that takes effect: to this session, or to a new one where there is None."""
        before = record.head if record else None
        after = next_head(commit, before, before.token.incarnation if before else new_id(), now)
        result = committed(commit, before, after)
        parameters = to_parameters(after, _marks_after(commit, record, after, now), (commit.data, commit.state))
        writes: list[tuple[Any, Mapping[str, Any] | Sequence[Mapping[str, Any]]]] = []
        if before is None:
            writes.append((self._q.insert_session, self._row(to_new_row(after, parameters), after)))
        else:
            writes.append((self._q.update_session, self._update(before, parameters)))
        writes.append((self._q.insert_commit, past_to_row(past_commit(commit, result), after)))
        rows = to_rows(number_messages(commit, result), after, result.time)
        if rows:
            writes.append((self._q.insert_messages, [self._message_row(row) for row in rows]))
        if record is not None and after.floor > record.stored_floor:
            writes.append((self._q.erase_messages, self._life(after) | {"of_high": after.floor}))
        await self._write(connection, writes)
        return result

    async def _write(self, connection: AsyncConnection, writes: list[tuple[Any, Any]]) -> None:
        """Executes the writes of a commit in order; the first one is its gate.

        Raises:
            Raced: the session is not where it was found.
        """
        for number, (statement, parameters) in enumerate(writes):
            written = await connection.execute(statement, parameters)
            if number == 0 and written.rowcount == 0:
                raise Raced

    async def delete(self, connection: AsyncConnection, key: SessionKey, expect: Token | None) -> bool:
        """Removes a session, if it is visible and where it is expected to be."""
        record, _ = await self._visible(connection, key, lock=True)
        if record is None:
            return False
        if expect is not None and record.head.token != expect:
            raise session_conflict(key.session_id, expect, record.head.token, NAME, "delete")
        await self._remove(connection, record.head)
        return True

    async def delete_owner(self, connection: AsyncConnection, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        now = self._time()
        rows = (await connection.execute(self._q.owned(scope.owner), self._q.in_scope(scope.namespace))).fetchall()
        living: list[Head] = []
        for row in rows:
            found, _ = self._record(row, now, scope.namespace)
            record, moment = await self._locked(connection, scope.namespace, found.head.session_id)
            if record is None or record.head.user_id != scope.owner:
                continue  # gone meanwhile
            await self._remove(connection, record.head)
            if is_live(record.head, moment):
                living.append(record.head)
        return Erased(len(living), sum(head.message_count for head in living))

    async def sweep(self, connection: AsyncConnection, limit: int) -> Swept:
        """Removes what has expired, then messages past their age."""
        now = self._time()
        bounds = self._q.at(now) | {"of_limit": limit + 1}
        expired = (await connection.execute(self._q.expired, bounds)).fetchall()
        sessions = messages = 0
        for namespace, session_id in expired[:limit]:
            record, moment = await self._locked(connection, namespace or "", session_id)
            if record is not None and not is_live(record.head, moment):
                messages += await self._remove(connection, record.head)
                sessions += 1
        left = max(0, limit - len(expired))
        bounds["of_limit"] = left + 1
        trimmable = (await connection.execute(self._q.trimmable, bounds)).fetchall()
        for row in trimmable[:left]:
            found, _ = self._record(row, now, "")
            messages += await self._trim(connection, found.head)
        return Swept(sessions, messages, more=len(expired) > limit or len(trimmable) > left)

    async def _trim(self, connection: AsyncConnection, head: Head) -> int:
        """Stores a floor that marks have moved; how many messages lie below it."""
        record, _ = await self._locked(connection, head.namespace, head.session_id)
        if record is None:
            return 0
        head = record.head
        erased = await connection.execute(self._q.erase_messages, self._life(head) | {"of_high": head.floor})
        written = {f"new_{field}": value for field, value in marks_to_parameters(record.marks).items()}
        written |= {"new_floor": head.floor} | ({"new_last_seq": head.last_seq} if self._q.counts else {})
        await connection.execute(self._q.set_floor, self._q.of(head.namespace, head.session_id) | written)
        return erased.rowcount

    async def _remove(self, connection: AsyncConnection, head: Head) -> int:
        """Removes a session and everything of it, in all its lives; how many messages that were."""
        of = self._q.of(head.namespace, head.session_id)
        removed = await connection.execute(self._q.delete_messages, of)
        await connection.execute(self._q.delete_commits, of)
        await connection.execute(self._q.delete_session, of)
        return removed.rowcount

    # Finding

    async def _find(
        self, connection: AsyncConnection, key: SessionKey, commit_id: str | None, *, lock: bool
    ) -> tuple[Record | None, datetime, PastCommit | None]:
        """The session of this id, whoever owns it, expired or not; the time; and what it knows of this commit id."""
        now, namespace = self._time(), key.scope.namespace
        statement = self._finding(lock=lock)
        parameters = self._q.of(namespace, key.session_id) | {"of_commit": commit_id}
        row = (await connection.execute(statement, parameters)).first()
        if row is None:
            return None, now or await self._server_time(connection), None
        record, moment = self._record(row, now, namespace)
        past = None
        if row[-1]:
            found = (await connection.execute(self._q.past, self._life(record.head) | {"of_commit": commit_id})).first()
            past = None if found is None else to_past(found)
        return record, moment, past

    def _finding(self, *, lock: bool) -> Any:
        """The statement that finds a session for a commit."""
        return self._q.lock if lock else self._q.find

    async def _server_time(self, connection: AsyncConnection) -> datetime:
        return (await connection.execute(self._q.clock)).scalar_one()

    async def _locked(
        self, connection: AsyncConnection, namespace: str, session_id: str
    ) -> tuple[Record | None, datetime]:
        now = self._time()
        parameters = self._q.of(namespace, session_id) | {"of_commit": None}
        row = (await connection.execute(self._q.lock, parameters)).first()
        if row is None:
            return None, now or await self._server_time(connection)
        return self._record(row, now, namespace)

    async def _visible(
        self, connection: AsyncConnection, key: SessionKey, *, lock: bool = False
    ) -> tuple[Record | None, datetime]:
        if lock:
            record, now = await self._locked(connection, key.scope.namespace, key.session_id)
        else:
            record, now, _ = await self._find(connection, key, None, lock=False)
        visible = find_visible(record.head if record else None, key, now)
        return (None if visible is None else record), now

    def _record(self, row: Sequence[Any], now: datetime | None, namespace: str) -> tuple[Record, datetime]:
        moment = _moment(now, row[_HEADS])
        return to_record(row, moment, namespace), moment

    # Parameters

    def _life(self, head: Head) -> dict[str, Any]:
        return self._q.of(head.namespace, head.session_id, head.token.incarnation)

    def _row(self, row: dict[str, Any], head: Head) -> dict[str, Any]:
        row |= self._q.counted(head.last_seq, head.floor)
        return row if self._q.has_namespace else {field: value for field, value in row.items() if field != "namespace"}

    def _message_row(self, row: dict[str, Any]) -> dict[str, Any]:
        if "namespace" not in self._q.tables.messages.c:
            del row["namespace"]
        return row

    def _update(self, before: Head, parameters: dict[str, Any]) -> dict[str, Any]:
        token = before.token
        chosen = self._life(before) | {"of_version": token.version, "of_last_commit": token.commit_id}
        return chosen | {f"new_{field}": value for field, value in parameters.items()}


def first_result(commit: Commit, replay: Replay) -> Committed:
    """The result of a commit whose answer was lost, as it would have been told.

    Only where the messages are other than those of ``commit`` had it taken effect before, by an earlier call.
    """
    ours = commit.messages[:1]
    is_ours = not ours or not replay.messages or replay.messages[0].id == ours[0].id
    return replace(replay.committed, replayed=not is_ours, contiguous=is_ours and commit.expect is not Expect.ANY)


def _moment(now: datetime | None, server: datetime | None) -> datetime:
    """The time of the decision: the clock's that was handed in, or the server's."""
    if now is not None:
        return now
    assert server is not None
    return server


def _marks_after(commit: Commit, record: Record | None, after: Head, now: datetime) -> Marks:
    marks = record.marks if record else ()
    if commit.message_ttl is not None and commit.messages:
        return add_mark(marks, after.floor, after.last_seq, now + commit.message_ttl)
    return tuple(mark for mark in marks if mark[0] > after.floor)
