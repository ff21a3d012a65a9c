"""One session and its history, as they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract.commits import Committed, Encoding, Status
    from turnkeep.contract.identity import Token

WIDEN_LIMIT: Final = 200
"""A window is widened by at most this many messages to begin where a commit began."""


class StoredMessage(NamedTuple):
    """A message as an adapter gives it back: the fields of ``NewMessage``, then where it stands."""

    id: str
    role: str
    content: str
    encoding: Encoding
    name: str | None
    tool_calls: str | None
    tool_call_id: str | None
    route: str | None
    step: str | None
    event: str | None
    metadata: str | None
    reply: str | None
    created_at: datetime
    seq: int
    turn_seq: int
    """The seq of the first message of the same commit."""
    commit_id: str


@dataclass(frozen=True, slots=True)
class Head:
    """The small record of a session: what lists show, and what a commit is judged by."""

    namespace: str
    session_id: str
    user_id: str | None
    token: Token
    status: Status
    agent_name: str | None
    current_route: str | None
    current_step: str | None
    last_seq: int
    floor: int
    """History at or below this seq is gone."""
    last_message_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None

    @property
    def message_count(self) -> int:
        """Messages in the history."""
        return self.last_seq - self.floor


@dataclass(frozen=True, slots=True)
class LoadQuery:
    """What a load brings along.

    Attributes:
        window: the newest so many messages, widened backwards by at most ``WIDEN_LIMIT`` to begin where a commit began;
            None for all, 0 for none.
        commit_id: also bring what this commit did, if it took effect.
    """

    window: int | None = None
    commit_id: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What an earlier commit did."""

    committed: Committed
    digest: str
    messages: tuple[StoredMessage, ...]
    """Its messages that are still in the history, in order."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as loaded: one version of everything, never a mix of two."""

    head: Head
    data: str
    state: str
    messages: tuple[StoredMessage, ...]
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """A page of history. ``limit`` alone: the newest. ``before``/``after`` are seqs, exclusive; not both."""

    limit: int
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages in order of seq, and whether there are more in the direction of reading."""

    items: tuple[StoredMessage, ...]
    more: bool
