"""What the contract asks for, in statements: each call is one, and one more where a commit did not take effect."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from psycopg.errors import FeatureNotSupported, UniqueViolation

from turnkeep.contract import ANYONE, WIDEN_LIMIT, Erased, Expect, MessagePage, StoredSession, Swept
from turnkeep.errors import CorruptRecord, StorageError, StorageUnavailable
from turnkeep.judge import find_visible, is_live, judge, session_conflict, session_not_found
from turnkeep.tallies import Group, add_up
from turnkeep_postgres import calls
from turnkeep_postgres._errors import NAME, outcome_unknown
from turnkeep_postgres.commits import PAST_WIDTH, is_large, to_committed, to_create, to_import, to_past, to_update
from turnkeep_postgres.messages import MESSAGE_WIDTH, check_stretch, from_rows
from turnkeep_postgres.search import has_phrases, search_parameters, to_search_page
from turnkeep_postgres.sessions import (
    HEAD_WIDTH,
    MARKED_WIDTH,
    list_parameters,
    to_head,
    to_marked_head,
    to_page,
    trim_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import Any

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
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
        StoredMessage,
        Token,
    )
    from turnkeep.judge import PastCommit
    from turnkeep_postgres.connections import Source
    from turnkeep_postgres.statements import Queries

_ATTEMPTS: Final = 16
"""How often, at most, a write is tried on a session that others make and remove at the same time."""

_LOW: Final = MESSAGE_WIDTH - 3
_HIGH: Final = MESSAGE_WIDTH - 2
"""Where the first row of a page has its two ends: in place of a message's seq and turn_seq."""


