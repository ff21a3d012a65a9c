"""Messages at rest: one row each, keyed by session, incarnation and seq."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast

from turnkeep.contract import StoredMessage
from turnkeep.errors import CorruptRecord
from turnkeep_postgres._errors import NAME
from turnkeep_postgres.values import Instants, Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnkeep.contract import NewMessage

MESSAGE_WIDTH: Final = len(StoredMessage._fields)
"""How many columns a message has in every statement that gives some; they come first."""

_SEQ: Final = itemgetter(StoredMessage._fields.index("seq"))
_ARRAYS: Final = (
    "ids",
    "roles",
    "contents",
    "encodings",
    "names",
    "tool_calls",
    "tool_call_ids",
    "routes",
    "steps",
    "events",
    "metadatas",
    "replies",
)
"""The parameters that hold the texts of messages, in the order of ``NewMessage``."""


def to_arrays(messages: Sequence[NewMessage]) -> dict[str, object]:
    """A parameter for each column: the statement is the same however many there are."""
    columns = list(zip(*messages, strict=True)) if messages else [()] * (len(_ARRAYS) + 1)
    arrays: dict[str, object] = {name: Texts(column) for name, column in zip(_ARRAYS, columns, strict=False)}
    arrays["created"] = Instants(columns[-1])
    return arrays


def from_rows(rows: list[tuple[Any, ...]]) -> list[StoredMessage]:
    """The messages that begin rows in any order, in order of seq."""
    # 0.6 µs a message, against 1 µs by calling the class (measured); every load does it 50 times.
    make = cast("Callable[..., StoredMessage]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType] - typeshed
    messages = [make(StoredMessage, row[:MESSAGE_WIDTH]) for row in rows]
    messages.sort(key=_SEQ)
    return messages


def check_stretch(messages: Sequence[StoredMessage], low: int, high: int, session_id: str) -> None:
    """Holds messages to what the head says: all from ``low`` to ``high`` are there.

    Raises:
        CorruptRecord: they are not.
    """
    wanted = max(0, high - low + 1)
    if len(messages) != wanted or (messages and (messages[0].seq != low or messages[-1].seq != high)):
        raise CorruptRecord(
            f"session {session_id!r:.200} counts messages {low} to {high}, but {len(messages)} are there", adapter=NAME
        )
