"""Between the values a user meets and the rows an adapter stores.

Three things happen here and nowhere else: documents are encoded and decoded, sizes are held against ``Limits``, and a
payload filter, where one is installed, seals what is stored and opens what is read.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from turnkeep import codec
from turnkeep.contract import Capability, NewMessage, StoredMessage
from turnkeep.errors import CorruptRecord, DataTooNew, DecryptionError, NotSupported, ValueTooLarge
from turnkeep.messages import Message
from turnkeep.models import RouteRef, RouteVisit, SessionMetadata, SessionState, StepRef
from turnkeep.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnkeep.contract import Head, StoredSession
    from turnkeep.limits import Limits
    from turnkeep.payload import PayloadFilter, PayloadKind

STATE_VERSION: Final = 1
"""Version of the state document that this code writes."""

_NOTHING_NOTED: Final = codec.encode_json({"v": STATE_VERSION})

UPCASTERS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""Version of a state document to what makes the next version of it. None is needed yet."""

_NEW_FIELDS: Final = len(NewMessage._fields)  # a stored message's row begins with them

_ROW_DOCUMENTS: Final[tuple[PayloadKind, ...]] = ("tool_calls", "event", "metadata", "reply")

# A tag of the codec's form: data of a user's that looks like it is escaped, so the two cannot be confused.
_SEALED_PREFIX: Final = '{"$tk":"sealed","v":"'
_TAGGED: Final = f'{{"{codec.TAG}":'
_TAGGED_DICT: Final = f'{_TAGGED}"dict",'
_SEALED_SUFFIX: Final = '"}'


