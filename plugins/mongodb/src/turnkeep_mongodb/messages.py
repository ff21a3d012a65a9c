"""The collection of message documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from turnkeep.outbox.items import Life
from turnkeep.outbox.ports import Lot
from turnkeep_mongodb._errors import only_duplicates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.asynchronous.cursor import AsyncCursor

    from turnkeep.contract import Head
    from turnkeep_mongodb.names import Collections, Document

_PLACE: Final = "sweep"
"""The ``_id`` of the record of where the last sweep stopped looking."""

_BATCH: Final = 500
"""So many documents come at a time where all of a history may be read."""


class Messages:
    """As ``turnkeep.outbox.MessageDocuments`` says; each statement names the session, so that one shard is asked."""

    def __init__(self, collections: Collections) -> None:
        self._collection = collections.messages
        self._records = collections.schema

    async def insert(self, head: Head, items: Sequence[Document]) -> None:
        """Writes a document for each item; those that are there already are left, because they say the same."""
        life = Life.of(head)
        owned = {"session": life.session, **life._asdict()}
        documents = [{"_id": f"{life.incarnation}#{item['seq']:010d}", **owned, **item} for item in items]
        try:
            await self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if not only_duplicates(error):
                raise

    async def stretch(self, life: Life, low: int, high: int) -> list[Document]:
        """The documents from ``low`` to ``high``, in order; there may be fewer than asked for."""
        return await self._between(life, low, high).sort("seq", ASCENDING).to_list()

    def backwards(self, life: Life, low: int, high: int) -> AsyncCursor[Document]:
        """The documents from ``high`` down to ``low``, fetched as they are asked for. Who calls closes the cursor."""
        return self._between(life, low, high).sort("seq", DESCENDING).batch_size(_BATCH)

    def _between(self, life: Life, low: int, high: int) -> AsyncCursor[Document]:
        return self._collection.find(
            {"session": life.session, "incarnation": life.incarnation, "seq": {"$gte": low, "$lte": high}},
            dict.fromkeys(("_id", "session", *life._fields), 0),
        )

    async def erase(self, session: str, incarnation: str, low: int, high: int | None) -> int:
        """Removes the documents of a life from ``low`` to ``high``; how many that were."""
        seqs = {"$gte": low} if high is None else {"$gte": low, "$lte": high}
        condition = {"session": session, "incarnation": incarnation, "seq": seqs}
        return (await self._collection.delete_many(condition)).deleted_count

    async def look_over(self, limit: int) -> list[Lot]:
        """What the next so many documents belong to."""
        place: Document = await self._records.find_one({"_id": _PLACE}) or {"after": ""}
        found = await (await self._collection.aggregate(looking_over(place["after"], limit))).to_list()
        after = max((group["place"] for group in found), default="")
        seen = sum(group["documents"] for group in found)
        place = {"after": after if seen >= limit else ""}
        await self._records.update_one({"_id": _PLACE}, {"$set": place}, upsert=True)
        return [Lot(**group["_id"], first=group["first"], last=group["last"]) for group in found]


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
                "last": {"$max": "$seq"},
                "place": {"$max": "$_id"},
                "documents": {"$sum": 1},
            }
        },
    ]
