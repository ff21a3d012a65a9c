"""Statistics, added up from groups of sessions: what a database counts for each kind, day and so on."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from turnkeep.contract import DayCount, Stats

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime


class Group(NamedTuple):
    """Sessions that have status, agent and route in common, and the day, in UTC, on which they were created."""

    status: str
    agent_name: str | None
    route: str | None
    day: date
    sessions: int
    messages: int
    bytes: int
    oldest: datetime
    newest: datetime


def add_up(groups: Iterable[Group]) -> Stats:
    """The statistics over all of them; days in order."""
    found = sorted(groups, key=attrgetter("day"))
    days: dict[date, DayCount] = {}
    for group in found:
        so_far = days.get(group.day, DayCount(0, 0, 0))
        days[group.day] = DayCount(
            so_far.sessions + group.sessions, so_far.messages + group.messages, so_far.bytes + group.bytes
        )
    return Stats(
        sessions=sum(group.sessions for group in found),
        messages=sum(group.messages for group in found),
        bytes=sum(group.bytes for group in found),
        by_status=_by((group.status, group.sessions) for group in found),
        by_agent=_by((group.agent_name, group.sessions) for group in found),
        by_route=_by((group.route, group.sessions) for group in found),
        oldest=min((group.oldest for group in found), default=None),
        newest=max((group.newest for group in found), default=None),
        by_day=days,
    )


def _by(counts: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    sums: dict[Any, int] = {}
    for key, number in counts:
        sums[key] = sums.get(key, 0) + number
    return sums
