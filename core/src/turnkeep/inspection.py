"""What can be wrong with a session that was read without an error."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnkeep.agent.routes import Routes
    from turnkeep.messages import Message
    from turnkeep.models import SessionState


def find_problems(state: SessionState, routes: Routes | None) -> list[str]:
    """The problems in words; empty where there is none. Without ``routes``, pointers are not judged."""
    return [*_gaps(state.history), *_unpaired(state.history), *_pointers(state, routes)]


def _gaps(history: Sequence[Message]) -> Iterator[str]:
    numbers = [message.seq for message in history if message.seq is not None]
    for before, after in pairwise(numbers):
        if after != before + 1:
            yield f"messages {before + 1} to {after - 1} are missing from what was loaded; get_or_create() loads anew"


def _unpaired(history: Sequence[Message]) -> Iterator[str]:
    open_calls: dict[str, int | None] = {}
    for message in history:
        for call in message.tool_calls:
            open_calls[call.id] = message.seq
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                yield f"message {message.seq} is the result of a tool call that is not in the loaded history"
            open_calls.pop(message.tool_call_id or "", None)
    for call_id, seq in open_calls.items():
        yield f"the tool call {call_id!r:.80} of message {seq} has no result"


def _pointers(state: SessionState, routes: Routes | None) -> Iterator[str]:
    if routes is None or state.current_route is None:
        return
    route = routes.get(state.current_route.id)
    if route is None:
        yield f"the session is on route {state.current_route.id!r:.80}, which the agent does not know"
    elif state.current_step is not None and route.step(state.current_step.id) is None:
        yield f"the session is at step {state.current_step.id!r:.80}, which route {route.id!r:.80} does not have"
