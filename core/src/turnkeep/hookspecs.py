"""Every hook, with what it promises.

A hook's name says its rule:

- ``register_*`` is a plain function, called once, when the plugin is registered and before anything is opened. It
  pushes what the plugin offers into a registry. If it raises, the plugin is broken: none of its hooks is ever called.
- ``before_*`` may change or refuse. Implementations run one after the other; each is given what the one before it
  returned, and None keeps the value. Raising ends the operation: the caller sees the very exception, with a note that
  names hook and plugin, and nothing is written. A turn that is tried again after a conflict calls them again.
- ``on_*`` and ``after_*`` watch. What they return is ignored. Every implementation runs, whatever the others do. What a
  plugin raises is logged (``turnkeep.hooks``) and goes no further; what a function handed over with ``Hooks`` raises
  reaches the caller once all have run. Where a hook follows a commit, that commit stands all the same.

An implementation takes the arguments it names: any of them, in any order, or all with ``**kwargs``. It is a plain or an
async function. Order: plugins found by entry point (by name), plugins handed over (in the order given), functions in
``Hooks``; among plugins ``tryfirst=True`` and ``trylast=True`` are honoured. No hook runs inside a database
transaction. One that waits too long (30 s unless set otherwise) is cancelled: ``HookError`` from a ``before_*`` hook,
and treated like something raised in the others.

``session`` is a ``SessionView``: read-only, with ``state`` None where the operation did not load it. ``Persistence``,
``Agent`` and ``SessionManager`` calls that a hook makes for the session of an open turn become part of that turn.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from turnkeep.agent.reply import Reply
    from turnkeep.contract import StorageAdapter, Token
    from turnkeep.hooks import SessionView
    from turnkeep.messages import Message
    from turnkeep.models import RouteRef
    from turnkeep.payload import PayloadFilter
    from turnkeep.persistence import Persistence
    from turnkeep.turn import TurnView


hookspec: Final = pluggy.HookspecMarker("turnkeep")
hookimpl: Final = pluggy.HookimplMarker("turnkeep")
"""Marks a plugin's method as the implementation of the hook of that name."""


# Storage


@hookspec
def register_adapters(register: Callable[[str, str | type[StorageAdapter]], None]) -> None:
    """Offers adapters: ``register("acme", "turnkeep_acme.adapter:AcmeAdapter")``, once per URL scheme.

    The second argument is a ``StorageAdapter`` class or, better, where it is found: it is imported when a URL of that
    scheme is first opened, so the plugin itself loads no driver. A scheme that ends in ``+*`` takes every scheme that
    begins so (``sqlalchemy+*``). A scheme that two plugins offer belongs to neither and says so when it is asked for,
    unless one of them was handed over by the application: that one has it.
    """


@hookspec
def register_providers(register: Callable[[str, str | Callable[..., Any]], None]) -> None:
    """Offers providers: ``register("acme", "turnkeep_acme.provider:AcmeProvider")``, by name.

    The second argument is a class or function that makes a provider or, better, where it is found; the rules are those
    of ``register_adapters``.
    """


@hookspec
def register_payload_filter(register: Callable[[PayloadFilter], None]) -> None:
    """Offers the filter through which everything a user wrote passes on its way to the database and back.

    There is at most one in a process' plugins: with two, nothing can be opened until one of them is blocked.
    """


@hookspec
def before_commit(turn: TurnView, session: SessionView) -> TurnView | None:
    """A commit is about to be sent: everything that the turn adds and changes is in ``turn``.

    Runs once per attempt, after ``before_message_save``, for every commit, whether of an agent's turn or of a single
    call. ``session`` is what the session will be. To refuse, raise. To change, return
    ``dataclasses.replace(turn, messages=…, data=…)``; messages added here go through ``before_message_save`` too. The
    commit id cannot be changed, and where ``session.state`` is None (an append or a change of status by session id)
    nothing can: there a changed turn is a ``HookError``.
    """


@hookspec
def on_storage_operation(operation: str, duration: float, size: int, outcome: str) -> None:
    """The adapter has answered, or failed.

    Runs once per call of the adapter, retries included, in the task that made it.

    Args:
        operation: the adapter's method, for example ``"commit"``.
        duration: seconds.
        size: bytes of payload that were sent; 0 where none were.
        outcome: ``"ok"``, ``"conflict"``, ``"timeout"``, ``"error"`` or ``"cancelled"``.
    """


@hookspec
def on_conflict(session: SessionView, expected: Token | None, actual: Token | None, attempt: int) -> None:
    """A commit was refused because somebody else had committed first. Nothing was written.

    Runs once per refused attempt, before it is decided whether to try again.

    Args:
        session: the session as this writer had it.
        expected: the token it had read.
        actual: the token the session is at; None where the database did not tell.
        attempt: 1 for the first.
    """


