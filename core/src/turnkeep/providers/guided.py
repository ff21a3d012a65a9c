"""A provider that needs no model: it asks for each missing field in turn and reads the answers against the schema."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from turnkeep.providers.base import Provider, ProviderReply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnkeep.providers.base import ProviderRequest, RouteInfo, StepInfo

_YES = {"yes", "y", "yeah", "yep", "sure", "ok", "okay", "true", "of course", "please"}
_NO = {"no", "n", "nope", "false", "never", "no thanks", "no thank you"}
_NUMBERS = {
    word: number
    for number, word in enumerate(
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), 1
    )
}
_SMALL_WORDS = {
    *("a", "an", "and", "at", "do", "for", "i", "in", "is", "it", "like", "me", "my", "of", "on", "or", "please"),
    *("the", "to", "user", "want", "wants", "with", "would", "you"),
}
_ISO_DATE = re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b")
_DAY_FIRST_DATE = re.compile(r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b")
_INTEGER = re.compile(r"(?<![\d.,-])-?\d+(?![\d.,]*\d)")
_DECIMAL = re.compile(r"-?\d+(?:[.,]\d+)?")


class Unreadable(ValueError):
    """An answer in which no value of the wanted kind can be found; the text says what would help."""


class GuidedProvider(Provider):
    """Leads through the agent's routes without a model, a key or a network.

    It takes the route whose title or condition shares most words with what the user wrote, or the only unfinished one;
    where that does not decide, it asks. Then it asks for each missing field of each step, reads the answer against the
    field's JSON schema, and asks again, saying why, if it does not fit. A question is the field's description if that
    ends with ``?``, or else the step's text: ``"Ask how many guests"`` becomes ``"How many guests?"``.
    """

    def __init__(self, *, today: Callable[[], date] = date.today) -> None:
        """``today`` is what "tomorrow" counts from."""
        self._today = today

    async def generate(self, request: ProviderRequest) -> ProviderReply:
        """The next question, with what was read from the last answer."""
        text = next((message.content for message in reversed(request.history) if message.role == "user"), "")
        if request.route is not None:
            return self._go_on(request, request.route, text)
        if not request.routes:
            return ProviderReply(text=_WITHOUT_ROUTES)
        chosen = _choose(request.routes, text)
        if chosen is None:
            return ProviderReply(text=_offer(request.routes))
        return ProviderReply(text=_ask_next(request, chosen, chosen.missing or _collected(chosen)), route=chosen.id)

    def _go_on(self, request: ProviderRequest, route: RouteInfo, text: str) -> ProviderReply:
        asked = next((name for name in (request.step.collect if request.step else ()) if name in route.missing), None)
        if asked is None:
            return ProviderReply(text=_ask_next(request, route, route.missing))
        try:
            value = self._read(_property(request, asked), text.strip(), request.fields)
        except Unreadable as unreadable:
            return ProviderReply(text=f"{unreadable} {_question(request, route, asked)}")
        problem = request.check({asked: value}).get(asked)
        if problem:
            return ProviderReply(text=f"That does not fit: {problem}. {_question(request, route, asked)}")
        left = tuple(name for name in route.missing if name != asked)
        return ProviderReply(text=_ask_next(request, route, left, found={asked: value}), data={asked: value})

    def _read(self, schema: Mapping[str, Any], text: str, root: Mapping[str, Any]) -> Any:
        """The value of an answer; strings where the agent's schema converts them.

        Raises:
            Unreadable: there is none in it.
        """
        schema = _resolve(schema, root)
        if not text:
            raise Unreadable("I did not get that.")
        if "enum" in schema:
            return _one_of(text, cast("list[Any]", schema["enum"]))
        if "const" in schema:
            return _one_of(text, [schema["const"]])
        kind = schema.get("type")
        if kind == "integer":
            return _integer(text)
        if kind == "number":
            return _number(text)
        if kind == "boolean":
            return _yes_or_no(text)
        if kind == "array":
            parts = [part.strip() for part in re.split(r",|;|\band\b", text) if part.strip()]
            return [self._read(schema.get("items", {}), part, root) for part in parts]
        if schema.get("format") == "date":
            return self._date(text)
        return text

    def _date(self, text: str) -> str:
        lowered = text.casefold()
        for word, days in (("today", 0), ("tomorrow", 1)):
            if word in lowered:
                return (self._today() + timedelta(days=days)).isoformat()
        iso, day_first = _ISO_DATE.search(text), _DAY_FIRST_DATE.search(text)
        if iso:
            year, month, day = (int(part) for part in iso.groups())
        elif day_first:
            day, month, year = (int(part) for part in day_first.groups())
        else:
            raise Unreadable("I need a date such as 2027-03-01 or 1.3.2027.")
        try:
            return datetime(year, month, day).date().isoformat()  # noqa: DTZ001 - a calendar day has no zone
        except ValueError:
            raise Unreadable("There is no such day.") from None


_WITHOUT_ROUTES = (
    "I can keep this conversation, but I have no model to answer freely with and no routes to lead you through. "
    "Give the agent routes with steps, or another provider."
)


def _choose(routes: tuple[RouteInfo, ...], text: str) -> RouteInfo | None:
    """The one route that what was said points to."""
    spoken = _words(text)
    for candidates in (
        [route for route in routes if not route.completed],
        [route for route in routes if route.completed],
    ):
        scores = {route.id: len(spoken & _words(f"{route.title} {route.when or ''}")) for route in candidates}
        best = max(scores.values(), default=0)
        leaders = [route for route in candidates if scores[route.id] == best]
        if best and len(leaders) == 1:
            return leaders[0]
    unfinished = [route for route in routes if not route.completed]
    return unfinished[0] if len(unfinished) == 1 and len(routes) == 1 else None


def _words(text: str) -> set[str]:
    folded = unicodedata.normalize("NFKD", text).casefold()
    return {word.rstrip("s") for word in re.findall(r"\w+", folded)} - _SMALL_WORDS


def _offer(routes: tuple[RouteInfo, ...]) -> str:
    titles = [route.title for route in routes]
    listed = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} or {titles[-1]}"
    return f"What can I do for you? {listed}?"


def _ask_next(
    request: ProviderRequest, route: RouteInfo, missing: tuple[str, ...], *, found: Mapping[str, Any] | None = None
) -> str:
    """The question for the first field that is missing, or that all is there."""
    wanted = [name for step in route.steps for name in step.collect if name in missing]
    required = set(route.required_fields or wanted)
    if wanted and (found is None or required & set(wanted)):
        return _question(request, route, wanted[0])
    data: dict[str, Any] = {**request.data, **(found or {})}
    names: list[str] = list(dict.fromkeys([*route.required_fields, *(found or {})]))
    collected = [(name, data[name]) for name in names if name in data]
    summary = ", ".join(f"{_label(request, name)} {value}" for name, value in collected)
    return f"Thank you, that is all I need: {summary}." if summary else "Thank you, that is all I need."


def _question(request: ProviderRequest, route: RouteInfo, name: str) -> str:
    schema = _property(request, name)
    described = schema.get("description", "")
    if isinstance(described, str) and described.endswith("?"):
        return described
    step = next((step for step in route.steps if name in step.collect), None)
    if step is not None and len(step.collect) == 1:
        return _as_question(step)
    return f"{_label(request, name).capitalize()}?"


def _as_question(step: StepInfo) -> str:
    text = step.text.strip()
    if text.endswith("?"):
        return text
    text = re.sub(r"^ask\s+(for\s+)?", "", text, flags=re.IGNORECASE)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}?"


def _label(request: ProviderRequest, name: str) -> str:
    title = _property(request, name).get("title", "")
    return str(title or name.replace("_", " ")).lower()


def _property(request: ProviderRequest, name: str) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", request.fields.get("properties", {}).get(name, {}))


def _collected(route: RouteInfo) -> tuple[str, ...]:
    return tuple(name for step in route.steps for name in step.collect)


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, without references, and without the alternative of being null."""
    for _ in range(10):
        if "$ref" in schema:
            name = str(schema["$ref"]).rsplit("/", 1)[-1]
            schema = cast("Mapping[str, Any]", root.get("$defs", {}).get(name, {}))
        elif "anyOf" in schema:
            options = [option for option in schema["anyOf"] if option.get("type") != "null"]
            schema = cast("Mapping[str, Any]", options[0] if options else {})
        else:
            break
    return schema


