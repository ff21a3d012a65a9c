"""The values a user meets beside messages: sessions as they are kept, and as they are listed.

All are immutable. Documents inside (``data``, ``custom``) are held as their encoded text and decoded at
each access, so what a caller gets is always a copy: changing it changes nothing that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from turnkeep import codec
from turnkeep.checks import take_document, take_fields, take_instant
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_id, check_optional_id, create_session_id
from turnkeep.messages import Message, take_messages, unstored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnkeep.contract import Committed, Status, Token

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
class RouteRef:
    """The route a conversation is on."""

    id: str
    title: str
    entered_at: datetime


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step a conversation is at.

    Attributes:
        spoken: whether the assistant has spoken for it yet: what the user says next answers it.
    """

    id: str
    text: str
    entered_at: datetime
    spoken: bool = True


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
        put(self, "created_at", take_instant(created_at, "created_at"))
        put(self, "updated_at", take_instant(updated_at, "updated_at"))
        put(self, "_custom", take_document(custom or {}, "custom metadata"))

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


@dataclass(frozen=True, init=False)  # without slots: a turn copies it four times, and a dict is copied at once
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
        now = datetime.now(UTC)
        fields = {
            "agent_name": agent_name,
            "status": status,
            "data": data or {},
            "collected_by": collected_by or {},
            "route_history": route_history,
            "current_route": current_route,
            "current_step": current_step,
            "history": history,
            "metadata": metadata or SessionMetadata(now, now),
            "data_version": data_version,
        }
        put = object.__setattr__
        put(self, "id", create_session_id() if id is None else check_id(id, "a session id"))
        put(self, "user_id", check_optional_id(user_id, "user_id"))
        put(self, "_token", None)
        for name, value in _slots_of(fields).items():
            put(self, name, value)

    @classmethod
    def _stored(cls, **slots: object) -> SessionState:
        """The state of a stored session: every slot is given, as it was checked when it was written."""
        self = object.__new__(cls)
        self.__dict__.update(slots)
        return self

    def _with(self, **changes: object) -> SessionState:
        """A copy with these slots changed, unchecked."""
        copy = object.__new__(SessionState)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def _after_append(self, message: Message, result: Committed) -> SessionState:
        """The state once a message was added and the session made active.

        Its token stays the one it was read at unless the append is known to be next to that: what others wrote in
        between is not in this state, and saving it must not undo that.
        """
        return self._with(
            history=(*self.history, message),
            status="active",
            metadata=self.metadata._touched(self.metadata.created_at, result.time),
            _token=result.token if result.contiguous else self._token,
        )

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
        fields = take_fields(changes, _STATE_FIELDS, "a session's state")
        return self._with(**_slots_of(fields))

    __replace__ = replace


_STATE_FIELDS: Final = frozenset(
    {"agent_name", "status", "data", "collected_by", "data_version", "metadata", "history"}
    | {"route_history", "current_route", "current_step"}
)


def _slots_of(fields: dict[str, Any]) -> dict[str, Any]:
    """The slots of a state for these of its fields, each checked.

    Raises:
        InvalidArgument, NotSerializable: a field has a value it cannot take.
    """
    slots: dict[str, Any] = {}
    for name, value in fields.items():
        check = _STATE_CHECKS.get(name)
        slots[_STATE_SLOTS.get(name, name)] = value if check is None else check(value)
    return slots


def _check_kind(kind: type, what: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and type(value) is not kind:
            raise InvalidArgument(f"{what} must be a {kind.__name__} or None, not {value!r:.80}")
        if value is not None and hasattr(value, "id"):
            check_id(value.id, f"the id of {what}")
        return value

    return check


def _check_metadata(value: Any) -> Any:
    if type(value) is not SessionMetadata:
        raise InvalidArgument(f"a session's metadata must be a SessionMetadata, not {value!r:.80}")
    return value


def _check_visits(value: Any) -> tuple[RouteVisit, ...]:
    if not isinstance(value, Iterable):
        raise InvalidArgument(f"a route history is a list of RouteVisits, not {value!r:.80}")
    visits = tuple(cast("Iterable[Any]", value))
    for visit in visits:
        if type(visit) is not RouteVisit:
            raise InvalidArgument(f"a route history is made of RouteVisits, not {visit!r:.80}")
        check_id(visit.route, "the route of a visit")
    return visits


def _check_collected_by(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"collected_by must be a dict of field to route id, not {value!r:.80}")
    found = cast("dict[Any, Any]", value)
    return tuple((check_id(field, "a field"), check_id(route, "a route's id")) for field, route in found.items())


def _check_version(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise InvalidArgument(f"a data_version must be an int, 0 or more, or None, not {value!r:.80}")
    return value


_STATE_SLOTS: Final = {"data": "_data", "collected_by": "_collected_by"}
_STATE_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "agent_name": lambda value: check_optional_id(value, "agent_name"),
    "status": check_status,
    "data": lambda value: take_document(value, "data"),
    "collected_by": _check_collected_by,
    "route_history": _check_visits,
    "current_route": _check_kind(RouteRef, "current_route"),
    "current_step": _check_kind(StepRef, "current_step"),
    "history": lambda value: tuple(take_messages(value)),
    "metadata": _check_metadata,
    "data_version": _check_version,
}


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
    """A message that a search found.

    Attributes:
        session_id: its session.
        message: the whole message.
        score: higher is better; comparable within one search only.
        highlight: an excerpt of the content on one line, with what matched between ``**``.
    """

    session_id: str
    message: Message
    score: float
    highlight: str


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
