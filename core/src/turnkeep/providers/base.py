"""What an agent asks of a model, and what it takes for an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from turnkeep.messages import Message, ToolCall

FieldProblems = dict[str, str]
"""Field name to what is wrong with its value; empty when all is well."""


@dataclass(frozen=True, slots=True)
class StepInfo:
    """A step of a route, as a provider sees it."""

    id: str
    text: str
    collect: tuple[str, ...]
    when: str | None = None


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """A route that the conversation may take, as a provider sees it.

    Attributes:
        required_fields: it is complete when these are there.
        steps: those still ahead, in order.
        missing: the fields its steps collect that are not there yet.
        completed: the conversation has finished it before; entering it again collects its fields anew.
    """

    id: str
    title: str
    when: str | None
    required_fields: tuple[str, ...]
    steps: tuple[StepInfo, ...]
    missing: tuple[str, ...]
    completed: bool = False


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the model may call. ``parameters`` is the JSON schema of its arguments: an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One call to a model.

    Attributes:
        instructions: what the agent is and how it is to answer.
        history: oldest first; the user's new message, or the results of tools, come last.
        routes: those the conversation may take or is on.
        route: the one it is on; None between routes.
        step: the step it is at, which the assistant has already spoken for, so that what the user says answers it; None
            where there is none, or where the answer was taken already.
        completed: the route that this turn has completed.
        fields: JSON schema (an object) of the fields that are still wanted.
        data: what was collected so far: a copy.
        tools: those that may be called.
        context: the turn's context: a copy.
        check: what is wrong with collected values, so that a provider can find out before it speaks.
        commit_id: of the turn: the same on every attempt.
    """

    instructions: str
    history: tuple[Message, ...]
    routes: tuple[RouteInfo, ...] = ()
    route: RouteInfo | None = None
    step: StepInfo | None = None
    completed: RouteInfo | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tools: tuple[ToolSpec, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    check: Callable[[Mapping[str, Any]], FieldProblems] = lambda _: {}
    commit_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """What a model answered.

    Attributes:
        text: for the user. Empty where tools are called; or to be asked again once the route is entered, or the data
            taken, that this reply brings.
        route: id of the route to enter; None to stay.
        data: fields to collect. Values are converted and checked by the agent's schema; unknown ones are dropped.
        tool_calls: tools to call before going on.
        usage: what it cost, for example ``{"input_tokens": 812, "output_tokens": 64}``; summed up over a turn.
    """

    text: str = ""
    route: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict[str, int])


class Provider(ABC):
    """Access to a model. One instance serves concurrent turns; it keeps nothing of a conversation.

    What it raises becomes a ``ProviderError`` with that as its cause, unless it is one already: raise
    ``ProviderError(…, retryable=True)`` for what a later try may cure.
    """

    @property
    def name(self) -> str:
        """The short name, in errors and logs."""
        return type(self).__name__

    @abstractmethod
    async def generate(self, request: ProviderRequest) -> ProviderReply:
        """The model's answer. May be cancelled at any await."""

    async def stream(self, request: ProviderRequest) -> AsyncIterator[str | ProviderReply]:
        """The answer's text piece by piece as it comes, and last the whole ``ProviderReply``.

        The pieces joined are the reply's text. Default: one piece, when all of it is there.
        """
        reply = await self.generate(request)
        if reply.text:
            yield reply.text
        yield reply

    async def aclose(self) -> None:  # noqa: B027 - most providers open nothing
        """Closes what this provider opened. Called by whoever made it."""
