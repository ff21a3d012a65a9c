"""The sorted sets that lists read, where they lie in other slots than the sessions: on a cluster.

A touch is sent beside the commit and awaited with it. If the commit is refused it is taken back; if it could not know
enough (the status of a session that the index had lost), what the commit answered is put there. An entry whose session
is gone is skipped by lists, and dropped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from turnkeep.contract import UNCHANGED, Expect
from turnkeep.retention import to_microseconds
from turnkeep_redis._errors import DRIVER_ERRORS
from turnkeep_redis.keys import Due
from turnkeep_redis.scripts import PLACE, TOUCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep.contract import Commit, SessionKey
    from turnkeep_redis.commits import Done
    from turnkeep_redis.keys import Keys
    from turnkeep_redis.scripts import Call
    from turnkeep_redis.wire import Wire


class Touched(NamedTuple):
    """What an index said of a session before a touch, and what the touch wrote."""

    keys: tuple[str, ...]
    status: str
    active_at: str
    created_at: str
    now: int
    written: str | None
    """The status that was written; None where nothing could be."""


class Indexes:
    """The indexes of one prefix."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys

    def find(self, namespace: str, session_id: str, user_id: str | None) -> list[tuple[str, ...]]:
        """The keys of the indexes that have a session; with the first go the due ones of its namespace."""
        shard = self._keys.shard(namespace, session_id)
        everyone = (*self._keys.everyone(namespace, shard), self._keys.due(shard))
        return [everyone] if user_id is None else [everyone, tuple(self._keys.owner(namespace, user_id))]

    async def touch(self, commit: Commit, user_id: str | None, clock: str, due: str, due_before: str) -> list[Touched]:
        """Moves the session to the front, before it is known whether the commit takes effect."""
        key = commit.key
        status = "" if commit.head.status is UNCHANGED else commit.head.status
        times = [commit.ttl, commit.message_ttl if commit.messages else None]
        due_in = min((time for time in times if time is not None), default=None)
        arguments = (
            clock,
            key.session_id,
            int(commit.expect is Expect.NEW),
            status,
            due,
            due_before,
            "" if due_in is None else int(due_in.total_seconds() * 1_000_000),
        )
        sets = self.find(key.scope.namespace, key.session_id, user_id)
        answers = await asyncio.gather(*(self._wire.ask(TOUCH(index, *arguments)) for index in sets))
        creates = commit.expect is Expect.NEW
        return [_read(index, answer, status, creates=creates) for index, answer in zip(sets, answers, strict=True)]

    async def take_back(self, key: SessionKey, touched: Sequence[Touched], *, gone: bool = False) -> None:
        """Puts the session where it was before a touch whose commit was refused; nowhere if the session is gone.

        The refusal is what the caller has to hear: where this fails, lists show the session as more recent than it is.
        """
        calls: list[Call] = []
        for index in touched:
            if index.written is None:
                continue
            exactly, *place = (0, "", "", "") if gone else (1, index.status, index.active_at, index.created_at)
            calls.append(PLACE(index.keys, key.session_id, index.now, exactly, *place, "", ""))
        with suppress(*DRIVER_ERRORS):
            await self._send(calls)

    async def correct(self, commit: Commit, done: Done, user_id: str | None, touched: Sequence[Touched] | None) -> None:
        """Puts a session whose commit took effect where it belongs, if the touch did not."""
        key = commit.key
        right = {index.keys for index in touched or () if index.written == done.status}
        time, result = to_microseconds(done.committed.time), done.committed
        due = ("", "")
        if result.expires_at is not None:
            due = (str(Due(key.scope.namespace, key.session_id, user_id)), str(to_microseconds(result.expires_at)))
        await self._send(
            [
                PLACE(sets, key.session_id, time, 0, done.status, time, done.created_at, *due)
                for sets in self.find(key.scope.namespace, key.session_id, user_id)
                if sets not in right
            ]
        )

    def drops(self, due: Due, as_of: int) -> list[Call]:
        """Takes a session out of all indexes, unless it was active after ``as_of`` (microseconds)."""
        return [
            PLACE(sets, due.session_id, as_of, 0, "", "", "", str(due) if len(sets) > 4 else "", "")
            for sets in self.find(due.namespace, due.session_id, due.user_id)
        ]

    async def _send(self, calls: list[Call]) -> None:
        await asyncio.gather(*map(self._wire.ask, calls))


def _read(keys: tuple[str, ...], answer: Sequence[Any], status: str, *, creates: bool) -> Touched:
    now, before, active_at, created_at, *time = (cast("bytes", part).decode() for part in answer)
    written = (status or ("active" if creates else before)) if time else None
    return Touched(keys, before, active_at, created_at, int(time[0] if time else now), written)
