"""Commits at rest: what a session remembers of each, as long as it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.errors import CorruptRecord
from turnkeep.judge import PastCommit
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.times import from_text, to_text

if TYPE_CHECKING:
    import sqlite3

    from turnkeep_sqlite.messages import Life
    from turnkeep_sqlite.statements import Queries


class Commits:
    """The commits table. Every method runs within the caller's transaction."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def find(self, connection: sqlite3.Connection, life: Life, commit_id: str) -> PastCommit | None:
        """What the session remembers of this commit id."""
        row = connection.execute(self._queries.find_commit, (*life, commit_id)).fetchone()
        if row is None:
            return None
        try:
            commit_id, digest, version, created, first_seq, last_seq, message_count, time = row
            return PastCommit(
                commit_id, digest, version, bool(created), first_seq, last_seq, message_count, from_text(time)
            )
        except ValueError as error:
            raise CorruptRecord(
                f"session {life.session_id!r:.200} has a commit whose time is none", adapter=NAME
            ) from error

    def add(self, connection: sqlite3.Connection, life: Life, past: PastCommit) -> None:
        """Remembers a commit that takes effect."""
        connection.execute(
            self._queries.insert_commit,
            (
                past.commit_id,
                past.digest,
                past.version,
                past.created,
                past.first_seq,
                past.last_seq,
                past.message_count,
                to_text(past.time),
                *life,
            ),
        )

    def delete(self, connection: sqlite3.Connection, namespace: str, session_id: str) -> None:
        """Forgets the commits of all lives of a session."""
        connection.execute(self._queries.delete_commits, (namespace, session_id))
