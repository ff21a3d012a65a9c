"""The index of heads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from turnkeep.codec import utf8_length
from turnkeep.contract import PAST_COMMITS
from turnkeep.errors import CorruptRecord
from turnkeep.ids import new_id
from turnkeep.outbox.items import identity
from turnkeep.outbox.records import Grave, first_fields, retention_fields, to_fields
from turnkeep_opensearch import scripts
from turnkeep_opensearch._errors import FAILURES, NAME, writing
from turnkeep_opensearch.names import RECORD, head_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from turnkeep.contract import Scope, SessionKey, Token
    from turnkeep.outbox.items import Document
    from turnkeep.outbox.ports import Texts
    from turnkeep.outbox.records import Record
    from turnkeep_opensearch.calls import Calls

HEAD_ONLY: Final = ("tail", "recent", "collected_data", "state")
"""What lists leave out."""

WITHOUT_TEXTS: Final = ("collected_data", "state")
"""What the decision over a commit leaves out."""

PAGE: Final = 1000
"""Heads that are asked for at once."""

PAGE_WITH_TAILS: Final = 100
"""As many, where each comes with its newest messages."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def waiting_query(condition: Document) -> Document:
    """The search for heads that meet a condition, as far as the last refresh shows them."""
    order = [{"created_us": "asc"}, {"session_id": "asc"}]
    return {"query": condition, "sort": order, "size": PAGE_WITH_TAILS, "_source": False}


