"""Whether a commit takes effect: the decision that every adapter takes inside its atomic step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from turnkeep.contract import UNCHANGED, Committed, Expect, Head, Replay, StoredMessage, Token
from turnkeep.errors import CommitIdReused, SessionConflict, SessionExists, SessionNotFound

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract import Commit, SessionKey, Status, Unchanged

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PastCommit:
    """What a session remembers of a commit, so that the same commit sent again is recognised."""

    commit_id: str
    digest: str
    version: int
    created: bool
    first_seq: int | None
    last_seq: int | None
    message_count: int
    time: datetime

    def replay(self, head: Head, messages: tuple[StoredMessage, ...] = ()) -> Replay:
        """The first result of this commit."""
        committed = Committed(
            token=Token(head.token.incarnation, self.version, self.commit_id),
            contiguous=False,  # not remembered; a writer that does not know must not build on the token
            replayed=True,
            created=self.created,
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            message_count=self.message_count,
            time=self.time,
            expires_at=head.expires_at,
        )
        return Replay(committed, self.digest, messages)


def is_live(head: Head | None, now: datetime) -> bool:
    """Whether there is a session: not absent, not expired."""
    return head is not None and (head.expires_at is None or head.expires_at > now)


def find_visible(head: Head | None, key: SessionKey, now: datetime) -> Head | None:
    """The head, if the session is there and within the scope of the key."""
    if head is None or not is_live(head, now) or not key.scope.sees(head.user_id):
        return None
    return head


def judge(
    commit: Commit, head: Head | None, past: PastCommit | None, now: datetime, *, adapter: str
) -> Committed | None:
    """The first result if the commit took effect before, or None if it may take effect now.

    Args:
        commit: the commit.
        head: the session's head as it is, or None; expired or foreign ones included.
        past: what the session remembers of this commit id, or None.
        now: the server's time.
        adapter: the adapter's name, for errors.

    Raises:
        CommitIdReused, SessionExists, SessionNotFound, SessionConflict: it may not; nothing must be written.
    """
    session_id = commit.key.session_id
    visible = find_visible(head, commit.key, now)
    if visible is not None and past is not None:
        if past.digest != commit.digest:
            raise commit_id_reused(commit.commit_id, adapter)
        return past.replay(visible).committed
    if commit.expect is Expect.NEW:
        if is_live(head, now):
            raise session_exists(session_id, adapter)
        return None
    if visible is None:
        raise session_not_found(session_id, adapter, "commit")
    if isinstance(commit.expect, Token) and commit.expect != visible.token:
        raise session_conflict(session_id, commit.expect, visible.token, adapter)
    return None


def next_head(commit: Commit, head: Head | None, incarnation: str, now: datetime) -> Head:
    """The head after a commit that takes effect. ``head`` is None where it creates the session."""
    last_seq = head.last_seq if head else 0
    return _head_after(
        commit,
        head,
        token=Token(incarnation, head.token.version + 1 if head else 1, commit.commit_id),
        time=now if head is None else max(now, head.updated_at + _TICK),  # lists and cursors need it to rise
        floor=last_seq if commit.drop_history else (head.floor if head else 0),
        expires_at=None if commit.ttl is None else now + commit.ttl,
    )


def reported_head(commit: Commit, head: Head | None, result: Committed) -> Head:
    """The head after a commit, worked out by its writer from what it had read and from the result it was given.

    Only for a result that is contiguous: what others wrote in between is not in it.
    """
    last_seq = (head.last_seq if head else 0) + len(commit.messages)
    return _head_after(
        commit,
        head,
        token=result.token,
        time=result.time,
        floor=last_seq - result.message_count,
        expires_at=result.expires_at,
    )


def _head_after(
    commit: Commit, head: Head | None, *, token: Token, time: datetime, floor: int, expires_at: datetime | None
) -> Head:
    change = commit.head
    status: Status = head.status if head else "active"
    completed_at = head.completed_at if head else None
    if change.status is not UNCHANGED:
        status = change.status
        completed_at = change.completed_at or (time if status == "completed" else None)
    return Head(
        namespace=commit.key.scope.namespace,
        session_id=commit.key.session_id,
        user_id=commit.claim or (head.user_id if head else commit.user_id),
        token=token,
        status=status,
        agent_name=_changed(change.agent_name, head.agent_name if head else None),
        current_route=_changed(change.current_route, head.current_route if head else None),
        current_step=_changed(change.current_step, head.current_step if head else None),
        last_seq=(head.last_seq if head else 0) + len(commit.messages),
        floor=floor,
        last_message_at=time if commit.messages else (head.last_message_at if head else None),
        completed_at=completed_at,
        created_at=head.created_at if head else time,
        updated_at=time,
        expires_at=expires_at,
    )


def committed(commit: Commit, before: Head | None, after: Head) -> Committed:
    """The result of a commit that took effect."""
    return Committed(
        token=after.token,
        contiguous=commit.expect is not Expect.ANY or (before is not None and commit.seen == before.token),
        replayed=False,
        created=before is None,
        first_seq=after.last_seq - len(commit.messages) + 1 if commit.messages else None,
        last_seq=after.last_seq if commit.messages else None,
        message_count=after.message_count,
        time=after.updated_at,
        expires_at=after.expires_at,
    )


def past_commit(commit: Commit, result: Committed) -> PastCommit:
    """What the session is to remember of a commit that took effect."""
    return PastCommit(
        commit_id=commit.commit_id,
        digest=commit.digest,
        version=result.token.version,
        created=result.created,
        first_seq=result.first_seq,
        last_seq=result.last_seq,
        message_count=result.message_count,
        time=result.time,
    )


def number_messages(commit: Commit, result: Committed) -> list[StoredMessage]:
    """The commit's messages with their places in the history."""
    first = result.first_seq or 0
    return [
        StoredMessage(*message, seq=first + index, turn_seq=first, commit_id=commit.commit_id)
        for index, message in enumerate(commit.messages)
    ]


def session_not_found(session_id: str, adapter: str, operation: str) -> SessionNotFound:
    """The error for a session that is absent, expired or foreign."""
    return SessionNotFound(
        f"there is no session {session_id!r:.200} here", session_id=session_id, adapter=adapter, operation=operation
    )


def session_exists(session_id: str, adapter: str) -> SessionExists:
    """The error for creating an id that is taken."""
    return SessionExists(f"a session {session_id!r:.200} is already there", session_id=session_id, adapter=adapter)


def session_conflict(
    session_id: str, expected: Token, actual: Token | None, adapter: str, operation: str = "commit"
) -> SessionConflict:
    """The error for a stale token."""
    at = f"it is at {actual.version} now" if actual else "it changed since"
    return SessionConflict(
        f"session {session_id!r:.200} was read at version {expected.version} and {at}: nothing was written; "
        "load it again and repeat",
        session_id=session_id,
        expected=expected,
        actual=actual,
        adapter=adapter,
        operation=operation,
    )


def commit_id_reused(commit_id: str, adapter: str, *, reply_gone: bool = False) -> CommitIdReused:
    """The error for a commit id that comes back with another request, or whose reply is not in the history any more."""
    why = (
        "took effect before, and its reply has left the history since"
        if reply_gone
        else "was used for another request on this session; make a new one for a new request"
    )
    return CommitIdReused(
        f"commit id {commit_id!r:.80} {why}",
        commit_id=commit_id,
        adapter=adapter,
    )


def _changed(new: str | Unchanged | None, old: str | None) -> str | None:
    return old if new is UNCHANGED else new
