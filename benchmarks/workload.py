"""The turn that is measured, the same for every adapter, and how its speed is taken.

A turn loads a session with its last 50 messages, parses its data and state (metadata of messages is parsed when asked
for), and commits two messages and a new state.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turnkeep.contract import Commit, LoadQuery, NewMessage, Scope, SessionKey
from turnkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep.contract import StorageAdapter

SCOPE = Scope("default")
WINDOW = 50
CONTENT = "It is raining in Lisbon, and the table by the window is taken until nine. " * 5
METADATA = json.dumps({"model": "m-1", "usage": {"input": 812, "output": 164}, "locale": "pt-PT"})
STATE = json.dumps({"route_history": [{"route": "book-a-table", "entered_at": "2026-01-01T12:00:00Z"}] * 10})
DATA = json.dumps({"name": "Ana", "guests": 4})


def new_messages(count: int = 2) -> tuple[NewMessage, ...]:
    """So many messages, of user and assistant in turns."""
    rest = (None, None, None, "book-a-table", "guests", None, METADATA, None, datetime.now(UTC))
    roles = itertools.islice(itertools.cycle(("user", "assistant")), count)
    return tuple(NewMessage(new_id(), role, CONTENT, "plain", *rest) for role in roles)


def parse(*texts: str | bytes) -> None:
    """Makes values of JSON, and drops them."""
    for text in texts:
        json.loads(text)


async def turn(adapter: StorageAdapter, session_id: str, window: int = WINDOW) -> None:
    """A turn by an adapter."""
    key = SessionKey(SCOPE, session_id)
    session = await adapter.load(key, LoadQuery(window))
    assert session is not None
    parse(session.data, session.state)
    await adapter.commit(Commit(key, new_id(), "d" * 64, session.head.token, new_messages(), state=STATE))


async def run_tasks(turn: Callable[[str], Awaitable[None]], session_ids: list[str], seconds: float) -> float:
    """Turns per second, each session a task of its own."""
    began = time.perf_counter()

    async def talk(session_id: str) -> int:
        turns = 0
        while time.perf_counter() - began < seconds:
            await turn(session_id)
            turns += 1
        return turns

    return sum(await asyncio.gather(*map(talk, session_ids))) / (time.perf_counter() - began)