class Sessions:
    """As ``turnkeep.outbox.SessionDocuments`` says. What a search finds is read once more, by its id, as it is now."""

    def __init__(self, calls: Calls, index: str) -> None:
        self._calls = calls
        self._index = index

    async def find(self, key: SessionKey, *, texts: bool) -> Document | None:
        """The head of a session, whoever owns it."""
        without = () if texts else WITHOUT_TEXTS
        return await self._get(identity(key.scope.namespace, key.session_id), without)

    async def find_any(self, session: str) -> Document | None:
        """What decides over a commit."""
        return await self._get(session, WITHOUT_TEXTS)

    async def _get(self, session: str, without: Sequence[str]) -> Document | None:
        found = await self._calls.get(self._index, head_id(session), without=without)
        if found is not None and _named(found)["_id"] != session:
            raise CorruptRecord(f"the document of {session!r:.600} is of another session", adapter=NAME)
        return found

    async def find_several(self, sessions: Collection[str]) -> dict[str, Document]:
        """These heads, without what lists leave out."""
        found = await self.read([head_id(session) for session in sessions])
        return {document["_id"]: document for document in found}

    async def read(self, ids: Sequence[str]) -> list[Document]:
        """The heads with these ids as they are now, in this order, as far as there are any."""
        found = await self._calls.get_many(self._index, ids, without=HEAD_ONLY)
        return [_named(document) for document in found if document is not None]

    async def find_expired(self, now: datetime, limit: int) -> list[Document]:
        """Heads that have expired, longest ago first."""
        return await self._search({"range": {"expires_at": {"lte": now}}}, "expires_at", limit)

    async def find_due(self, now: datetime, limit: int) -> list[Document]:
        """Heads and graves at which there is something to do, longest ago first."""
        return await self._search({"range": {"sweep_at": {"lte": now}}}, "sweep_at", limit)

    async def _search(self, condition: Document, order: str, limit: int) -> list[Document]:
        await self._calls.refresh(self._index)
        query = {
            "query": {"bool": {"filter": [condition]}},
            "sort": [order],
            "size": min(limit, PAGE),
            "_source": False,
        }
        hits = (await self._calls.search(self._index, query))["hits"]["hits"]
        return await self.read([hit["_id"] for hit in hits])

    async def find_waiting(self, query: Document, hits: list[Document]) -> AsyncIterator[list[Document]]:
        """Heads of a ``waiting_query``, with their tails, some at a time; ``hits`` are what it found first."""
        while True:
            found = await self._calls.get_many(self._index, [hit["_id"] for hit in hits], without=WITHOUT_TEXTS)
            yield [_named(document) for document in found if document is not None]
            if len(hits) < PAGE_WITH_TAILS:
                return
            query = {**query, "search_after": hits[-1]["sort"]}
            hits = (await self._calls.search(self._index, query))["hits"]["hits"]

    async def find_owned(self, scope: Scope) -> list[Document]:
        """Every head of an owner: all that was acknowledged before."""
        await self._calls.refresh(self._index)
        owned = [{"term": {"namespace": scope.namespace}}, {"term": {"user_id": scope.owner}}]
        query: Document = {"query": {"bool": {"filter": owned}}, "sort": ["session_id"], "size": PAGE, "_source": False}
        found: list[Document] = []
        while True:
            hits = (await self._calls.search(self._index, query))["hits"]["hits"]
            read = await self.read([hit["_id"] for hit in hits])
            found += [head for head in read if head.get("user_id") == scope.owner]
            if len(hits) < PAGE:
                return found
            query["search_after"] = hits[-1]["sort"]

    async def insert(self, record: Record, texts: Texts, now: datetime) -> bool:
        """Writes the head of a new session, unless there is one; a document that is None becomes ``{}``."""
        data, state = ("{}" if text is None else text for text in texts)
        document: Document = {
            **first_fields(record),
            **to_fields(record, now),
            **_text_fields(data, state),
            "attempt": new_id(),
            "waiting": _waiting(record),
            "recent": list(record.recent),
            "tail": list(record.tail),
        }
        with writing("commit", record.head.token.commit_id):
            if await self._calls.create(self._index, head_id(record.session), document):
                return True
            found = await self.find_any(record.session)  # the same request may have arrived before
            return found is not None and found.get("attempt") == document["attempt"]

    async def swap(self, before: Record, after: Record, added: int, texts: Texts, now: datetime) -> bool:
        """Writes a head, if it is still at the token of ``before``; only what is new of tail and ring is sent."""
        attempt = new_id()
        fields = {**to_fields(after, now), **_text_fields(*texts), "attempt": attempt, "waiting": _waiting(after)}
        params = {
            **_at_token(before),
            "fields": fields,
            "line": after.recent[-1],
            "past": PAST_COMMITS,
            "items": list(after.tail[len(after.tail) - added :]),
            "kept": len(after.tail),
        }
        with writing("commit", after.head.token.commit_id):
            _, found = await self._update(before.session, scripts.SWAP, params, ("attempt",))
        return found.get("attempt") == attempt

    async def bury(self, record: Record, now: datetime, *, at: Token | None) -> Grave | None:
        """Puts a grave in place of a head, if it is still of this life and, where given, at this token."""
        head, mark = record.head, new_id()
        life: Document = {"namespace": head.namespace, "session_id": head.session_id}
        life["incarnation"] = head.token.incarnation
        params: Document = {"incarnation": head.token.incarnation} if at is None else _at_token(record)
        params["grave"] = {**life, "buried": mark, "sweep_at": now}
        told = ("buried", "erased", "last_seq")
        with writing("delete", ""):
            _, grave = await self._update(record.session, scripts.BURY, params, told)
        if grave.get("buried") != mark:
            return None
        return Grave(record.session, head.token.incarnation, grave["erased"], grave["last_seq"])

    async def remove(self, grave: Grave) -> None:
        """Removes a grave."""
        await self._update(grave.session, scripts.REMOVE, {"incarnation": grave.incarnation})

    async def trim(self, record: Record, now: datetime) -> bool:
        """Writes what has left the history, and what has documents, without making a version of it."""
        fields = {**retention_fields(record, now), "waiting": _waiting(record)}
        return (await self._update(record.session, scripts.TRIM, {**_at_token(record), "fields": fields})).done

    async def tell_time(self) -> datetime | None:
        """The server's time, which a script sees."""
        try:
            found = await self._calls.update(self._index, RECORD, scripts.TELL_TIME, {}, told=("now",))
        except FAILURES:
            return None
        now = found.source.get("now")
        return _EPOCH + timedelta(milliseconds=now) if isinstance(now, int) else None

    async def _update(self, session: str, script: str, params: Document, told: Sequence[str] = ()) -> Any:
        return await self._calls.update(self._index, head_id(session), script, params, told=told)


def _named(document: Document) -> Document:
    """The document with the identity of its session."""
    document["_id"] = identity(str(document.get("namespace")), str(document.get("session_id")))
    return document


def _at_token(record: Record) -> Document:
    """What a script compares, to know that a session is exactly where it was."""
    token = record.head.token
    return {"incarnation": token.incarnation, "version": token.version, "last_commit": token.commit_id}


def _text_fields(data: str | None, state: str | None) -> Document:
    """Data and state with their sizes, which the server could not add up otherwise; None is left out."""
    named = (("collected_data", "data_bytes", data), ("state", "state_bytes", state))
    return {
        field: value
        for name, size, text in named
        if text is not None
        for field, value in ((name, text), (size, utf8_length(text)))
    }


def _waiting(record: Record) -> int:
    """How many messages have no document of their own, and so are not searched."""
    return record.head.last_seq - max(record.flushed, record.head.floor)
