"""Functions that an application hangs on routes, steps and tools: called with the arguments they name."""

from __future__ import annotations

import contextvars
import inspect
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turnkeep._dispatch import Offload

STEP_ARGUMENTS: Final = ("data", "context", "session", "turn")
"""What a callback of a route or step may take."""


def check_callback(function: object, what: str, arguments: Iterable[str] = STEP_ARGUMENTS) -> None:
    """Refuses what cannot be called with some of these arguments by name.

    Raises:
        InvalidArgument: the message names what there is.
    """
    if not callable(function):
        raise InvalidArgument(f"{what} must be a function, not {type(function).__name__}")
    known = tuple(arguments)
    for parameter in inspect.signature(function).parameters.values():
        required = parameter.default is parameter.empty
        variadic = parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        if variadic or not required:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY or parameter.name not in known:
            raise InvalidArgument(f"{what} asks for {parameter.name!r}; it can take any of {', '.join(known)}, by name")


async def call_by_name(function: Callable[..., Any], offered: Mapping[str, Any], offload: Offload | None) -> Any:
    """What the function returns, awaited if need be; it is given those of the arguments that it names."""
    names = _names(function)
    given = offered if names is None else {name: value for name, value in offered.items() if name in names}
    return await run(partial(function, **given), offload)


@lru_cache(maxsize=512)  # reading a signature takes 20 µs
def _names(function: Callable[..., Any]) -> frozenset[str] | None:
    """The arguments a function takes; None where it takes any."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)


async def run(function: Callable[[], Any], offload: Offload | None) -> Any:
    """What the function returns, awaited if need be. A plain one runs elsewhere if ``offload`` is given."""
    if offload is not None and not inspect.iscoroutinefunction(inspect.unwrap(_innermost(function))):
        # The open turn that the function may join is a context variable.
        result = await offload(partial(contextvars.copy_context().run, function))
    else:
        result = function()
    return await result if inspect.isawaitable(result) else result


def _innermost(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function
