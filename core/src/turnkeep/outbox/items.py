"""Messages at rest: items of a head's tail, and documents of their own once they are older.

An item and its document carry the same fields; the document also says which session and life it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from turnkeep.codec import utf8_length
from turnkeep.contract import StoredMessage
from turnkeep.errors import CorruptRecord
from turnkeep.retention import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from turnkeep.contract import Head

Document: TypeAlias = dict[str, Any]

_OPTIONAL: Final = ("name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "reply")
_TEXTS: Final = ("content", "tool_calls", "event", "metadata", "reply")


class Life(NamedTuple):
    """One incarnation of a session: what message documents belong to."""

    namespace: str
    session_id: str
    incarnation: str

    @classmethod
    def of(cls, head: Head) -> Life:
        """The one that a head is of."""
        return cls(head.namespace, head.session_id, head.token.incarnation)

    @property
    def session(self) -> str:
        """The identity of its session."""
        return identity(self.namespace, self.session_id)


def identity(namespace: str, session_id: str) -> str:
    """What names a session's head. A namespace has no slash, so no two sessions share one."""
    return f"{namespace}/{session_id}"


def to_items(messages: Iterable[StoredMessage]) -> list[Document]:
    """Messages as items. Their time is there twice: as a date, for people, and exactly, for us."""
    items: list[Document] = []
    for message in messages:
        fields = message._asdict()
        size = sum(utf8_length(fields[name]) for name in _TEXTS if fields[name] is not None)
        item: Document = {"seq": message.seq, "turn_seq": message.turn_seq, "commit_id": message.commit_id}
        item |= {"id": message.id, "role": message.role, "content": message.content}
        if message.encoding != "plain":
            item["encoding"] = message.encoding
        item |= {name: fields[name] for name in _OPTIONAL if fields[name] is not None}
        item |= {"created_at": message.created_at, "created_us": to_microseconds(message.created_at), "bytes": size}
        items.append(item)
    return items


def to_messages(head: Head, items: Iterable[Document], adapter: str) -> tuple[StoredMessage, ...]:
    """Items as messages.

    Raises:
        CorruptRecord: a field is missing, or none.
    """
    try:
        return tuple([_to_message(item) for item in items])
    except (KeyError, TypeError, OverflowError) as error:
        raise CorruptRecord(
            f"session {head.session_id!r:.200} has a message without a usable {error}", adapter=adapter
        ) from error


def _to_message(item: Document) -> StoredMessage:
    # Half the time of calling the class; every load does it 50 times.
    make = cast("Callable[..., StoredMessage]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType] - typeshed
    get: Callable[..., Any] = item.get
    return make(
        StoredMessage,
        (
            item["id"],
            item["role"],
            item["content"],
            get("encoding", "plain"),
            get("name"),
            get("tool_calls"),
            get("tool_call_id"),
            get("route"),
            get("step"),
            get("event"),
            get("metadata"),
            get("reply"),
            from_microseconds(item["created_us"]),
            item["seq"],
            item["turn_seq"],
            item["commit_id"],
        ),
    )
