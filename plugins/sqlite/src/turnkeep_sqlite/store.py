"""What the contract asks for, within one transaction: the decisions over the three tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.contract import Erased, StoredSession, Swept
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
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.commits import Commits
from turnkeep_sqlite.messages import Life, Messages
from turnkeep_sqlite.search import Words
from turnkeep_sqlite.sessions import Sessions
from turnkeep_sqlite.times import to_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from datetime import datetime

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
        MessagePage,
        MessageQuery,
        Replay,
        Scope,
        SearchPage,
        SearchQuery,
        SessionKey,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        Token,
    )
    from turnkeep.retention import Marks
    from turnkeep_sqlite.sessions import Record
    from turnkeep_sqlite.statements import Queries


class Store:
    """Reads and writes on a connection it is given; each call is one atomic step if its transaction is.

    Args:
        queries: the statements.
        clock: the server's time, aware.
    """

    def __init__(self, queries: Queries, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._sessions = Sessions(queries)
        self._messages = Messages(queries)
        self._commits = Commits(queries)
        self._words = Words(queries)

    def load(self, connection: sqlite3.Connection, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, if it is there and visible."""
        now = self._clock()
        found = self._sessions.find_whole(connection, key.scope.namespace, key.session_id, now)
        if found is None:
            return None
        head, data, state = found
        if find_visible(head, key, now) is None:
            return None
        replay = None if query.commit_id is None else self._replay(connection, head, query.commit_id)
        return StoredSession(head, data, state, self._messages.window(connection, head, query.window), replay)

    def _replay(self, connection: sqlite3.Connection, head: Head, commit_id: str) -> Replay | None:
        past = self._commits.find(connection, Life.of(head), commit_id)
        if past is None:
            return None
        if past.first_seq is None or past.last_seq is None:
            return past.replay(head)
        first = max(past.first_seq, head.floor + 1)
        return past.replay(head, self._messages.stretch(connection, head, first, past.last_seq))

    def commit(self, connection: sqlite3.Connection, commit: Commit) -> Committed:
        """Reads what decides, lets ``judge`` decide, and writes; raises before anything is written."""
        now = self._clock()
        key = commit.key
        record = self._sessions.find(connection, key.scope.namespace, key.session_id, now)
        past = self._commits.find(connection, Life.of(record.head), commit.commit_id) if record else None
        replayed = judge(commit, record.head if record else None, past, now, adapter=NAME)
        if replayed is not None:
            return replayed
        if record is not None and not is_live(record.head, now):
            self._remove(connection, key.scope.namespace, key.session_id)
            record = None
        return self._apply(connection, commit, record, now)

    def _apply(self, connection: sqlite3.Connection, commit: Commit, record: Record | None, now: datetime) -> Committed:
        """Writes a commit that takes effect: to this session, or to a new one where there is None."""
        before = record.head if record else None
        after = next_head(commit, before, before.token.incarnation if before else new_id(), now)
        result = committed(commit, before, after)
        life = Life.of(after)
        marks = _marks_after(commit, record, after, now)
        documents = (commit.data, commit.state)
        if record is None:
            self._sessions.insert(connection, after, marks, documents)
        else:
            self._sessions.update(connection, after, marks, documents)
            if after.user_id != record.head.user_id:
                self._sessions.set_owner(connection, after)
            if after.floor > record.stored_floor:
                self._messages.erase(connection, life, after.floor)
        self._commits.add(connection, life, past_commit(commit, result))
        self._messages.append(connection, life, number_messages(commit, result), to_text(result.time))
        return result

    def read_messages(self, connection: sqlite3.Connection, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history."""
        head = self._visible(connection, key)
        if head is None:
            raise session_not_found(key.session_id, NAME, "read_messages")
        return self._messages.page(connection, head, query)

    def find_sessions(self, connection: sqlite3.Connection, query: SessionQuery) -> SessionPage:
        """A page of heads."""
        return self._sessions.page(connection, query, self._clock())

    def delete(self, connection: sqlite3.Connection, key: SessionKey, expect: Token | None) -> bool:
        """Removes a session, if it is visible and where it is expected to be."""
        head = self._visible(connection, key)
        if head is None:
            return False
        if expect is not None and head.token != expect:
            raise session_conflict(key.session_id, expect, head.token, NAME)
        self._remove(connection, key.scope.namespace, key.session_id)
        return True

    def delete_owner(self, connection: sqlite3.Connection, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        now = self._clock()
        heads = self._sessions.owned(connection, scope, now)
        for head in heads:
            self._remove(connection, scope.namespace, head.session_id)
        living = [head for head in heads if is_live(head, now)]
        return Erased(len(living), sum(head.message_count for head in living))

    def sweep(self, connection: sqlite3.Connection, limit: int) -> Swept:
        """Removes what has expired, then messages past their age."""
        now = self._clock()
        expired = self._sessions.expired(connection, now, limit + 1)
        messages = 0
        for namespace, session_id in expired[:limit]:
            messages += self._remove(connection, namespace, session_id)
        left = max(0, limit - len(expired))
        trimmable = self._sessions.trimmable(connection, now, left + 1)
        for record in trimmable[:left]:
            messages += self._messages.erase(connection, Life.of(record.head), record.head.floor)
            self._sessions.apply_marks(connection, record)
        return Swept(min(len(expired), limit), messages, more=len(expired) > limit or len(trimmable) > left)

    def stats(self, connection: sqlite3.Connection, query: StatsQuery) -> Stats:
        """Counts."""
        return self._sessions.count(connection, query, self._clock())

    def words_are_behind(self, connection: sqlite3.Connection) -> bool:
        """Whether a search would miss something yet."""
        return self._words.are_behind(connection)

    def read_words(self, connection: sqlite3.Connection) -> bool:
        """Reads what was said and not searched yet; whether there may be more of it."""
        return self._words.read_on(connection)

    def search_messages(self, connection: sqlite3.Connection, query: SearchQuery) -> SearchPage:
        """A page of hits."""
        return self._words.search(connection, query, self._clock())

    def _visible(self, connection: sqlite3.Connection, key: SessionKey) -> Head | None:
        now = self._clock()
        record = self._sessions.find(connection, key.scope.namespace, key.session_id, now)
        return None if record is None else find_visible(record.head, key, now)

    def _remove(self, connection: sqlite3.Connection, namespace: str, session_id: str) -> int:
        """Removes a session and everything of it; how many messages that were."""
        removed = self._messages.delete(connection, namespace, session_id)
        self._commits.delete(connection, namespace, session_id)
        self._sessions.delete(connection, namespace, session_id)
        return removed


def _marks_after(commit: Commit, record: Record | None, after: Head, now: datetime) -> Marks:
    marks = record.marks if record else ()
    if commit.message_ttl is not None and commit.messages:
        return add_mark(marks, after.floor, after.last_seq, now + commit.message_ttl)
    return tuple(mark for mark in marks if mark[0] > after.floor)
