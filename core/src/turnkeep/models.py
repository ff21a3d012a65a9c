"""The values a user meets: messages, sessions as they are kept, sessions as they are listed.

All are immutable. Documents inside (``data``, ``metadata``, ``event`` …) are held as their encoded text and decoded at
each access, so what a caller gets is always a copy: changing it changes nothing that is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from turnkeep import codec
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_id, check_optional_id, create_session_id, new_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnkeep.contract import Committed, Status, StoredMessage, Token

Role = Literal["user", "assistant", "system", "tool"]
ROLES: Final = frozenset({"user", "assistant", "system", "tool"})
STATUSES: Final = frozenset({"active", "completed", "abandoned"})


def check_status(status: object) -> Status:
    """``status`` itself.

    Raises:
        InvalidArgument: it is none of the three.
    """
    if type(status) is not str or status not in STATUSES:
        raise InvalidArgument(f"a session's status is one of active, completed, abandoned, not {status!r:.80}")
    return cast("Status", status)


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""In ``set_data({"key": UNSET})``: removes the key. (None is a value like any other.)"""


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
            return value
        call = _fields(value, {"id", "name", "arguments"}, "a tool call")
        arguments = call.get("arguments", {})
        if not isinstance(arguments, dict):
            raise InvalidArgument(f"a tool call's arguments must be a dict, not {type(arguments).__name__}")
        return cls(
            check_id(call.get("id"), "a tool call's id"),
            check_id(call.get("name"), "a tool call's name"),
            cast("dict[str, Any]", arguments),
        )


