"""Words at rest: each message's are made by the database as it is written, and stand in a column of it.

What a person typed never reaches a parser of queries: a query is made of the words of ``Terms`` alone, each in quotes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turnkeep.contract import ANYONE, SearchHit, SearchPage, StoredMessage
from turnkeep.cursors import page_of_hits, read_rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from turnkeep.contract import SearchQuery
    from turnkeep.words import Run, Terms

_CROWDED: Final = "'*'"
"""In place of a word, in messages that say one so often that not all of its places were kept."""


def search_parameters(query: SearchQuery, now: datetime | None, *, exact: bool) -> dict[str, object]:
    """What a search takes; ``exact`` where words are looked for and not lexemes of a language."""
    owner = query.scope.owner
    score, last_id, last_seq = (None, "", 0) if query.cursor is None else read_rank(query.cursor)
    return {
        "now": now,
        "namespace": query.scope.namespace,
        "owner": None if owner is ANYONE else owner,
        "terms": to_tsquery(query.terms, exact=exact),
        "ranked": _every_word(query.terms),
        "session_id": query.session_id,
        "role": query.role,
        "since": query.since,
        "until": query.until,
        "score": score,
        "last_id": last_id,
        "last_seq": last_seq,
        "limit": query.limit + 1,
    }


def to_tsquery(terms: Terms, *, exact: bool = True) -> str:
    """The ``tsquery``; with ``exact`` it may find more than is meant, of which ``to_search_page`` keeps what is."""
    wanted = " & ".join(map(_phrase, terms.wanted))
    if exact and has_phrases(terms.wanted):
        wanted = f"({wanted} | {_CROWDED} & {_every_word(terms)})"
    return " & ".join([wanted, *(f"!{_phrase(run)}" for run in terms.unwanted)])


def to_search_page(rows: Iterable[Sequence[Any]], query: SearchQuery, *, exact: bool) -> SearchPage:
    """The page that a search's rows are: one more than asked for says that there are more."""
    hits = [SearchHit(session_id, StoredMessage(*message), score) for *message, session_id, score in rows]
    page = page_of_hits(hits, query)
    if exact and has_phrases((*query.terms.wanted, *query.terms.unwanted)):
        kept = tuple(hit for hit in page.items if query.terms.match(hit.message.content))
        return SearchPage(kept, page.next_cursor)
    return page


def _phrase(run: Run) -> str:
    # No word has a quotation mark or a backslash in it: both part words.
    words = [f"'{word}'" for word in run]
    return f"({' <-> '.join(words)})"


def _every_word(terms: Terms) -> str:
    return " & ".join(f"'{word}'" for run in terms.wanted for word in run)


def has_phrases(runs: Iterable[Run]) -> bool:
    """Whether some of these words have to stand next to each other."""
    return any(len(run) > 1 for run in runs)
