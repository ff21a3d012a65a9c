"""What this process last knew of sessions, so that a commit need not read the head that a load has just read.

Only a guess: a commit that builds on it names the token in its filter, and reads the head if that is not the session's.
Nothing is ever answered from here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from turnkeep.outbox.records import Record

_MOST_BYTES: Final = 32 * 1024 * 1024
_LARGEST: Final = 1024 * 1024
_OVERHEAD: Final = 1024
"""Of a record and of each of its items, roughly, beside the text."""


class Recall:
    """The sessions used last, up to a size."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, tuple[Record, int]] = OrderedDict()
        self._bytes = 0

    def get(self, session: str) -> Record | None:
        """What was known last, or None."""
        found = self._records.get(session)
        return None if found is None else found[0]

    def keep(self, session: str, record: Record) -> None:
        """Remembers a record that was read, or written and acknowledged."""
        self.forget(session)
        size = sum(item["bytes"] + _OVERHEAD for item in record.tail) + 8 * _OVERHEAD
        if size > _LARGEST:
            return
        self._records[session] = (record, size)
        self._bytes += size
        while self._bytes > _MOST_BYTES:
            _, (_, freed) = self._records.popitem(last=False)
            self._bytes -= freed

    def forget(self, session: str) -> None:
        """Drops what was known."""
        found = self._records.pop(session, None)
        if found is not None:
            self._bytes -= found[1]
