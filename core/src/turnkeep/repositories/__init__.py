"""The simple way to an adapter: two repositories, one of session records and one of messages."""

from turnkeep.repositories.adapter import RepositoryAdapter
from turnkeep.repositories.authors import (
    HistoryKey,
    MessageRepository,
    RecordQuery,
    RepositoryRecord,
    SessionRepository,
)

__all__ = [
    "HistoryKey",
    "MessageRepository",
    "RecordQuery",
    "RepositoryAdapter",
    "RepositoryRecord",
    "SessionRepository",
]
