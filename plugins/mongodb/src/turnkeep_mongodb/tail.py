"""What a head keeps of its newest messages, and when the older ones get documents of their own.

The tail is also the outbox: a message enters it with the commit that adds it, and leaves it only after its document was
written. So nothing outside the head is ever waited for by a reader of the newest messages, and the head stays small
however long the session becomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turnkeep.contract import WIDEN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep_mongodb.names import Document

KEPT_MESSAGES: Final = 50
"""So many stay in the head, from the beginning of their turn: what most loads ask for."""

KEPT_BYTES: Final = 256 * 1024
"""Unless they are larger; a longer window then costs a second round trip."""

OUTBOX_MESSAGES: Final = 16
"""From so many on that have no document yet, the next commit writes theirs first."""

OUTBOX_BYTES: Final = 256 * 1024
"""Or from so much text on: together with ``KEPT_BYTES`` it bounds the head before a commit."""


def outbox(tail: Sequence[Document], flushed: int) -> list[Document]:
    """The items that have no document yet: those after ``flushed``."""
    return [item for item in tail if item["seq"] > flushed]


def is_due(tail: Sequence[Document], flushed: int) -> bool:
    """Whether the outbox is to be emptied before anything is added."""
    waiting = outbox(tail, flushed)
    return len(waiting) >= OUTBOX_MESSAGES or sum(item["bytes"] for item in waiting) > OUTBOX_BYTES


def keep(tail: Sequence[Document], floor: int, flushed: int) -> list[Document]:
    """The items that stay: those in the history that have no document, or are among the newest."""
    start = max(0, len(tail) - KEPT_MESSAGES)
    if start:
        first = tail[start]
        start = max(0, start - min(first["seq"] - first["turn_seq"], WIDEN_LIMIT))
    size = 0
    for index in range(len(tail) - 1, start - 1, -1):
        size += tail[index]["bytes"]
        if size > KEPT_BYTES:
            start = index + 1
            break
    return [
        item for index, item in enumerate(tail) if item["seq"] > floor and (index >= start or item["seq"] > flushed)
    ]
