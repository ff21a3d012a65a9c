"""Calls hooks, plain and async, and awaits what they return: the only place that does.

pluggy's own calls cannot: its ``firstresult`` takes a coroutine for a result, its wrappers resume before the coroutine
has run, and one that raises keeps the others from running.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from turnkeep._binding import Rank
from turnkeep.errors import HookError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from turnkeep._binding import Listener

_LOG: Final = logging.getLogger("turnkeep.hooks")

T = TypeVar("T")


class Offload(Protocol):
    """Runs a function somewhere else than on the event loop."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """What the function returns or raises, awaited."""
        ...


class Dispatcher:
    """The implementations of every hook, in order, and how they are called.

    Args:
        listeners: in order of registration.
        timeout: seconds that one implementation may take, as far as it can be stopped: an async one is cancelled, one
            in a thread is left behind, a plain one on the loop cannot be. None: for ever.
        offload: runs plain functions elsewhere; None: they run on the event loop.

    Attributes:
        listeners: by hook, in the order in which they are called.
    """

    def __init__(self, listeners: Iterable[Listener], *, timeout: float | None, offload: Offload | None = None) -> None:
        self.timeout = timeout
        self.offload = offload
        self.listeners: dict[str, tuple[Listener, ...]] = {}
        self._add(listeners)

    def extended(self, listeners: Iterable[Listener], *, offload: Offload | None) -> Dispatcher:
        """One that also calls these."""
        other = Dispatcher((), timeout=self.timeout, offload=offload)
        other.listeners = dict(self.listeners)
        other._add(listeners)
        return other

    def _add(self, listeners: Iterable[Listener]) -> None:
        for listener in listeners:
            both = (*self.listeners.get(listener.hook, ()), listener)
            self.listeners[listener.hook] = tuple(sorted(both, key=_rank))

    async def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Calls every implementation, one after the other.

        A plugin's failure is logged. Functions of the application: the first failure is raised once all have run, with
        a note; further ones are logged.
        """
        failure: Exception | None = None
        for listener in self.listeners.get(hook, ()):
            try:
                await self._call(listener, arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others run
                if listener.rank is Rank.APPLICATION and failure is None:
                    failure = error
                    _name_source(error, listener)
                else:
                    _LOG.error("%s failed: %s", _source(listener), error, exc_info=error)
        if failure is not None:
            raise failure

    async def transform(
        self, hook: str, name: str, arguments: dict[str, Any], accept: Callable[[Any], T] | None = None
    ) -> Any:
        """Calls every implementation, each with what the one before returned; None keeps the value.

        Args:
            hook: the hook.
            name: which of its arguments is the value.
            arguments: by name; the value is replaced in place.
            accept: what becomes of a returned value; raises TypeError or ValueError if it is of no use.

        Raises:
            HookError: an implementation took too long, or returned something of no use.
            Exception: whatever an implementation raised, with a note that names it.
        """
        for listener in self.listeners.get(hook, ()):
            try:
                result = await self._call(listener, arguments)
            except Exception as error:
                _name_source(error, listener)
                raise
            if result is None:
                continue
            try:
                arguments[name] = result if accept is None else accept(result)
            except (TypeError, ValueError) as error:
                raise HookError(
                    f"{_source(listener)} returned something of no use: {error}", plugin=listener.plugin, hook=hook
                ) from error
        return arguments[name]

    async def _call(self, listener: Listener, arguments: Mapping[str, Any]) -> Any:
        if self.offload is not None and not listener.is_async:
            # Copied here and not left to ``offload``: the open turn that a hook joins is a context variable.
            context = contextvars.copy_context()
            result = await self._bounded(
                listener, self.offload(partial(context.run, partial(listener.call, arguments)))
            )
        else:
            result = listener.call(arguments)
        if result is not None and inspect.isawaitable(result):
            result = await self._bounded(listener, result)
        return result

    async def _bounded(self, listener: Listener, awaitable: Awaitable[T]) -> T:
        deadline = asyncio.timeout(self.timeout)
        try:
            async with deadline:
                return await awaitable
        except Exception as error:
            # A TimeoutError may also be the implementation's own.
            if not deadline.expired():
                raise
            raise HookError(
                f"{_source(listener)} did not finish within {self.timeout:g} seconds",
                plugin=listener.plugin,
                hook=listener.hook,
            ) from error


def _rank(listener: Listener) -> Rank:
    return listener.rank


def _source(listener: Listener) -> str:
    carrier = "the application's Hooks" if listener.rank is Rank.APPLICATION else f"plugin {listener.plugin!r}"
    return f"hook {listener.hook} of {carrier}"


def _name_source(error: Exception, listener: Listener) -> None:
    note = f"raised by {_source(listener)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
