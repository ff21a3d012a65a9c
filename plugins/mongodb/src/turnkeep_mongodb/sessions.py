"""The collection of heads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError, PyMongoError

from turnkeep.contract import ANYONE, PAST_COMMITS
from turnkeep.outbox.items import identity
from turnkeep.outbox.records import Grave, first_fields, retention_fields, to_fields
from turnkeep_mongodb._errors import writing

if TYPE_CHECKING:
    from collections.abc import Collection

    from pymongo.asynchronous.collection import AsyncCollection

    from turnkeep.contract import Scope, SessionKey, Token
    from turnkeep.outbox.ports import Texts
    from turnkeep.outbox.records import Record
    from turnkeep_mongodb.names import Document

HEAD_ONLY: Final = {"tail": 0, "recent": 0, "collected_data": 0, "state": 0}
"""The projection of lists."""

WITHOUT_TEXTS: Final = {"collected_data": 0, "state": 0}
"""The projection of what decides over a commit."""

WITH_TAIL: Final = {"recent": 0, "collected_data": 0, "state": 0}
"""The projection of searches."""


class Sessions:
    """As ``turnkeep.outbox.SessionDocuments`` says."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self._collection = collection

    async def find(self, key: SessionKey, *, texts: bool) -> Document | None:
        """The document of a session that the key's scope sees, expired or deleted ones included."""
        return await self._collection.find_one(_seen_by(key), None if texts else WITHOUT_TEXTS)

    async def find_any(self, session: str) -> Document | None:
        """What decides over a commit: the head of this id, whoever owns it."""
        return await self._collection.find_one({"_id": session}, WITHOUT_TEXTS)

    async def find_several(self, sessions: Collection[str]) -> dict[str, Document]:
        """The little of these heads that a sweep needs."""
        wanted = {"incarnation": 1, "buried": 1, "erased": 1}
        found = await self._collection.find({"_id": {"$in": list(sessions)}}, wanted).to_list()
        return {head["_id"]: head for head in found}

    async def find_expired(self, now: datetime, limit: int) -> list[Document]:
        """Heads that have expired, longest ago first."""
        found = self._collection.find({"expires_at": {"$lte": now}}, HEAD_ONLY).sort("expires_at", ASCENDING)
        return await found.limit(limit).to_list()

    async def find_due(self, now: datetime, limit: int) -> list[Document]:
        """Heads and graves at which there is something to do, longest ago first."""
        found = self._collection.find({"sweep_at": {"$lte": now}}, HEAD_ONLY).sort("sweep_at", ASCENDING)
        return await found.limit(limit).to_list()

    async def find_owned(self, scope: Scope) -> list[Document]:
        """Every head of an owner."""
        condition: Document = {"namespace": scope.namespace, "user_id": scope.owner}
        return await self._collection.find(condition, HEAD_ONLY).to_list()

    async def insert(self, record: Record, texts: Texts, now: datetime) -> bool:
        """Writes the head of a new session, unless there is one; a document that is None becomes ``{}``."""
        data, state = texts
        document: Document = {
            "_id": record.session,
            **first_fields(record),
            **to_fields(record, now),
            "collected_data": "{}" if data is None else data,
            "state": "{}" if state is None else state,
            "recent": list(record.recent),
            "tail": list(record.tail),
        }
        with writing("commit", record.head.token.commit_id):
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                return False
            return True

    async def swap(self, before: Record, after: Record, added: int, texts: Texts, now: datetime) -> bool:
        """Writes a head, if it is still at the token of ``before``; only what is new of tail and ring is sent."""
        fields = to_fields(after, now)
        fields |= {
            name: text for name, text in zip(("collected_data", "state"), texts, strict=True) if text is not None
        }
        pushed: Document = {"recent": {"$each": [after.recent[-1]], "$slice": -PAST_COMMITS}}
        if after.tail:
            # What leaves the tail is cut off at its old end. A sweep may have cut off some of it already.
            pushed["tail"] = {"$each": list(after.tail[len(after.tail) - added :]), "$slice": -len(after.tail)}
        else:
            fields["tail"] = []
        with writing("commit", after.head.token.commit_id):
            result = await self._collection.update_one(at_token(before), {"$set": fields, "$push": pushed})
        return result.matched_count == 1

    async def bury(self, record: Record, now: datetime, *, at: Token | None) -> Grave | None:
        """Puts a grave in place of a head, if it is still of this life and, where given, at this token."""
        incarnation = record.head.token.incarnation
        condition: Document = {"_id": record.session, "incarnation": incarnation}
        condition |= at_token(record) if at is not None else {"buried": None}
        with writing("delete", ""):
            result = await self._collection.replace_one(
                condition, {"incarnation": incarnation, "buried": True, "sweep_at": now}
            )
        return Grave(record.session, incarnation, 0, None) if result.matched_count == 1 else None

    async def remove(self, grave: Grave) -> None:
        """Removes a grave."""
        await self._collection.delete_one({"_id": grave.session, "incarnation": grave.incarnation, "buried": True})

    async def trim(self, record: Record, now: datetime) -> bool:
        """Writes what has left the history, without making a version of it: nothing that can be seen changes."""
        changes = {"$set": retention_fields(record, now), "$pull": {"tail": {"seq": {"$lte": record.head.floor}}}}
        result = await self._collection.update_one(at_token(record), changes)
        return result.matched_count == 1

    async def tell_time(self) -> datetime | None:
        """The server's time, which its reply to ``hello`` tells."""
        try:
            told: datetime = (await self._collection.database.command("hello"))["localTime"]
        except PyMongoError:
            return None
        return told.replace(tzinfo=UTC)


def at_token(record: Record) -> Document:
    """The condition that a session is exactly where it was. A grave has no version."""
    token = record.head.token
    return {
        "_id": record.session,
        "incarnation": token.incarnation,
        "version": token.version,
        "last_commit": token.commit_id,
    }


def owned_by(scope: Scope) -> Document:
    """The condition on the owner."""
    return {} if scope.owner is ANYONE else {"user_id": scope.owner}


def _seen_by(key: SessionKey) -> dict[str, Any]:
    return {"_id": identity(key.scope.namespace, key.session_id), **owned_by(key.scope)}