@dataclass(frozen=True, slots=True, init=False, eq=True)
class Message:
    """One item of history.

    Attributes:
        role: ``"user"``, ``"assistant"``, ``"system"`` or ``"tool"``.
        content: the text; may be empty.
        id: made when none is given. An application's own id is kept, and not checked for being unique.
        seq: its place in the session's history, from 1, without gaps; None until it is stored.
        name: of the speaker.
        tool_call_id: on a tool's result, the id of the call it answers.
        route: id of the route the conversation was on.
        step: id of the step.
        created_at: aware, in UTC; when the application made it. Nothing is ordered by it.
        commit_id: of the commit that stored it; None until it is stored.
    """

    role: Role
    content: str
    id: str
    seq: int | None
    name: str | None
    tool_call_id: str | None
    route: str | None
    step: str | None
    created_at: datetime
    commit_id: str | None
    _tool_calls: str | None
    _event: str | None
    _metadata: str | None
    _reply: str | None

    def __init__(
        self,
        role: Role,
        content: str,
        *,
        id: str | None = None,
        name: str | None = None,
        tool_calls: Iterable[ToolCall | Mapping[str, Any]] = (),
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
        calls = [ToolCall.of(call) for call in tool_calls]
        packed = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
        put = object.__setattr__
        put(self, "role", role)
        put(self, "content", content)
        put(self, "id", new_id() if id is None else check_id(id, "a message's id"))
        put(self, "seq", None)
        put(self, "name", check_optional_id(name, "a message's name"))
        put(self, "tool_call_id", check_optional_id(tool_call_id, "a message's tool_call_id"))
        put(self, "route", check_optional_id(route, "a message's route"))
        put(self, "step", check_optional_id(step, "a message's step"))
        put(self, "created_at", _utc(created_at, "a message's created_at"))
        put(self, "commit_id", None)
        put(self, "_tool_calls", codec.encode(packed, what="tool_calls") if packed else None)
        put(self, "_event", None if event is None else codec.encode(event, what="event"))
        put(self, "_metadata", _document(metadata, "metadata") if metadata else None)
        put(self, "_reply", None)

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Message:
        """A message from itself or from a dict with the fields of the constructor.

        Raises:
            InvalidArgument: an unknown key, ``seq`` or ``commit_id`` (the store gives those), a wrong type.
        """
        if isinstance(value, Message):
            return value
        fields = _fields(value, _MESSAGE_FIELDS, "a message")
        if "role" not in fields or "content" not in fields:
            raise InvalidArgument("a message needs a role and a content")
        metadata = fields.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            raise InvalidArgument(f"a message's metadata must be a dict, not {type(metadata).__name__}")
        return cls(**fields)

    @classmethod
    def _stored(cls, row: StoredMessage) -> Message:
        """The message of a row whose content is plain: no document is decoded here."""
        self = object.__new__(cls)
        put = object.__setattr__
        put(self, "role", row.role)
        put(self, "content", row.content)
        put(self, "id", row.id)
        put(self, "seq", row.seq)
        put(self, "name", row.name)
        put(self, "tool_call_id", row.tool_call_id)
        put(self, "route", row.route)
        put(self, "step", row.step)
        put(self, "created_at", row.created_at)
        put(self, "commit_id", row.commit_id)
        put(self, "_tool_calls", row.tool_calls)
        put(self, "_event", row.event)
        put(self, "_metadata", row.metadata)
        put(self, "_reply", row.reply)
        return self

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools an assistant's message asks for."""
        if self._tool_calls is None:
            return ()
        return tuple(ToolCall(**call) for call in codec.decode(self._tool_calls, what="tool_calls"))

    @property
    def event(self) -> Any:
        """What the application attached to it, or None."""
        return None if self._event is None else codec.decode(self._event, what="event")

    @property
    def metadata(self) -> dict[str, Any]:
        """What the application noted about it; empty where nothing was."""
        return {} if self._metadata is None else codec.decode(self._metadata, what="metadata")

    def replace(self, **changes: Any) -> Message:
        """A copy that is not stored, with these fields changed: ``message.replace(content="…")``.

        Keeps the id unless one is given; ``seq`` and ``commit_id`` are None in the copy.
        """
        fields: dict[str, Any] = {
            "role": self.role,
            "content": self.content,
            "id": self.id,
            "name": self.name,
            "tool_calls": self.tool_calls,
            "tool_call_id": self.tool_call_id,
            "route": self.route,
            "step": self.step,
            "event": self.event,
            "metadata": self.metadata,
            "created_at": self.created_at,
        }
        fields |= _fields(changes, _MESSAGE_FIELDS, "a message")
        return Message(**fields)

    __replace__ = replace

    def _size(self) -> int:
        """Bytes of its texts in UTF-8; a lone surrogate counts as the three it would have."""
        texts = (self.content, self._tool_calls, self._event, self._metadata, self._reply)
        return sum(
            len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            for text in texts
            if text is not None
        )

    def _numbered(self, seq: int, commit_id: str) -> Message:
        """A copy that stands at this place of the history."""
        return self._with(seq=seq, commit_id=commit_id)

    def _with(self, **slots: object) -> Message:
        copy = object.__new__(Message)
        for name in Message.__slots__:
            object.__setattr__(copy, name, slots[name] if name in slots else getattr(self, name))
        return copy


_MESSAGE_FIELDS: Final = frozenset(
    ["role", "content", "id", "name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "created_at"]
)


@dataclass(frozen=True, slots=True)
class RouteRef:
    """The route a conversation is on."""

    id: str
    title: str
    entered_at: datetime


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step a conversation is at."""

    id: str
    text: str
    entered_at: datetime


@dataclass(frozen=True, slots=True)
class RouteVisit:
    """One stay on a route. ``exited_at`` is None while it lasts; ``completed`` says whether it was finished."""

    route: str
    entered_at: datetime
    exited_at: datetime | None = None
    completed: bool = False


@dataclass(frozen=True, slots=True, init=False)
class SessionMetadata:
    """When a session was made and last committed to (UTC, the server's time), and the application's own notes."""

    created_at: datetime
    updated_at: datetime
    _custom: str

    def __init__(self, created_at: datetime, updated_at: datetime, custom: Mapping[str, Any] | None = None) -> None:
        put = object.__setattr__
        put(self, "created_at", _utc(created_at, "created_at"))
        put(self, "updated_at", _utc(updated_at, "updated_at"))
        put(self, "_custom", _document(custom or {}, "custom metadata"))

    @classmethod
    def _stored(cls, created_at: datetime, updated_at: datetime, custom: str) -> SessionMetadata:
        self = object.__new__(cls)
        object.__setattr__(self, "created_at", created_at)
        object.__setattr__(self, "updated_at", updated_at)
        object.__setattr__(self, "_custom", custom)
        return self

    def _touched(self, created_at: datetime, updated_at: datetime) -> SessionMetadata:
        """The same notes with the times of the store."""
        return SessionMetadata._stored(created_at, updated_at, self._custom)

    @property
    def custom(self) -> dict[str, Any]:
        """The application's own notes."""
        return codec.decode(self._custom, what="custom metadata")


@dataclass(frozen=True, slots=True, init=False)
class SessionState:
    """A session, whole: what ``session.current`` and ``load_session_state`` give.

    Attributes:
        id: the session id.
        user_id: the owner; None for an anonymous session.
        agent_name: of the agent that last took a turn.
        status: ``"active"``, ``"completed"`` or ``"abandoned"``.
        route_history: every stay on a route, oldest first.
        current_route: where the conversation is; None between routes.
        current_step: the step of that route.
        history: the messages that were loaded, oldest first.
        metadata: times and custom notes.
        data_version: version of the application's data; None where it uses none.
    """

    id: str
    user_id: str | None
    agent_name: str | None
    status: Status
    route_history: tuple[RouteVisit, ...]
    current_route: RouteRef | None
    current_step: StepRef | None
    history: tuple[Message, ...]
    metadata: SessionMetadata
    data_version: int | None
    _data: str
    _collected_by: tuple[tuple[str, str], ...]
    _token: Token | None

    def __init__(
        self,
        id: str | None = None,
        *,
        user_id: str | None = None,
        agent_name: str | None = None,
        status: Status = "active",
        data: Mapping[str, Any] | None = None,
        collected_by: Mapping[str, str] | None = None,
        route_history: Iterable[RouteVisit] = (),
        current_route: RouteRef | None = None,
        current_step: StepRef | None = None,
        history: Iterable[Message | Mapping[str, Any]] = (),
        metadata: SessionMetadata | None = None,
        data_version: int | None = None,
    ) -> None:
        """A session that is not stored: ``persistence.save_session_state`` creates it.

        Raises:
            InvalidArgument: a field has a value it cannot take.
            NotSerializable: the data cannot be stored exactly.
        """
        check_status(status)
        now = datetime.now(UTC)
        put = object.__setattr__
        put(self, "id", create_session_id() if id is None else check_id(id, "a session id"))
        put(self, "user_id", check_optional_id(user_id, "user_id"))
        put(self, "agent_name", check_optional_id(agent_name, "agent_name"))
        put(self, "status", status)
        put(self, "route_history", tuple(route_history))
        put(self, "current_route", current_route)
        put(self, "current_step", current_step)
        put(self, "history", tuple(Message.of(message) for message in history))
        put(self, "metadata", metadata or SessionMetadata(now, now))
        put(self, "data_version", data_version)
        put(self, "_data", _document(data or {}, "data"))
        put(self, "_collected_by", tuple((collected_by or {}).items()))
        put(self, "_token", None)

    @classmethod
    def _stored(cls, **slots: object) -> SessionState:
        """The state of a stored session: every slot is given, as it was checked when it was written."""
        self = object.__new__(cls)
        for name in cls.__slots__:
            object.__setattr__(self, name, slots[name])
        return self

    def _after_append(self, message: Message, result: Committed) -> SessionState:
        """The state once a message was added and the session made active."""
        slots = {name: getattr(self, name) for name in SessionState.__slots__}
        slots["history"] = (*self.history, message)
        slots["status"] = "active"
        slots["metadata"] = self.metadata._touched(self.metadata.created_at, result.time)
        slots["_token"] = result.token
        return SessionState._stored(**slots)

    @property
    def data(self) -> dict[str, Any]:
        """What the conversation has collected: a copy."""
        return codec.decode(self._data, what="data")

    @property
    def collected_by(self) -> dict[str, str]:
        """Field to the id of the route that last collected it."""
        return dict(self._collected_by)

    @property
    def data_by_route(self) -> dict[str, dict[str, Any]]:
        """Route id to the fields it was the last to collect. Fields set by other means are under no route."""
        found: dict[str, dict[str, Any]] = {}
        data = self.data
        for field, route in self._collected_by:
            if field in data:
                found.setdefault(route, {})[field] = data[field]
        return found

    def replace(self, **changes: Any) -> SessionState:
        """A copy with these fields changed. It keeps the token, so saving it is still compare-and-swap.

        Raises:
            InvalidArgument: an unknown field, or another ``id`` or ``user_id``.
        """
        fields = _fields(changes, _STATE_FIELDS, "a session's state")
        copy = object.__new__(SessionState)
        for name in SessionState.__slots__:
            object.__setattr__(copy, name, getattr(self, name))
        if "status" in fields:
            check_status(fields["status"])
        if "data" in fields:
            fields["_data"] = _document(fields.pop("data"), "data")
        if "collected_by" in fields:
            fields["_collected_by"] = tuple(fields.pop("collected_by").items())
        if "history" in fields:
            fields["history"] = tuple(Message.of(message) for message in fields["history"])
        if "route_history" in fields:
            fields["route_history"] = tuple(fields["route_history"])
        for name, value in fields.items():
            object.__setattr__(copy, name, value)
        return copy

    __replace__ = replace


_STATE_FIELDS: Final = frozenset(
    {"agent_name", "status", "data", "collected_by", "data_version", "metadata", "history"}
    | {"route_history", "current_route", "current_step"}
)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it stands in the store: the columns, and the data where one session was asked for.

    Attributes:
        current_route: id of the route; None between routes.
        current_step: id of the step.
        message_count: messages in the history.
        last_message_at: the server's time of the last commit that had messages.
        updated_at: the server's time of the last commit.
        expires_at: when it goes unless it is touched; None: never.
    """

    id: str
    user_id: str | None
    agent_name: str | None
    status: Status
    current_route: str | None
    current_step: str | None
    message_count: int
    last_message_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    _data: str | None

    @property
    def data(self) -> dict[str, Any] | None:
        """What the conversation has collected (a copy); None on a listed record."""
        return None if self._data is None else codec.decode(self._data, what="data")


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message that a search found: its session, its score (higher is better), and an excerpt with what matched."""

    session_id: str
    message: Message
    score: float
    highlight: str | None


def create_session(
    id: str | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    history: Iterable[Message | Mapping[str, Any]] = (),
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> SessionState:
    """A session that is not stored. Its history is taken as new: messages of another session get new numbers.

    Raises:
        InvalidArgument, NotSerializable: a value cannot be taken.
    """
    now = datetime.now(UTC)
    return SessionState(
        id,
        user_id=user_id,
        data=data,
        history=[unstored(Message.of(message)) for message in history],
        metadata=SessionMetadata(now, now, metadata),
    )


def unstored(message: Message) -> Message:
    """The message as one that is not stored yet, with an id of its own if it had been."""
    return message if message.seq is None else message.replace(id=new_id())


def _fields(value: object, known: Iterable[str], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a dict or a Message, not {type(value).__name__}")
    fields = cast("dict[str, Any]", value)
    unknown = sorted(str(key) for key in fields if key not in set(known))
    if unknown:
        raise InvalidArgument(f"{what} has no field {', '.join(unknown)[:200]}; known: {', '.join(sorted(known))}")
    return dict(fields)


def _document(value: object, what: str) -> str:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a dict, not {type(value).__name__}")
    return codec.encode(cast("dict[str, Any]", value), what=what)


def _utc(moment: datetime | None, what: str) -> datetime:
    if moment is None:
        return datetime.now(UTC)
    if type(moment) is not datetime or moment.utcoffset() is None:
        raise InvalidArgument(f"{what} must be an aware datetime, not {moment!r:.80}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(f"{what} is outside the years 1 to 9999 in UTC") from None