def _one_of(text: str, values: list[Any]) -> Any:
    wanted = text.casefold()
    for value in values:
        if str(value).casefold() == wanted:
            return value
    matches = [value for value in values if re.search(rf"\b{re.escape(str(value).casefold())}\b", wanted)]
    if len(matches) == 1:
        return matches[0]
    raise Unreadable(f"Please choose one of {', '.join(map(str, values))}.")


def _integer(text: str) -> int:
    found = _INTEGER.search(text)
    if found and len(found.group()) <= 18:
        return int(found.group())
    words = [_NUMBERS[word] for word in re.findall(r"[a-z]+", text.casefold()) if word in _NUMBERS]
    if len(words) == 1:
        return words[0]
    raise Unreadable("I need a whole number.")


def _number(text: str) -> float | int:
    found = _DECIMAL.search(text)
    if not found:
        raise Unreadable("I need a number.")
    digits = found.group().replace(",", ".")
    return float(digits) if "." in digits else int(digits)


def _yes_or_no(text: str) -> bool:
    answer = re.sub(r"[^\w ]", "", text.casefold()).strip()
    first = answer.split(" ", 1)[0] if answer else ""
    if answer in _YES or first in _YES:
        return True
    if answer in _NO or first in _NO:
        return False
    raise Unreadable("Please answer yes or no.")
