"""Binds functions to hooks: which arguments an implementation takes, judged once, so that a call is one plain call.

Plugin methods and the application's own functions go through the same judgement. pluggy gives the marker and its
options; its own registration is not used, because it passes no ``**kwargs`` and no argument that has a default.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

import pluggy

from turnkeep.errors import HookError, PluginLoadError
from turnkeep.hookspecs import HOOKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Holds no plugin: it only reads the marks that ``hookimpl`` leaves, wherever pluggy keeps them.
_MARKS: Final = pluggy.PluginManager("turnkeep")

_NO_DEFAULT: Final = inspect.Parameter.empty


class Rank(IntEnum):
    """Where an implementation stands among those of its hook; within a rank, the order of registration holds."""

    FIRST = 0
    NORMAL = 1
    LAST = 2
    APPLICATION = 3


@dataclass(frozen=True, slots=True)
class Listener:
    """One implementation of one hook.

    Attributes:
        plugin: name of the plugin that carries it.
        hook: the hook's name.
        function: the implementation.
        names: the arguments it takes; None for all of them.
        is_async: it was declared ``async``. (One that was not may still return an awaitable.)
        rank: its place.
    """

    plugin: str
    hook: str
    function: Callable[..., Any]
    names: tuple[str, ...] | None
    is_async: bool
    rank: Rank

    @classmethod
    def of(cls, function: object, hook: str, *, plugin: str, rank: Rank) -> Listener:
        """Binds.

        Raises:
            HookError: it is not callable, is a generator, or asks for what the hook does not have.
        """
        if not callable(function):
            raise _unfit(hook, plugin, f"must be a function, not {type(function).__name__}")
        names, is_async = _judge(function, hook, plugin)
        return cls(plugin, hook, function, names, is_async, rank)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Calls it with those of the hook's arguments that it takes."""
        if self.names is None:
            return self.function(**arguments)
        return self.function(**{name: arguments[name] for name in self.names})


@dataclass(frozen=True, slots=True)
class _Method:
    """A marked method, as any instance of its class has it."""

    attribute: str
    hook: str
    rank: Rank
    names: tuple[str, ...] | None
    is_async: bool


# An Agent is made per request and may be handed plugins each time. Reading an object's marks takes some 300 µs, so it
# is done once per class.
_METHODS: Final[WeakKeyDictionary[type, tuple[_Method, ...]]] = WeakKeyDictionary()


def implementations(plugin: object, name: str) -> list[Listener]:
    """Everything a plugin implements, by the marks on its functions.

    Raises:
        HookError: one of them is no hook, or does not fit its hook.
        PluginLoadError: it has none at all, or is a class.
    """
    if isinstance(plugin, type):
        raise PluginLoadError(
            f"plugin {name!r} is the class {plugin.__qualname__}; hand over an instance: {plugin.__name__}()",
            plugin=name,
        )
    if isinstance(plugin, ModuleType):
        methods = tuple(_read_methods(plugin, plugin, dir(plugin), name))
    else:
        cls = type(plugin)
        found = _METHODS.get(cls)
        if found is None:
            found = _METHODS[cls] = tuple(_read_methods(plugin, cls, dir(cls), name))
        own = [name for name, value in getattr(plugin, "__dict__", {}).items() if inspect.isroutine(value)]
        methods = (*found, *_read_methods(plugin, plugin, own, name))
    if not methods:
        raise PluginLoadError(
            f"plugin {name!r} implements no hook; a plugin is a module or an object "
            "whose functions are marked with @turnkeep.hookimpl",
            plugin=name,
        )
    return [
        Listener(name, method.hook, getattr(plugin, method.attribute), method.names, method.is_async, method.rank)
        for method in methods
        if method.hook in HOOKS
    ]


def no_such_hook(hook: str, plugin: str, known: Iterable[str]) -> HookError:
    """The error for a misspelt hook; names the nearest one."""
    import difflib

    near = difflib.get_close_matches(hook, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    return HookError(
        f"{plugin}: there is no hook {hook!r:.80}{hint} The hooks are {', '.join(sorted(known))}",
        plugin=plugin,
        hook=hook,
    )


def _read_methods(plugin: object, owner: object, attributes: Iterable[str], name: str) -> Iterator[_Method]:
    """What is marked among the attributes of ``owner``: the plugin, or its class, where no property is evaluated."""
    for attribute in attributes:
        options = cast("dict[str, Any] | None", _MARKS.parse_hookimpl_opts(owner, attribute))
        if options is None:
            continue
        hook: str = options.get("specname") or attribute
        if hook not in HOOKS:
            if options.get("optionalhook"):
                yield _Method(attribute, hook, Rank.NORMAL, None, is_async=False)
                continue
            raise no_such_hook(hook, name, HOOKS)
        if options.get("wrapper") or options.get("hookwrapper"):
            # pluggy resumes a wrapper before an async implementation has even begun.
            raise _unfit(hook, name, "is a wrapper; wrappers are not supported, use the before_ and after_ hooks")
        rank = Rank.FIRST if options.get("tryfirst") else Rank.LAST if options.get("trylast") else Rank.NORMAL
        names, is_async = _judge(getattr(plugin, attribute), hook, name)
        yield _Method(attribute, hook, rank, names, is_async)


def _judge(function: Callable[..., Any], hook: str, plugin: str) -> tuple[tuple[str, ...] | None, bool]:
    """The arguments it takes (None: all), and whether it is async."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = cast("Callable[..., Any]", inner.func)
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = type(inner).__call__
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise _unfit(hook, plugin, "is a generator, which nobody would run; use return in place of yield")
    is_async = inspect.iscoroutinefunction(inner)
    if is_async and hook.startswith("register_"):
        raise _unfit(hook, plugin, "must be a plain function: register_ hooks are not awaited")
    return _judge_arguments(function, hook, plugin), is_async


def _judge_arguments(function: Callable[..., Any], hook: str, plugin: str) -> tuple[str, ...] | None:
    known = HOOKS[hook]
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise _unfit(hook, plugin, "has no readable signature; wrap it in a function of your own") from None
    # An argument that a partial has fixed by name is the application's, even if the hook has one of that name.
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    taken: list[str] = []
    takes_all = False
    for parameter in parameters:
        kind, required = parameter.kind, parameter.default is _NO_DEFAULT
        if kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif kind is parameter.VAR_POSITIONAL or parameter.name in fixed:
            continue
        elif kind is parameter.POSITIONAL_ONLY:
            if required:
                raise _unfit(hook, plugin, f"takes {parameter.name!r} by position only; arguments are passed by name")
        elif parameter.name in known:
            taken.append(parameter.name)
        elif required:
            raise _unfit(hook, plugin, f"asks for {parameter.name!r}, which this hook does not have")
    if takes_all:
        taken = [name for name in known if name not in fixed]
    return None if len(taken) == len(known) else tuple(taken)


def _unfit(hook: str, plugin: str, what: str) -> HookError:
    known = ", ".join(HOOKS[hook])
    return HookError(
        f"{hook} of {plugin!r} {what}. Its arguments: {known} (any of them, or **kwargs)", plugin=plugin, hook=hook
    )