class Documents:
    """Encodes for, and decodes from, one namespace of one store."""

    def __init__(self, namespace: str, limits: Limits, payload_filter: PayloadFilter | None) -> None:
        self._namespace = namespace
        self._limits = limits
        self._filter = payload_filter

    def row(self, session_id: str, message: Message) -> tuple[NewMessage, int]:
        """The row of a message, and its size in bytes.

        Raises:
            ValueTooLarge: it is over the limit.
        """
        row = NewMessage._make(message._row[:_NEW_FIELDS])
        if not codec.is_plain(row.content):
            row = row._replace(content=codec.encode(row.content, what="content"), encoding="json")
        size = codec.utf8_length(row.content)
        for text in documents_of(row):
            size += codec.utf8_length(text)
        if size > self._limits.message_bytes:
            raise ValueTooLarge(
                f"a message of {size:,} bytes is over Limits.message_bytes ({self._limits.message_bytes:,})"
            )
        if self._limits.nesting < codec.MAX_DEPTH:
            for text in documents_of(row):
                self._check_nesting(text)
        return (row if self._filter is None else self._seal_row(session_id, row)), size

    def message(self, session_id: str, row: StoredMessage) -> Message:
        """The message of a row.

        Raises:
            CorruptRecord, DecryptionError: it cannot be read.
        """
        if self._filter is not None:
            row = self._open_row(session_id, row)
        elif row.encoding == "sealed":
            raise _no_filter(session_id)
        if row.encoding == "json":
            content = codec.decode(row.content, what="content")
            if type(content) is not str:
                raise CorruptRecord(f"message {row.seq} of session {session_id!r:.200}: its content is no text")
            row = row._replace(content=content, encoding="plain")
        return Message._stored(row)

    def seal(self, session_id: str, kind: PayloadKind, text: str) -> str:
        """The text of a session's document (kind ``"data"`` or ``"state"``) as it is to be stored."""
        return text if self._filter is None else self._seal(session_id, kind, "", text)

    def require_readable(self, adapter: str) -> None:
        """Refuses a search where what is stored cannot be read by the database.

        Raises:
            NotSupported: a payload filter seals it.
        """
        if self._filter is not None:
            reason = f"the payload filter {self._filter.name!r:.80} seals what is stored, and nobody can search that"
            raise NotSupported(
                f"{adapter} cannot search_messages: {reason}",
                capability=Capability.SEARCH,
                reason=reason,
                adapter=adapter,
                operation="search_messages",
            )

    def check_state_size(self, data: str, state: str) -> int:
        """The size in bytes of a session's two documents.

        Raises:
            ValueTooLarge: it is over the limit.
        """
        if self._limits.nesting < codec.MAX_DEPTH:
            self._check_nesting(data)
        size = codec.utf8_length(data) + codec.utf8_length(state)
        if size > self._limits.state_bytes:
            raise ValueTooLarge(
                f"data and state of {size:,} bytes are over Limits.state_bytes ({self._limits.state_bytes:,})"
            )
        return size

    def _check_nesting(self, text: str) -> None:
        codec.encode(codec.decode(text), what="value", max_depth=self._limits.nesting)

    def snapshot(self, stored: StoredSession) -> Snapshot:
        """A loaded session.

        Raises:
            CorruptRecord, DecryptionError, DataTooNew: it cannot be read.
        """
        head = stored.head
        session_id = head.session_id
        data = self._open_document(session_id, "data", stored.data)
        if not data.startswith("{") or (data.startswith(_TAGGED) and not data.startswith(_TAGGED_DICT)):
            raise CorruptRecord(f"the data of session {session_id!r:.200} is no document")
        state_text = self._open_document(session_id, "state", stored.state)
        document = read_state(state_text, session_id)
        state = SessionState._stored(
            id=session_id,
            user_id=head.user_id,
            agent_name=head.agent_name,
            status=head.status,
            route_history=document["route_history"],
            current_route=_route_ref(head, document.get("route")),
            current_step=_step_ref(head, document.get("step")),
            history=tuple([self.message(session_id, row) for row in stored.messages]),
            metadata=SessionMetadata._stored(head.created_at, head.updated_at, document["custom"]),
            data_version=document.get("data_version"),
            _data=data,
            _collected_by=document["collected_by"],
            _token=head.token,
        )
        return Snapshot(state=state, head=head, stored_data=data, stored_state=state_text, replay=stored.replay)

    def _seal_row(self, session_id: str, row: NewMessage) -> NewMessage:
        sealed = {
            kind: self._seal(session_id, kind, row.id, text)
            for kind in _ROW_DOCUMENTS
            if (text := cast("str | None", getattr(row, kind))) is not None
        }
        body = self._seal(
            session_id, "content", row.id, codec.encode(row.content) if row.encoding == "plain" else row.content
        )
        return row._replace(content=body, encoding="sealed", **sealed)

    def _open_row(self, session_id: str, row: StoredMessage) -> StoredMessage:
        opened = {
            kind: self._open(session_id, kind, row.id, text)
            for kind in _ROW_DOCUMENTS
            if (text := cast("str | None", getattr(row, kind))) is not None
        }
        if row.encoding != "sealed":
            raise DecryptionError(f"message {row.seq} of session {session_id!r:.200} is stored in the clear")
        body = self._open(session_id, "content", row.id, row.content)
        return row._replace(content=body, encoding="json", **opened)

    def _open_document(self, session_id: str, kind: PayloadKind, text: str) -> str:
        if self._filter is not None:
            return self._open(session_id, kind, "", text)
        if text.startswith(_SEALED_PREFIX):
            raise _no_filter(session_id)
        return text

    def _seal(self, session_id: str, kind: PayloadKind, message_id: str, text: str) -> str:
        assert self._filter is not None
        sealed = self._filter.seal(kind, self._aad(session_id, kind, message_id), text.encode())
        return f"{_SEALED_PREFIX}{base64.b64encode(sealed).decode('ascii')}{_SEALED_SUFFIX}"

    def _open(self, session_id: str, kind: PayloadKind, message_id: str, text: str) -> str:
        assert self._filter is not None
        if not (text.startswith(_SEALED_PREFIX) and text.endswith(_SEALED_SUFFIX)):
            raise DecryptionError(f"the {kind} of session {session_id!r:.200} is stored in the clear")
        try:
            sealed = base64.b64decode(text[len(_SEALED_PREFIX) : -len(_SEALED_SUFFIX)], validate=True)
            return self._filter.open(kind, self._aad(session_id, kind, message_id), sealed).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise DecryptionError(f"the {kind} of session {session_id!r:.200} cannot be opened") from error

    def _aad(self, session_id: str, kind: PayloadKind, message_id: str) -> bytes:
        return codec.encode([1, self._namespace, session_id, message_id, kind]).encode()


