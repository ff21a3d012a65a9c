"""Hooks as an application writes them: ``Hooks(before_respond=…)``, and what each of them is shown of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self

from turnkeep._binding import Listener, Rank, no_such_hook

if TYPE_CHECKING:
    from turnkeep.models import SessionState

APPLICATION: Final = "Hooks"
"""What stands in place of a plugin's name in messages about a function of the application's own."""

Hook = Callable[..., Any | Awaitable[Any]] | None
"""A plain or async function that takes any of its hook's arguments, by name."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a hook is shown of a session; reading it changes nothing.

    Attributes:
        id: the session id.
        user_id: the owner; None for an anonymous session.
        namespace: the application it belongs to.
        state: the session whole; None where the operation did not load it.
    """

    id: str
    user_id: str | None
    namespace: str
    state: SessionState | None = None

    @classmethod
    def of(cls, state: SessionState, namespace: str) -> Self:
        """The view of a session whose state is at hand."""
        return cls(state.id, state.user_id, namespace, state)

    @property
    def data(self) -> dict[str, Any]:
        """What the conversation has collected: a copy. Empty where the state was not loaded."""
        return {} if self.state is None else self.state.data


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """The application's own functions, by hook: ``Hooks(before_respond=load_preferences)``.

    Each takes the arguments it names, any of those that ``turnkeep.hookspecs`` gives its hook, and is plain or async.
    They run after all plugins. Unlike a plugin's, an exception from one that only watches (``on_*``, ``after_*``) is
    raised to the caller, after all others have run.

    Raises:
        HookError: there is no such hook, a value is not callable, or a function asks for an argument that its hook does
            not have. The message names what there is.
    """

    before_commit: Hook = None
    on_storage_operation: Hook = None
    on_conflict: Hook = None
    on_storage_error: Hook = None
    before_message_save: Hook = None
    on_messages_appended: Hook = None
    before_provider_call: Hook = None
    before_respond: Hook = None
    after_respond: Hook = None
    on_context_update: Hook = None
    before_data_update: Hook = None
    on_session_created: Hook = None
    on_session_loaded: Hook = None
    on_session_completed: Hook = None
    on_session_deleted: Hook = None
    on_session_committed: Hook = None
    on_route_entered: Hook = None
    on_route_completed: Hook = None
    on_startup: Hook = None
    on_shutdown: Hook = None
    listeners: tuple[Listener, ...] = field(init=False, repr=False, compare=False)
    """The functions given, bound to their hooks."""

    def __new__(cls, **hooks: Any) -> Self:
        """Refuses unknown names before the generated ``__init__`` does, which would not name the nearest."""
        for name in hooks:
            if name not in _FIELDS:
                raise no_such_hook(name, APPLICATION, _FIELDS)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        given = ((name, getattr(self, name)) for name in _FIELDS)
        bound = [
            Listener.of(function, name, plugin=APPLICATION, rank=Rank.APPLICATION)
            for name, function in given
            if function is not None
        ]
        object.__setattr__(self, "listeners", tuple(bound))


_FIELDS: Final = tuple(item.name for item in fields(Hooks) if item.init)
