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
_NUMERAL = re.compile(r"-?\d[\d.,]*\d|-?\d")
_DECIMAL = re.compile(r"-?\d+(?:[.,](?!\d{3}\Z)\d+)?")  # 12,000 may be twelve thousand or twelve
_WHOLLY_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")


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
        if request.route is not None and request.step is not None:
            return self._go_on(request, request.route, text)
        if request.completed is not None:
            done = _thanks(request, request.completed)
            return ProviderReply(text=f"{done} {_ask(request, request.route)}" if request.route else done)
        if request.route is not None:
            return ProviderReply(text=_ask(request, request.route))
        if not request.routes:
            return ProviderReply(text=_WITHOUT_ROUTES)
        chosen = _choose(request.routes, text)
        return ProviderReply(text=_offer(request.routes)) if chosen is None else ProviderReply(route=chosen.id)

    def _go_on(self, request: ProviderRequest, route: RouteInfo, text: str) -> ProviderReply:
        """Reads the answer to what was asked. What is said next depends on where it leads: that is asked for anew."""
        asked = next((name for name in (request.step.collect if request.step else ()) if name in route.missing), None)
        if asked is None:
            return ProviderReply(text=_ask(request, route))
        try:
            value = self._read(_property(request, asked), text.strip(), request.fields)
        except Unreadable as unreadable:
            return ProviderReply(text=f"{unreadable} {_question(request, route, asked)}")
        problem = request.check({asked: value}).get(asked)
        if problem:
            return ProviderReply(text=f"That does not fit: {problem}. {_question(request, route, asked)}")
        return ProviderReply(data={asked: value})

    def _read(self, schema: Mapping[str, Any], text: str, root: Mapping[str, Any]) -> Any:
        """The value of an answer; strings where the agent's schema converts them.

        Raises:
            Unreadable: there is none in it.
        """
        schema = _resolve(schema, root)
        if "anyOf" in schema:
            return self._read_any(schema["anyOf"], text, root)
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

    def _read_any(self, options: list[Mapping[str, Any]], text: str, root: Mapping[str, Any]) -> Any:
        """The value of the first alternative that the answer fits; text as it is comes last, for it fits anything."""
        failure = Unreadable("I did not get that.")
        for option in sorted(options, key=lambda option: option.get("type") == "string" and "format" not in option):
            may_be_text = any(other.get("type") == "string" for other in options)
            numeric = option.get("type") in {"integer", "number"}
            if numeric and may_be_text and not _WHOLLY_NUMBER.fullmatch(text.strip()):
                continue
            try:
                return self._read(option, text, root)
            except Unreadable as unreadable:
                failure = unreadable
        raise failure

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


def _ask(request: ProviderRequest, route: RouteInfo) -> str:
    """The question for the first field that is missing, or what a step without fields says."""
    for step in route.steps:
        for name in step.collect:
            if name in route.missing:
                return _question(request, route, name)
    return route.steps[0].text if route.steps else f"{route.title}: there is nothing more to ask."


def _thanks(request: ProviderRequest, route: RouteInfo) -> str:
    collected = [(name, request.data[name]) for name in route.required_fields if name in request.data]
    summary = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in collected)
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


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, without references, and without the alternative of being null."""
    for _ in range(10):
        if "$ref" in schema:
            name = str(schema["$ref"]).rsplit("/", 1)[-1]
            schema = cast("Mapping[str, Any]", root.get("$defs", {}).get(name, {}))
        elif "anyOf" in schema:
            options = [option for option in schema["anyOf"] if option.get("type") != "null"]
            if len(options) > 1:
                return {"anyOf": options}
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
    found = _NUMERAL.search(text)
    if not found:
        raise Unreadable("I need a number.")
    if not _DECIMAL.fullmatch(found.group()):
        raise Unreadable("I need a number without separators between thousands, such as 1250.50.")
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