@hookspec
def on_storage_error(operation: str, error: Exception, session: SessionView | None) -> None:
    """The adapter has failed. Runs once per call of it that did; conflicts are no failures, see ``on_conflict``.

    A commit whose outcome is not known (``CommitOutcomeUnknown``) is sent again, so the caller need not see ``error``.
    ``session`` is None where the operation concerned no single one, or was a read.
    """


# History


@hookspec
def before_message_save(message: Message, session: SessionView) -> Message | None:
    """A message is about to be staged for storing: the place to redact or refuse.

    Runs once per message and attempt, in the order of the history, before ``before_commit``. Return
    ``message.replace(…)`` to store something else; what is returned is also what the live session shows.
    """


@hookspec
def on_messages_appended(messages: Sequence[Message], session: SessionView) -> None:
    """Messages are durable: they have their numbers (``seq``) and their commit id.

    Runs once per commit that has messages, after it. A replayed commit, which stored nothing new, does not run it.
    """


@hookspec
def before_provider_call(history: Sequence[Message], session: SessionView) -> Sequence[Message] | None:
    """The provider is about to be asked, and will be shown ``history``.

    Runs before each call of the provider, so several times in a turn with tools. Return a sequence of messages to show
    it something else: nothing of that is stored.
    """


# Lifecycle


@hookspec
def before_respond(context: dict[str, Any], session: SessionView) -> dict[str, Any] | None:
    """A turn begins: the session is loaded, the user's message is not staged yet.

    Runs once per attempt. Return a dict to replace the turn's context; ``{**context, "key": value}`` adds to it.
    """


@hookspec
def after_respond(reply: Reply, context: dict[str, Any], session: SessionView) -> None:
    """A turn is durable and its reply is about to be returned.

    Runs once per turn, last of all hooks. A replayed turn runs it too, with ``reply.replayed`` set.
    """


@hookspec
def on_context_update(context: dict[str, Any], previous: dict[str, Any], session: SessionView) -> None:
    """The context has changed.

    In a turn it runs at most once, before the commit, if the final context differs from what ``before_respond`` left:
    what it writes to the session becomes part of the turn. Outside of a turn it runs once per ``update_context``.
    Alone among the ``on_*`` hooks it precedes a commit, which may still fail.

    Args:
        context: the context as it is now.
        previous: the context as it was.
        session: the session.
    """


@hookspec
def before_data_update(data: dict[str, Any], previous: dict[str, Any], session: SessionView) -> dict[str, Any] | None:
    """Collected data is about to change.

    Runs once per change and attempt, before the step is judged. Where there is a schema, both what it is given and what
    it returns are held against it.

    Args:
        data: all of it, as it will be. Return another dict to collect that instead.
        previous: all of it, as it was.
        session: the session, with the data as it was.
    """


@hookspec
def on_session_created(session: SessionView) -> None:
    """A session was stored for the first time. Runs once, after that commit and before its other hooks."""


@hookspec
def on_session_loaded(session: SessionView) -> None:
    """A session that was there has been read, with its state. Runs once per load; never for one that is absent."""


@hookspec
def on_session_completed(session: SessionView) -> None:
    """A commit has set a session's status to completed. Runs once per such commit, after it."""


@hookspec
def on_session_deleted(session: SessionView) -> None:
    """A session and everything of it is gone. Runs once per session deleted, after that.

    What expires or goes with its owner (``erase_user``) is not announced one by one. ``session.state`` is None unless
    the session had been loaded.
    """


@hookspec
def on_session_committed(session: SessionView, turn: TurnView) -> None:
    """A commit is durable. Runs once per commit, after it; never for a replayed one.

    Args:
        session: the session as it is now.
        turn: what the commit did.
    """


@hookspec
def on_route_entered(route: RouteRef, session: SessionView) -> None:
    """A conversation has moved onto a route, and that is durable. Runs once per commit that did so, after it."""


@hookspec
def on_route_completed(route: RouteRef, session: SessionView) -> None:
    """A conversation has finished a route, and that is durable. Runs once per commit that did so, after it."""


@hookspec
def on_startup(persistence: Persistence) -> None:
    """A persistence is open and ready. Runs once per opening, before the first other hook of it."""


@hookspec
def on_shutdown(persistence: Persistence) -> None:
    """A persistence is about to close; it still works. Runs once per opening."""


def _argument_names(spec: FunctionType) -> tuple[str, ...]:
    return spec.__code__.co_varnames[: spec.__code__.co_argcount]


HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    name: _argument_names(spec)
    for name, spec in list(globals().items())
    if isinstance(spec, FunctionType) and hasattr(spec, "turnkeep_spec")
}
"""Name of every hook to the names of its arguments."""
