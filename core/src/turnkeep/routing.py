"""Moves of a conversation between routes and steps: each takes a state and gives the next one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from turnkeep.models import RouteRef, RouteVisit, SessionState, StepRef

if TYPE_CHECKING:
    from datetime import datetime


def enter_route(state: SessionState, route_id: str, title: str, now: datetime) -> SessionState:
    """The conversation leaves where it was and enters a route, at no step yet. Data stays."""
    left = leave_route(state, now)
    return left.replace(
        current_route=RouteRef(route_id, title, now), route_history=(*left.route_history, RouteVisit(route_id, now))
    )


def leave_route(state: SessionState, now: datetime, *, completed: bool = False) -> SessionState:
    """The conversation is on no route any more; the open visit ends. Data stays."""
    visits = list(state.route_history)
    if state.current_route is not None:
        for index in range(len(visits) - 1, -1, -1):
            if visits[index].route == state.current_route.id and visits[index].exited_at is None:
                visits[index] = replace(visits[index], exited_at=now, completed=completed)
                break
    return state.replace(current_route=None, current_step=None, route_history=visits)


def enter_step(state: SessionState, step_id: str, text: str, now: datetime, *, spoken: bool = True) -> SessionState:
    """The conversation is at a step of its route."""
    return state.replace(current_step=StepRef(step_id, text, now, spoken))


def leave_step(state: SessionState) -> SessionState:
    """The conversation is at no step of its route."""
    return state.replace(current_step=None)


def has_completed(state: SessionState, route_id: str) -> bool:
    """Whether the conversation has finished this route at least once."""
    return any(visit.route == route_id and visit.completed for visit in state.route_history)
