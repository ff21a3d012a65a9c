"""Messages at rest: one row each, keyed by session, incarnation and seq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from turnkeep.contract import WIDEN_LIMIT, MessagePage, StoredMessage
from turnkeep.errors import CorruptRecord
from turnkeep_sqlite._errors import NAME
from turnkeep_sqlite.times import from_text, to_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from turnkeep.contract import Head, MessageQuery
    from turnkeep_sqlite.statements import Queries


class Life(NamedTuple):
    """One incarnation of a session: what the rows of messages and commits belong to."""

    namespace: str
    session_id: str
    incarnation: str

    @classmethod
    def of(cls, head: Head) -> Life:
        """The one that a head is of."""
        return cls(head.namespace, head.session_id, head.token.incarnation)


class Messages:
    """The messages table. Every method runs within the caller's transaction."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def append(
        self, connection: sqlite3.Connection, life: Life, messages: Iterable[StoredMessage], committed_at: str
    ) -> None:
        """Writes messages that follow the last one."""
        owned = (*life, committed_at)
        rows = [(*message[:12], to_text(message.created_at), *message[13:], *owned) for message in messages]
        connection.executemany(self._queries.insert_message, rows)

    def window(self, connection: sqlite3.Connection, head: Head, size: int | None) -> tuple[StoredMessage, ...]:
        """The newest ``size``, widened to begin where a commit began; None for all."""
        if size == 0:
            return ()
        bottom = head.floor + 1
        low = bottom if size is None else max(bottom, head.last_seq - size + 1)
        messages = self.stretch(connection, head, low, head.last_seq)
        if messages and messages[0].turn_seq < low:
            begin = max(bottom, low - WIDEN_LIMIT, messages[0].turn_seq)
            messages = self.stretch(connection, head, begin, low - 1) + messages
        return messages

    def page(self, connection: sqlite3.Connection, head: Head, query: MessageQuery) -> MessagePage:
        """The messages nearest to where the query stands."""
        low, high = head.floor + 1, head.last_seq
        if query.after is not None:
            low = max(low, query.after + 1)
            last = min(high, low + query.limit - 1)
            return MessagePage(self.stretch(connection, head, low, last), more=last < high)
        if query.before is not None:
            high = min(high, query.before - 1)
        first = max(low, high - query.limit + 1)
        return MessagePage(self.stretch(connection, head, first, high), more=first > low)

    def stretch(self, connection: sqlite3.Connection, head: Head, low: int, high: int) -> tuple[StoredMessage, ...]:
        """The messages from ``low`` to ``high``, which the head says are there.

        Raises:
            CorruptRecord: they are not, or not readable.
        """
        if low > high:
            return ()
        rows = connection.execute(self._queries.read_messages, (*Life.of(head), low, high)).fetchall()
        if len(rows) != high - low + 1:
            raise CorruptRecord(
                f"session {head.session_id!r:.200} counts messages {low} to {high}, but {len(rows)} are there",
                adapter=NAME,
            )
        try:
            return to_messages(rows)
        except ValueError as error:
            raise CorruptRecord(
                f"session {head.session_id!r:.200} has a message whose time is none", adapter=NAME
            ) from error

    def erase(self, connection: sqlite3.Connection, life: Life, floor: int) -> int:
        """Removes history up to ``floor``; how many messages that were."""
        return connection.execute(self._queries.erase_messages, (*life, floor)).rowcount

    def delete(self, connection: sqlite3.Connection, namespace: str, session_id: str) -> int:
        """Removes the messages of all lives of a session; how many that were."""
        return connection.execute(self._queries.delete_messages, (namespace, session_id)).rowcount


def to_messages(rows: list[tuple[Any, ...]]) -> tuple[StoredMessage, ...]:
    """The messages of rows.

    Raises:
        ValueError: a time is none.
    """
    make = cast("Callable[..., StoredMessage]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType] - typeshed
    # Every load does it 50 times: unpacked 0.5 µs a message, sliced around the time 1.5 µs (measured).
    return tuple(
        [
            make(StoredMessage, (a, b, c, d, e, f, g, h, i, j, k, m, from_text(created_at), n, o, p))
            for a, b, c, d, e, f, g, h, i, j, k, m, created_at, n, o, p in rows
        ]
    )
