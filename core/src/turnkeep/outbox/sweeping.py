"""Removing what nobody can see any more: expired sessions, graves, messages that left, documents written too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from turnkeep.contract import Erased, Swept
from turnkeep.judge import is_live
from turnkeep.outbox.records import Record, read_grave, read_record

if TYPE_CHECKING:
    from turnkeep.contract import Scope
    from turnkeep.outbox.clock import Clock
    from turnkeep.outbox.items import Document
    from turnkeep.outbox.ports import MessageDocuments, SessionDocuments
    from turnkeep.outbox.store import Store

_SIDE_BY_SIDE: Final = 8
"""Sessions removed at the same time."""

_LOOKED_OVER: Final = 32
"""Message documents that a sweep looks over for each session it may remove."""


class Sweeper:
    """Removes what is invisible. Several may be at work: each step can be repeated, and none undoes a commit."""

    def __init__(
        self, sessions: SessionDocuments, messages: MessageDocuments, store: Store, clock: Clock, *, adapter: str
    ) -> None:
        self._sessions = sessions
        self._messages = messages
        self._store = store
        self._clock = clock
        self._adapter = adapter

    async def sweep(self, limit: int) -> Swept:
        """Removes what has expired, then what a head says is to be removed, then what no head knows of."""
        expired = await self._expired(limit + 1)
        gone = [record for record in expired[:limit] if await self._store.remove(record, at=record.head.token)]
        messages = sum(record.head.message_count for record in gone)
        left = max(0, limit - len(expired))
        due = await self._sessions.find_due(self._clock(), left + 1)
        for document in due[:left]:
            messages += await self._attend_to(document)
        messages += await self._look_over(limit * _LOOKED_OVER)
        return Swept(len(gone), messages, more=len(expired) > limit or len(due) > left)

    async def _expired(self, limit: int) -> list[Record]:
        now = self._clock()
        found = await self._sessions.find_expired(now, limit)
        records = [read_record(document, now, self._adapter) for document in found]
        return [record for record in records if not is_live(record.head, now)]  # a date may have only milliseconds

    async def _attend_to(self, document: Document) -> int:
        grave = read_grave(document)
        if grave is not None:
            return await self._store.clear(grave)
        now = self._clock()
        record = read_record(document, now, self._adapter)
        erased, floor = record.erased, record.head.floor
        removed = 0
        if erased < min(floor, record.flushed):
            removed = await self._messages.erase(record.session, record.head.token.incarnation, erased + 1, floor)
        await self._sessions.trim(record._replace(erased=max(erased, floor)), now)
        return removed

    async def _look_over(self, limit: int) -> int:
        """Removes documents that belong to nobody, among those that it comes to next.

        A writer that was killed after it wrote documents for a session that somebody deleted meanwhile leaves some.
        """
        lots = await self._messages.look_over(limit)
        # The heads are read after the documents: a document is never there before the head of its life.
        heads = await self._sessions.find_several({lot.session for lot in lots})
        removed = 0
        for lot in lots:
            head = heads.get(lot.session)
            last = lot.last
            if head is not None and head["incarnation"] == lot.incarnation:
                last = min(last, head.get("erased", 0))
            if lot.first <= last:
                removed += await self._messages.erase(lot.session, lot.incarnation, lot.first, last)
        return removed

    async def delete_owner(self, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        now = self._clock()
        found = await self._sessions.find_owned(scope)
        records = [read_record(document, now, self._adapter) for document in found if read_grave(document) is None]
        counted: list[Record] = []
        for begin in range(0, len(records), _SIDE_BY_SIDE):
            batch = records[begin : begin + _SIDE_BY_SIDE]
            removed = await asyncio.gather(*map(self._store.remove, batch))
            counted += [record for record, done in zip(batch, removed, strict=True) if done]
        living = [record.head for record in counted if is_live(record.head, now)]
        return Erased(len(living), sum(head.message_count for head in living))
