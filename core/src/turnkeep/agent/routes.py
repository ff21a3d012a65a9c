"""Routes and steps: what a conversation is to bring about, as the application declares it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnkeep._callbacks import check_callback
from turnkeep.agent.tools import Tool, as_tools
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    Condition = str | Callable[..., bool | Awaitable[bool]]
    Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True, init=False)
class Step:
    """One thing to find out or to say.

    A step is done when every field it collects is there; one that collects nothing, when the assistant has spoken for
    it once. Callbacks take the arguments they name, any of ``data``, ``context``, ``session`` (a view) and ``turn`` (to
    stage messages and data), and are plain or async.

    Attributes:
        id: unique in its route. Default: the first field it collects, or else a slug of its text.
        text: what the assistant is to do.
        collect: fields to find out.
        requires: fields that must be there before the step is taken; until then it is passed over.
        skip_if: callback; the step is passed over when it returns true.
        when: words for the model, or a callback; the step is passed over when it returns false.
        prepare: callback; runs before the provider is asked, in each turn that begins at this step.
        finalize: callback; runs once when the step is done. A dict that it returns is merged into the data.
        tools: that may be called at this step only.
    """

    id: str
    text: str
    collect: tuple[str, ...]
    requires: tuple[str, ...]
    skip_if: Callable[..., bool | Awaitable[bool]] | None
    when: Condition | None
    prepare: Callback | None
    finalize: Callback | None
    tools: tuple[Tool, ...]

    def __init__(
        self,
        text: str,
        *,
        id: str | None = None,
        collect: Iterable[str] = (),
        requires: Iterable[str] = (),
        skip_if: Callable[..., bool | Awaitable[bool]] | None = None,
        when: Condition | None = None,
        prepare: Callback | None = None,
        finalize: Callback | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
    ) -> None:
        put = object.__setattr__
        names = _names(collect, "collect")
        put(self, "text", _text(text, "a step's text"))
        put(self, "id", check_id(id, "a step's id") if id is not None else (names[0] if names else slug(text)))
        put(self, "collect", names)
        put(self, "requires", _names(requires, "requires"))
        for name, value in (("skip_if", skip_if), ("prepare", prepare), ("finalize", finalize)):
            if value is not None:
                check_callback(value, f"{name} of step {self.id!r}")
            put(self, name, value)
        if when is not None and not isinstance(when, str):
            check_callback(when, f"when of step {self.id!r}")
        put(self, "when", when)
        put(self, "tools", tuple(as_tools(tools, f"step {self.id!r}").values()))


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """A way a conversation can take.

    Attributes:
        id: unique in its agent. Default: a slug of the title.
        title: for people and models.
        when: words for the model, or a callback: the route is only offered when it returns true.
        required_fields: the route is complete when all are there. Default: every field its steps collect.
        steps: in order.
        on_complete: what comes next: the id or title of a route, entered in the same turn, or a callback that returns
            one or None.
        tools: that may be called on this route only.
    """

    id: str
    title: str
    when: Condition | None
    required_fields: tuple[str, ...]
    steps: tuple[Step, ...]
    on_complete: str | Callback | None
    tools: tuple[Tool, ...]

    def __init__(
        self,
        title: str,
        *,
        id: str | None = None,
        when: Condition | None = None,
        required_fields: Iterable[str] = (),
        steps: Iterable[Step] = (),
        on_complete: str | Callback | None = None,
        tools: Iterable[Tool | Callable[..., Any]] = (),
    ) -> None:
        put = object.__setattr__
        put(self, "title", _text(title, "a route's title"))
        put(self, "id", slug(title) if id is None else check_id(id, "a route's id"))
        if when is not None and not isinstance(when, str):
            check_callback(when, f"when of route {self.id!r}")
        put(self, "when", when)
        put(self, "steps", tuple(steps))
        named = _names(required_fields, "required_fields")
        put(
            self,
            "required_fields",
            named or tuple(dict.fromkeys(field for step in self.steps for field in step.collect)),
        )
        if on_complete is not None and not isinstance(on_complete, str):
            check_callback(on_complete, f"on_complete of route {self.id!r}")
        put(self, "on_complete", on_complete)
        put(self, "tools", tuple(as_tools(tools, f"route {self.id!r}").values()))
        _refuse_twins([step.id for step in self.steps], f"route {self.title!r} has two steps with the id")

    @property
    def collects(self) -> tuple[str, ...]:
        """The fields its steps find out, in order."""
        return tuple(dict.fromkeys(field for step in self.steps for field in step.collect))

    def step(self, step_id: str) -> Step | None:
        """The step with this id, or None."""
        return next((step for step in self.steps if step.id == step_id), None)


class Routes:
    """The routes of an agent, by id and by title.

    Args:
        routes: in order.
        fields: the fields the agent's schema knows; None where it has no schema.

    Raises:
        InvalidArgument: two have one id, a field is unknown, or ``on_complete`` names no route.
    """

    def __init__(self, routes: Iterable[Route], fields: Mapping[str, Any] | None) -> None:
        ordered = tuple(routes)
        self._routes = {route.id: route for route in ordered}
        _refuse_twins([route.id for route in ordered], "two routes have the id")
        for route in ordered:
            for name in (
                *route.required_fields,
                *route.collects,
                *(need for step in route.steps for need in step.requires),
            ):
                if fields is not None and name not in fields:
                    known = ", ".join(fields)
                    raise InvalidArgument(
                        f"route {route.title!r} names the field {name!r}, which the schema lacks: {known}"
                    )
            if isinstance(route.on_complete, str) and self.find(route.on_complete) is None:
                raise InvalidArgument(f"on_complete of route {route.title!r} names no route: {route.on_complete!r:.80}")

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def get(self, route_id: str) -> Route | None:
        """The route with this id, or None."""
        return self._routes.get(route_id)

    def find(self, name: str) -> Route | None:
        """The route with this id or title, or None."""
        return self._routes.get(name) or next((route for route in self if route.title == name), None)


def slug(text: str) -> str:
    """An id made from words: lower case, joined by hyphens; letters of every script are kept."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return check_id(re.sub(r"\W+", "-", folded).strip("-")[:80], f"the id made from {text!r:.80}; give id=")


def _text(value: object, what: str) -> str:
    if type(value) is not str or not value.strip():
        raise InvalidArgument(f"{what} must be a str that is not blank, not {value!r:.80}")
    return value


def _names(value: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(value, str):
        raise InvalidArgument(f"{what} takes a list of field names, not the str {value!r:.80}")
    return tuple(check_id(name, f"a field in {what}") for name in value)


def _refuse_twins(ids: list[str], what: str) -> None:
    for name in ids:
        if ids.count(name) > 1:
            raise InvalidArgument(f"{what} {name!r}: give one of them an id= of its own")
