"""Statistics: what the database counts, as groups of sessions."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from turnkeep.tallies import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from turnkeep_sqlalchemy.sessions import Record

Kind = tuple[str, str | None, str | None, date]
Groups = dict[Kind, Group]


def to_groups(rows: Iterable[Sequence[Any]], sizes: Iterable[Sequence[Any]]) -> Groups:
    """Groups by what they have in common, from rows of sessions and rows with the bytes of their messages."""
    groups: Groups = {}
    for *kind, sessions, messages, size, oldest, newest in rows:
        key = _key(*kind)
        groups[key] = Group(*key, sessions, int(messages), int(size), oldest, newest)
    for *kind, size in sizes:
        key = _key(*kind)
        if key in groups:  # or created meanwhile, where a database shows that within a transaction
            groups[key] = groups[key]._replace(bytes=groups[key].bytes + int(size))
    return groups


def take_away(groups: Groups, record: Record) -> None:
    """Counts no messages of a session that its marks have passed."""
    head = record.head
    key = _key(head.status, head.agent_name, head.current_route, head.created_at.date())
    if key in groups:
        gone = head.floor - record.stored_floor
        groups[key] = groups[key]._replace(messages=groups[key].messages - gone)


def _key(status: str, agent_name: str | None, route: str | None, day: date | str) -> Kind:
    return status, agent_name, route, date.fromisoformat(day) if isinstance(day, str) else day
