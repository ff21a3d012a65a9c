"""Statistics, added up from heads."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from turnkeep.contract import Stats

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract import Head


class Counts:
    """Counts over the heads that were added."""

    def __init__(self) -> None:
        self._sessions = self._messages = self._bytes = 0
        self._statuses: Counter[str] = Counter()
        self._agents: Counter[str | None] = Counter()
        self._routes: Counter[str | None] = Counter()
        self._oldest: datetime | None = None
        self._newest: datetime | None = None

    def add(self, head: Head, size: int) -> None:
        """Counts a session with so many bytes of text."""
        self._sessions += 1
        self._messages += head.message_count
        self._bytes += size
        self._statuses[head.status] += 1
        self._agents[head.agent_name] += 1
        self._routes[head.current_route] += 1
        self._oldest = min(self._oldest or head.created_at, head.created_at)
        self._newest = max(self._newest or head.updated_at, head.updated_at)

    def stats(self) -> Stats:
        """What they come to."""
        return Stats(
            sessions=self._sessions,
            messages=self._messages,
            bytes=self._bytes,
            by_status=dict(self._statuses),
            by_agent=dict(self._agents),
            by_route=dict(self._routes),
            oldest=self._oldest,
            newest=self._newest,
        )
