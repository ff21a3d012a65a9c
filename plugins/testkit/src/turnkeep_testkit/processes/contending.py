"""A process that commits turns to a session that others write, too."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import SessionConflict, SessionExists
from turnkeep_testkit.honesty import insist
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.processes.children import PATIENCE, opened

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey
    from turnkeep_testkit.processes.children import Factory, Tell

MESSAGES: Final = 3
"""Of each turn."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a process says when all its turns are committed."""

    began: float
    ended: float
    conflicts: int
    longest: float


async def contend(tell: Tell, factory: Factory, key: SessionKey, turns: int, barrier: Any) -> None:
    """What the processes do: turn after turn, each repeated until it is committed."""
    async with opened(factory) as adapter:
        await asyncio.to_thread(barrier.wait, PATIENCE)
        began, conflicts, longest = time.monotonic(), 0, 0.0
        for _ in range(turns):
            turn_began, attempt = time.monotonic(), 0
            while True:
                stored = await insist(lambda: adapter.load(key, LoadQuery(0)))
                expect = stored.head.token if stored else Expect.NEW
                commit = new_commit(key, *("abc"[:MESSAGES]), expect=expect, state=str(attempt))
                try:
                    await insist(lambda commit=commit: adapter.commit(commit))
                    break
                except (SessionConflict, SessionExists):
                    conflicts += 1
                    attempt += 1
                    # Full jitter, as Persistence does it: who collided once should not collide again.
                    await asyncio.sleep(random.uniform(0, min(0.2, 0.002 * 2**attempt)))  # noqa: S311 - no secret
            longest = max(longest, time.monotonic() - turn_began)
        tell(Done(began, time.monotonic(), conflicts, longest))
