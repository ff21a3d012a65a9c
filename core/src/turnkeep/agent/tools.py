"""Tools: functions of the application that a model may call."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, overload

from turnkeep.agent.schema import problems_of
from turnkeep.errors import InvalidArgument
from turnkeep.providers.base import ToolSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

INJECTED: Final = frozenset({"call", "context", "session"})
"""Parameters that are filled in by the agent and not shown to the model."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class ToolInvocation:
    """What a tool is told about its call if it has a parameter ``call``.

    Attributes:
        id: of the call, as the model made it.
        idempotency_key: ``<commit id>:<number of the call in the turn>``: the same on every attempt of the turn, so
            that an outside system can tell a repeated call.
    """

    id: str
    idempotency_key: str


class Tool:
    """A function a model may call. Made by ``@tool``; calling it calls the function.

    Attributes:
        name: what the model calls it.
        description: what the model is told it does.
        repeatable: whether it may run again when a turn is repeated after a conflict.
    """

    def __init__(
        self, function: Callable[..., Any], *, name: str | None, description: str | None, repeatable: bool
    ) -> None:
        if not callable(function):
            raise InvalidArgument(f"a tool is a function, not {type(function).__name__}")
        self.function: Callable[..., Any] = function
        self.name: str = name or getattr(function, "__name__", type(function).__name__)
        if not _NAME.match(self.name):
            raise InvalidArgument(
                f"a tool's name is 1 to 64 letters, digits, _ and -, not {self.name!r:.80}: give name="
            )
        self.description: str = description or inspect.cleandoc(getattr(function, "__doc__", None) or "")
        self.repeatable: bool = repeatable
        self._signature: inspect.Signature = inspect.signature(function)
        for parameter in self._signature.parameters.values():
            if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                raise InvalidArgument(f"tool {self.name!r}: the parameter {parameter} cannot be given by name")

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, as if it had not been made a tool."""
        return self.function(*args, **kwargs)

    @property
    def spec(self) -> ToolSpec:
        """What a provider is told."""
        return ToolSpec(self.name, self.description, self.parameters)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of the arguments: an object."""
        schema = self._arguments.model_json_schema()
        schema.pop("title", None)
        for described in schema.get("properties", {}).values():
            described.pop("title", None)
        return schema

    def read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The model's arguments, validated and converted as the signature's annotations say.

        Raises:
            InvalidArgument: they do not fit.
        """
        from pydantic import ValidationError

        try:
            found = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            listed = "; ".join(f"{name}: {problem}" for name, problem in problems_of(error).items())
            raise InvalidArgument(f"the arguments of {self.name} do not fit: {listed}") from None
        return {
            str(field.alias): getattr(found, key)
            for key, field in type(found).model_fields.items()
            if key in found.model_fields_set
        }

    def injected(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the agent's own arguments that the function asks for."""
        return {name: value for name, value in offered.items() if name in self._signature.parameters}

    @cached_property
    def _arguments(self) -> type[BaseModel]:
        from pydantic import ConfigDict, Field, create_model

        # By alias, because a parameter may have a name that means something to pydantic: schema, json, model_config …
        fields: dict[str, Any] = {
            f"argument_{index}": (
                Any if parameter.annotation is parameter.empty else parameter.annotation,
                Field(... if parameter.default is parameter.empty else parameter.default, alias=parameter.name),
            )
            for index, parameter in enumerate(_signature(self.function).parameters.values())
            if parameter.name not in INJECTED
        }
        return create_model(f"{self.name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with annotations that were written as text resolved, as far as they can be."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        return inspect.signature(function)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, repeatable: bool = False
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    repeatable: bool = False,
) -> Any:
    """Makes a plain or async function a tool: ``@tool`` or ``@tool(repeatable=True)``.

    Name and description come from the function's name and docstring, the arguments from its annotations. Parameters
    called ``call`` (a ``ToolInvocation``), ``context`` and ``session`` (a view) are filled in by the agent.

    Args:
        function: the function, when used without parentheses.
        name: what the model calls it.
        description: what the model is told it does.
        repeatable: it may run again when its turn is repeated after a conflict.

    Raises:
        InvalidArgument: the function has parameters that cannot be given by name, or a name no model accepts.
    """

    def decorate(decorated: Callable[..., Any]) -> Tool:
        return Tool(decorated, name=name, description=description, repeatable=repeatable)

    return decorate if function is None else decorate(function)


def as_tools(tools: Any, where: str) -> dict[str, Tool]:
    """Tools by name; plain functions are made tools.

    Raises:
        InvalidArgument: two have one name.
    """
    found: dict[str, Tool] = {}
    for item in tools:
        made = item if isinstance(item, Tool) else tool(item)
        if made.name in found:
            raise InvalidArgument(f"{where} has two tools named {made.name!r}")
        found[made.name] = made
    return found
