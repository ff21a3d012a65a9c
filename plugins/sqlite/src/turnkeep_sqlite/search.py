"""Words at rest: a full-text table beside the messages, which holds for each its words and whose they are.

A commit leaves it alone: each would write three times as much (15 pages instead of 5, measured), for a search that may
never come. A search first reads what was said since the last one; in one transaction that costs far less.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from turnkeep.contract import ANYONE, SearchHit, SearchPage
from turnkeep.cursors import page_of_hits, read_rank
from turnkeep.errors import CorruptRecord
from turnkeep.retention import to_microseconds
from turnkeep.words import split_words
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.messages import to_messages
from turnkeep_sqlite.times import LATER, to_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from datetime import datetime

    from turnkeep.contract import Owner, SearchQuery
    from turnkeep.words import Run, Terms
    from turnkeep_sqlite.statements import Queries

_MESSAGE: Final = 16
"""So many columns of a found row are the message; then come its session and its score."""


_PORTION: Final = 2000
"""So many messages are read in one transaction, which keeps other writers waiting for about a tenth of a second."""


class Words:
    """The table of words. Every method runs within the caller's transaction."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def are_behind(self, connection: sqlite3.Connection) -> bool:
        """Whether there are messages whose words were not read yet."""
        return connection.execute(self._queries.list_unread, (1,)).fetchone() is not None

    def read_on(self, connection: sqlite3.Connection) -> bool:
        """Reads the words of the next messages; whether there may be more."""
        rows = connection.execute(self._queries.list_unread, (_PORTION,)).fetchall()
        connection.executemany(
            self._queries.insert_words,
            [(serial, words_of(content, encoding), place_of(*whose)) for serial, content, encoding, *whose in rows],
        )
        return len(rows) == _PORTION

    def search(self, connection: sqlite3.Connection, query: SearchQuery, now: datetime) -> SearchPage:
        """The hits that follow the cursor."""
        owner = query.scope.owner
        score, last_id, last_seq = (None, "", 0) if query.cursor is None else read_rank(query.cursor)
        rows = connection.execute(
            self._queries.search,
            {
                "terms": _expression(query.terms, query.scope.namespace, owner),
                "namespace": query.scope.namespace,
                "anyone": owner is ANYONE,
                "owner": None if owner is ANYONE else owner,
                "session_id": query.session_id,
                "role": query.role,
                "since": "" if query.since is None else to_text(query.since),
                "until": LATER if query.until is None else to_text(query.until),
                "now": to_text(now),
                "stamp": to_microseconds(now),
                "score": score,
                "last_id": last_id,
                "last_seq": last_seq,
                "limit": query.limit + 1,
            },
        ).fetchall()
        try:
            messages = to_messages([row[:_MESSAGE] for row in rows])
        except ValueError as error:
            raise CorruptRecord("a message that was found has a time that is none", adapter=NAME) from error
        hits = [SearchHit(row[-2], message, row[-1]) for row, message in zip(rows, messages, strict=True)]
        return page_of_hits(hits, query)


def teach(connection: sqlite3.Connection) -> None:
    """Gives a connection the functions that migrations use."""
    connection.create_function("words_of", 2, words_of, deterministic=True)
    connection.create_function("place_of", 2, place_of, deterministic=True)


def words_of(content: str, encoding: str) -> str:
    """The words of a content as the table holds them; none where it is no plain text."""
    return " ".join(split_words(content)) if encoding == "plain" else ""


def place_of(namespace: str, owner: str | None) -> str:
    """Words that only a search for this namespace, or for this owner in it, asks for."""
    return f"{_name(namespace, ANYONE)} {_name(namespace, owner)}"


def _name(namespace: str, owner: Owner) -> str:
    whose = "" if owner is ANYONE else "\0" if owner is None else f"\0\0{owner}"
    return blake2b(f"{namespace}{whose}".encode(), digest_size=10).hexdigest()


def _expression(terms: Terms, namespace: str, owner: Owner) -> str:
    """The query of FTS5. No word has a quotation mark in it, so none can end where it stands."""
    wanted = " AND ".join(_quoted(terms.wanted))
    unwanted = " OR ".join(_quoted(terms.unwanted))
    words = f"({wanted}) NOT ({unwanted})" if unwanted else f"({wanted})"
    return f'place : "{_name(namespace, owner)}" AND words : ({words})'


def _quoted(runs: Iterable[Run]) -> list[str]:
    return [f'"{" ".join(run)}"' for run in runs]
