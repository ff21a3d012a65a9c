"""Messages: the items of a conversation's history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from turnkeep import codec
from turnkeep.checks import take_document, take_fields, take_instant
from turnkeep.contract import StoredMessage
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_id, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Role = Literal["user", "assistant", "system", "tool"]
ROLES: Final = frozenset({"user", "assistant", "system", "tool"})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the assistant asked for.

    Attributes:
        id: pairs the call with the ``tool_call_id`` of its result.
        name: of the tool.
        arguments: by name.
    """

    id: str
    name: str
    arguments: dict[str, Any]

    @classmethod
    def of(cls, value: ToolCall | Mapping[str, Any]) -> ToolCall:
        """A tool call from itself or from a dict with its fields; ``arguments`` may be left out.

        Raises:
            InvalidArgument: it is neither.
        """
        if isinstance(value, ToolCall):
            value = {"id": value.id, "name": value.name, "arguments": value.arguments}
        call = take_fields(value, {"id", "name", "arguments"}, "a tool call")
        arguments = call.get("arguments", {})
        if not isinstance(arguments, dict):
            raise InvalidArgument(f"a tool call's arguments must be a dict, not {type(arguments).__name__}")
        return cls(
            check_id(call.get("id"), "a tool call's id"),
            check_id(call.get("name"), "a tool call's name"),
            cast("dict[str, Any]", arguments),
        )


