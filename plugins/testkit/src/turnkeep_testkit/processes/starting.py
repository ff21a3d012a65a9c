"""A process that opens a store and creates a session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnkeep.contract import SessionKey
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.processes.children import PATIENCE, opened

if TYPE_CHECKING:
    from turnkeep.contract import Scope
    from turnkeep_testkit.processes.children import Factory, Tell


async def start(tell: Tell, factory: Factory, scope: Scope, session_id: str, barrier: Any) -> None:
    """What the processes do: open, and create a session."""
    if barrier is not None:
        await asyncio.to_thread(barrier.wait, PATIENCE)
    async with opened(factory) as adapter:
        tell((await adapter.commit(new_commit(SessionKey(scope, session_id), "here"))).token)
