"""What an author writes: where session records are kept, and where messages are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from turnkeep.contract import Scope
from turnkeep.retention import to_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Order, Owner, Status, StoredMessage


class HistoryKey(NamedTuple):
    """Whose messages: those of one life of one session."""

    namespace: str
    session_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """One session as a repository keeps it.

    ``namespace``, ``id``, ``version``, ``incarnation``, ``collected_data`` and ``document`` have to come back character
    by character. The others are copies out of ``document``, for queries and for people. Times are aware, in UTC; a
    store may cut them to milliseconds.

    Attributes:
        version: differs in every record ever written; compare it for equality, there is no order in it.
        incarnation: which life of the id this is; every message carries it.
        collected_data: the data alone, as JSON text.
        due_at: when ``sweep`` has something to do here; None: never.
        document: everything else: token, counts, state, what is remembered of commits, the last turn's messages.
    """

    namespace: str
    id: str
    version: str
    incarnation: str
    user_id: str | None
    status: Status
    agent_name: str | None
    current_route: str | None
    current_step: str | None
    collected_data: str
    message_count: int
    last_message_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    due_at: datetime | None
    document: str


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """A page of records: at most ``limit``, in ``order``, of those that match.

    A store has to apply ``namespace``, ``user_id``, ``order``, ``after`` and ``limit``. The other conditions narrow the
    page earlier and may be left to the adapter, which looks at them again.

    Attributes:
        user_id: the owner; None: records without one; ``ANYONE``: all.
        order: ``"activity"``: by ``updated_at``, latest first; ``"created"``: by ``created_at``, earliest first. Ties
            in both are in ascending order of ``id``, by code points (as Python's ``str`` or UTF-8 bytes compare).
        after: (time, id) of the record the page begins after, in that order; None: from the start.
        updated_before: only records with an earlier ``updated_at``.
    """

    namespace: str
    user_id: Owner
    order: Order
    limit: int
    after: tuple[datetime, str] | None = None
    status: Status | None = None
    agent_name: str | None = None
    route: str | None = None
    updated_before: datetime | None = None

    def matches(self, record: RepositoryRecord) -> bool:
        """Whether the record is on this page or a later one, for stores that look at each."""
        return (
            record.namespace == self.namespace
            and Scope(self.namespace, self.user_id).sees(record.user_id)
            and self.status in {None, record.status}
            and self.agent_name in {None, record.agent_name}
            and self.route in {None, record.current_route}
            and (self.updated_before is None or record.updated_at < self.updated_before)
            and (self.after is None or self.position(record) > self._position(*self.after))
        )

    def position(self, record: RepositoryRecord) -> tuple[int, str]:
        """A sort key: ascending, it gives ``order``."""
        return self._position(record.updated_at if self.order == "activity" else record.created_at, record.id)

    def _position(self, moment: datetime, record_id: str) -> tuple[int, str]:
        stamp = to_microseconds(moment)
        return (-stamp if self.order == "activity" else stamp, record_id)


class SessionRepository(ABC):
    """Keeps one record per (namespace, id); an id is compared byte by byte.

    The author promises: ``create``, ``update`` and ``delete`` of one record are atomic, each either happens whole or
    not at all, and whatever begins after one was acknowledged sees it, from every process.

    Raise ``StorageUnavailable``, ``StorageTimeout``, ``StorageRefused`` or ``StorageFull`` where it is certain that
    nothing was written. Any other exception of a driver may pass: a write it came from counts as undecided.
    """

    @abstractmethod
    async def create(self, record: RepositoryRecord) -> bool:
        """Stores the record if its (namespace, id) is free, in one atomic step; False, and no change, if it is not."""

    @abstractmethod
    async def get(self, namespace: str, session_id: str) -> RepositoryRecord | None:
        """The record as last written, or None."""

    @abstractmethod
    async def update(self, record: RepositoryRecord, expected_version: str) -> bool:
        """Compare-and-swap: replaces the record if the stored one has this version, in one atomic step.

        False, and no change, if it has another or is not there.
        """

    @abstractmethod
    async def delete(self, namespace: str, session_id: str, expected_version: str) -> bool:
        """Removes the record if it has this version, in one atomic step; otherwise False, and no change."""

    @abstractmethod
    async def find(self, query: RecordQuery) -> Sequence[RepositoryRecord]:
        """A page of records. Fewer than ``query.limit`` mean that there are no more."""

    @abstractmethod
    async def find_due(self, moment: datetime, limit: int) -> Sequence[RepositoryRecord]:
        """At most ``limit`` records, of all namespaces, whose ``due_at`` is ``moment`` or earlier; earliest first."""


class MessageRepository(ABC):
    """Keeps messages by (namespace, session id, incarnation, seq); their fields come back exactly, times included.

    The messages of a session's last turn are in its record's ``document``; they come here with the next turn.

    The author promises: what ``append`` or ``delete_for_session`` acknowledged is durable and seen by whatever begins
    after it, from every process. Neither needs to be atomic.
    """

    @abstractmethod
    async def append(self, history: HistoryKey, messages: Sequence[StoredMessage]) -> None:
        """Puts the messages. One whose seq is there already is the same one: put it again or leave it, but no error."""

    @abstractmethod
    async def page(self, history: HistoryKey, first: int, last: int) -> Sequence[StoredMessage]:
        """The messages with ``first <= seq <= last`` that are there, in order of seq."""

    @abstractmethod
    async def delete_for_session(self, history: HistoryKey, up_to: int | None = None) -> None:
        """Removes the messages with ``seq <= up_to``, or all of this history; no error if there are none."""
