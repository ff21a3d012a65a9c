"""The agent: one object that serves every conversation of an application."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from turnkeep import codec
from turnkeep._notices import Notices, tell
from turnkeep.agent.reply import Reply
from turnkeep.agent.routes import Route, Routes
from turnkeep.agent.run import Run, copied
from turnkeep.agent.stream import ReplyStream
from turnkeep.agent.tools import as_tools
from turnkeep.connecting import build
from turnkeep.errors import ConfigurationError, InvalidArgument, SessionConflict, SessionExists, SessionNotLoaded
from turnkeep.gateway import AlreadyCommitted, back_off, digest_of
from turnkeep.hooks import SessionView
from turnkeep.ids import check_commit_id, check_id, create_session_id, new_id
from turnkeep.judge import commit_id_reused
from turnkeep.models import UNSET, Unset
from turnkeep.persistence import Persistence
from turnkeep.session import SessionManager
from turnkeep.turn import Draft, Joinable, OpenTurn, open_turns, refuse_in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turnkeep.agent.schema import Schema
    from turnkeep.agent.tools import Tool
    from turnkeep.contract import StorageAdapter
    from turnkeep.hooks import Hooks
    from turnkeep.models import SessionState
    from turnkeep.providers.base import Provider

ATTEMPTS = 3
"""How often a turn is run when others commit to its session meanwhile, with ``on_conflict="retry"``."""

_log = logging.getLogger("turnkeep.agent")


class _Lost(Exception):
    def __init__(self, conflict: SessionConflict) -> None:
        super().__init__(str(conflict))
        self.conflict = conflict


@dataclass(frozen=True, slots=True)
class _Request:
    """What one ``respond`` was asked."""

    text: str
    context: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    commit_id: str | None
    emit: ReplyStream | None

    @property
    def digest(self) -> str:
        noted = "" if self.metadata is None else codec.encode(self.metadata, what="metadata")
        return digest_of(["respond", self.text, noted])


class Agent:
    """Answers people, turn by turn, and keeps every conversation in one store.

    An agent has at most one session *of its own*: the constructor's ``session_id``, or the one made by the first
    ``respond`` that names neither session nor user; ``session`` and ``context`` are that one's. Calls that name a
    session or a user never touch it, so one agent serves all requests of a server at once.

    Args:
        name: noted with each session it takes a turn of.
        provider: where replies come from; stays the caller's to close.
        instructions: what the agent is and how it is to answer.
        persistence: a URL or an adapter (opened on first use, closed by ``aclose``), or a ``Persistence`` that stays
            the caller's. None: a store in memory that ends with this object.
        session_id: of the own session.
        user_id: its owner, and of every call that names none. None: sessions without an owner, unless the persistence
            is bound to one.
        schema: a pydantic model; all data written through the agent is held against it.
        routes: what conversations are to bring about.
        tools: functions the model may call on any route.
        context: what hooks, steps and tools are given; copied for each turn.
        hooks: the application's own functions.
        plugins: objects with hooks, beside those found by entry point and those of the persistence.
        auto_save: False keeps turns of the own session staged until ``session.save()``.
        on_conflict: what to do when somebody else commits to the session during a turn: ``"raise"``, or ``"retry"``:
            run the turn again, at most 3 times in all, unless a tool ran that is not repeatable.
        window: how many messages a turn loads; not given: as the persistence does.
        tool_timeout: seconds a tool may take.

    Raises:
        InvalidArgument, HookError, AdapterNotFound: the message names the fix.
    """

    def __init__(
        self,
        *,
        name: str,
        provider: Provider,
        instructions: str = "",
        persistence: str | StorageAdapter | Persistence | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        schema: type[Any] | None = None,
        routes: Iterable[Route] = (),
        tools: Iterable[Tool | Callable[..., Any]] = (),
        context: Mapping[str, Any] | None = None,
        hooks: Hooks | None = None,
        plugins: Iterable[object] = (),
        auto_save: bool = True,
        on_conflict: Literal["raise", "retry"] = "raise",
        window: int | Unset | None = UNSET,
        tool_timeout: float = 60.0,
    ) -> None:
        from turnkeep.providers.base import Provider

        if not isinstance(provider, Provider):
            raise InvalidArgument(f"provider must be a turnkeep.providers.Provider, not {provider!r:.80}")
        if on_conflict not in ("raise", "retry"):
            raise InvalidArgument(f"on_conflict must be 'raise' or 'retry', not {on_conflict!r:.40}")
        self.name: str = check_id(name, "an agent's name")
        self.provider: Provider = provider
        self.instructions: str = instructions
        self.tool_timeout: float = tool_timeout
        self._on_conflict = on_conflict
        self._schema = _schema(schema)
        self._routes = Routes(routes, None if self._schema is None else self._schema.fields)
        self._tools = as_tools(tools, f"agent {name!r}")
        self._initial_context = _copied(context)
        store = "memory://" if persistence is None else persistence
        self._persistence = store if isinstance(store, Persistence) else build(store)
        self._plugins = self._persistence._gateway.plugins.extended(plugins, hooks=hooks)
        if self._plugins.payload_filter is not self._persistence._gateway.plugins.payload_filter:
            raise ConfigurationError("a payload filter belongs to the store: give it to turnkeep.connect(plugins=…)")
        self._own_persistence(not isinstance(persistence, Persistence))
        self._gateway = self._persistence._gateway.heard_by(self._plugins)
        self._user_id = self._persistence._owner_of(user_id)
        self._window = window
        self._auto_save = auto_save
        self._session: SessionManager | None = None
        self._context = _copied(context)
        if session_id is not None:
            self._session = self._manager(session_id, auto_save=auto_save)

    def _own_persistence(self, owned: bool) -> None:
        """Whether the store is the agent's: closed with it, and heard by its listeners."""
        self._owns_persistence = owned
        if owned:
            self._persistence._gateway = self._persistence._gateway.heard_by(self._plugins)

    def _resumed(self, before: Agent) -> Agent:
        """This agent, going on with the own session and context of another."""
        if before._session is not None:
            self._session = self._manager(before._session.id, auto_save=before._session.auto_save)
        self._context = before._context
        return self

    def __repr__(self) -> str:
        return f"<Agent {self.name!r} on {self._persistence.adapter.name}>"

    async def __aenter__(self) -> Self:
        await self._persistence._gateway.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the store if the agent opened it. What is staged and not saved is dropped."""
        if self._owns_persistence:
            await self._persistence.aclose()

    @property
    def persistence(self) -> Persistence:
        """The store."""
        return self._persistence

    @property
    def session(self) -> SessionManager:
        """The agent's own session.

        Raises:
            SessionNotLoaded: it has none: no ``session_id`` was given and no turn was taken without naming one.
        """
        if self._session is None:
            raise SessionNotLoaded(
                "this agent has no session of its own: give Agent(session_id=…), or respond() once without naming one"
            )
        return self._session

    @property
    def context(self) -> dict[str, Any]:
        """The context of the turn the running code is part of, or else of the own session: a copy."""
        turn = self._open_turn()
        return copy.deepcopy(self._context if turn is None else turn.context)

    async def update_context(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Merges into the context and returns it: the turn's, called inside one, or else the own session's.

        Outside a turn ``on_context_update`` runs at once; a turn's changes are told once, at its end.
        """
        if not isinstance(changes, dict):
            raise InvalidArgument(f"the changes of a context must be a dict, not {type(changes).__name__}")
        turn = self._open_turn()
        if turn is not None:
            turn.context = {**turn.context, **copy.deepcopy(changes)}
            if self._is_own(turn):
                turn.kept_context |= copy.deepcopy(changes)
            return copy.deepcopy(turn.context)
        previous = self._context
        self._context = {**previous, **copy.deepcopy(changes)}
        if self._plugins.listens("on_context_update") and self._context != previous:
            session = self._manager_for(None, None)
            loaded = session._snapshot
            state = session._new_draft(session._key().session_id).state if loaded is None else loaded.state
            view = SessionView(state.id, state.user_id, session._scope.namespace, None if loaded is None else state)
            told = [self._named(copy.deepcopy(context), state) for context in (self._context, previous)]
            await self._plugins.on_context_update(told[0], told[1], view)
        return self.context

    async def respond(
        self,
        text: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        commit_id: str | None = None,
    ) -> Reply:
        """Takes one turn: one load, one commit. Everything it brings about is stored at its end, or nothing.

        Args:
            text: what the user said.
            session_id: the session; made on first use. None: the own session, or with ``user_id`` a new one.
            user_id: the owner; None: the agent's.
            context: laid over the agent's context for this turn only.
            metadata: noted with the user's message.
            commit_id: made by the caller, to make the call safe to repeat: a repeated one gives the first reply.

        Raises:
            SessionConflict: another turn is open on the session, or somebody else committed during this one; it carries
                the reply that was not stored, if there was one already.
            TurnInProgress: called inside a turn on the same session.
            CommitIdReused: the commit id was used for another request.
            ProviderError: the model could not answer. Nothing was stored.
        """
        request = self._request(text, context, metadata, commit_id, None)
        return await self._respond(request, session_id, user_id)

    def stream(
        self,
        text: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        commit_id: str | None = None,
    ) -> ReplyStream:
        """The same turn, its text as it comes: ``async with agent.stream(…) as stream: async for chunk in stream``.

        Takes and raises what ``respond`` does. Once text was given out, the turn is not run again after a conflict.
        """

        async def respond(emit: ReplyStream) -> Reply:
            return await self._respond(self._request(text, context, metadata, commit_id, emit), session_id, user_id)

        return ReplyStream(respond)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _json_schema(self, names: Iterable[str]) -> dict[str, Any]:
        """JSON schema of an object with these fields; without a schema, any value fits."""
        if self._schema is not None:
            return self._schema.json_schema(names)
        return {"type": "object", "properties": {name: {} for name in names}}

    def _request(
        self,
        text: str,
        context: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        commit_id: str | None,
        emit: ReplyStream | None,
    ) -> _Request:
        if type(text) is not str:
            raise InvalidArgument(f"respond() takes the user's text, not {type(text).__name__}")
        if commit_id is not None:
            check_commit_id(commit_id)
        return _Request(text, context, metadata, commit_id, emit)

    def _manager(self, session_id: str | None, *, user_id: str | None = None, auto_save: bool = True) -> SessionManager:
        owner = self._user_id if user_id is None else self._persistence._owner_of(user_id)
        manager = SessionManager(
            self._persistence, session_id=session_id, user_id=owner, auto_save=auto_save, window=self._window
        )
        manager._told(self._gateway, self._schema, self._routes)
        return manager

    def _manager_for(self, session_id: str | None, user_id: str | None) -> SessionManager:
        if session_id is None and user_id is None:
            if self._session is None:
                self._session = self._manager(create_session_id(), auto_save=self._auto_save)
            return self._session
        return self._manager(create_session_id() if session_id is None else session_id, user_id=user_id)

    def _is_own(self, turn: OpenTurn) -> bool:
        return self._session is not None and turn.draft.key.session_id == self._session.id

    def _open_turn(self) -> OpenTurn | None:
        return next((turn for turn in reversed(open_turns()) if turn.agent is self), None)

    async def _respond(self, request: _Request, session_id: str | None, user_id: str | None) -> Reply:
        manager = self._manager_for(session_id, user_id)
        if manager._id is None:
            manager._id = create_session_id()
        key = manager._key()
        gateway = manager._gateway
        refuse_in_turn(gateway.adapter, key.scope, key.session_id, "respond")
        commit_id = request.commit_id or new_id()
        async with gateway.gates.enter(key, commit_id, wait=self._on_conflict == "retry"):
            for attempt in range(1, ATTEMPTS + 1):
                turn = await self._begin(manager, request, commit_id)
                turn.draft.attempt = attempt
                if turn.replayed:
                    return await self._replayed(manager, turn, request)
                run = Run(self, gateway, turn, request.emit)
                try:
                    return await self._take(manager, turn, run, request)
                except AlreadyCommitted:
                    return await self._committed_elsewhere(manager, request, commit_id)
                except _Lost as lost:
                    lost.conflict.reply = run.reply
                    spoken = request.emit is not None and run.spoken
                    if self._on_conflict == "raise" or attempt == ATTEMPTS or spoken or not run.repeatable:
                        raise lost.conflict from None
                await back_off(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _committed_elsewhere(self, manager: SessionManager, request: _Request, commit_id: str) -> Reply:
        """The reply of another process that was given the same commit id and was faster."""
        turn = await self._begin(manager, request, commit_id)
        if turn.replayed:
            return await self._replayed(manager, turn, request)
        session_id = turn.draft.key.session_id
        raise SessionConflict(
            f"session {session_id!r:.200} was deleted while a turn on it was under way; nothing was kept",
            session_id=session_id,
        )

    async def _begin(self, manager: SessionManager, request: _Request, commit_id: str) -> OpenTurn:
        """An open turn on what is staged already, on what the store has, or on a new session."""
        store, digest = manager._gateway.adapter, request.digest
        if manager._draft is not None:
            draft = manager._draft.copy(commit_id)
            draft.digest = digest
            return OpenTurn(store, draft, agent=self, replayed=commit_id in draft.replies)
        key = manager._key()
        snapshot = await manager._load(key.session_id, commit_id)
        draft = (
            manager._new_draft(key.session_id, commit_id)
            if snapshot is None
            else manager._draft_on(snapshot, commit_id)
        )
        draft.digest = digest
        replay = snapshot.replay if snapshot is not None else None
        if replay is not None and replay.digest != digest:
            raise commit_id_reused(commit_id, store.name)
        return OpenTurn(store, draft, agent=self, replayed=replay is not None)

    async def _replayed(self, manager: SessionManager, turn: OpenTurn, request: _Request) -> Reply:
        """The reply of a turn that had taken effect before, or is staged already."""
        draft, session_id = turn.draft, turn.draft.key.session_id
        if draft.commit_id in draft.replies:
            digest, first = draft.replies[draft.commit_id]
            if digest != draft.digest:
                raise commit_id_reused(draft.commit_id, manager._gateway.adapter.name)
            reply = replace(first, replayed=True)
        else:
            assert draft.base is not None
            assert draft.base.replay is not None
            manager._adopt(draft.base)
            messages = [manager._gateway.documents.message(session_id, row) for row in draft.base.replay.messages]
            if not messages:
                raise commit_id_reused(draft.commit_id, manager._gateway.adapter.name, reply_gone=True)
            reply = Reply.rebuilt(session_id, draft.commit_id, messages)
        if self._plugins.listens("after_respond"):
            context = {**_copied(self._initial_context), **_copied(request.context)}
            view = SessionView.of(draft.state, manager._scope.namespace)
            await self._plugins.after_respond(reply, self._named(context, draft.state), view)
        return reply

    async def _take(self, manager: SessionManager, turn: OpenTurn, run: Run, request: _Request) -> Reply:
        """Runs an open turn and makes it durable, or stages it where the session does not save by itself."""
        plugins, namespace = self._plugins, manager._scope.namespace
        with Joinable(turn):
            began_with = await self._begin_context(turn, request, namespace)
            reply = await run.respond(request.text, request.metadata)
            if plugins.listens("on_context_update") and turn.context != began_with:
                view = SessionView.of(turn.draft.state, namespace)
                await plugins.on_context_update(copy.deepcopy(turn.context), began_with, view)
            turn.draft.replies[turn.draft.commit_id] = (turn.draft.digest, reply)
            if request.emit is not None:
                await request.emit._all_read()
            await self._save(manager, turn.draft)
        if manager is self._session:
            self._context |= turn.kept_context
        view = SessionView.of(manager.current, namespace)
        notices: Notices = []
        if plugins.listens("on_route_entered"):
            notices += [partial(plugins.on_route_entered, route, view) for route in run.progress.entered]
        if plugins.listens("on_route_completed"):
            notices += [partial(plugins.on_route_completed, route, view) for route in run.progress.completed]
        if plugins.listens("after_respond"):
            notices.append(partial(plugins.after_respond, reply, copy.deepcopy(turn.context), view))
        await tell(notices)
        return reply

    async def _save(self, manager: SessionManager, draft: Draft) -> None:
        """Commits or stages the turn; only what is lost here counts as the turn's own conflict."""
        try:
            await manager._save(draft)
        except SessionConflict as conflict:
            if conflict.session_id != draft.key.session_id:
                raise  # a listener's own, about another session
            raise _Lost(conflict) from conflict
        except SessionExists as exists:
            # Somebody else began the session meanwhile: that is a conflict, unless the id is another owner's.
            if await manager._load(draft.key.session_id) is None:
                raise
            conflict = SessionConflict(
                f"session {draft.key.session_id!r:.200} was begun by somebody else meanwhile; nothing was written",
                session_id=draft.key.session_id,
            )
            raise _Lost(conflict) from exists

    @staticmethod
    def _named(context: dict[str, Any], state: SessionState) -> dict[str, Any]:
        context.setdefault("session_id", state.id)
        context.setdefault("user_id", state.user_id)
        return context

    async def _begin_context(self, turn: OpenTurn, request: _Request, namespace: str) -> dict[str, Any]:
        """Makes the turn's context, and returns what it is before anything in the turn changes it."""
        state = turn.draft.state
        base = self._context if self._is_own(turn) else self._initial_context
        turn.context = context = self._named({**_copied(base), **_copied(request.context)}, state)
        if self._plugins.listens("before_respond"):
            turn.context = await self._plugins.before_respond(context, SessionView.of(state, namespace))
        # Only an observer needs to know later what it was.
        return copy.deepcopy(turn.context) if self._plugins.listens("on_context_update") else turn.context


def _schema(model: type[Any] | None) -> Schema | None:
    if model is None:
        return None
    from turnkeep.agent.schema import Schema

    return Schema(model)


def _copied(context: Mapping[str, Any] | None) -> dict[str, Any]:
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise InvalidArgument(f"a context must be a dict, not {type(context).__name__}")
    return copied(context)
