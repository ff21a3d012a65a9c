"""Messages at rest: items of a head's tail, and documents of their own once they are older.

An item and its document carry the same fields; the document also says which session and life it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from turnkeep.codec import utf8_length
from turnkeep.contract import StoredMessage
from turnkeep.errors import CorruptRecord
from turnkeep_mongodb._errors import NAME, only_duplicates
from turnkeep_mongodb.times import from_stamp, to_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.cursor import AsyncCursor

    from turnkeep.contract import Head
    from turnkeep_mongodb.names import Document

_OPTIONAL: Final = ("name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "reply")
_TEXTS: Final = ("content", "tool_calls", "event", "metadata", "reply")

_BATCH: Final = 500
"""So many documents come at a time where all of a history may be read."""


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
        """The ``_id`` of the session's head, by which message documents are sharded."""
        return identity(self.namespace, self.session_id)


def identity(namespace: str, session_id: str) -> str:
    """The ``_id`` of a session's head. A namespace has no slash, so no two sessions share one."""
    return f"{namespace}/{session_id}"


def to_items(messages: Iterable[StoredMessage]) -> list[Document]:
    """Messages as items."""
    items: list[Document] = []
    for message in messages:
        fields = message._asdict()
        size = sum(utf8_length(fields[name]) for name in _TEXTS if fields[name] is not None)
        item: Document = {"seq": message.seq, "turn_seq": message.turn_seq, "commit_id": message.commit_id}
        item |= {"id": message.id, "role": message.role, "content": message.content}
        if message.encoding != "plain":
            item["encoding"] = message.encoding
        item |= {name: fields[name] for name in _OPTIONAL if fields[name] is not None}
        item |= {"created_at": message.created_at, "created_us": to_stamp(message.created_at), "bytes": size}
        items.append(item)
    return items


def to_messages(head: Head, items: Iterable[Document]) -> tuple[StoredMessage, ...]:
    """Items as messages.

    Raises:
        CorruptRecord: a field is missing, or none.
    """
    try:
        return tuple([_to_message(item) for item in items])
    except (KeyError, TypeError, OverflowError) as error:
        raise CorruptRecord(
            f"session {head.session_id!r:.200} has a message without a usable {error}", adapter=NAME
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
            from_stamp(item["created_us"]),
            item["seq"],
            item["turn_seq"],
            item["commit_id"],
        ),
    )


class Messages:
    """The collection of message documents. Every statement names the session, so a sharded cluster asks one shard."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self._collection = collection

    async def insert(self, life: Life, items: Sequence[Document]) -> None:
        """Writes a document for each item; those that are there already are left, because they say the same."""
        owned = {"session": life.session, **life._asdict()}
        documents = [{"_id": f"{life.incarnation}#{item['seq']:010d}", **owned, **item} for item in items]
        try:
            await self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if not only_duplicates(error):
                raise

    async def stretch(self, life: Life, low: int, high: int) -> list[Document]:
        """The documents from ``low`` to ``high``, in order; there may be fewer than asked for."""
        return await self._between(life, low, high).sort("seq", ASCENDING).to_list()

    def backwards(self, life: Life, low: int, high: int) -> AsyncCursor[Document]:
        """The documents from ``high`` down to ``low``, fetched as they are asked for. Who calls closes the cursor."""
        return self._between(life, low, high).sort("seq", DESCENDING).batch_size(_BATCH)

    def _between(self, life: Life, low: int, high: int) -> AsyncCursor[Document]:
        return self._collection.find(
            {"session": life.session, "incarnation": life.incarnation, "seq": {"$gte": low, "$lte": high}},
            dict.fromkeys(("_id", "session", *life._fields), 0),
        )

    async def erase(self, session: str, incarnation: str, floor: int) -> int:
        """Removes the documents of a life up to ``floor``; how many that were."""
        condition = {"session": session, "incarnation": incarnation, "seq": {"$lte": floor}}
        return (await self._collection.delete_many(condition)).deleted_count

    async def erase_all(self, session: str, incarnation: str) -> int:
        """Removes every document of a life; how many that were."""
        found = await self._collection.delete_many({"session": session, "incarnation": incarnation})
        return found.deleted_count