class Message:
    """One item of history. Immutable; documents inside are decoded at each access, so what a caller gets is a copy."""

    # The row as it is stored: loading a message wraps it and decodes nothing (0.3 µs; copying its fields took 3 µs).
    __slots__ = ("_row",)
    _row: StoredMessage

    def __init__(
        self,
        role: Role,
        content: str,
        *,
        id: str | None = None,
        name: str | None = None,
        tool_calls: Sequence[ToolCall | Mapping[str, Any]] | None = (),
        tool_call_id: str | None = None,
        route: str | None = None,
        step: str | None = None,
        event: object = None,
        metadata: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
    ) -> None:
        """A message that is not stored yet.

        Args:
            role: one of the four roles.
            content: the text.
            id: its id; None makes one.
            name: of the speaker.
            tool_calls: the tools an assistant's message asks for.
            tool_call_id: on a tool's result, the call it answers.
            route: id of the route it belongs to.
            step: id of the step it belongs to.
            event: any storable value, kept exactly; None for none.
            metadata: a dict of storable values.
            created_at: when it was made, aware; None for now.

        Raises:
            InvalidArgument: a field has a value it cannot take.
            NotSerializable: a document cannot be stored exactly.
        """
        if type(role) is not str or role not in ROLES:
            raise InvalidArgument(f"a message's role is one of user, assistant, system, tool, not {role!r:.80}")
        if type(content) is not str:
            raise InvalidArgument(f"a message's content must be a str, not {type(content).__name__}")
        # In the order of the fields: naming all sixteen doubles the time.
        self._row = StoredMessage(
            new_id() if id is None else check_id(id, "a message's id"),
            role,
            content,
            "plain",
            None if name is None else check_id(name, "a message's name"),
            _pack_calls(tool_calls),
            None if tool_call_id is None else check_id(tool_call_id, "a message's tool_call_id"),
            None if route is None else check_id(route, "a message's route"),
            None if step is None else check_id(step, "a message's step"),
            None if event is None else codec.encode(event, what="event"),
            None if metadata is None or metadata == {} else take_document(metadata, "a message's metadata"),
            None,
            take_instant(created_at, "a message's created_at"),
            *_NO_PLACE,
        )

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Message:
        """A message from itself or from a dict with the fields of the constructor.

        Raises:
            InvalidArgument: an unknown key, ``seq`` or ``commit_id`` (the store gives those), a wrong type.
        """
        if isinstance(value, Message):
            return value
        fields = take_fields(value, _MESSAGE_FIELDS, "a message")
        if "role" not in fields or "content" not in fields:
            raise InvalidArgument("a message needs a role and a content")
        return cls(**fields)

    @classmethod
    def _stored(cls, row: StoredMessage) -> Message:
        """The message of a row whose content is plain."""
        self = object.__new__(cls)
        self._row = row
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._row == other._row

    def __hash__(self) -> int:
        return hash(self._row)

    def __repr__(self) -> str:
        place = f"seq={self.seq}, " if self.seq is not None else ""
        return f"Message({place}{self.role!r}, {self.content!r:.200}, id={self.id!r:.80})"

    @property
    def role(self) -> Role:
        """``"user"``, ``"assistant"``, ``"system"`` or ``"tool"``."""
        return cast("Role", self._row.role)

    @property
    def content(self) -> str:
        """The text; may be empty."""
        return self._row.content

    @property
    def id(self) -> str:
        """Made when none is given. An application's own is kept, and not checked for being unique."""
        return self._row.id

    @property
    def name(self) -> str | None:
        """Of the speaker."""
        return self._row.name

    @property
    def tool_call_id(self) -> str | None:
        """On a tool's result, the id of the call it answers."""
        return self._row.tool_call_id

    @property
    def route(self) -> str | None:
        """Id of the route the conversation was on."""
        return self._row.route

    @property
    def step(self) -> str | None:
        """Id of the step."""
        return self._row.step

    @property
    def created_at(self) -> datetime:
        """When the application made it: aware, in UTC. Nothing is ordered by it."""
        return self._row.created_at

    @property
    def seq(self) -> int | None:
        """Its place in the session's history, from 1, without gaps; None until it is stored."""
        return self._row.seq or None

    @property
    def commit_id(self) -> str | None:
        """Of the commit that stored it; None until it is stored."""
        return self._row.commit_id or None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools an assistant's message asks for."""
        calls = self._row.tool_calls
        return () if calls is None else tuple(ToolCall(**call) for call in codec.decode(calls, what="tool_calls"))

    @property
    def event(self) -> Any:
        """What the application attached to it, or None."""
        event = self._row.event
        return None if event is None else codec.decode(event, what="event")

    @property
    def metadata(self) -> dict[str, Any]:
        """What the application noted about it; empty where nothing was."""
        metadata = self._row.metadata
        return {} if metadata is None else codec.decode(metadata, what="metadata")

    def replace(self, **changes: Any) -> Message:
        """A copy that is not stored, with these fields changed: ``message.replace(content="…")``.

        Keeps the id unless one is given; ``seq`` and ``commit_id`` are None in the copy.
        """
        fields = {name: getattr(self, name) for name in _MESSAGE_FIELDS}
        return Message(**fields | take_fields(changes, _MESSAGE_FIELDS, "a message"))

    __replace__ = replace

    def _size(self) -> int:
        """Bytes of its texts in UTF-8, at least; a lone surrogate counts as the three it would have."""
        row = self._row
        texts = (row.content, row.tool_calls, row.event, row.metadata, row.reply)
        return sum(codec.utf8_length(text) for text in texts if text is not None)

    def _numbered(self, first: int, index: int, commit_id: str) -> Message:
        """A copy that stands in the history, ``index`` places after the first message of its commit."""
        return Message._stored(StoredMessage._make((*self._row[:_PLACE], first + index, first, commit_id)))

    def _answering(self, reply: str) -> Message:
        """A copy that carries the document of a reply."""
        return Message._stored(self._row._replace(reply=reply))


_NO_PLACE: Final = (0, 0, "")
_PLACE: Final = StoredMessage._fields.index("seq")  # the fields before it are the message, those from it its place


def _pack_calls(calls: object) -> str | None:
    """The text of tool calls; None where there are none."""
    if calls is None or calls == ():
        return None
    if not isinstance(calls, list | tuple):
        raise InvalidArgument(f"a message's tool_calls must be a list or tuple, not {type(calls).__name__}")
    checked = [ToolCall.of(call) for call in cast("Sequence[Any]", calls)]
    packed = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in checked]
    return codec.encode(packed, what="tool_calls") if packed else None


_MESSAGE_FIELDS: Final = frozenset(
    {"role", "content", "id", "name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "created_at"}
)


def take_messages(values: object) -> list[Message]:
    """Messages from messages or dicts.

    Raises:
        InvalidArgument: they are no list, or one of them is no message.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        kind = type(cast("object", values)).__name__
        raise InvalidArgument(f"messages are given as a list of Message or dict, not {kind}")
    return [Message.of(value) for value in cast("Iterable[Any]", values)]


def unstored(message: Message) -> Message:
    """The message as one that is not stored yet, with an id of its own if it had been."""
    return message if message.seq is None else message.replace(id=new_id())
