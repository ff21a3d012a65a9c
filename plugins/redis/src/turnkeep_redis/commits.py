"""Commits on their way to the script, and what it answers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from turnkeep.contract import ANYONE, UNCHANGED, Committed, Token
from turnkeep.judge import PastCommit, commit_id_reused, session_conflict, session_exists, session_not_found
from turnkeep.retention import from_microseconds, to_microseconds
from turnkeep_redis._errors import NAME, corrupt
from turnkeep_redis.messages import write_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnkeep.contract import Commit, Owner, Unchanged
    from turnkeep.errors import StorageError
    from turnkeep_redis.scripts import Argument

_NO_TOKEN: Final = Token("", 0, "")
_MICROSECOND: Final = timedelta(microseconds=1)


class Done(NamedTuple):
    """A commit that took effect, and what the indexes need to know of the session after it."""

    committed: Committed
    status: str
    created_at: int
    previous_owner: str | None
    """The owner of an expired session that this one replaced."""


class OtherOwner(NamedTuple):
    """The session has another owner than was believed; nothing was written."""

    user_id: str | None


def write_commit(
    commit: Commit, *, clock: str, call: str, incarnation: str, owner: str | None, due: str, due_before: str
) -> list[Argument]:
    """The script's arguments, in the order it names them.

    Args:
        commit: the commit.
        clock: the time in microseconds, "" for the server's.
        call: tells this call from another one with the same commit id.
        incarnation: for the session, if this creates it.
        owner: the session's owner after the commit.
        due: the session's name in the set of due ones.
        due_before: the name it had, where this commit changes it.
    """
    token = commit.expect if isinstance(commit.expect, Token) else commit.seen or _NO_TOKEN
    change = commit.head
    status = "" if change.status is UNCHANGED else change.status
    completed_at = None if change.completed_at is None else str(to_microseconds(change.completed_at))
    return [
        clock,
        write_scope(commit.key.scope.owner),
        commit.key.scope.namespace,
        commit.key.session_id,
        "token" if isinstance(commit.expect, Token) else commit.expect.value,
        *write_token(token),
        commit.commit_id,
        commit.digest,
        call,
        incarnation,
        _given(owner),
        _given(commit.claim),
        _microseconds(commit.ttl),
        _microseconds(commit.message_ttl),
        int(commit.drop_history),
        status,
        _given(completed_at),
        _changed(change.agent_name),
        _changed(change.current_route),
        _changed(change.current_step),
        _given(commit.data),
        _given(commit.state),
        due,
        due_before,
        *write_messages(commit.messages, commit.commit_id),
    ]


def read_answer(answer: Sequence[Any], commit: Commit) -> Done | OtherOwner:
    """What the script answered.

    Raises:
        StorageError: the commit was refused, and nothing was written.
    """
    kind, session_id = answer[0], commit.key.session_id
    if kind == b"done":
        return _read_done(answer, commit)
    if kind == b"owner":
        return OtherOwner(cast("bytes", answer[1]).decode() or None)
    refusal: StorageError
    if kind == b"reused":
        refusal = commit_id_reused(commit.commit_id, NAME)
    elif kind == b"exists":
        refusal = session_exists(session_id, NAME)
    elif kind == b"absent":
        refusal = session_not_found(session_id, NAME, "commit")
    elif kind == b"conflict":
        assert isinstance(commit.expect, Token)
        refusal = session_conflict(session_id, commit.expect, read_token(answer[1:4]), NAME)
    else:
        refusal = corrupt(session_id, cast("bytes", answer[1]).decode(), "commit")
    raise refusal


def _read_done(answer: Sequence[Any], commit: Commit) -> Done:
    texts = [cast("bytes", part).decode() for part in answer[1:]]
    incarnation, version, created, contiguous, first, last, count, time, expires, replayed, status, born = texts[:12]
    committed = Committed(
        token=Token(incarnation, int(version), commit.commit_id),
        contiguous=contiguous == "1",
        replayed=replayed == "1",
        created=created == "1",
        first_seq=int(first) or None,
        last_seq=int(last) or None,
        message_count=int(count),
        time=from_microseconds(int(time)),
        expires_at=from_microseconds(int(expires)) if expires else None,
    )
    previous = texts[12][1:] if len(texts) > 12 and texts[12] else None
    return Done(committed, status, int(born), previous)


def read_past(text: bytes, commit_id: str) -> PastCommit:
    """What the head remembers of a commit, as commit.lua wrote it."""
    version, created, _, first, last, count, time, _, digest = text.decode().split(" ", 8)
    return PastCommit(
        commit_id=commit_id,
        digest=digest,
        version=int(version),
        created=created == "1",
        first_seq=int(first) or None,
        last_seq=int(last) or None,
        message_count=int(count),
        time=from_microseconds(int(time)),
    )


def write_scope(owner: Owner) -> str:
    """Whose sessions may be seen."""
    if owner is ANYONE:
        return "*"
    return "-" if owner is None else f"={owner}"


def write_token(token: Token | None) -> tuple[str, str, str]:
    """A token as three arguments, empty where there is none."""
    return (
        ("", "", "")
        if token is None or token == _NO_TOKEN
        else (token.incarnation, str(token.version), token.commit_id)
    )


def read_token(parts: Sequence[Any]) -> Token:
    """The token a script answered with."""
    incarnation, version, commit_id = (cast("bytes", part).decode() for part in parts)
    return Token(incarnation, int(version), commit_id)


def _given(text: str | None) -> str:
    return "" if text is None else f"={text}"


def _changed(value: str | Unchanged | None) -> str:
    if value is UNCHANGED:
        return ""
    return "-" if value is None else f"={value}"


def _microseconds(time: timedelta | None) -> str:
    return "" if time is None else str(time // _MICROSECOND)
