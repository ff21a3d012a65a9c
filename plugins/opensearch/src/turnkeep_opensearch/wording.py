"""The field of a message document that is searched: its words as every database has them, or as an analyzer does.

OpenSearch has no analyzer that parts words as ``turnkeep.words`` does. So the words are found here and handed over with
a space between; the built-in ``whitespace`` takes them apart again and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turnkeep.words import SINGLE, fold, split_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep.outbox.items import Document
    from turnkeep.words import Terms
    from turnkeep_opensearch.calls import Calls

BUILT_IN: Final = "whitespace"

_PAGE: Final = 500
"""Documents that are filled at once."""

_MISSING: Final = 404
"""The document was removed since it was found."""


class Wording:
    """How contents and what is searched for are written.

    Args:
        analyzer: of the field, if it is to decide what a word is; else a text is given in ``split_words``' own.
    """

    def __init__(self, analyzer: str | None = None) -> None:
        self.analyzer = analyzer

    def fields(self, item: Document) -> Document:
        """What a message document says beside its item; nothing if its content is no plain text."""
        if "encoding" in item:
            return {}
        content: str = item["content"]
        return {"words": " ".join(split_words(content)) if self.analyzer is None else fold(content)}

    def phrase(self, run: Sequence[str]) -> str:
        """Words that stand next to each other, as they are written in the field."""
        if self.analyzer is None:
            return " ".join(run)
        # An analyzer of a script without spaces knows words of several characters.
        pairs = zip(("", *run), run, strict=False)
        parts = (f"{'' if _is_single(before) and _is_single(word) else ' '}{word}" for before, word in pairs)
        return "".join(parts).lstrip()

    def conditions(self, terms: Terms) -> Document:
        """What has to match, and what must not.

        Where all of a wanted phrase is left out by the analyzer, as stop words are, the others decide.
        """
        wanted = [self._phrase(run, otherwise="none" if self.analyzer is None else "all") for run in terms.wanted]
        if self.analyzer is not None:
            some = " ".join(map(self.phrase, terms.wanted))
            wanted.append({"bool": {"filter": [{"match": {"words": {"query": some}}}]}})
        return {"must": wanted, "must_not": [self._phrase(run, otherwise="none") for run in terms.unwanted]}

    def _phrase(self, run: Sequence[str], *, otherwise: str) -> Document:
        return {"match_phrase": {"words": {"query": self.phrase(run), "zero_terms_query": otherwise}}}

    async def fill(self, calls: Calls, index: str) -> None:
        """Writes the field in every document that lacks it. It can be repeated."""
        await calls.refresh(index)
        query: Document = {
            "query": {"bool": {"must_not": [{"exists": {"field": "words"}}]}},
            "sort": ["incarnation", "seq"],
            "size": _PAGE,
            "_source": ["content", "encoding"],
        }
        while True:
            hits = (await calls.search(index, query))["hits"]["hits"]
            lines: list[Document] = []
            for hit in hits:
                if fields := self.fields(hit["_source"]):
                    lines += ({"update": {"_id": hit["_id"]}}, {"doc": fields})
            if lines:
                await calls.bulk(index, lines, expected=(_MISSING,))
            if len(hits) < _PAGE:
                return
            query["search_after"] = hits[-1]["sort"]


def _is_single(word: str) -> bool:
    return len(word) == 1 and any(first <= ord(word) <= last for first, last in SINGLE)
