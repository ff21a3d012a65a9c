"""Windows and pages of a history whose newest part lies in the head and whose older part in documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.contract import WIDEN_LIMIT, MessagePage
from turnkeep.errors import CorruptRecord
from turnkeep.outbox.items import Life, to_messages

if TYPE_CHECKING:
    from turnkeep.contract import MessageQuery, StoredMessage
    from turnkeep.outbox.ports import MessageDocuments
    from turnkeep.outbox.records import Record


class Gap(Exception):
    """Messages that a head counts are not there: it was changed since it was read, or they are lost."""

    def __init__(self, record: Record, low: int, high: int) -> None:
        super().__init__(low, high)
        self._head = record.head
        self._low = low
        self._high = high

    def expect_change(self, record: Record, adapter: str) -> None:
        """Raises ``CorruptRecord`` if the head that was read again is the same."""
        if record.head == self._head:
            raise CorruptRecord(
                f"session {self._head.session_id!r:.200} counts messages {self._low} to {self._high}, "
                "but not all of them are there",
                adapter=adapter,
            ) from None


class History:
    """Reads what a head, read just now, says is there."""

    def __init__(self, messages: MessageDocuments, adapter: str) -> None:
        self._messages = messages
        self._adapter = adapter

    async def window(self, record: Record, size: int | None) -> tuple[StoredMessage, ...]:
        """The newest ``size``, widened to begin where a commit began; None for all."""
        if size == 0:
            return ()
        head = record.head
        bottom = head.floor + 1
        low = bottom if size is None else max(bottom, head.last_seq - size + 1)
        messages = await self.stretch(record, low, head.last_seq)
        if messages and messages[0].turn_seq < low:
            begin = max(bottom, low - WIDEN_LIMIT, messages[0].turn_seq)
            messages = await self.stretch(record, begin, low - 1) + messages
        return messages

    async def page(self, record: Record, query: MessageQuery) -> MessagePage:
        """The messages nearest to where the query stands."""
        low, high = record.head.floor + 1, record.head.last_seq
        if query.after is not None:
            low = max(low, query.after + 1)
            last = min(high, low + query.limit - 1)
            return MessagePage(await self.stretch(record, low, last), more=last < high)
        if query.before is not None:
            high = min(high, query.before - 1)
        first = max(low, high - query.limit + 1)
        return MessagePage(await self.stretch(record, first, high), more=first > low)

    async def stretch(self, record: Record, low: int, high: int) -> tuple[StoredMessage, ...]:
        """The messages from ``low`` to ``high``, which the head says are there.

        Raises:
            Gap: they are not.
            CorruptRecord: they are not readable.
        """
        if low > high:
            return ()
        tail = record.tail
        items = [item for item in tail if low <= item["seq"] <= high]
        first = tail[0]["seq"] if tail else record.head.last_seq + 1
        if low < first:
            items[:0] = await self._messages.stretch(Life.of(record.head), low, min(high, first - 1))
        if [item["seq"] for item in items] != list(range(low, high + 1)):
            raise Gap(record, low, high)
        return to_messages(record.head, items, self._adapter)
