"""Searching by reading: the newest messages of a scope, each matched here as every database has to match it.

MongoDB's own text indexes know other words, and not every server has them. So a search goes through the sessions from
the one that was committed to last, through each from its newest message on, and stops where its bound is. What was
said beyond it is not found, and a line of the log says that there is more.

A session is read by its head, as when it is loaded. One that is committed to while a search is under way moves to the
front of its index, so that search may miss it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from turnkeep.contract import SearchHit, SessionQuery
from turnkeep.cursors import page_of_hits, rank_of, read_rank
from turnkeep.held import is_wanted
from turnkeep.outbox.history import Gap
from turnkeep.outbox.items import Life, identity, to_messages
from turnkeep.outbox.records import read_record
from turnkeep_mongodb._errors import NAME
from turnkeep_mongodb.lists import index_of, listing
from turnkeep_mongodb.messages import Messages
from turnkeep_mongodb.sessions import WITH_TAIL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from turnkeep.contract import SearchPage, SearchQuery
    from turnkeep.outbox.records import Record
    from turnkeep_mongodb.names import Collections, Document

MOST_MESSAGES: Final = 10_000
"""So many messages one search reads, of as many sessions at most."""

MOST_BYTES: Final = 32 * 1024 * 1024
"""Or so much of their text, with what comes along with it; this bounds the memory that hits take, too."""

_HEADS: Final = 100
"""So many heads come at a time, each with its tail."""

_BREATH: Final = 64 * 1024
"""After so much text (about 3 ms) the loop may do something else."""

_log = logging.getLogger("turnkeep.storage")


class Search:
    """One search, from the newest message on.

    Args:
        collections: where.
        query: what for.
        now: what has expired by then is not there.
    """

    def __init__(self, collections: Collections, query: SearchQuery, now: datetime) -> None:
        self._sessions = collections.sessions
        self._messages = Messages(collections)
        self._query = query
        self._now = now
        self._sessions_left = self._messages_left = MOST_MESSAGES
        self._bytes_left = MOST_BYTES
        self._unbroken = 0

    async def page(self) -> SearchPage:
        """The hits that follow the cursor.

        Raises:
            InvalidArgument: the cursor is not one of a search.
            CorruptRecord: a session within the bound cannot be read.
        """
        after = None if self._query.cursor is None else read_rank(self._query.cursor)
        hits = await self._read_all()
        if after is not None:
            score, session_id, seq = after
            hits = [hit for hit in hits if rank_of(hit) > (-score, session_id, seq)]
        return page_of_hits(sorted(hits, key=rank_of), self._query)

    async def _read_all(self) -> list[SearchHit]:
        condition, order, index = looking_through(self._query, self._now)
        hits: list[SearchHit] = []
        heads = self._sessions.find(condition, WITH_TAIL, batch_size=_HEADS).hint(index).sort(order)
        async with heads:
            async for document in heads:
                if self._is_spent() or not await self._read_session(document, condition, hits):
                    self._tell()
                    break
                self._sessions_left -= 1
        return hits

    async def _read_session(self, found: Document, condition: Document, hits: list[SearchHit]) -> bool:
        """Adds the hits of a session; whether all of it was read. It is read again if it changes meanwhile."""
        document: Document | None = found
        gap: Gap | None = None
        while document is not None:
            record = read_record(document, self._now, NAME)
            if gap is not None:
                gap.expect_change(record, NAME)
            try:
                more, whole = await self._read(record)
            except Gap as missing:
                gap = missing
                document = await self._sessions.find_one({**condition, "_id": record.session}, WITH_TAIL)
                continue
            hits += more
            return whole
        return True

    async def _read(self, record: Record) -> tuple[list[SearchHit], bool]:
        """The hits of a session as its head was read, and whether all of it was read.

        Raises:
            Gap: what the head says is there is not.
        """
        hits: list[SearchHit] = []
        head, due = record.head, record.head.last_seq
        async with aclosing(self._newest_first(record)) as items:
            async for item in items:
                if item["seq"] != due:
                    break
                if self._is_spent():
                    return hits, False
                await self._account(item["bytes"])
                (message,) = to_messages(head, (item,), NAME)
                if is_wanted(message, self._query):
                    hits.append(SearchHit(head.session_id, message, self._query.terms.score(message.content)))
                due -= 1
        if due > head.floor:
            raise Gap(record, head.floor + 1, due)
        return hits, True

    async def _newest_first(self, record: Record) -> AsyncGenerator[Document]:
        """The items of a session, from its head and then from their documents."""
        for item in reversed(record.tail):
            yield item
        floor = record.head.floor
        first = record.tail[0]["seq"] if record.tail else record.head.last_seq + 1
        if first > floor + 1:
            async with self._messages.backwards(Life.of(record.head), floor + 1, first - 1) as older:
                async for item in older:
                    yield item

    async def _account(self, size: int) -> None:
        self._messages_left -= 1
        self._bytes_left -= size
        self._unbroken += size
        if self._unbroken > _BREATH:
            self._unbroken = 0
            await asyncio.sleep(0)

    def _is_spent(self) -> bool:
        return self._sessions_left <= 0 or self._messages_left <= 0 or self._bytes_left <= 0

    def _tell(self) -> None:
        read = MOST_MESSAGES - self._messages_left
        _log.info("mongodb: search_messages read the newest %d messages of its scope, and there are more", read)


def looking_through(query: SearchQuery, now: datetime) -> tuple[Document, list[tuple[str, int]], str]:
    """The condition, the order and the index by which a search finds the sessions it reads."""
    condition, order = listing(SessionQuery(query.scope, 1), now)
    if query.session_id is None:
        return condition, order, index_of(query.scope, "activity")
    return {**condition, "_id": identity(query.scope.namespace, query.session_id)}, order, "_id_"
