"""What the contract asks for, as calls of the scripts and readings of their answers."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, cast

from turnkeep.contract import WIDEN_LIMIT, Erased, MessagePage, SessionKey, StoredSession, Swept
from turnkeep.errors import StorageError, StorageUnavailable
from turnkeep.ids import new_id
from turnkeep.judge import session_conflict, session_not_found
from turnkeep.retention import to_microseconds
from turnkeep_redis._errors import NAME, corrupt, outcome_unknown
from turnkeep_redis.commits import (
    Done,
    OtherOwner,
    read_answer,
    read_past,
    read_token,
    write_commit,
    write_scope,
    write_token,
)
from turnkeep_redis.counting import Counts
from turnkeep_redis.heads import read_head
from turnkeep_redis.indexes import Indexes
from turnkeep_redis.keys import SHARDS, Due
from turnkeep_redis.listing import Listing
from turnkeep_redis.messages import read_messages
from turnkeep_redis.owners import Owners
from turnkeep_redis.scripts import COMMIT, DELETE, LOAD, PAGE, REMIND, SWEEP, Call, plain, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from turnkeep.contract import (
        Commit,
        Committed,
        LoadQuery,
        MessageQuery,
        Replay,
        Scope,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        Token,
    )
    from turnkeep_redis.indexes import Touched
    from turnkeep_redis.keys import Keys
    from turnkeep_redis.wire import Attempt, Wire

_CHUNK: Final = 64
_GUESSES: Final = 8
_SKEW: Final = 1_000_000
"""Microseconds by which the clocks of a cluster's nodes may differ without an index keeping what was deleted."""


