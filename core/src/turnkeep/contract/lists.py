"""Many sessions: pages of them, searches through what they say, counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, timedelta

    from turnkeep.contract.commits import Status
    from turnkeep.contract.identity import Scope
    from turnkeep.contract.loads import Head, StoredMessage
    from turnkeep.words import Terms

Order = Literal["activity", "created"]


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A page of sessions; every given condition must hold.

    Attributes:
        scope: namespace and owner.
        older_than: last committed to before this instant, or longer ago than this duration by the server's clock.
        order: ``"activity"``: last committed to first; ``"created"``: oldest first. Ties are broken by session id.
        cursor: of the page before; None for the first.
    """

    scope: Scope
    limit: int
    status: Status | None = None
    agent_name: str | None = None
    route: str | None = None
    older_than: datetime | timedelta | None = None
    order: Order = "activity"
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Heads in order. May be short, even empty, while ``next_cursor`` is set; None: there is no more."""

    items: tuple[Head, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to search for; every given condition must hold.

    Attributes:
        scope: namespace and owner, of the session as it is now.
        terms: what a message's content has to say. ``Terms.match`` is the reference.
        limit: hits of a page, at most.
        session_id: of one session only.
        role: messages of this role only.
        since: messages whose ``created_at`` is this instant or later.
        until: messages whose ``created_at`` is earlier.
        cursor: of the page before; None for the first.
    """

    scope: Scope
    terms: Terms
    limit: int
    session_id: str | None = None
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One message found.

    Attributes:
        session_id: its session.
        message: the whole message.
        score: higher is better; comparable within one search only.
        highlight: an excerpt with what matches between ``**``, where the database makes a better one than
            ``Terms.excerpt``; None leaves it to that.
    """

    session_id: str
    message: StoredMessage
    score: float
    highlight: str | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Hits, best first. May be short, even empty, while ``next_cursor`` is set; None: there is no more."""

    items: tuple[SearchHit, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """What to count."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class DayCount:
    """The sessions that were created on one day, with all that is in them now."""

    sessions: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the sessions of a scope that have not expired.

    Attributes:
        sessions: how many.
        messages: in their histories.
        bytes: of stored text in UTF-8, without indexes.
        by_status: sessions.
        by_agent: sessions.
        by_route: sessions, by their current route.
        oldest: when the first of them was created.
        newest: when one of them was last committed to.
        by_day: by the day, in UTC, on which sessions were created; days without any are left out.
    """

    sessions: int
    messages: int
    bytes: int
    by_status: Mapping[str, int]
    by_agent: Mapping[str | None, int]
    by_route: Mapping[str | None, int]
    oldest: datetime | None
    newest: datetime | None
    by_day: Mapping[date, DayCount]