def documents_of(row: NewMessage) -> list[str]:
    """The documents of a message that there are."""
    return [text for text in (row.tool_calls, row.event, row.metadata, row.reply) if text is not None]


def write_state(state: SessionState) -> str:
    """The state document of a session: what is restored beside data, head and history."""
    document: dict[str, Any] = {"v": STATE_VERSION}
    if state.current_route is not None:
        document["route"] = {
            "title": state.current_route.title,
            "entered_at": state.current_route.entered_at.isoformat(),
        }
    if state.current_step is not None:
        step = state.current_step
        noted: dict[str, Any] = {"text": step.text, "entered_at": step.entered_at.isoformat()}
        document["step"] = noted if step.spoken else noted | {"spoken": False}
    if state.route_history:
        document["route_history"] = [_visit_document(visit) for visit in state.route_history]
    if state._collected_by:
        document["collected_by"] = dict(state._collected_by)
    if state.data_version is not None:
        document["data_version"] = state.data_version
    if state.metadata._custom != "{}":
        document["custom"] = state.metadata.custom
    return codec.encode(document, what="state") if len(document) > 1 else _NOTHING_NOTED


def read_state(
    text: str, session_id: str, upcasters: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = UPCASTERS
) -> dict[str, Any]:
    """The fields of a state document, brought to this version; ``{}`` reads as one with nothing in it.

    Raises:
        CorruptRecord: it is no state document.
        DataTooNew: a newer version of Turnkeep wrote it.
    """
    # Most conversations of agents without routes have nothing noted.
    found: dict[str, Any] = {"v": STATE_VERSION} if text == _NOTHING_NOTED else codec.decode(text, what="state")
    try:
        version = found.get("v", STATE_VERSION)
        if version > STATE_VERSION:
            raise DataTooNew(
                f"session {session_id!r:.200} was written by a newer version of turnkeep "
                f"(state document {version}, this one reads {STATE_VERSION}); upgrade turnkeep"
            )
        while version < STATE_VERSION:
            found = upcasters[version](found)
            version += 1
        found["route_history"] = tuple([_visit(item) for item in found.get("route_history", ())])
        found["collected_by"] = tuple(found.get("collected_by", {}).items())
        found["custom"] = codec.encode(dict(found["custom"])) if "custom" in found else "{}"
        _check_types(found)
        for name in ("route", "step"):
            if name in found:
                found[name]["entered_at"] = datetime.fromisoformat(found[name]["entered_at"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptRecord(f"the state of session {session_id!r:.200} cannot be read: {error!r}") from error
    return found


def _check_types(document: dict[str, Any]) -> None:
    if any(type(route) is not str for _, route in document["collected_by"]):
        raise ValueError("collected_by")
    if document.get("data_version") is not None and type(document["data_version"]) is not int:
        raise ValueError("data_version")


def _visit_document(visit: RouteVisit) -> dict[str, Any]:
    document: dict[str, Any] = {"route": visit.route, "entered_at": visit.entered_at.isoformat()}
    if visit.exited_at is not None:
        document["exited_at"] = visit.exited_at.isoformat()
    if visit.completed:
        document["completed"] = True
    return document


def _visit(item: dict[str, Any]) -> RouteVisit:
    exited_at = item.get("exited_at")
    return RouteVisit(
        route=item["route"],
        entered_at=datetime.fromisoformat(item["entered_at"]),
        exited_at=None if exited_at is None else datetime.fromisoformat(exited_at),
        completed=item.get("completed", False),
    )


def _route_ref(head: Head, document: dict[str, Any] | None) -> RouteRef | None:
    if head.current_route is None:
        return None
    document = document or {"title": head.current_route, "entered_at": head.updated_at}
    return RouteRef(head.current_route, document["title"], document["entered_at"])


def _step_ref(head: Head, document: dict[str, Any] | None) -> StepRef | None:
    if head.current_step is None:
        return None
    document = document or {"text": head.current_step, "entered_at": head.updated_at}
    return StepRef(head.current_step, document["text"], document["entered_at"], document.get("spoken", True))


def _no_filter(session_id: str) -> DecryptionError:
    return DecryptionError(
        f"session {session_id!r:.200} is stored sealed and no payload filter is installed that could open it"
    )
