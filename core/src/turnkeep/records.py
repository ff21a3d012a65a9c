"""Between sessions as they are restored, as they are listed, and as a turn has them staged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.errors import InvalidArgument
from turnkeep.judge import session_conflict, session_exists
from turnkeep.models import UNSET, SessionRecord, SessionState
from turnkeep.routing import enter_route, enter_step, leave_route, leave_step

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract import Head
    from turnkeep.messages import Message
    from turnkeep.models import Unset
    from turnkeep.turn import Draft


def record_of(head: Head, state: SessionState | None) -> SessionRecord:
    """The record of a stored session; with its data if its state is at hand."""
    return SessionRecord(
        id=head.session_id,
        user_id=head.user_id,
        agent_name=head.agent_name,
        status=head.status,
        current_route=head.current_route,
        current_step=head.current_step,
        message_count=head.message_count,
        last_message_at=head.last_message_at,
        completed_at=head.completed_at,
        created_at=head.created_at,
        updated_at=head.updated_at,
        expires_at=head.expires_at,
        _data=None if state is None else state._data,
    )


def staged_record(draft: Draft) -> SessionRecord:
    """The record of a session as a turn has it staged. Times are those of the last commit."""
    head = draft.base.head if draft.base else None
    state = draft.state
    stored = head.message_count if head and not draft.drop_history else 0
    return SessionRecord(
        id=state.id,
        user_id=state.user_id,
        agent_name=state.agent_name,
        status=state.status,
        current_route=state.current_route.id if state.current_route else None,
        current_step=state.current_step.id if state.current_step else None,
        message_count=stored + len(draft.appended),
        last_message_at=head.last_message_at if head else None,
        completed_at=draft.completed_at or (head.completed_at if head and state.status != "active" else None),
        created_at=state.metadata.created_at,
        updated_at=state.metadata.updated_at,
        expires_at=head.expires_at if head else None,
        _data=state._data,
    )


def new_state(state: SessionState, user_id: str | None, data_version: int | None) -> SessionState:
    """A state as the beginning of a new session: without history, owned by ``user_id``."""
    version = state.data_version if data_version is None else data_version
    return state._with(user_id=user_id, history=(), data_version=version, _token=None)


def stage_state(draft: Draft, state: SessionState) -> None:
    """Stages a state the application made from a loaded one.

    Raises:
        SessionExists: it was made from none, and there is a session.
        SessionConflict: the session was committed to since it was loaded.
        InvalidArgument: its history is not an extension of what the draft has.
    """
    base = draft.base
    if base is not None and state._token is None:
        raise session_exists(state.id, "")
    if base is not None and state._token is not None and state._token != base.head.token:
        raise session_conflict(state.id, state._token, base.head.token, "")
    known = draft.state.history
    floor = base.head.floor if base is not None else 0
    shown = [message for message in state.history if message.seq is None or message.seq > floor]
    kept = [message for message in shown if message.seq is not None or message in draft.appended]
    if shown[: len(kept)] != kept or (kept and list(known[-len(kept) :]) != kept):
        raise InvalidArgument(
            "the history of this state is not an extension of what is stored; to replace a history use "
            "SessionManager.set_history or clear_history"
        )
    if state.status != draft.state.status:
        draft.set_status(state.status)
    elif base is not None and draft.status is None:
        draft.set_status(state.status, base.head.completed_at)  # as it was, and not made active by the write
    draft.stage(state._with(history=known, user_id=draft.state.user_id, _token=draft.state._token))
    draft.append(shown[len(kept) :])


def moved(state: SessionState, route: str | Unset | None, step: str | Unset | None, now: datetime) -> SessionState:
    """The state with the conversation at this route and step, by id; ``UNSET`` leaves one as it is."""
    current = state.current_route.id if state.current_route else None
    if route is not UNSET and route != current:
        state = leave_route(state, now) if route is None else enter_route(state, route, route, now)
    if step is UNSET:
        return state
    if step is None:
        return leave_step(state)
    if state.current_route is None:
        raise InvalidArgument("a step belongs to a route; give route= as well")
    return enter_step(state, step, step, now)


def cut(
    history: tuple[Message, ...], limit: int, before: int | None, after: int | None
) -> tuple[tuple[Message, ...], bool]:
    """A page of a history that is at hand, and whether there is more."""
    if after is not None:
        found = [message for message in history if (message.seq or 0) > after]
        return tuple(found[:limit]), len(found) > limit
    found = [message for message in history if before is None or (message.seq or 0) < before]
    return tuple(found[-limit:]), len(found) > limit


def numbered(history: tuple[Message, ...]) -> tuple[Message, ...]:
    """The history with the numbers that staged messages will have if nobody else commits first."""
    found: list[Message] = []
    for message in history:
        place = (found[-1].seq or 0) + 1 if found else 1
        found.append(message if message.seq is not None else message._numbered(place, 0, ""))
    return tuple(found)
