"""Searching message documents, each hit held against its session's head as it is now.

A message has a document only after it has left the outbox. So for its first page a search empties the outboxes of its
scope: it writes the documents of what was said since the last one. Sessions with something in their outbox are found by
a search, too: what was committed since the last refresh is found after the next. Most searches find none, so the hits
come with the same request, and are asked for again only where something was written.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from turnkeep.contract import ANYONE, SearchHit, SearchPage
from turnkeep.cursors import make_cursor, read_rank
from turnkeep.judge import is_live
from turnkeep.outbox.items import to_messages
from turnkeep.outbox.records import read_grave, read_record
from turnkeep.retention import to_microseconds
from turnkeep_opensearch._errors import NAME
from turnkeep_opensearch.lists import living
from turnkeep_opensearch.sessions import waiting_query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Head, Scope, SearchQuery
    from turnkeep.outbox import Store
    from turnkeep.outbox.items import Document
    from turnkeep_opensearch.calls import Calls
    from turnkeep_opensearch.names import Indices
    from turnkeep_opensearch.sessions import Sessions
    from turnkeep_opensearch.wording import Wording

_ROUNDS: Final = 5
"""So many pages of the index are looked at for one of ours, where heads rule hits out; then it is short."""

GLOBAL_RANK: Final = {"search_type": "dfs_query_then_fetch"}
"""How common a word is counts over all shards, so that scores of several can be compared."""

_SIDE_BY_SIDE: Final = 8
"""Outboxes that are emptied at the same time."""


class Search:
    """Searches.

    Args:
        calls: to the server.
        indices: their names.
        sessions: the heads.
        store: what empties an outbox.
        wording: how the searched field is written.
    """

    def __init__(self, calls: Calls, indices: Indices, sessions: Sessions, store: Store, wording: Wording) -> None:
        self._calls = calls
        self._indices = indices
        self._sessions = sessions
        self._store = store
        self._wording = wording

    async def page(self, query: SearchQuery, now: datetime) -> SearchPage:
        """The hits that follow the cursor.

        Raises:
            InvalidArgument: the cursor is not one of a search.
        """
        body = searching(query, self._wording)
        items: list[SearchHit] = []
        for number in range(_ROUNDS):
            hits = await self._hits(body) if number else await self._first_hits(body, query, now)
            for hit, found in zip(hits, await self._visible(hits, query.scope, now), strict=True):
                if len(items) == query.limit:
                    return SearchPage(tuple(items), _cursor(body))
                body["search_after"] = hit["sort"]
                if found is not None:
                    items.append(found)
            if len(hits) < body["size"]:
                return SearchPage(tuple(items), None)
        return SearchPage(tuple(items), _cursor(body))

    async def _first_hits(self, body: Document, query: SearchQuery, now: datetime) -> list[Document]:
        if query.cursor is not None:  # what is written between two pages would move others
            return await self._hits(body)
        waiting = waiting_query(living(query.scope, now, _waiting_in(query.session_id)))
        found, heads = await self._calls.search_several(
            (self._indices.messages, body, GLOBAL_RANK), (self._indices.sessions, waiting, {})
        )
        if heads["hits"]["hits"] and await self._empty_outboxes(waiting, heads["hits"]["hits"]):
            return await self._hits(body)
        hits: list[Document] = found["hits"]["hits"]
        return hits

    async def _hits(self, body: Document) -> list[Document]:
        answer = await self._calls.search(self._indices.messages, body, GLOBAL_RANK)
        hits: list[Document] = answer["hits"]["hits"]
        return hits

    async def _visible(self, hits: Sequence[Document], scope: Scope, now: datetime) -> list[SearchHit | None]:
        """What of these is within the scope, and in a history, now; None for each that is not."""
        documents: list[Document] = [hit["_source"] for hit in hits]
        heads = await self._sessions.find_several({document["session"] for document in documents})
        living = {
            session: head
            for session, found in heads.items()
            if read_grave(found) is None and is_live(head := read_record(found, now, NAME).head, now)
        }
        return [_to_hit(hit, living.get(hit["_source"]["session"]), scope) for hit in hits]

    async def _empty_outboxes(self, waiting: Document, hits: list[Document]) -> bool:
        """Writes the documents of what waits for them, as far as a search finds it, and lets searches find them.

        Returns:
            Whether there were any.
        """
        found = False
        async for heads in self._sessions.find_waiting(waiting, hits):
            for begin in range(0, len(heads), _SIDE_BY_SIDE):
                written = await asyncio.gather(*map(self._store.flush, heads[begin : begin + _SIDE_BY_SIDE]))
                found = found or any(written)
        if found:
            await self._calls.refresh(self._indices.messages)
        return found


def _waiting_in(session_id: str | None) -> list[Document]:
    """The conditions for something in the outbox: of any session, or of this one."""
    conditions: list[Document] = [{"range": {"waiting": {"gt": 0}}}]
    if session_id is not None:
        conditions.append({"term": {"session_id": session_id}})
    return conditions


def searching(query: SearchQuery, wording: Wording) -> Document:
    """The search for a page, and for one hit more: words are values, and there is no other syntax.

    A document says who owned its session when it was written; a claim leaves it behind, so one of nobody's may be
    anybody's by now.

    Raises:
        InvalidArgument: the cursor is not one of a search.
    """
    named = {"namespace": query.scope.namespace, "session_id": query.session_id, "role": query.role}
    conditions: list[Document] = [{"term": {name: value}} for name, value in named.items() if value is not None]
    times = {"gte": query.since, "lt": query.until}
    bounds = {name: to_microseconds(moment) for name, moment in times.items() if moment is not None}
    if bounds:
        conditions.append({"range": {"created_us": bounds}})
    if query.scope.owner is not ANYONE:
        owned: list[Document] = [{"bool": {"must_not": [{"exists": {"field": "user_id"}}]}}]
        if query.scope.owner is not None:
            owned.append({"term": {"user_id": query.scope.owner}})
        conditions.append({"bool": {"should": owned}})
    body: Document = {
        "query": {"bool": {**wording.conditions(query.terms), "filter": conditions}},
        "sort": [{"_score": "desc"}, {"session_id": "asc"}, {"seq": "asc"}],
        "size": query.limit + 1,
        "_source": {"excludes": ["words"]},
    }
    if query.cursor is not None:
        body["search_after"] = list(read_rank(query.cursor))
    return body


def _to_hit(hit: Document, head: Head | None, scope: Scope) -> SearchHit | None:
    document = hit["_source"]
    if head is None or head.token.incarnation != document["incarnation"] or not scope.sees(head.user_id):
        return None
    if not head.floor < document["seq"] <= head.last_seq:
        return None
    (message,) = to_messages(head, (document,), NAME)
    return SearchHit(head.session_id, message, float(hit["sort"][0]))


def _cursor(body: Document) -> str:
    """The cursor of a page that ends where the search stands."""
    score, session_id, seq = body["search_after"]
    return make_cursor("search", float(score).hex(), session_id, seq)
