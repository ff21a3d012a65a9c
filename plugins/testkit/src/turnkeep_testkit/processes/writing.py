"""A process that writes turns until it is killed."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from turnkeep.contract import Expect, LoadQuery
from turnkeep.ids import new_id
from turnkeep_testkit.honesty import insist
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.processes.children import opened
from turnkeep_testkit.processes.ledger import Acknowledged, Tried

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey, StorageAdapter, Token
    from turnkeep_testkit.processes.children import Factory, Tell

_TRIES = 1200  # a minute of them


async def write(tell: Tell, factory: Factory, keys: list[SessionKey], *, stubborn: bool) -> None:
    """What the processes do: turn after turn on each session, every one told before it is sent and after it returned.

    ``stubborn``: a turn is sent until it is acknowledged, whatever the database says meanwhile.
    """
    async with opened(factory) as adapter:
        await asyncio.gather(*(_talk(tell, adapter, key, stubborn=stubborn) for key in keys))


async def _talk(tell: Tell, adapter: StorageAdapter, key: SessionKey, *, stubborn: bool) -> None:
    stored = await adapter.load(key, LoadQuery(0))
    expect: Token | Expect = stored.head.token if stored else Expect.NEW
    while True:
        commit_id = new_id()
        commit = new_commit(key, f"question {commit_id}", "answer", expect=expect, state=commit_id, commit_id=commit_id)
        tell(Tried(commit, time.monotonic()))
        send = partial(adapter.commit, commit)
        committed = await (insist(send, tries=_TRIES) if stubborn else send())
        tell(Acknowledged(commit_id, committed))
        expect = committed.token
