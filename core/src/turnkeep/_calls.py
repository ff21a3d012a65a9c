"""One typed method per hook: how the rest of Turnkeep calls them. What each promises stands in ``hookspecs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turnkeep.messages import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep._dispatch import Dispatcher
    from turnkeep.agent.reply import Reply
    from turnkeep.contract import Token
    from turnkeep.hooks import SessionView
    from turnkeep.models import RouteRef
    from turnkeep.persistence import Persistence
    from turnkeep.turn import TurnView


class HookCalls:
    """Calls the implementations of each hook. A hook that nobody implements costs next to nothing."""

    _dispatcher: Dispatcher

    def listens(self, hook: str) -> bool:
        """Whether anybody implements the hook: ask before making arguments that cost something."""
        return hook in self._dispatcher.listeners

    # Storage

    async def before_commit(self, turn: TurnView, session: SessionView) -> TurnView:
        def accept(result: Any) -> TurnView:
            if not isinstance(result, type(turn)):
                raise TypeError(f"{type(result).__name__}, where a {type(turn).__name__} or None was expected")
            if result.commit_id != turn.commit_id:
                raise ValueError("a turn with another commit id")
            if session.state is None and result != turn:
                raise ValueError(
                    "a changed turn, where the session was not loaded: an append or a change of status can only be "
                    "refused here, by raising; to change messages there is before_message_save"
                )
            return result

        return await self._dispatcher.transform("before_commit", "turn", {"turn": turn, "session": session}, accept)

    async def on_storage_operation(self, operation: str, duration: float, size: int, outcome: str) -> None:
        arguments = {"operation": operation, "duration": duration, "size": size, "outcome": outcome}
        await self._dispatcher.notify("on_storage_operation", arguments)

    async def on_conflict(
        self, session: SessionView, expected: Token | None, actual: Token | None, attempt: int
    ) -> None:
        arguments = {"session": session, "expected": expected, "actual": actual, "attempt": attempt}
        await self._dispatcher.notify("on_conflict", arguments)

    async def on_storage_error(self, operation: str, error: Exception, session: SessionView | None) -> None:
        arguments = {"operation": operation, "error": error, "session": session}
        await self._dispatcher.notify("on_storage_error", arguments)

    # History

    async def before_message_save(self, message: Message, session: SessionView) -> Message:
        arguments = {"message": message, "session": session}
        return await self._dispatcher.transform("before_message_save", "message", arguments, _message)

    async def on_messages_appended(self, messages: Sequence[Message], session: SessionView) -> None:
        await self._dispatcher.notify("on_messages_appended", {"messages": messages, "session": session})

    async def before_provider_call(self, history: Sequence[Message], session: SessionView) -> Sequence[Message]:
        arguments = {"history": history, "session": session}
        return await self._dispatcher.transform("before_provider_call", "history", arguments, _messages)

    # Lifecycle

    async def before_respond(self, context: dict[str, Any], session: SessionView) -> dict[str, Any]:
        arguments = {"context": context, "session": session}
        return await self._dispatcher.transform("before_respond", "context", arguments, _dict)

    async def after_respond(self, reply: Reply, context: dict[str, Any], session: SessionView) -> None:
        await self._dispatcher.notify("after_respond", {"reply": reply, "context": context, "session": session})

    async def on_context_update(self, context: dict[str, Any], previous: dict[str, Any], session: SessionView) -> None:
        arguments = {"context": context, "previous": previous, "session": session}
        await self._dispatcher.notify("on_context_update", arguments)

    async def before_data_update(
        self, data: dict[str, Any], previous: dict[str, Any], session: SessionView
    ) -> dict[str, Any]:
        arguments = {"data": data, "previous": previous, "session": session}
        return await self._dispatcher.transform("before_data_update", "data", arguments, _dict)

    async def on_session_created(self, session: SessionView) -> None:
        await self._dispatcher.notify("on_session_created", {"session": session})

    async def on_session_loaded(self, session: SessionView) -> None:
        await self._dispatcher.notify("on_session_loaded", {"session": session})

    async def on_session_completed(self, session: SessionView) -> None:
        await self._dispatcher.notify("on_session_completed", {"session": session})

    async def on_session_deleted(self, session: SessionView) -> None:
        await self._dispatcher.notify("on_session_deleted", {"session": session})

    async def on_session_committed(self, session: SessionView, turn: TurnView) -> None:
        await self._dispatcher.notify("on_session_committed", {"session": session, "turn": turn})

    async def on_route_entered(self, route: RouteRef, session: SessionView) -> None:
        await self._dispatcher.notify("on_route_entered", {"route": route, "session": session})

    async def on_route_completed(self, route: RouteRef, session: SessionView) -> None:
        await self._dispatcher.notify("on_route_completed", {"route": route, "session": session})

    async def on_startup(self, persistence: Persistence) -> None:
        await self._dispatcher.notify("on_startup", {"persistence": persistence})

    async def on_shutdown(self, persistence: Persistence) -> None:
        await self._dispatcher.notify("on_shutdown", {"persistence": persistence})


def _dict(result: Any) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise TypeError(f"{type(result).__name__}, where a dict or None was expected")
    return cast("dict[str, Any]", result)


def _message(result: Any) -> Message:
    if not isinstance(result, Message):
        raise TypeError(f"{type(result).__name__}, where a Message or None was expected")
    return result


def _messages(result: Any) -> tuple[Message, ...]:
    return tuple(_message(item) for item in result)
