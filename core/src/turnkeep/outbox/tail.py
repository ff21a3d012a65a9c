"""What a head keeps of its newest messages, and when the older ones get documents of their own.

The tail is also the outbox: a message enters it with the commit that adds it, and leaves it only after its document was
written. So nothing outside the head is ever waited for by a reader of the newest messages, and the head stays small
however long the session becomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnkeep.contract import WIDEN_LIMIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep.outbox.items import Document


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a tail becomes.

    Attributes:
        kept_bytes: so much of the newest messages stays in the head.
        outbox_bytes: from so much on that has no document yet, the next commit writes the documents first. The larger
            of the two bounds the tail before a commit.
        overhead: what a message takes beside its text.
        kept_messages: so many stay in the head, from the beginning of their turn, unless they are larger than
            ``kept_bytes``: what most loads ask for. A longer window costs a second round trip.
        outbox_messages: as ``outbox_bytes``, counted.
    """

    kept_bytes: int
    outbox_bytes: int
    overhead: int = 0
    kept_messages: int = 50
    outbox_messages: int = 16

    def size(self, item: Document) -> int:
        """About how large an item is."""
        return item["bytes"] + self.overhead


def outbox(tail: Sequence[Document], flushed: int) -> list[Document]:
    """The items that have no document yet: those after ``flushed``."""
    return [item for item in tail if item["seq"] > flushed]


def is_due(tail: Sequence[Document], flushed: int, bounds: Bounds) -> bool:
    """Whether the outbox is to be emptied before anything is added."""
    waiting = outbox(tail, flushed)
    return len(waiting) >= bounds.outbox_messages or sum(map(bounds.size, waiting)) > bounds.outbox_bytes


def keep(tail: Sequence[Document], floor: int, flushed: int, bounds: Bounds) -> list[Document]:
    """The items that stay: those in the history that have no document, or are among the newest."""
    start = max(0, len(tail) - bounds.kept_messages)
    if start:
        first = tail[start]
        start = max(0, start - min(first["seq"] - first["turn_seq"], WIDEN_LIMIT))
    size = 0
    for index in range(len(tail) - 1, start - 1, -1):
        size += bounds.size(tail[index])
        if size > bounds.kept_bytes:
            start = index + 1
            break
    return [
        item for index, item in enumerate(tail) if item["seq"] > floor and (index >= start or item["seq"] > flushed)
    ]
