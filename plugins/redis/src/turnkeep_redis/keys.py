"""Every key there is, made here and nowhere else.

Ids may be any text. Within keys they are percent-encoded, so that no brace, line break, glob or separator of theirs
means anything; what is between the braces of a key decides in which slot of a cluster it lies.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey

STATUSES: Final = ("active", "completed", "abandoned")
SHARDS: Final = 16
"""In how many indexes the sessions of a namespace are spread, so that a cluster shares the work."""

_PREFIX = re.compile(r"[A-Za-z0-9_.:/-]{1,64}\Z")


class Index(NamedTuple):
    """The four sorted sets of a list, all in one slot: by activity for each status, and by creation."""

    active: str
    completed: str
    abandoned: str
    created: str

    def sets(self, order: str, status: str | None) -> tuple[str, ...]:
        """The sets that a list in this order reads."""
        if order == "created":
            return (self.created,)
        return self[:3] if status is None else (self[STATUSES.index(status)],)


class Due(NamedTuple):
    """A session as the set of due ones names it: all that is needed to find what is left of it."""

    namespace: str
    session_id: str
    user_id: str | None

    def __str__(self) -> str:
        owner = "" if self.user_id is None else f" {_encode(self.user_id)}"
        return f"{self.namespace} {_encode(self.session_id)}{owner}"

    @classmethod
    def parse(cls, member: str) -> Due:
        """The session of a member."""
        namespace, session_id, *owner = member.split(" ")
        return cls(namespace, unquote(session_id), unquote(owner[0]) if owner else None)


class Keys:
    """The keys below one prefix.

    Args:
        prefix: what every key begins with.

    Raises:
        InvalidArgument: the prefix could be misread.
    """

    def __init__(self, prefix: str) -> None:
        if type(prefix) is not str or not _PREFIX.match(prefix):
            raise InvalidArgument(
                f"key_prefix is 1 to 64 letters, digits and any of _ . : / -, not {prefix!r:.80}; "
                "braces would decide the slot of every key"
            )
        self.prefix = prefix
        self.schema = f"{prefix}schema"

    def session(self, key: SessionKey) -> tuple[str, str]:
        """The head and the messages of a session."""
        return self.parts(key.scope.namespace, key.session_id)

    def parts(self, namespace: str, session_id: str) -> tuple[str, str]:
        """The head and the messages of a session."""
        tag = f"{self.prefix}{{{namespace}:{_encode(session_id)}}}"
        return f"{tag}:head", f"{tag}:messages"

    def shard(self, namespace: str, session_id: str) -> int:
        """Which of the namespace's indexes has the session."""
        return zlib.crc32(f"{namespace}:{session_id}".encode()) % SHARDS

    def everyone(self, namespace: str, shard: int) -> Index:
        """One of the indexes of a namespace."""
        return self._index(f"{shard:x}", f":{namespace}")

    def owner(self, namespace: str, user_id: str) -> Index:
        """The index of an owner."""
        return self._index(f"{namespace}@{_encode(user_id)}", "")

    def due(self, shard: int) -> str:
        """The set of sessions that a sweep has to look at, by when; in the slot of the namespaces' index."""
        return f"{self.prefix}{{{shard:x}}}:due"

    def _index(self, tag: str, of: str) -> Index:
        return Index(*(f"{self.prefix}{{{tag}}}{of}:{name}" for name in (*STATUSES, "created")))


def _encode(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")
