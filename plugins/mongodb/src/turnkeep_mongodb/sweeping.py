"""Removing what nobody can see any more: expired sessions, graves, messages that left, documents written too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING

from turnkeep.contract import Erased, Swept
from turnkeep.judge import is_live
from turnkeep_mongodb.messages import Messages
from turnkeep_mongodb.sessions import HEAD_ONLY, Record, Sessions, read_grave, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep.contract import Scope
    from turnkeep_mongodb.clock import Clock
    from turnkeep_mongodb.names import Collections, Document
    from turnkeep_mongodb.store import Store

_SIDE_BY_SIDE: Final = 8
"""Sessions removed at the same time."""

_LOOKED_OVER: Final = 32
"""Message documents that a sweep looks over for each session it may remove."""

_PLACE: Final = "sweep"
"""The ``_id`` of the record of where the last sweep stopped looking."""


class Sweeper:
    """Removes what is invisible. Several may be at work: each step can be repeated, and none undoes a commit."""

    def __init__(self, collections: Collections, store: Store, clock: Clock) -> None:
        self._collections = collections
        self._store = store
        self._clock = clock
        self._sessions = Sessions(collections.sessions)
        self._messages = Messages(collections.messages)

    async def sweep(self, limit: int) -> Swept:
        """Removes what has expired, then what a head says is to be removed, then what no head knows of."""
        expired = await self.expired(limit + 1)
        gone = [record for record in expired[:limit] if await self._store.remove(record, at=record.head.token)]
        messages = sum(record.head.message_count for record in gone)
        left = max(0, limit - len(expired))
        due = await self.due(left + 1)
        for document in due[:left]:
            messages += await self._attend_to(document)
        messages += await self._look_over(limit * _LOOKED_OVER)
        return Swept(len(gone), messages, more=len(expired) > limit or len(due) > left)

    async def expired(self, limit: int) -> list[Record]:
        """Sessions that have expired, longest ago first."""
        now = self._clock()
        found = self._collections.sessions.find({"expires_at": {"$lte": now}}, HEAD_ONLY).sort("expires_at", ASCENDING)
        records = [read_record(document, now) for document in await found.limit(limit).to_list()]
        return [record for record in records if not is_live(record.head, now)]  # a date has only milliseconds

    async def due(self, limit: int) -> list[Document]:
        """Heads and graves at which there is something to do, longest ago first."""
        condition = {"sweep_at": {"$lte": self._clock()}}
        found = self._collections.sessions.find(condition, HEAD_ONLY).sort("sweep_at", ASCENDING)
        return await found.limit(limit).to_list()

    async def _attend_to(self, document: Document) -> int:
        grave = read_grave(document)
        if grave is not None:
            return await self._store.clear(grave)
        now = self._clock()
        record = read_record(document, now)
        floor = record.head.floor
        removed = 0
        if record.erased < min(floor, record.flushed):
            removed = await self._messages.erase(record.session, record.head.token.incarnation, floor)
        await self._sessions.trim(record._replace(erased=max(record.erased, floor)), now)
        return removed

    async def _look_over(self, limit: int) -> int:
        """Looks over the message documents that follow those the last sweep looked over; after the last, the first.

        A writer that was killed after it wrote documents for a session that somebody deleted meanwhile, or a TTL index
        that removed a head, leaves some that belong to nobody.
        """
        place: Document = await self._collections.schema.find_one({"_id": _PLACE}) or {"after": ""}
        found = await (await self._collections.messages.aggregate(looking_over(place["after"], limit))).to_list()
        removed = await self._remove_strays(found)
        after = max((group["last"] for group in found), default="")
        seen = sum(group["documents"] for group in found)
        place = {"after": after if seen >= limit else ""}
        await self._collections.schema.update_one({"_id": _PLACE}, {"$set": place}, upsert=True)
        return removed

    async def _remove_strays(self, groups: Sequence[Document]) -> int:
        # The heads are read after the documents: a document is never there before the head of its life.
        sessions = list({group["_id"]["session"] for group in groups})
        heads: dict[str, Document] = {
            head["_id"]: head
            for head in await self._collections.sessions.find(
                {"_id": {"$in": sessions}}, {"incarnation": 1, "buried": 1, "erased": 1}
            ).to_list()
        }
        removed = 0
        for group in groups:
            session, incarnation = group["_id"]["session"], group["_id"]["incarnation"]
            head = heads.get(session)
            if head is None or head["incarnation"] != incarnation:
                removed += await self._messages.erase_all(session, incarnation)
            elif head.get("erased", 0) >= group["first"]:
                removed += await self._messages.erase(session, incarnation, head["erased"])
        return removed

    async def delete_owner(self, scope: Scope) -> Erased:
        """Removes every session of an owner; counts those that had not expired."""
        now = self._clock()
        condition: dict[str, Any] = {"namespace": scope.namespace, "user_id": scope.owner}
        found = await self._collections.sessions.find(condition, HEAD_ONLY).to_list()
        records = [read_record(document, now) for document in found if read_grave(document) is None]
        counted: list[Record] = []
        for begin in range(0, len(records), _SIDE_BY_SIDE):
            batch = records[begin : begin + _SIDE_BY_SIDE]
            removed = await asyncio.gather(*map(self._store.remove, batch))
            counted += [record for record, done in zip(batch, removed, strict=True) if done]
        living = [record.head for record in counted if is_live(record.head, now)]
        return Erased(len(living), sum(head.message_count for head in living))


def looking_over(after: str, limit: int) -> list[Document]:
    """The aggregation that tells which lives the next so many message documents belong to."""
    return [
        {"$match": {"_id": {"$gt": after}}},
        {"$sort": {"_id": ASCENDING}},
        {"$limit": limit},
        {"$project": {"session": 1, "incarnation": 1, "seq": 1}},
        {
            "$group": {
                "_id": {"session": "$session", "incarnation": "$incarnation"},
                "first": {"$min": "$seq"},
                "last": {"$max": "$_id"},
                "documents": {"$sum": 1},
            }
        },
    ]