class Store:
    """Reads and writes on the connections of a source.

    Args:
        queries: the statements.
        source: lends connections.
        clock: the time of commits, aware; None for the server's.
        exact: words are searched as they are, and not by the rules of a language.
    """

    def __init__(
        self, queries: Queries, source: Source, clock: Callable[[], datetime] | None, *, exact: bool = True
    ) -> None:
        self._queries = queries
        self._source = source
        self._clock = clock
        self._exact = exact

    def _now(self) -> datetime | None:
        return self._clock() if self._clock else None

    def _seen(self, key: SessionKey) -> dict[str, object]:
        owner = key.scope.owner
        return {
            "now": self._now(),
            "namespace": key.scope.namespace,
            "id": key.session_id,
            "owner": None if owner is ANYONE else owner,
        }

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, if it is there and visible."""
        if query.window == 0 and query.commit_id is None:
            return await self._load_head(key)
        parameters = self._seen(key) | {"window": query.window, "widen": WIDEN_LIMIT, "commit_id": query.commit_id}
        sql = self._queries.load.seen_by(key.scope.owner)
        rows = await calls.read(self._source, sql, parameters, "load")
        if not rows:
            return None
        place, columns = _split(rows, key)
        head = to_head(columns)
        past = to_past(columns[HEAD_WIDTH : HEAD_WIDTH + PAST_WIDTH])
        begin, data, state = columns[HEAD_WIDTH + PAST_WIDTH :]
        messages = from_rows(rows[:place] + rows[place + 1 :])
        window = messages if past is None else [message for message in messages if message.seq >= begin]
        check_stretch(window, begin, head.last_seq, head.session_id)
        return StoredSession(head, data, state, tuple(window), _replay(head, past, messages))

    async def _load_head(self, key: SessionKey) -> StoredSession | None:
        sql = self._queries.load_head.seen_by(key.scope.owner)
        rows = await calls.read(self._source, sql, self._seen(key), "load")
        if not rows:
            return None
        head, now = to_marked_head(rows[0])
        return StoredSession(head, *rows[0][MARKED_WIDTH:], messages=()) if is_live(head, now) else None

    async def commit(self, commit: Commit) -> Committed:
        """Makes a commit durable; where it did not take effect, ``judge`` says why, or what it did before."""
        try:
            return await self._commit(commit, imported=is_large(commit))
        except StorageError as error:
            # Row-level security on the messages refuses COPY, and that alone.
            if not (is_large(commit) and isinstance(error.__cause__, FeatureNotSupported)):
                raise
        return await self._commit(commit, imported=False)

    async def _commit(self, commit: Commit, *, imported: bool) -> Committed:
        if commit.expect is Expect.NEW:
            sql, parameters = self._queries.create.anyone, to_create(commit, self._now(), imported=imported)
        else:
            sql = self._queries.commit.seen_by(commit.key.scope.owner)
            parameters = to_update(commit, self._now(), imported=imported)
        following = to_import(commit, self._queries.copy_messages.anyone) if imported else None
        lost = False
        for _ in range(_ATTEMPTS):
            reply = await self._try(sql, parameters, commit, following, lost=lost)
            if reply.rows:
                return to_committed(commit, reply.rows[0])
            lost = lost or reply.repeated
            first = await self._judge(commit, lost=lost)
            if first is not None:
                # Where an answer was lost, what took effect "before" is this very call.
                return replace(first, replayed=False, contiguous=commit.expect is not Expect.ANY) if lost else first
        raise StorageUnavailable("the session was another each time it was looked at; try again", adapter=NAME)

    async def _try(
        self, sql: bytes, parameters: dict[str, object], commit: Commit, following: calls.Import | None, *, lost: bool
    ) -> calls.Reply:
        try:
            return await calls.write(
                self._source, sql, parameters, "commit", commit_id=commit.commit_id, following=following
            )
        except CorruptRecord as error:
            if isinstance(error.__cause__, UniqueViolation):
                # Somebody sent the same commit, or created the same session, after this statement had begun.
                return calls.Reply([], repeated=lost)
            raise

    async def _judge(self, commit: Commit, *, lost: bool) -> Committed | None:
        """What a commit did before, or None if it may take effect now; raises why it may not."""
        try:
            head, past, now = await self._find(commit.key, "commit", commit.commit_id)
        except (StorageError, asyncio.CancelledError) as error:
            if lost:
                raise outcome_unknown(error, "commit", commit.commit_id) from error
            raise
        return judge(commit, head, past, now, adapter=NAME)

    async def _find(
        self, key: SessionKey, operation: str, commit_id: str | None = None
    ) -> tuple[Head | None, PastCommit | None, datetime]:
        """The head of a session, whoever owns it, what it remembers of a commit, and the time."""
        parameters = self._seen(key) | {"commit_id": commit_id}
        (row,) = await calls.read(self._source, self._queries.find_head.anyone, parameters, operation)
        if row[0] is None:
            return None, None, row[MARKED_WIDTH - 1]
        head, now = to_marked_head(row)
        return head, to_past(row[MARKED_WIDTH:]), now

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history."""
        before, after = _within(query.before), _within(query.after)
        parameters = self._seen(key) | {"before": before, "after": after, "limit": query.limit}
        sql = self._queries.read_messages.seen_by(key.scope.owner)
        rows = await calls.read(self._source, sql, parameters, "read_messages")
        if not rows:
            raise session_not_found(key.session_id, NAME, "read_messages")
        place, (more,) = _split(rows, key)
        low, high = rows[place][_LOW], rows[place][_HIGH]
        messages = from_rows(rows[:place] + rows[place + 1 :])
        check_stretch(messages, low, high, key.session_id)
        return MessagePage(tuple(messages), more=more)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of heads."""
        by_activity = self._queries.list_status if query.status else self._queries.list_activity
        listing = by_activity if query.order == "activity" else self._queries.list_created
        sql, parameters = listing.seen_by(query.scope.owner), list_parameters(query, self._now())
        return to_page(await calls.read(self._source, sql, parameters, "find_sessions"), query)

    async def delete(self, key: SessionKey, expect: Token | None) -> bool:
        """Removes a session, if it is visible and where it is expected to be."""
        sql = self._queries.delete.seen_by(key.scope.owner)
        parameters = self._seen(key) | {
            "version": expect.version if expect else None,
            "incarnation": expect.incarnation if expect else None,
            "last_commit": expect.commit_id if expect else None,
        }
        for _ in range(_ATTEMPTS):
            reply = await calls.write(self._source, sql, parameters, "delete")
            if reply.rows:
                return True
            if reply.repeated:
                raise outcome_unknown(StorageError("it is gone, but not known by whom"), "delete", "")
            if expect is None:
                return False
            head, _past, now = await self._find(key, "delete")
            visible = find_visible(head, key, now)
            if visible is None:
                return False
            if visible.token != expect:
                raise session_conflict(key.session_id, expect, visible.token, NAME, "delete")
        raise StorageUnavailable("the session was another each time it was looked at; try again", adapter=NAME)

    async def delete_owner(self, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        parameters = {"now": self._now(), "namespace": scope.namespace, "owner": scope.owner}
        reply = await calls.write(self._source, self._queries.delete_owner.owned, parameters, "delete_owner")
        return Erased(*reply.rows[0])

    async def sweep(self, limit: int) -> Swept:
        """Removes what has expired, then messages past their age."""
        parameters = {"now": self._now(), "limit": limit}
        reply = await calls.write(self._source, self._queries.sweep_expired.anyone, parameters, "sweep")
        sessions, messages, more = reply.rows[0]
        left = limit - sessions
        sql = self._queries.list_trimmable.anyone
        trimmable = await calls.read(self._source, sql, parameters | {"limit": left + 1}, "sweep")
        if trimmable[:left]:
            parameters = trim_parameters(trimmable[:left])
            reply = await calls.write(self._source, self._queries.trim.anyone, parameters, "sweep")
            messages += reply.rows[0][0]
        return Swept(sessions, messages, more=more or len(trimmable) > left)

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """A page of hits."""
        parameters = search_parameters(query, self._now(), exact=self._exact)
        sql = self._queries.search_phrases if has_phrases(query.terms.wanted) else self._queries.search
        rows = await calls.read(self._source, sql.seen_by(query.scope.owner), parameters, "search_messages")
        return to_search_page(rows, query, exact=self._exact)

    async def stats(self, query: StatsQuery) -> Stats:
        """Counts."""
        owner = query.scope.owner
        parameters = {
            "now": self._now(),
            "namespace": query.scope.namespace,
            "owner": None if owner is ANYONE else owner,
        }
        rows = await calls.read(self._source, self._queries.count.seen_by(owner), parameters, "stats")
        return add_up(map(Group._make, rows))


def _within(seq: int | None) -> int | None:
    """A seq as the database can count with it: there is nothing beyond."""
    return None if seq is None else max(0, min(seq, 1 << 62))


def _split(rows: calls.Rows, key: SessionKey) -> tuple[int, Sequence[Any]]:
    """Where the row is that is no message, and what it has beside a message's columns."""
    for place, row in enumerate(rows):
        if row[MESSAGE_WIDTH] is not None:
            return place, row[MESSAGE_WIDTH:]
    raise CorruptRecord(f"the messages of session {key.session_id!r:.200} came without its head", adapter=NAME)


def _replay(head: Head, past: PastCommit | None, messages: Sequence[StoredMessage]) -> Replay | None:
    """What an earlier commit did, with its messages that are still in the history."""
    if past is None:
        return None
    if past.first_seq is None or past.last_seq is None:
        return past.replay(head)
    first = max(past.first_seq, head.floor + 1)
    own = [message for message in messages if first <= message.seq <= past.last_seq]
    check_stretch(own, first, past.last_seq, head.session_id)
    return past.replay(head, tuple(own))
