"""A process that does anything to a few sessions while others do, too."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import SessionConflict, SessionExists, SessionNotFound, StorageTimeout
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.processes.children import PATIENCE, opened

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey, StorageAdapter, Token
    from turnkeep_testkit.processes.children import Factory, Tell

Kind = Literal["create", "commit", "delete", "load"]

_BRIEF = timedelta(milliseconds=30)
_REFUSALS = (SessionConflict, SessionExists, SessionNotFound, StorageTimeout)
"""What a call may say instead: the session was deleted, expired, created or changed by another process."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One call that succeeded, with the monotonic clock's time before and after it."""

    kind: Kind
    session_id: str
    incarnation: str
    version: int
    began: float
    ended: float


async def race(tell: Tell, factory: Factory, keys: list[SessionKey], calls: int, seed: int, barrier: Any) -> None:
    """What the processes do: any call on any of the sessions. An empty list is the end."""
    rng = random.Random(seed)  # noqa: S311 - the same calls in every run
    async with opened(factory) as adapter:
        await asyncio.to_thread(barrier.wait, PATIENCE)
        deeds: list[Deed] = []
        for _ in range(calls):
            key, began = rng.choice(keys), time.monotonic()
            try:
                done = await _do_something(adapter, key, rng)
            except _REFUSALS:
                continue
            if done is not None:
                kind, token = done
                deeds.append(Deed(kind, key.session_id, token.incarnation, token.version, began, time.monotonic()))
            if len(deeds) == 10:  # few enough for one piece of the pipe
                tell(deeds)
                deeds = []
        tell(deeds)
        if deeds:
            tell([])


async def _do_something(adapter: StorageAdapter, key: SessionKey, rng: random.Random) -> tuple[Kind, Token] | None:
    chance = rng.random()
    if chance < 0.25:
        return "create", (await adapter.commit(new_commit(key, "first"))).token
    if chance < 0.5:
        return "commit", (await adapter.commit(new_commit(key, "more", "and more", expect=Expect.ANY))).token
    if chance < 0.55:
        return "commit", (await adapter.commit(new_commit(key, expect=Expect.ANY, ttl=_BRIEF))).token
    stored = await adapter.load(key, LoadQuery(0))
    if stored is None:
        return None
    token = stored.head.token
    if chance < 0.7:
        return "load", token
    if chance < 0.85:
        return "commit", (await adapter.commit(new_commit(key, "swap", expect=token, state="1"))).token
    return ("delete", token) if await adapter.delete(key, expect=token) else None
