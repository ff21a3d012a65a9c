"""Statistics, added up from heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.tallies import Group, add_up

if TYPE_CHECKING:
    from datetime import date

    from turnkeep.contract import Head, Stats


class Counts:
    """Counts over the heads that were added: a group for each kind and day, however many sessions there are."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, str | None, date], Group] = {}

    def add(self, head: Head, size: int) -> None:
        """Counts a session with so many bytes of text."""
        kind = (head.status, head.agent_name, head.current_route, head.created_at.date())
        group = Group(*kind, 1, head.message_count, size, head.created_at, head.updated_at)
        so_far = self._groups.get(kind)
        self._groups[kind] = group if so_far is None else _join(so_far, group)

    def stats(self) -> Stats:
        """What they come to."""
        return add_up(self._groups.values())


def _join(one: Group, other: Group) -> Group:
    return one._replace(
        sessions=one.sessions + other.sessions,
        messages=one.messages + other.messages,
        bytes=one.bytes + other.bytes,
        oldest=min(one.oldest, other.oldest),
        newest=max(one.newest, other.newest),
    )
