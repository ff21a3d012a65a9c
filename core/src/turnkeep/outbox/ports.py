"""What an adapter fills in: where heads and message documents lie, and the few statements on them.

Both raise the driver's errors, or ours; what decides over a commit or a delete (``insert``, ``swap``, ``bury``) says
``CommitOutcomeUnknown`` where it may have taken effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from turnkeep.contract import Head, Scope, SessionKey, Token
    from turnkeep.outbox.items import Document, Life
    from turnkeep.outbox.records import Grave, Record

Texts = tuple[str | None, str | None]
"""The documents of data and state; None leaves one as it is."""


class Lot(NamedTuple):
    """Message documents of one life that a sweep has come across."""

    session: str
    incarnation: str
    first: int
    """The lowest seq among them."""
    last: int
    """The highest."""


class SessionDocuments(Protocol):
    """The heads. Reads are linearizable: each shows every write acknowledged before it began.

    In a document that is read, ``_id`` is the session's identity.
    """

    async def find(self, key: SessionKey, *, texts: bool) -> Document | None:
        """The head of a session, expired or deleted ones included; with data and state, or without.

        It may leave out what the key's scope does not see.
        """
        ...

    async def find_any(self, session: str) -> Document | None:
        """What decides over a commit: the head of this identity, whoever owns it, without data and state."""
        ...

    async def find_several(self, sessions: Collection[str]) -> dict[str, Document]:
        """The heads of these identities, as far as there are any; at least incarnation, ``buried`` and ``erased``."""
        ...

    async def find_expired(self, now: datetime, limit: int) -> list[Document]:
        """Heads that expired until ``now``, longest ago first."""
        ...

    async def find_due(self, now: datetime, limit: int) -> list[Document]:
        """Heads and graves at which a sweep has something to do, longest ago first."""
        ...

    async def find_owned(self, scope: Scope) -> list[Document]:
        """Every head of one owner, expired ones included."""
        ...

    async def insert(self, record: Record, texts: Texts, now: datetime) -> bool:
        """Writes the head of a new session; False if there is one. A document that is None becomes ``{}``."""
        ...

    async def swap(self, before: Record, after: Record, added: int, texts: Texts, now: datetime) -> bool:
        """Writes a head, if it is still at the token of ``before``; else False.

        The last ``added`` items of the tail and the last line of the ring are new.
        """
        ...

    async def bury(self, record: Record, now: datetime, *, at: Token | None) -> Grave | None:
        """Puts a grave in place of a head, if it is still of this life and, where given, at this token; else None."""
        ...

    async def remove(self, grave: Grave) -> None:
        """Removes a grave, if it is still there."""
        ...

    async def trim(self, record: Record, now: datetime) -> bool:
        """Writes what has left the history, and what has documents, without making a version of it.

        False if the head is at another token.
        """
        ...

    async def tell_time(self) -> datetime | None:
        """The server's time; None if it does not answer."""
        ...


class MessageDocuments(Protocol):
    """The documents of older messages. Each is written once, and removed once."""

    async def insert(self, head: Head, items: Sequence[Document]) -> None:
        """Writes a document for each item of the head's tail; those that are there already are left."""
        ...

    async def stretch(self, life: Life, low: int, high: int) -> list[Document]:
        """The items from ``low`` to ``high``, in order, as far as they are there. Linearizable, as heads are."""
        ...

    async def erase(self, session: str, incarnation: str, low: int, high: int | None) -> int:
        """Removes the documents of a life from ``low`` to ``high``, None being the last; how many there were."""
        ...

    async def look_over(self, limit: int) -> list[Lot]:
        """About ``limit`` documents that follow those that were looked over last; after the last, the first."""
        ...
