"""One turn of an agent, from the user's text to the reply, on top of an open draft. Nothing is stored here."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from turnkeep import codec
from turnkeep._callbacks import run
from turnkeep._threads import run_in_thread
from turnkeep.agent.progress import Progress, step_info
from turnkeep.agent.reply import Reply
from turnkeep.agent.tools import ToolInvocation
from turnkeep.errors import InvalidArgument, ProviderError, TurnkeepError
from turnkeep.hooks import SessionView
from turnkeep.messages import Message, ToolCall
from turnkeep.providers.base import ProviderReply, ProviderRequest
from turnkeep.turn import merge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnkeep.agent.agent import Agent
    from turnkeep.agent.reply import StoppedReason
    from turnkeep.agent.routes import Route, Step
    from turnkeep.agent.stream import ReplyStream
    from turnkeep.agent.tools import Tool
    from turnkeep.gateway import Gateway
    from turnkeep.turn import Draft, OpenTurn


TOOL_ROUNDS = 8
"""How often the provider may ask for tools in one turn."""

WORDLESS_ROUNDS = 8
"""How often it may choose a route or collect data without saying anything."""

T = TypeVar("T")

_log = logging.getLogger("turnkeep.agent")


class Run:
    """One attempt at a turn.

    Attributes:
        reply: what the turn gives back; None until it is known.
        called: the tools that ran.
        spoken: a piece of text was given out already.
    """

    def __init__(self, agent: Agent, gateway: Gateway, turn: OpenTurn, emit: ReplyStream | None) -> None:
        self._agent = agent
        self._plugins = plugins = gateway.plugins
        self._turn = turn
        self._draft: Draft = turn.draft
        self._emit = emit
        self._usage: dict[str, int] = {}
        self._tool_calls: list[ToolCall] = []
        self._refused = False
        self._answered: Step | None = None
        self._offered: set[str] = set()
        self.spoken: bool = False
        self.reply: Reply | None = None
        self.called: list[Tool] = []
        # Not a method of this object: a turn that refers to itself would stay in memory, with all it has read.
        self._set_data = partial(gateway.set_data, turn.draft)
        self.progress: Progress = Progress(agent._routes, turn, self._set_data, plugins.offload)

    @property
    def repeatable(self) -> bool:
        """Whether the turn may be run again: no tool ran that would do its work twice."""
        return all(tool.repeatable for tool in self.called)

    async def respond(self, text: str, metadata: Mapping[str, Any] | None) -> Reply:
        """Stages the turn and returns its reply."""
        progress = self.progress
        progress.drop_unknown_pointers()
        self._stage("user", text, metadata=metadata)
        self._answered = progress.spoken_for
        await progress.prepare()
        answer = await self._converse()
        progress.after_the_word = True
        progress.speak()
        await progress.advance(spoken_for=self._answered)
        if self._draft.state.agent_name != self._agent.name:
            self._draft.stage(self._draft.state.replace(agent_name=self._agent.name))
        self.reply = Reply(
            message=answer.text,
            session_id=self._draft.state.id,
            is_route_complete=bool(progress.completed),
            tool_calls=tuple(self._tool_calls),
            executed_steps=tuple(progress.executed),
            stopped_reason=self._stopped_reason(answer),
            usage=self._usage,
            commit_id=self._draft.commit_id,
        )
        self._draft.append([self._message("assistant", answer.text)._answering(self.reply.document())])
        return self.reply

    async def _converse(self) -> ProviderReply:
        """The provider's last answer; its data and route are staged, the tools it asked for have run."""
        tool_rounds = wordless = 0
        progress = self.progress
        while True:
            answer = await self._ask()
            before = progress.route
            moved = await self._take_route(answer)
            moved = await self._take_data(answer, before) or moved
            if answer.tool_calls and tool_rounds < TOOL_ROUNDS:
                tool_rounds += 1
                await self._use_tools(answer)
            elif moved and not answer.text and not answer.tool_calls:
                # It moved the conversation without a word: it is asked what there is to say where that has led.
                wordless += 1
                if wordless > WORDLESS_ROUNDS:
                    raise ProviderError(
                        f"provider {self._agent.provider.name} goes on and on without a word to the user"
                    )
                await progress.advance(spoken_for=self._answered)
                self._answered = None
                await progress.prepare()
            else:
                return answer

    def _stopped_reason(self, answer: ProviderReply) -> StoppedReason:
        if answer.tool_calls:
            return "tool_limit"
        if self._refused:
            return "validation_error"
        return "route_complete" if self.progress.completed else "needs_input"

    # -- the provider ----------------------------------------------------------------------------------------------

    async def _ask(self) -> ProviderReply:
        request = await self._request()
        provider = self._agent.provider
        try:
            if self._emit is None:
                reply = await provider.generate(request)
            else:
                reply = await self._stream(request, self._emit)
        except (TurnkeepError, asyncio.CancelledError):
            raise
        except Exception as error:
            raise ProviderError(f"provider {provider.name} failed: {type(error).__name__}: {error}") from error
        reply = checked(reply, provider.name)
        for name, count in reply.usage.items():
            self._usage[name] = self._usage.get(name, 0) + count
        return reply

    async def _stream(self, request: ProviderRequest, emit: ReplyStream) -> ProviderReply | None:
        await emit._begin()
        reply: ProviderReply | None = None
        pieces = self._agent.provider.stream(request)
        try:
            async for piece in pieces:
                if isinstance(piece, str):
                    self.spoken = self.spoken or bool(piece)
                    await emit._give(piece)
                else:
                    reply = piece
        finally:
            # Left early, a generator would hold its connection until it is collected.
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        return reply

    async def _request(self) -> ProviderRequest:
        state = self._draft.state
        history = paired(state.history)
        if self._plugins.listens("before_provider_call"):
            history = tuple(await self._plugins.before_provider_call(history, self._view()))
        infos = await self.progress.infos()
        self._offered = {info.id for info in infos}
        route = self.progress.route
        info = next((info for info in infos if route is not None and info.id == route.id), None)
        wanted = [info] if info is not None else infos
        schema, data, answered = self._agent._schema, state.data, self._answered
        done = self.progress.completed
        completed = self._agent._routes.get(done[-1].id) if done else None
        return ProviderRequest(
            instructions=self._agent.instructions,
            history=history,
            routes=infos,
            route=info,
            step=step_info(answered) if answered is not None and answered is self.progress.step else None,
            completed=None if completed is None else await self.progress.info(completed),
            fields=self._agent._json_schema(dict.fromkeys(name for item in wanted for name in item.missing)),
            data=data,
            tools=tuple(tool.spec for tool in self._tools().values()),
            context=copied(self._turn.context),
            check=schema.problems if schema is not None else lambda _: {},
            commit_id=self._draft.commit_id,
        )

    # -- data and routes -------------------------------------------------------------------------------------------

    async def _take_data(self, answer: ProviderReply, before: Route | None) -> bool:
        """Stages the fields the provider collected, noted under the route that asks for them; False where none fits."""
        if not answer.data:
            return False
        found = dict(answer.data)
        schema = self._agent._schema
        if schema is not None:
            found, problems = schema.convert(found)
            if problems:
                self._refused = True
                _log.warning("session %r: dropped what does not fit: %s", self._draft.state.id, sorted(problems))
        if not found:
            return False
        await self._set_data(merge(self._draft.state.data, found))
        state, now = self._draft.state, self.progress.route
        by = {name: now if now is not None and name in now.collects else before or now for name in found}
        noted = {name: route.id for name, route in by.items() if route is not None}
        if noted:
            self._draft.stage(state.replace(collected_by=state.collected_by | noted))
        return True

    async def _take_route(self, answer: ProviderReply) -> bool:
        """Enters the route the provider chose; False where it chose none, or the one the conversation is on."""
        if answer.route is None:
            return False
        chosen = self._agent._routes.get(answer.route)
        if chosen is None or chosen.id not in self._offered:
            _log.warning("provider %s chose a route that was not offered: %r", self._agent.provider.name, answer.route)
            return False
        if chosen is self.progress.route:
            return False
        await self.progress.enter(chosen)
        return True

    # -- tools -----------------------------------------------------------------------------------------------------

    def _tools(self) -> dict[str, Tool]:
        """The tools that may be called now: the agent's, the route's, the step's; the nearest wins."""
        route, step = self.progress.route, self.progress.step
        tools = dict(self._agent._tools)
        for owner in (route, step):
            tools |= {tool.name: tool for tool in (owner.tools if owner is not None else ())}
        return tools

    async def _use_tools(self, answer: ProviderReply) -> None:
        self._stage("assistant", answer.text, tool_calls=answer.tool_calls)
        tools = self._tools()
        for call in answer.tool_calls:
            self._tool_calls.append(call)
            content, failed = await self._use(tools.get(call.name), call)
            self._stage(
                "tool", content, name=call.name, tool_call_id=call.id, metadata={"error": True} if failed else None
            )

    async def _use(self, tool: Tool | None, call: ToolCall) -> tuple[str, bool]:
        """What the model is told of a call, and whether it failed. Only cancellation gets out of here."""
        if tool is None:
            return f"there is no tool {call.name!r} here", True
        key = f"{self._draft.commit_id}:{len(self._tool_calls)}"
        offered = {"call": ToolInvocation(call.id, key), "context": self._turn.context, "session": self._view()}
        try:
            arguments = tool.read(call.arguments) | tool.injected(offered)
        except InvalidArgument as error:
            return str(error), True
        self.called.append(tool)
        deadline = asyncio.timeout(self._agent.tool_timeout)
        try:
            async with deadline:
                # A plain function may take its time: in a thread it neither stops the loop nor outlasts its deadline.
                result = await run(partial(tool.function, **arguments), self._plugins.offload or run_in_thread)
            return (result if type(result) is str else codec.encode(result, what=f"result of {call.name}")), False
        except TimeoutError as error:
            if deadline.expired():
                return f"{call.name} did not finish within {self._agent.tool_timeout:g} seconds", True
            return f"TimeoutError: {error}", True
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is told and the turn goes on
            _log.warning("tool %s failed: %s", call.name, type(error).__name__, exc_info=error)
            return f"{type(error).__name__}: {error}"[:2000], True

    def _message(self, role: Any, content: str, **fields: Any) -> Message:
        state = self._draft.state
        route = state.current_route.id if state.current_route else None
        step = state.current_step.id if state.current_step else None
        return Message(role, content, route=route, step=step, **fields)

    def _stage(self, role: Any, content: str, **fields: Any) -> None:
        self._draft.append([self._message(role, content, **fields)])

    def _view(self) -> Any:
        return SessionView.of(self._draft.state, self._draft.key.scope.namespace)


