"""Lists: entries of the indexes in order, each checked against its head."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from turnkeep.contract import SessionPage
from turnkeep.cursors import make_cursor, read_cursor
from turnkeep.errors import InvalidArgument
from turnkeep.retention import to_microseconds
from turnkeep_redis._errors import DRIVER_ERRORS, corrupt
from turnkeep_redis.heads import read_head
from turnkeep_redis.keys import SHARDS, Due
from turnkeep_redis.scripts import HEAD, LIST, Call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from turnkeep.contract import Head, Order, Scope, SessionQuery
    from turnkeep_redis.indexes import Indexes
    from turnkeep_redis.keys import Keys
    from turnkeep_redis.wire import Wire

_ROUNDS: Final = 8
"""How often one page looks for more entries that meet its conditions."""
_EXACT: Final = 2**53
_MINUTE: Final = 60_000_000


class Entry(NamedTuple):
    """A session's place in an index; entries sort as lists do."""

    score: int
    session_id: str


class Entries(NamedTuple):
    """Some entries that follow one another, whether there are more, and the time."""

    items: list[Entry]
    more: bool
    now: int


class Found(NamedTuple):
    """A session that is there, and how many bytes of text it has, if that was asked for."""

    head: Head
    size: int


class Listing:
    """Reads the indexes of one prefix.

    Args:
        wire: the way to the server.
        keys: the keys.
        indexes: to drop what proves to be gone.
    """

    def __init__(self, wire: Wire, keys: Keys, indexes: Indexes) -> None:
        self._wire = wire
        self._keys = keys
        self._indexes = indexes
        # On a cluster the entry of a session that is being created may be there before its head.
        self._patience = _MINUTE if wire.is_cluster else 0

    async def page(self, query: SessionQuery, clock: str) -> SessionPage:
        """The heads that follow the cursor."""
        position = _read_position(query)
        found: list[tuple[Entry, Head]] = []
        before = _read_before(query, int(clock) if clock else await self._ask_time(query))
        if position is None and before is not None and query.order == "activity":
            # Everything that is younger comes first, and need not be looked at.
            position = Entry(min(max(-before - self._patience, -_EXACT), _EXACT), "")
        entries = Entries([], more=False, now=0)
        for _ in range(_ROUNDS):
            entries = await self.entries(query.scope, query.order, query.status, position, query.limit + 1, clock)
            heads = await self.heads(query.scope, entries, clock)
            found += [
                (entry, there.head)
                for entry, there in zip(entries.items, heads, strict=True)
                if there is not None and _matches(there.head, query, before)
            ]
            if len(found) > query.limit or not entries.more:
                break
            position = entries.items[-1]
        items = tuple(head for _, head in found[: query.limit])
        if len(found) > query.limit:
            return SessionPage(items, make_cursor(query.order, *found[query.limit - 1][0]))
        return SessionPage(items, make_cursor(query.order, *position) if entries.more and position else None)

    async def _ask_time(self, query: SessionQuery) -> int:
        """The server's time in microseconds, if the query needs it."""
        if not isinstance(query.older_than, timedelta):
            return 0
        seconds, microseconds = await self._wire.ask(Call(self._keys.due(0), (b"TIME",)))
        return int(seconds) * 1_000_000 + int(microseconds)

    async def walk(self, scope: Scope, clock: str, chunk: int) -> AsyncGenerator[Entries]:
        """All entries of a scope by creation, some at a time."""
        position: Entry | None = None
        while True:
            entries = await self.entries(scope, "created", None, position, chunk, clock)
            if entries.items:
                yield entries
                position = entries.items[-1]
            if not entries.more:
                return

    async def entries(
        self, scope: Scope, order: Order, status: str | None, position: Entry | None, limit: int, clock: str
    ) -> Entries:
        """The first ``limit`` entries after a position."""
        at = ("", "") if position is None else (position.score, position.session_id)
        if isinstance(scope.owner, str):
            indexes = [self._keys.owner(scope.namespace, scope.owner)]
        else:
            indexes = [self._keys.everyone(scope.namespace, shard) for shard in range(SHARDS)]
        calls = [LIST(index.sets(order, status), clock, *at, limit + 1) for index in indexes]
        answers = await self._wire.ask_all(calls)
        found = {
            Entry(int(float(score)), cast("bytes", member).decode())
            for answer in answers
            for member, score in zip(answer[1::2], answer[2::2], strict=True)
        }
        ordered = sorted(found)
        return Entries(ordered[:limit], len(ordered) > limit, max(int(answer[0]) for answer in answers))

    async def heads(self, scope: Scope, entries: Entries, clock: str, *, measure: bool = False) -> list[Found | None]:
        """What is there for each entry; None where nothing is, or nothing that the scope sees."""
        calls = [
            HEAD(self._keys.parts(scope.namespace, entry.session_id)[:1], clock, int(measure))
            for entry in entries.items
        ]
        answers = await self._wire.ask_all(calls)
        heads = [_read_answer(answer, entry.session_id) for answer, entry in zip(answers, entries.items, strict=True)]
        owner = scope.owner if isinstance(scope.owner, str) else None
        await self._drop(
            [
                Due(scope.namespace, entry.session_id, owner)
                for entry, there in zip(entries.items, heads, strict=True)
                if there is None
            ],
            entries.now,
        )
        return [there if there is not None and scope.sees(there.head.user_id) else None for there in heads]

    async def _drop(self, gone: list[Due], now: int) -> None:
        """Drops the entries of sessions that are gone; a reader who may not write leaves them."""
        calls = [call for due in gone for call in self._indexes.drops(due, now - self._patience)]
        with suppress(*DRIVER_ERRORS):
            await self._wire.ask_all(calls)


def _read_answer(answer: list[Any], session_id: str) -> Found | None:
    if answer[0] == b"absent":
        return None
    if answer[0] == b"corrupt":
        raise corrupt(session_id, cast("bytes", answer[1]).decode(), "find_sessions")
    return Found(read_head(answer[1], int(answer[2]), session_id), int(answer[3]))


def _read_position(query: SessionQuery) -> Entry | None:
    if query.cursor is None:
        return None
    score, session_id = cast("tuple[int, str]", tuple(read_cursor(query.cursor, query.order, int, str)))
    try:
        session_id.encode()
    except UnicodeEncodeError:
        score = _EXACT + 1
    if abs(score) > _EXACT:
        raise InvalidArgument(f"this cursor was not made here: {query.cursor!r:.80}; pass next_cursor back")
    return Entry(score, session_id)


def _read_before(query: SessionQuery, now: int) -> int | None:
    """The instant that activity must lie before, in microseconds."""
    if isinstance(query.older_than, timedelta):
        return now - query.older_than // timedelta(microseconds=1)
    return None if query.older_than is None else to_microseconds(query.older_than)


def _matches(head: Head, query: SessionQuery, before: int | None) -> bool:
    return (
        (query.status is None or head.status == query.status)
        and (query.agent_name is None or head.agent_name == query.agent_name)
        and (query.route is None or head.current_route == query.route)
        and (before is None or to_microseconds(head.updated_at) < before)
    )
