"""Contract values with sensible defaults, and a clock that tests set."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from turnkeep import codec
from turnkeep.codec import is_plain
from turnkeep.contract import ANYONE, NO_CHANGE, Commit, Expect, NewMessage, Scope, SessionKey
from turnkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turnkeep.contract import HeadChange, Owner, Token

SOME_DAY = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is told otherwise; hand it to an adapter as its ``clock``."""

    def __init__(self, now: datetime = SOME_DAY) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, time: float | timedelta) -> datetime:
        """Moves by so many seconds, or a ``timedelta``; backwards if it is negative. Returns the new time."""
        self.now += time if isinstance(time, timedelta) else timedelta(seconds=time)
        return self.now

    def set(self, now: datetime) -> None:
        """Sets the time."""
        self.now = now


def new_namespace(prefix: str = "kit") -> str:
    """A namespace nobody used before."""
    return f"{prefix}-{secrets.token_hex(8)}"


def new_scope(owner: Owner = ANYONE, namespace: str | None = None) -> Scope:
    """A scope; in a fresh namespace unless one is given."""
    return Scope(namespace or new_namespace(), owner)


def new_key(scope: Scope | None = None, session_id: str | None = None) -> SessionKey:
    """The key of a session that is not there yet."""
    return SessionKey(scope or new_scope(), session_id or f"session_{secrets.token_hex(10)}")


def new_message(
    content: str = "Hello",
    *,
    role: str = "user",
    id: str | None = None,
    name: str | None = None,
    tool_calls: str | None = None,
    tool_call_id: str | None = None,
    route: str | None = None,
    step: str | None = None,
    event: str | None = None,
    metadata: str | None = None,
    reply: str | None = None,
    created_at: datetime = SOME_DAY,
) -> NewMessage:
    """A message on its way in. Text that a database could not hold as text goes as JSON, as Persistence does it."""
    plain = is_plain(content)
    return NewMessage(
        id=id or new_id(),
        role=role,
        content=content if plain else codec.encode(content, what="content"),
        encoding="plain" if plain else "json",
        name=name,
        tool_calls=tool_calls,
        tool_call_id=tool_call_id,
        route=route,
        step=step,
        event=event,
        metadata=metadata,
        reply=reply,
        created_at=created_at,
    )


def new_messages(messages: Iterable[str | NewMessage]) -> tuple[NewMessage, ...]:
    """Messages as they are, texts as messages of a user."""
    return tuple(message if isinstance(message, NewMessage) else new_message(message) for message in messages)


def new_commit(
    key: SessionKey,
    *messages: str | NewMessage,
    expect: Expect | Token = Expect.NEW,
    commit_id: str | None = None,
    digest: str | None = None,
    data: str | None = None,
    state: str | None = None,
    head: HeadChange = NO_CHANGE,
    drop_history: bool = False,
    user_id: str | None = None,
    claim: str | None = None,
    ttl: timedelta | None = None,
    message_ttl: timedelta | None = None,
    seen: Token | None = None,
) -> Commit:
    """A commit with a new id; it creates the session unless told otherwise."""
    commit_id = commit_id or new_id()
    return Commit(
        key=key,
        commit_id=commit_id,
        digest=digest or f"digest of {commit_id}",
        expect=expect,
        messages=new_messages(messages),
        data=data,
        state=state,
        head=head,
        drop_history=drop_history,
        user_id=user_id,
        claim=claim,
        ttl=ttl,
        message_ttl=message_ttl,
        seen=seen,
    )


def document(value: object) -> str:
    """The stored text of a value."""
    return codec.encode(value)


def read_document(text: str) -> Any:
    """The value of a stored text."""
    return codec.decode(text)