class Store:
    """The sessions below one prefix.

    Args:
        wire: the way to the server.
        keys: the keys.
        clock: the time, where it is not to be the server's; Redis then expires nothing by itself.
        wait_for: a command that is sent behind each commit and whose answer it waits for; none if empty.
    """

    def __init__(
        self, wire: Wire, keys: Keys, clock: Callable[[], datetime] | None, wait_for: Sequence[str | int] = ()
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._clock = clock
        self._wait_for = (tuple(map(to_bytes, wait_for)),) if wait_for else ()
        self._owners = Owners()
        self._indexes = Indexes(wire, keys)
        self._listing = Listing(wire, keys, self._indexes)

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, if it is there and visible."""
        window = "" if query.window is None else query.window
        scope = write_scope(key.scope.owner)
        answer = await self._wire.ask(
            LOAD(self._keys.session(key), self._now(), scope, window, query.commit_id or "", WIDEN_LIMIT)
        )
        if not _expect_found(answer, key, "load"):
            return None
        _, values, floor, data, state, low, messages, past, replayed_from, replayed = answer
        head = read_head(values, int(floor), key.session_id)
        if data is None or state is None:
            raise corrupt(key.session_id, "a document is missing", "load")
        self._owners.remember(key, head.user_id)
        first = int(low)
        found = read_messages(messages, first, head.last_seq - first + 1, key.session_id)
        replay: Replay | None = None
        if past is not None and query.commit_id is not None:
            try:
                remembered = read_past(past, query.commit_id)
            except ValueError as error:
                raise corrupt(key.session_id, f"commit {query.commit_id} cannot be read", "load") from error
            begin = int(replayed_from)
            count = remembered.last_seq - begin + 1 if remembered.last_seq is not None else 0
            replay = remembered.replay(head, read_messages(replayed, begin, count, key.session_id))
        return StoredSession(head, data.decode(), state.decode(), found, replay)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history."""
        before, after = ("" if edge is None else edge for edge in (query.before, query.after))
        scope = write_scope(key.scope.owner)
        answer = await self._wire.ask(PAGE(self._keys.session(key), self._now(), scope, query.limit, before, after))
        if not _expect_found(answer, key, "read_messages"):
            raise session_not_found(key.session_id, NAME, "read_messages")
        _, first, count, messages, more = answer
        return MessagePage(read_messages(messages, int(first), count, key.session_id), more=bool(more))

    async def commit(self, commit: Commit, attempt: Attempt) -> Committed:
        """Sends the commit; again, if the session proves to have another owner than was believed."""
        call, incarnation = secrets.token_hex(8), new_id()
        owner = self._owners.guess_after(commit)
        for _ in range(_GUESSES):
            done = await self._send(commit, call, incarnation, owner, attempt)
            if isinstance(done, Done):
                self._owners.remember(commit.key, owner)
                if done.previous_owner is not None and done.previous_owner != owner:
                    attempt.unanswered = True  # an error from here on does not say that nothing was written
                    await self._forget_owner(commit.key, done.previous_owner, done.committed)
                    attempt.unanswered = False
                return done.committed
            owner = done.user_id
        raise _restless(commit.key, "commit")

    async def _send(
        self, commit: Commit, call: str, incarnation: str, owner: str | None, attempt: Attempt
    ) -> Done | OtherOwner:
        now = self._now()
        key = commit.key
        due = str(Due(key.scope.namespace, key.session_id, owner))
        due_before = "" if commit.claim is None else str(Due(key.scope.namespace, key.session_id, None))
        arguments = write_commit(
            commit, clock=now, call=call, incarnation=incarnation, owner=owner, due=due, due_before=due_before
        )
        request = COMMIT(self._write_keys(key, owner), *arguments)
        if not self._wire.is_cluster:
            return read_answer(await self._wire.ask(request, *self._wait_for, attempt=attempt), commit)
        answer, touched = await asyncio.gather(
            self._wire.ask(request, *self._wait_for, attempt=attempt),
            self._indexes.touch(commit, owner, now, due, due_before),
            return_exceptions=True,
        )
        return await self._conclude(commit, owner, answer, touched, attempt)

    async def _conclude(
        self, commit: Commit, owner: str | None, answer: Any, touched: list[Touched] | BaseException, attempt: Attempt
    ) -> Done | OtherOwner:
        """On a cluster: what the commit came to, with the indexes saying the same."""
        moved = None if isinstance(touched, BaseException) else touched
        if isinstance(answer, BaseException):
            if not attempt.unanswered:  # refused by the server itself
                await self._indexes.take_back(commit.key, moved or ())
            raise answer
        try:
            done = read_answer(answer, commit)
        except StorageError:
            await self._indexes.take_back(commit.key, moved or (), gone=list(answer) == [b"absent", b"0"])
            raise
        if isinstance(done, OtherOwner):
            await self._indexes.take_back(commit.key, moved or ())
            return done
        attempt.unanswered = True  # an index that cannot be written leaves the commit to be repeated
        if done.committed.replayed:
            await self._indexes.take_back(commit.key, moved or ())
            if moved is None or any(not index.status for index in moved):
                await self._indexes.correct(commit, done, owner, None)
        else:
            await self._indexes.correct(commit, done, owner, moved)
        attempt.unanswered = False
        return done

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of heads."""
        return await self._listing.page(query, self._now())

    async def delete(self, key: SessionKey, expect: Token | None, attempt: Attempt) -> bool:
        """Removes a session, if it is visible and where it is expected to be."""
        answer = await self._delete(key, expect, attempt)
        if answer[0] == b"absent" and attempt.unanswered:
            # It was sent twice, and the first one may have removed it.
            raise outcome_unknown(None, "", "delete")
        return answer[0] == b"done"

    async def _delete(
        self, key: SessionKey, expect: Token | None, attempt: Attempt | None = None, *, expired: bool = False
    ) -> Sequence[Any]:
        """What the script answered: done or absent."""
        owner = self._owners.guess(key)
        namespace, session_id = key.scope.namespace, key.session_id
        for _ in range(_GUESSES):
            names = (str(Due(namespace, session_id, owner)), str(Due(namespace, session_id, None)))
            answer = await self._wire.ask(
                DELETE(
                    self._write_keys(key, owner),
                    self._now(),
                    write_scope(key.scope.owner),
                    session_id,
                    *write_token(expect),
                    "" if owner is None else f"={owner}",
                    *names,
                    int(expired),
                ),
                attempt=attempt,
            )
            match answer[0]:
                case b"owner":
                    owner = cast("bytes", answer[1]).decode() or None
                    continue
                case b"conflict":
                    assert expect is not None
                    raise session_conflict(session_id, expect, read_token(answer[1:4]), NAME, "delete")
                case b"corrupt":
                    raise corrupt(session_id, cast("bytes", answer[1]).decode(), "delete")
                case b"done" if self._wire.is_cluster:
                    if attempt is not None:
                        attempt.unanswered = True
                    for due in {Due(namespace, session_id, owner), Due(namespace, session_id, None)}:
                        await self._wire.ask_all(self._indexes.drops(due, int(answer[1]) + _SKEW))
                case _:
                    pass
            return answer
        raise _restless(key, "delete")

    async def delete_owner(self, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        sessions = messages = 0

        async def erase(session_id: str, now: int) -> Sequence[Any]:
            answer = await self._delete(SessionKey(scope, session_id), None, expired=True)
            if answer[0] == b"absent":
                drops = self._indexes.drops(Due(scope.namespace, session_id, cast("str", scope.owner)), now)
                # A session that is there and somebody else's stays in everybody's index.
                await self._wire.ask_all(drops[1:] if answer[2] else drops)
            return answer

        async for entries in self._listing.walk(scope, self._now(), _CHUNK):
            answers = await asyncio.gather(*(erase(entry.session_id, entries.now) for entry in entries.items))
            living = [answer for answer in answers if answer[0] == b"done" and answer[3]]
            sessions += len(living)
            messages += sum(int(answer[2]) for answer in living)
        return Erased(sessions, messages)

    async def sweep(self, limit: int) -> Swept:
        """Looks at the sessions that are due: removes what has expired, and messages past their age."""
        now = self._now() or await self._ask_time()
        calls = [
            plain("ZRANGEBYSCORE", self._keys.due(shard), "-inf", now, "WITHSCORES", "LIMIT", 0, limit + 1)
            for shard in range(SHARDS)
        ]
        due = [
            (self._keys.due(shard), cast("bytes", member).decode(), cast("bytes", score))
            for shard, answer in enumerate(await self._wire.ask_all(calls))
            for member, score in zip(answer[0::2], answer[1::2], strict=True)
        ]
        sessions = messages = 0
        for start in range(0, len(due[:limit]), _CHUNK):
            swept = await asyncio.gather(*(self._sweep(*one) for one in due[start : min(start + _CHUNK, limit)]))
            sessions += sum(gone for gone, _ in swept)
            messages += sum(removed for _, removed in swept)
        return Swept(sessions, messages, more=len(due) > limit)

    async def _sweep(self, key: str, member: str, seen: bytes) -> tuple[bool, int]:
        """Whether the session was gone, and how many messages went."""
        due = Due.parse(member)
        answer = await self._wire.ask(SWEEP(self._keys.parts(due.namespace, due.session_id), self._now()))
        if answer[0] == b"corrupt":
            raise corrupt(due.session_id, cast("bytes", answer[1]).decode(), "sweep")
        gone = answer[0] == b"gone"
        if gone:
            await self._wire.ask_all(self._indexes.drops(due, int(answer[1])))
        # Last, so that a sweep which is killed in between comes back.
        await self._wire.ask(REMIND((key,), member, seen, "" if gone else cast("bytes", answer[3])))
        return gone, int(answer[2])

    async def stats(self, query: StatsQuery) -> Stats:
        """Counts."""
        counts = Counts()
        clock = self._now()
        async for entries in self._listing.walk(query.scope, clock, _CHUNK * 4):
            for found in await self._listing.heads(query.scope, entries, clock, measure=True):
                if found is not None:
                    counts.add(found.head, found.size)
        return counts.stats()

    async def _forget_owner(self, key: SessionKey, user_id: str, committed: Committed) -> None:
        """An expired session was replaced by somebody else's: its owner's index must not name it any more."""
        due = Due(key.scope.namespace, key.session_id, user_id)
        await self._wire.ask_all(self._indexes.drops(due, to_microseconds(committed.time))[1:])
        await self._wire.ask(plain("ZREM", self._keys.due(self._keys.shard(due.namespace, due.session_id)), str(due)))

    def _write_keys(self, key: SessionKey, owner: str | None) -> tuple[str, ...]:
        session = self._keys.session(key)
        if self._wire.is_cluster:
            return session
        indexes = self._indexes.find(key.scope.namespace, key.session_id, owner)
        return (*session, *(name for index in indexes for name in index))

    def _now(self) -> str:
        return "" if self._clock is None else str(to_microseconds(self._clock()))

    async def _ask_time(self) -> str:
        seconds, microseconds = await self._wire.ask(Call(self._keys.due(0), (b"TIME",)))
        return str(int(seconds) * 1_000_000 + int(microseconds))


def _expect_found(answer: Sequence[Any], key: SessionKey, operation: str) -> bool:
    if answer[0] == b"corrupt":
        raise corrupt(key.session_id, cast("bytes", answer[1]).decode(), operation)
    return answer[0] == b"done"


def _restless(key: SessionKey, operation: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"session {key.session_id!r:.200} changes its owner faster than it can be written to; nothing was written",
        adapter=NAME,
        operation=operation,
    )
