"""A memory adapter whose history can be damaged and that tells; and one that does not."""

from __future__ import annotations

from turnkeep.contract import LoadQuery
from turnkeep.errors import CorruptRecord

from .mutants import Mutant, caught_by


class Counting(Mutant):
    """Compares what it has with what the head counts."""

    def lose_message(self, key, seq):
        record = self.record(key)
        record.messages = [message for message in record.messages if message.seq != seq]

    def expect_whole(self, key):
        record = self.record(key)
        if record is not None and len(record.messages) != record.head.message_count:
            raise CorruptRecord("a message that the head counts is missing", adapter=self.name)

    async def load(self, key, query=LoadQuery()):  # noqa: B008 - frozen
        self.expect_whole(key)
        return await super().load(key, query)

    async def read_messages(self, key, query):
        self.expect_whole(key)
        return await super().read_messages(key, query)


Counting.correct = Counting


@caught_by("test_g14_a_lost_message_is_told")
class SkipsCorruptRows(Counting):
    def expect_whole(self, key):
        """What cannot be read is left out."""
