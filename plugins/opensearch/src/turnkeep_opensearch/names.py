"""The names of our indices and of the documents in them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS: Final = ("sessions", "messages")

RECORD: Final = "#turnkeep"
"""The id of a document beside the heads: the version, and where the last sweep stopped. No session's begins with #."""

_INDEX: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,199}\Z")
_LONGEST_ID: Final = 512


@dataclass(frozen=True, slots=True)
class Indices:
    """The names of our indices, each of which is an alias: ``name`` stands for the index ``name-1``.

    A write that insists on an alias is refused where there is none. Else OpenSearch would make an index for the first
    write after somebody removed ours, with whatever mapping it thinks of.
    """

    sessions: str = "turnkeep_sessions"
    messages: str = "turnkeep_messages"

    @classmethod
    def named(cls, names: Mapping[str, str]) -> Self:
        """The defaults, overlaid by ``names``.

        Raises:
            InvalidArgument: a key is neither sessions nor messages, or a name cannot be an index's.
        """
        unknown = sorted(set(names) - set(KINDS))
        if unknown:
            raise InvalidArgument(f"indices has no {unknown[0]!r:.80}; it names sessions and messages")
        for kind, name in names.items():
            if type(name) is not str or not _INDEX.match(name):
                raise InvalidArgument(
                    f"the index name for {kind} must be 1 to 200 of a-z, 0-9, _, . and -, and begin with a letter or "
                    f"digit, not {name!r:.80}"
                )
        found = cls(**names)
        if found.sessions == found.messages:
            raise InvalidArgument(f"indices must have different names, not {found.sessions!r} for both")
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Kind and name of each."""
        return iter(((KINDS[0], self.sessions), (KINDS[1], self.messages)))


def concrete(name: str) -> str:
    """The index that an alias of ours stands for when it is made."""
    return f"{name}-1"


def head_id(session: str) -> str:
    """The id of a session's head: its identity, or a hash of one that is longer than ids may be.

    An identity has a slash after the namespace, a hash has a #: no two sessions share an id unless SHA-256 lets them,
    and then the head says whose it is.
    """
    encoded = session.encode()
    if len(encoded) <= _LONGEST_ID:
        return session
    return f"{session.partition('/')[0]}#{hashlib.sha256(encoded).hexdigest()}"


def message_id(incarnation: str, seq: int) -> str:
    """The id of a message's document."""
    return f"{incarnation}#{seq:010d}"
