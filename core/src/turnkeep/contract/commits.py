"""A turn on its way in, and how it took effect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from turnkeep.contract.identity import Expect

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from turnkeep.contract.identity import SessionKey, Token

PAST_COMMITS: Final = 32
"""How many commits of a session every adapter can recognise at least."""


Status = Literal["active", "completed", "abandoned"]


Encoding = Literal["plain", "json", "sealed"]


class Unchanged(Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Leaves a head field as it is."""


class NewMessage(NamedTuple):
    """A message on its way in: checked and encoded. Documents are texts an adapter never looks into.

    ``content`` is the plain text (``encoding="plain"``), or JSON text of it where a database could not hold it as text,
    or what a payload filter made of it.
    """

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
    """Aware, in UTC, to the microsecond; the application's clock. Data: nothing is ordered by it."""


@dataclass(frozen=True, slots=True)
class HeadChange:
    """What a commit does to the head beside counting. ``UNCHANGED`` leaves a field; None clears it.

    Setting ``status`` decides ``completed_at`` too: for ``"completed"`` it becomes the given instant or else the
    server's time, for any other status the given instant or None.
    """

    status: Status | Unchanged = UNCHANGED
    completed_at: datetime | None = None
    agent_name: str | Unchanged | None = UNCHANGED
    current_route: str | Unchanged | None = UNCHANGED
    current_step: str | Unchanged | None = UNCHANGED


NO_CHANGE: Final = HeadChange()


@dataclass(frozen=True, slots=True)
class Commit:
    """A turn, ready to be made durable: all of it takes effect, or nothing.

    Attributes:
        key: the session, and the scope that must see it.
        commit_id: made once by the client, before the first try.
        digest: of the request; tells a repeated request from a re-used commit id.
        expect: ``Expect.NEW``, a ``Token``, or ``Expect.ANY`` (then ``data`` and ``state`` must be None).
        messages: appended in this order; the adapter numbers them from last seq + 1.
        data: the collected data's document, or None to leave it (a new session starts with ``{}``).
        state: the state's document, or None to leave it (a new session starts with ``{}``).
        head: changes of head fields.
        drop_history: everything before ``messages`` leaves the history (the floor moves to the last seq so far).
        user_id: the owner of the session if this commit creates it; ignored otherwise.
        claim: an owner for a session that has none; ``key.scope.owner`` must then be None.
        ttl: idle time after which the session expires, counted by the server's clock from this commit; None: never.
        message_ttl: age at which this commit's messages leave the history, with all before them; None: they leave with
            later ones that have an age, or never.
        seen: with ``Expect.ANY``, the token the writer had last read, for ``Committed.contiguous``.
    """

    key: SessionKey
    commit_id: str
    digest: str
    expect: Expect | Token
    messages: tuple[NewMessage, ...] = ()
    data: str | None = None
    state: str | None = None
    head: HeadChange = NO_CHANGE
    drop_history: bool = False
    user_id: str | None = None
    claim: str | None = None
    ttl: timedelta | None = None
    message_ttl: timedelta | None = None
    seen: Token | None = None

    def __post_init__(self) -> None:
        if self.expect is Expect.ANY and not (self.data is None and self.state is None):
            raise ValueError("a commit that expects ANY session cannot replace its data or state")
        if self.claim is not None and self.key.scope.owner is not None:
            raise ValueError("a commit that claims a session must look for one without an owner")


@dataclass(frozen=True, slots=True)
class Committed:
    """How a commit took effect.

    Attributes:
        token: what the session is at because of this commit.
        contiguous: it is known that nothing was committed between what the writer had read and this commit.
        replayed: the commit had taken effect before; this is its first result.
        created: the commit created the session.
        first_seq: seq of its first message; None where it had none.
        last_seq: seq of its last message; None where it had none.
        message_count: messages in the history after it.
        time: the server's time of the commit, aware; it never runs backwards within a session.
        expires_at: when the session expires unless it is touched; None: never.
    """

    token: Token
    contiguous: bool
    replayed: bool
    created: bool
    first_seq: int | None
    last_seq: int | None
    message_count: int
    time: datetime
    expires_at: datetime | None = None
