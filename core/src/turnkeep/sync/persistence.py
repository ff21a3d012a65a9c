"""The store, blocking. What each call promises stands with the same name in ``turnkeep.persistence``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from turnkeep import persistence
from turnkeep.models import UNSET
from turnkeep.sync._bound import Bound
from turnkeep.sync.paging import Page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from turnkeep.contract import Erased, HealthReport, Order, Stats, Status, StorageAdapter, Swept
    from turnkeep.messages import Message, Role
    from turnkeep.models import FoundMessage, SessionRecord, SessionState, Unset


class Persistence(Bound[persistence.Persistence]):
    """As ``turnkeep.Persistence``, blocking; made by ``turnkeep.sync.connect``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """As ``aclose`` there. In a forked child that has not used it there is nothing to close."""
        if self._source.door.is_ours:
            self._run(lambda it: it.aclose())

    @property
    def adapter(self) -> StorageAdapter:
        """As there."""
        return self._inner.adapter

    @property
    def namespace(self) -> str:
        """As there."""
        return self._inner.namespace

    @property
    def user_id(self) -> str | None:
        """As there."""
        return self._inner.user_id

    def find_session_by_id(self, session_id: str) -> SessionRecord | None:
        """As there."""
        return self._run(lambda it: it.find_session_by_id(session_id))

    def find_active_session_by_user_id(self, user_id: str) -> SessionRecord | None:
        """As there."""
        return self._run(lambda it: it.find_active_session_by_user_id(user_id))

    def load_session_state(self, session_id: str) -> SessionState | None:
        """As there."""
        return self._run(lambda it: it.load_session_state(session_id))

    def save_session_state(self, session_id: str, state: SessionState) -> SessionState:
        """As there."""
        return self._run(lambda it: it.save_session_state(session_id, state))

    def update_collected_data(self, session_id: str, changes: Mapping[str, Any]) -> SessionState:
        """As there."""
        return self._run(lambda it: it.update_collected_data(session_id, changes))

    def update_route_step(
        self, session_id: str, *, route: str | Unset | None = UNSET, step: str | Unset | None = UNSET
    ) -> SessionState:
        """As there."""
        return self._run(lambda it: it.update_route_step(session_id, route=route, step=step))

    def update_session_status(self, session_id: str, status: Status, completed_at: datetime | None = None) -> None:
        """As there."""
        return self._run(lambda it: it.update_session_status(session_id, status, completed_at))

    def complete_session(self, session_id: str) -> None:
        """As there."""
        return self._run(lambda it: it.complete_session(session_id))

    def abandon_session(self, session_id: str) -> None:
        """As there."""
        return self._run(lambda it: it.abandon_session(session_id))

    def claim_session(self, session_id: str, user_id: str) -> None:
        """As there."""
        return self._run(lambda it: it.claim_session(session_id, user_id))

    def delete_session(self, session_id: str) -> bool:
        """As there."""
        return self._run(lambda it: it.delete_session(session_id))

    def save_message(self, session_id: str, role: Role, content: str, **fields: Any) -> Message:
        """As there."""
        return self._run(lambda it: it.save_message(session_id, role, content, **fields))

    def save_messages(self, session_id: str, messages: Iterable[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
        """As there."""
        return self._run(lambda it: it.save_messages(session_id, messages))

    def find_messages_by_session_id(
        self, session_id: str, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> Page[Message, int]:
        """As there."""
        return Page(
            self._run(lambda it: it.find_messages_by_session_id(session_id, limit=limit, before=before, after=after)),
            self._source.door,
        )

    def load_session_history(self, session_id: str) -> tuple[Message, ...]:
        """As there."""
        return self._run(lambda it: it.load_session_history(session_id))

    def search_messages(
        self,
        text: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        role: Role | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        after: str | None = None,
    ) -> Page[FoundMessage, str]:
        """As there."""
        return Page(
            self._run(
                lambda it: it.search_messages(
                    text,
                    user_id=user_id,
                    session_id=session_id,
                    role=role,
                    since=since,
                    until=until,
                    limit=limit,
                    after=after,
                )
            ),
            self._source.door,
        )

    def find_sessions_by_user_id(
        self,
        user_id: str,
        *,
        limit: int = 100,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        agent_name: str | None = None,
        route: str | None = None,
        order: Order = "activity",
        cursor: str | None = None,
    ) -> Page[SessionRecord, str]:
        """As there."""
        return Page(
            self._run(
                lambda it: it.find_sessions_by_user_id(
                    user_id,
                    limit=limit,
                    status=status,
                    older_than=older_than,
                    agent_name=agent_name,
                    route=route,
                    order=order,
                    cursor=cursor,
                )
            ),
            self._source.door,
        )

    def find_sessions(
        self,
        *,
        limit: int = 100,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        agent_name: str | None = None,
        route: str | None = None,
        order: Order = "activity",
        cursor: str | None = None,
    ) -> Page[SessionRecord, str]:
        """As there."""
        return Page(
            self._run(
                lambda it: it.find_sessions(
                    limit=limit,
                    status=status,
                    older_than=older_than,
                    agent_name=agent_name,
                    route=route,
                    order=order,
                    cursor=cursor,
                )
            ),
            self._source.door,
        )

    def delete_sessions(
        self,
        *,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
        route: str | None = None,
    ) -> int:
        """As there."""
        return self._run(
            lambda it: it.delete_sessions(
                status=status, older_than=older_than, user_id=user_id, agent_name=agent_name, route=route
            )
        )

    def erase_user(self, user_id: str) -> Erased:
        """As there."""
        return self._run(lambda it: it.erase_user(user_id))

    def sweep(self) -> Swept:
        """As there."""
        return self._run(lambda it: it.sweep())

    def stats(self) -> Stats:
        """As there."""
        return self._run(lambda it: it.stats())

    def check(self) -> HealthReport:
        """As there."""
        return self._run(lambda it: it.check())
