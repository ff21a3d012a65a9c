"""The agent, blocking. What each call promises stands with the same name in ``turnkeep.agent``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from turnkeep import agent
from turnkeep.contract import StorageAdapter
from turnkeep.errors import InvalidArgument
from turnkeep.models import UNSET
from turnkeep.sync._bound import Bound, Made, Part
from turnkeep.sync.connecting import built_here, can_be_made_again
from turnkeep.sync.persistence import Persistence
from turnkeep.sync.session import SessionManager
from turnkeep.urls import anchored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from turnkeep.agent import Reply, Route, StreamChunk, Tool
    from turnkeep.hooks import Hooks
    from turnkeep.models import Unset
    from turnkeep.providers.base import Provider
    from turnkeep.sync._door import Door
    from turnkeep.sync.connecting import Store


class Agent(Bound[agent.Agent]):
    """As ``turnkeep.Agent``, blocking.

    ``persistence`` is a URL, a function that makes the adapter, or a store opened with ``turnkeep.sync.connect``, which
    stays the caller's.
    """

    def __init__(
        self,
        *,
        name: str,
        provider: Provider,
        instructions: str = "",
        persistence: Store | Persistence | None = None,
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
        given = persistence if isinstance(persistence, Persistence) else None
        store: Store = "memory://" if persistence is None or isinstance(persistence, Persistence) else persistence
        if not isinstance(store, str | StorageAdapter) and not callable(store):
            raise InvalidArgument(f"a blocking Agent takes a URL or a persistence of turnkeep.sync, not {store!r:.80}")
        if isinstance(store, str):
            store = anchored(store)
        routes, tools, plugins = tuple(routes), tuple(tools), tuple(plugins)

        async def make(door: Door, before: agent.Agent | None) -> agent.Agent:
            made = agent.Agent(
                name=name,
                provider=provider,
                instructions=instructions,
                persistence=given._inner if given is not None else await built_here(store, door),
                session_id=session_id,
                user_id=user_id,
                schema=schema,
                routes=routes,
                tools=tools,
                context=context,
                hooks=hooks,
                plugins=plugins,
                auto_save=auto_save,
                on_conflict=on_conflict,
                window=window,
                tool_timeout=tool_timeout,
            )
            made._own_persistence(given is None)
            if before is not None and given is None and before.persistence._gateway.closed:
                await made.aclose()
            return made if before is None else made._resumed(before)

        upon = given._source if given is not None else None
        super().__init__(Made(make, what="Agent", again=given is not None or can_be_made_again(store), upon=upon))
        self._given = given

    def __enter__(self) -> Self:
        self._run(lambda it: it.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """As ``aclose`` there. In a forked child that has not used it there is nothing to close."""
        if self._source.door.is_ours:
            self._run(lambda it: it.aclose())

    @property
    def name(self) -> str:
        """As there."""
        return self._inner.name

    @property
    def provider(self) -> Provider:
        """As there."""
        return self._inner.provider

    @property
    def instructions(self) -> str:
        """As there."""
        return self._inner.instructions

    @property
    def tool_timeout(self) -> float:
        """As there."""
        return self._inner.tool_timeout

    @property
    def persistence(self) -> Persistence:
        """As there."""
        return self._given or Persistence(Part(self._source, lambda it: it.persistence))

    @property
    def session(self) -> SessionManager:
        """As there."""
        _ = self._inner.session  # raises where there is none
        return SessionManager._of(Part(self._source, lambda it: it.session), self.persistence)

    @property
    def context(self) -> dict[str, Any]:
        """As there."""
        return self._inner.context

    def update_context(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """As there."""
        return self._run(lambda it: it.update_context(changes))

    def respond(
        self,
        text: str,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        commit_id: str | None = None,
    ) -> Reply:
        """As there."""
        return self._run(
            lambda it: it.respond(
                text, session_id=session_id, user_id=user_id, context=context, metadata=metadata, commit_id=commit_id
            )
        )

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
        """As there, for ``with`` and ``for``."""
        inner = self._inner.stream(
            text, session_id=session_id, user_id=user_id, context=context, metadata=metadata, commit_id=commit_id
        )
        return ReplyStream(inner, self._source.door)


class ReplyStream:
    """What ``Agent.stream`` returns: ``with agent.stream(text) as stream: for chunk in stream``."""

    def __init__(self, stream: agent.ReplyStream, door: Door) -> None:
        self._stream = stream
        self._door = door

    def __enter__(self) -> Self:
        self._door.run(self._stream.__aenter__)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._door.is_ours:  # else it ended with the interpreter, or is the parent's
            self._door.run(lambda: self._stream.__aexit__(*exc_info))

    def __iter__(self) -> Iterator[StreamChunk]:
        while (chunk := self._door.run(self._stream.next_chunk)) is not None:
            yield chunk
            if chunk.done:
                return
