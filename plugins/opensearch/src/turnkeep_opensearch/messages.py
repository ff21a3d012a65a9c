"""The index of message documents. Reads and writes of a session go by ids that can be computed, never by search."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Final

from turnkeep.outbox.items import Life
from turnkeep.outbox.ports import Lot
from turnkeep_opensearch import scripts
from turnkeep_opensearch.names import RECORD, message_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from turnkeep.contract import Head
    from turnkeep.outbox.items import Document
    from turnkeep_opensearch.calls import Calls
    from turnkeep_opensearch.names import Indices
    from turnkeep_opensearch.wording import Wording

_PAGE: Final = 1000
"""Documents that are asked for at once."""

_MOST: Final = 10_000
"""As many hits as a search gives unless an index is set otherwise."""

WORDS: Final = ("words",)
"""What is there to be searched, and is never read."""

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class Messages:
    """As ``turnkeep.outbox.MessageDocuments`` says."""

    def __init__(self, calls: Calls, indices: Indices, wording: Wording) -> None:
        self._calls = calls
        self._wording = wording
        self._index = indices.messages
        self._records = indices.sessions

    async def insert(self, head: Head, items: Sequence[Document]) -> None:
        """Writes a document for each item.

        One that is there already says the same, unless it was copied from a head that a failing primary showed and
        then lost: so it is compared.
        """
        words = self._wording.fields
        place = {**Life.of(head)._asdict(), "session": Life.of(head).session, "user_id": head.user_id}
        named = {message_id(head.token.incarnation, item["seq"]): {**place, **item, **words(item)} for item in items}
        outcomes = await self._write("create", named)
        there = [outcome["_id"] for outcome in outcomes if outcome["status"] == _CONFLICT]
        found = await self._calls.get_many(self._index, there, without=WORDS)
        wrong = {
            name: named[name] for name, document in zip(there, found, strict=True) if _differs(document, named[name])
        }
        if wrong:
            await self._write("index", wrong)

    async def _write(self, action: str, documents: dict[str, Document]) -> list[Document]:
        lines = chain.from_iterable(({action: {"_id": name}}, document) for name, document in documents.items())
        return await self._calls.bulk(self._index, lines, expected=(_CONFLICT,))

    async def stretch(self, life: Life, low: int, high: int) -> list[Document]:
        """The documents from ``low`` to ``high``, in order; there may be fewer than asked for."""
        names = [message_id(life.incarnation, seq) for seq in range(low, high + 1)]
        pages = [names[begin : begin + _PAGE] for begin in range(0, len(names), _PAGE)]
        found = await asyncio.gather(*(self._calls.get_many(self._index, page, without=WORDS) for page in pages))
        return [document for page in found for document in page if document is not None]

    async def erase(self, session: str, incarnation: str, low: int, high: int | None) -> int:
        """Removes the documents of a life from ``low`` to ``high``; how many that were."""
        removed = 0
        for begin in range(low, (high or 0) + 1, _PAGE):
            seqs = range(begin, min(begin + _PAGE, (high or 0) + 1))
            lines = ({"delete": {"_id": message_id(incarnation, seq)}} for seq in seqs)
            outcomes = await self._calls.bulk(self._index, lines, expected=(_NOT_FOUND,))
            removed += sum(outcome["result"] == "deleted" for outcome in outcomes)
        return removed

    async def look_over(self, limit: int) -> list[Lot]:
        """What the next so many documents belong to."""
        await self._calls.refresh(self._index)
        place = await self._calls.get(self._records, RECORD) or {}
        size = min(limit, _MOST)
        query: Document = {
            "sort": ["incarnation", "seq"],
            "size": size,
            "_source": ["session", "incarnation", "seq"],
            **({"search_after": place["after"]} if place.get("after") else {}),
        }
        hits = (await self._calls.search(self._index, query))["hits"]["hits"]
        after = {"after": hits[-1]["sort"] if len(hits) == size else None}
        await self._calls.update(self._records, RECORD, scripts.MARK_PLACE, after)
        return _to_lots(hit["_source"] for hit in hits)


def _differs(stored: Document | None, document: Document) -> bool:
    return stored is None or any(stored.get(name) != document[name] for name in ("id", "commit_id"))


def _to_lots(documents: Iterable[Document]) -> list[Lot]:
    seqs: dict[tuple[str, str], list[int]] = {}
    for document in documents:
        seqs.setdefault((document["session"], document["incarnation"]), []).append(document["seq"])
    return [Lot(session, incarnation, min(found), max(found)) for (session, incarnation), found in seqs.items()]
