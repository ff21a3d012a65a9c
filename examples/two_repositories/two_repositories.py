"""An adapter of your own in two small classes: where records are kept, and where messages are. Here: in dicts."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pydantic

import turnkeep
from turnkeep import Agent, Route, Step, StoredMessage
from turnkeep.providers import GuidedProvider
from turnkeep.repositories import (
    HistoryKey,
    MessageRepository,
    RecordQuery,
    RepositoryAdapter,
    RepositoryRecord,
    SessionRepository,
)


class DictSessions(SessionRepository):
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], RepositoryRecord] = {}

    async def create(self, record: RepositoryRecord) -> bool:
        # Nothing awaits in here, so each method is one atomic step. In SQL: INSERT … ON CONFLICT DO NOTHING.
        return self.rows.setdefault((record.namespace, record.id), record) is record

    async def get(self, namespace: str, session_id: str) -> RepositoryRecord | None:
        return self.rows.get((namespace, session_id))

    async def update(self, record: RepositoryRecord, expected_version: str) -> bool:
        # In SQL: UPDATE … WHERE namespace = ? AND id = ? AND version = ?, and True if that changed one row.
        current = self.rows.get((record.namespace, record.id))
        if current is None or current.version != expected_version:
            return False
        self.rows[record.namespace, record.id] = record
        return True

    async def delete(self, namespace: str, session_id: str, expected_version: str) -> bool:
        current = self.rows.get((namespace, session_id))
        if current is None or current.version != expected_version:
            return False
        del self.rows[namespace, session_id]
        return True

    async def find(self, query: RecordQuery) -> Sequence[RepositoryRecord]:
        return sorted(filter(query.matches, self.rows.values()), key=query.position)[: query.limit]

    async def find_due(self, moment: datetime, limit: int) -> Sequence[RepositoryRecord]:
        due = [(row.due_at, row.id, row) for row in self.rows.values() if row.due_at and row.due_at <= moment]
        return [row for *_, row in sorted(due, key=lambda item: item[:2])][:limit]


class DictMessages(MessageRepository):
    def __init__(self) -> None:
        self.rows: dict[HistoryKey, dict[int, StoredMessage]] = {}

    async def append(self, history: HistoryKey, messages: Sequence[StoredMessage]) -> None:
        self.rows.setdefault(history, {}).update({message.seq: message for message in messages})

    async def page(self, history: HistoryKey, first: int, last: int) -> Sequence[StoredMessage]:
        rows = self.rows.get(history, {})
        return [rows[seq] for seq in range(first, last + 1) if seq in rows]

    async def delete_for_session(self, history: HistoryKey, up_to: int | None = None) -> None:
        rows = self.rows.pop(history, {})
        if up_to is not None and (left := {seq: row for seq, row in rows.items() if seq > up_to}):
            self.rows[history] = left


class Booking(pydantic.BaseModel):
    name: str | None = None
    guests: int | None = None


booking = Route(
    "Book a table",
    when="the user wants to book",
    required_fields=["name", "guests"],
    steps=[Step("Ask who the table is for", collect=["name"]), Step("Ask how many guests", collect=["guests"])],
)


async def main() -> None:
    adapter = RepositoryAdapter(DictSessions(), DictMessages(), name="dicts")
    async with turnkeep.connect(adapter) as persistence:
        for text in ("A table, please", "Ana", "4"):  # each time another Agent, as in another request
            agent = Agent(
                name="Front desk",
                provider=GuidedProvider(),
                schema=Booking,
                routes=[booking],
                persistence=persistence,
                session_id="table-7",
            )
            reply = await agent.respond(text)
            print(f"> {text}\n{reply.message}")
        record = await persistence.find_session_by_id("table-7")
        assert record is not None
        print(f"kept: {record.message_count} messages, {record.data}")


if __name__ == "__main__":
    asyncio.run(main())
