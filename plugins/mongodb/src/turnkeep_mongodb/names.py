"""The names of our collections, and the handles that read and write them safely."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from bson.codec_options import CodecOptions
from pymongo import ReadPreference, WriteConcern
from pymongo.read_concern import ReadConcern

from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.asynchronous.database import AsyncDatabase

Document: TypeAlias = dict[str, Any]

WRITE_CONCERN: Final = WriteConcern(w="majority", j=True)
"""An acknowledged write is in the journal of a majority: it survives a power cut and an election."""

READ_CONCERN: Final = ReadConcern("majority")
"""What is read stays: a message that could still be rolled back must not be copied into a document of its own."""

_DATABASE: Final = re.compile(r"[A-Za-z0-9_-]{1,63}\Z")
_RESERVED: Final = frozenset({"admin", "config", "local"})

CODEC_OPTIONS: Final[CodecOptions[Document]] = CodecOptions(document_class=dict)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of our collections."""

    sessions: str = "turnkeep_sessions"
    messages: str = "turnkeep_messages"
    schema: str = "turnkeep_schema"

    @classmethod
    def named(cls, names: Mapping[str, str]) -> Self:
        """The defaults, overlaid by ``names``; the version record is kept beside the sessions.

        Raises:
            InvalidArgument: a key is neither sessions nor messages, or a name cannot be a collection's.
        """
        unknown = sorted(set(names) - {"sessions", "messages"})
        if unknown:
            raise InvalidArgument(f"collections has no {unknown[0]!r:.80}; it names sessions and messages")
        for key, name in names.items():
            check_identifier(name, f"the collection name for {key}")
        stem = names.get("sessions", cls().sessions).removesuffix("sessions")
        stem = stem if not stem or stem.endswith("_") else f"{stem}_"
        found = cls(**names, schema=f"{stem}schema")
        if len(set(astuple(found))) < len(fields(cls)):
            raise InvalidArgument(f"collections must have different names, not {', '.join(astuple(found))}")
        return found


@dataclass(frozen=True, slots=True)
class Collections:
    """Handles of our collections, with the concerns that the promises need, whatever the client's own are."""

    database: AsyncDatabase[Document]
    sessions: AsyncCollection[Document]
    messages: AsyncCollection[Document]
    schema: AsyncCollection[Document]

    @classmethod
    def of(cls, client: AsyncMongoClient[Document], database: str, names: Names) -> Self:
        """Those of these names in a database; nothing is sent."""
        found = client.get_database(
            database,
            codec_options=CODEC_OPTIONS,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WRITE_CONCERN,
            read_concern=READ_CONCERN,
        )
        return cls(found, found[names.sessions], found[names.messages], found[names.schema])


def check_database(name: object) -> str:
    """``name`` itself, if it can name a database on every server.

    Raises:
        InvalidArgument: it cannot, or is one of the server's own.
    """
    if type(name) is not str or not _DATABASE.match(name) or name in _RESERVED:
        raise InvalidArgument(
            "the database must be 1 to 63 letters, digits, _ and -, "
            f"and none of {', '.join(sorted(_RESERVED))}, not {name!r:.80}"
        )
    return name
