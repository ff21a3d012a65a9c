"""One turn of an agent, from the user's text to the reply, on top of an open draft. Nothing is stored here."""

from __future__ import annotations

import asyncio
import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from turnkeep import codec
from turnkeep._callbacks import run
from turnkeep.agent.progress import Progress, step_info
from turnkeep.agent.reply import Reply
from turnkeep.agent.tools import ToolInvocation
from turnkeep.errors import InvalidArgument, ProviderError, TurnkeepError
from turnkeep.hooks import SessionView
from turnkeep.messages import Message
from turnkeep.providers.base import ProviderReply, ProviderRequest
from turnkeep.turn import merge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turnkeep.agent.agent import Agent
    from turnkeep.agent.reply import StoppedReason
    from turnkeep.agent.routes import Route, Step
    from turnkeep.agent.tools import Tool
    from turnkeep.messages import ToolCall
    from turnkeep.plugins import Plugins
    from turnkeep.turn import Draft, OpenTurn

    Emit = Callable[[str | None], Awaitable[None]]
    """Takes a piece of text; None begins another assistant message."""

TOOL_ROUNDS = 8
"""How often the provider may ask for tools in one turn."""

_log = logging.getLogger("turnkeep.agent")


class Run:
    """One attempt at a turn.

    Attributes:
        reply: what the turn gives back; None until it is known.
        called: the tools that ran.
    """

    def __init__(self, agent: Agent, plugins: Plugins, turn: OpenTurn, emit: Emit | None) -> None:
        self._agent = agent
        self._plugins = plugins
        self._turn = turn
        self._emit = emit
        self._usage: dict[str, int] = {}
        self._tool_calls: list[ToolCall] = []
        self._refused = False
        self.reply: Reply | None = None
        self.called: list[Tool] = []
        self.progress = Progress(agent._routes, turn, self._set_data, plugins.offload)

    @property
    def _draft(self) -> Draft:
        return self._turn.draft

    @property
    def repeatable(self) -> bool:
        """Whether the turn may be run again: no tool ran that would do its work twice."""
        return all(tool.repeatable for tool in self.called)

    async def respond(self, text: str, metadata: Mapping[str, Any] | None) -> Reply:
        """Stages the turn and returns its reply."""
        progress = self.progress
        progress.drop_unknown_pointers()
        self._stage("user", text, metadata=metadata)
        spoken_for = progress.step
        await progress.prepare()
        answer = await self._converse(spoken_for)
        await progress.advance(spoken_for=spoken_for)
        self._draft.stage(self._draft.state.replace(agent_name=self._agent.name))
        self._stage("assistant", answer.text)
        self.reply = Reply(
            message=answer.text,
            session_id=self._draft.state.id,
            is_route_complete=bool(progress.moves.completed),
            tool_calls=tuple(self._tool_calls),
            executed_steps=tuple(progress.moves.executed),
            stopped_reason=self._stopped_reason(answer),
            usage=self._usage,
            commit_id=self._draft.commit_id,
        )
        self._draft.reply = self.reply.document()
        return self.reply

    async def _converse(self, spoken_for: Step | None) -> ProviderReply:
        """The provider's last answer; its data and route are staged, the tools it asked for have run."""
        rounds = 0
        progress = self.progress
        while True:
            answer = await self._ask(spoken_for)
            before = progress.route
            entered = await self._take_route(answer)
            await self._take_data(answer, before)
            if answer.tool_calls and rounds < TOOL_ROUNDS:
                rounds += 1
                await self._use_tools(answer)
            elif entered and not answer.text and not answer.tool_calls:
                # Only a route was chosen: what there is to say about it is asked for now that it is prepared.
                await progress.advance(spoken_for=None)
                await progress.prepare()
            else:
                return answer

    def _stopped_reason(self, answer: ProviderReply) -> StoppedReason:
        if answer.tool_calls:
            return "tool_limit"
        if self._refused:
            return "validation_error"
        return "route_complete" if self.progress.moves.completed else "needs_input"

    # -- the provider ----------------------------------------------------------------------------------------------

    async def _ask(self, spoken_for: Step | None) -> ProviderReply:
        request = await self._request(spoken_for)
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
        if not isinstance(reply, ProviderReply):
            raise ProviderError(
                f"provider {provider.name} returned {type(reply).__name__}, where a ProviderReply was expected"
            )
        for name, count in reply.usage.items():
            self._usage[name] = self._usage.get(name, 0) + count
        return reply

    async def _stream(self, request: ProviderRequest, emit: Emit) -> ProviderReply | None:
        await emit(None)
        reply: ProviderReply | None = None
        async for piece in self._agent.provider.stream(request):
            if isinstance(piece, str):
                await emit(piece)
            else:
                reply = piece
        return reply

    async def _request(self, spoken_for: Step | None) -> ProviderRequest:
        state = self._draft.state
        history = paired(state.history)
        if self._plugins.listens("before_provider_call"):
            history = tuple(await self._plugins.before_provider_call(history, self._view()))
        infos = await self.progress.infos()
        route = self.progress.route
        info = next((info for info in infos if route is not None and info.id == route.id), None)
        wanted = [info] if info is not None else infos
        schema, data = self._agent._schema, state.data
        return ProviderRequest(
            instructions=self._agent.instructions,
            history=history,
            routes=infos,
            route=info,
            step=None if spoken_for is None or spoken_for is not self.progress.step else step_info(spoken_for),
            fields=self._agent._json_schema(dict.fromkeys(name for item in wanted for name in item.missing)),
            data=data,
            tools=tuple(tool.spec for tool in self._tools().values()),
            context=copy.deepcopy(self._turn.context),
            check=schema.problems if schema is not None else lambda _: {},
            commit_id=self._draft.commit_id,
        )

    # -- data and routes -------------------------------------------------------------------------------------------

    async def _take_data(self, answer: ProviderReply, before: Route | None) -> None:
        """Stages the fields the provider collected, noted under the route that asks for them."""
        if not answer.data:
            return
        found = dict(answer.data)
        schema = self._agent._schema
        if schema is not None:
            found, problems = schema.convert(found)
            if problems:
                self._refused = True
                _log.warning("session %r: dropped what does not fit: %s", self._draft.state.id, sorted(problems))
        if not found:
            return
        await self._set_data(merge(self._draft.state.data, found))
        state, now = self._draft.state, self.progress.route
        by = {name: now if now is not None and name in now.collects else before or now for name in found}
        noted = {name: route.id for name, route in by.items() if route is not None}
        if noted:
            self._draft.stage(state.replace(collected_by=state.collected_by | noted))

    async def _set_data(self, data: dict[str, Any]) -> None:
        """Stages data once the schema and the listeners have agreed to it."""
        previous = self._draft.state.data
        schema = self._agent._schema
        if schema is not None:
            data = schema.check_changes(previous, data)
        if self._plugins.listens("before_data_update") and data != previous:
            wanted = await self._plugins.before_data_update(data, previous, self._view())
            data = schema.check_changes(data, wanted) if schema is not None else wanted
        if data != previous:
            self._draft.set_data(data)

    async def _take_route(self, answer: ProviderReply) -> bool:
        """Enters the route the provider chose; False where it chose none, or the one the conversation is on."""
        if answer.route is None:
            return False
        chosen = self._agent._routes.get(answer.route)
        if chosen is None:
            _log.warning("provider %s chose a route that is not there: %r", self._agent.provider.name, answer.route)
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
                result = await run(partial(tool.function, **arguments), self._plugins.offload)
            return (result if type(result) is str else codec.encode(result, what=f"result of {call.name}")), False
        except TimeoutError as error:
            if deadline.expired():
                return f"{call.name} did not finish within {self._agent.tool_timeout:g} seconds", True
            return f"TimeoutError: {error}", True
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is told and the turn goes on
            _log.warning("tool %s failed: %s", call.name, type(error).__name__, exc_info=error)
            return f"{type(error).__name__}: {error}"[:2000], True

    def _stage(self, role: Any, content: str, **fields: Any) -> None:
        state = self._draft.state
        route = state.current_route.id if state.current_route else None
        step = state.current_step.id if state.current_step else None
        self._draft.append([Message(role, content, route=route, step=step, **fields)])

    def _view(self) -> Any:
        return SessionView.of(self._draft.state, self._draft.key.scope.namespace)


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