def copied(context: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of a context; most hold texts and numbers only, which need none."""
    if all(type(value) in _IMMUTABLE for value in context.values()):
        return dict(context)
    return copy.deepcopy(context)


_IMMUTABLE = {str, int, float, bool, type(None)}


_ONLY_TEXT: Final[tuple[object, ...]] = (None, {}, (), {})


def checked(reply: object, provider: str) -> ProviderReply:
    """The reply itself, if it is made of what a reply is made of; what a model's SDK likes to leave out is filled in.

    Raises:
        ProviderError: it is not.
    """
    if not isinstance(reply, ProviderReply):
        raise ProviderError(f"provider {provider} returned {type(reply).__name__}, where a ProviderReply was expected")
    if type(reply.text) is str and (reply.route, reply.data, reply.tool_calls, reply.usage) == _ONLY_TEXT:
        return reply
    try:
        return ProviderReply(
            text=_as(str, reply.text or ""),
            route=None if reply.route is None else _as(str, reply.route),
            data=dict(reply.data or {}),
            tool_calls=tuple(ToolCall.of(call) for call in reply.tool_calls or ()),
            usage={_as(str, name): _as(int, count) for name, count in dict(reply.usage or {}).items()},
        )
    except (TypeError, ValueError) as error:
        raise ProviderError(f"provider {provider} returned a reply that makes no sense: {error}") from error


def _as(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__}, where {kind.__name__} was expected")
    return value


def paired(history: tuple[Message, ...]) -> tuple[Message, ...]:
    """The history a model may be shown: results whose call was not loaded are left out."""
    known: set[str] = set()
    shown: list[Message] = []
    for message in history:
        if message.role == "tool" and message.tool_call_id not in known:
            continue
        if message._row.tool_calls is not None:
            known.update(call.id for call in message.tool_calls)
        shown.append(message)
    return tuple(shown)
