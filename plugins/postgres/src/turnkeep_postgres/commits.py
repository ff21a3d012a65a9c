"""Commits: their parameters, and what a session remembers of them as long as it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turnkeep.contract import UNCHANGED, Committed, Expect, Token
from turnkeep.ids import new_id
from turnkeep.judge import PastCommit
from turnkeep_postgres.calls import Import
from turnkeep_postgres.messages import to_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from turnkeep.contract import Commit

PAST_WIDTH: Final = 8
"""How many columns a remembered commit has."""

_IMPORTED: Final = 1000
"""A commit of so many messages is imported: a tenth faster (measured), in spite of a few more round trips."""

_TYPES: Final = (*("text",) * 3, *("int8",) * 2, *("text",) * 13, *("timestamptz",) * 2)
"""Of the columns that ``copy_messages`` names."""


def to_parameters(commit: Commit, now: datetime | None, *, imported: bool) -> dict[str, object]:
    """What both statements that commit take; without the messages where those are imported."""
    change = commit.head
    parameters: dict[str, object] = {
        "now": now,
        "namespace": commit.key.scope.namespace,
        "id": commit.key.session_id,
        "commit_id": commit.commit_id,
        "digest": commit.digest,
        "claim": commit.claim,
        "status": None if change.status is UNCHANGED else change.status,
        "completed_at": None if change.status is UNCHANGED else change.completed_at,
        "agent_name": None if change.agent_name is UNCHANGED else change.agent_name,
        "current_route": None if change.current_route is UNCHANGED else change.current_route,
        "current_step": None if change.current_step is UNCHANGED else change.current_step,
        "count": len(commit.messages),
        "ttl": commit.ttl,
        "message_ttl": commit.message_ttl if commit.messages else None,
        "data": commit.data,
        "state": commit.state,
    }
    return parameters | to_arrays(() if imported else commit.messages)


def is_large(commit: Commit) -> bool:
    """Whether its messages had better be imported."""
    return len(commit.messages) >= _IMPORTED


def to_import(commit: Commit, sql: bytes) -> Import:
    """The messages of a commit, to be copied in behind its statement."""

    def rows(answered: Sequence[Any]) -> Iterator[tuple[object, ...]]:
        result = to_committed(commit, answered)
        life = (commit.key.scope.namespace, commit.key.session_id, result.token.incarnation)
        first = result.first_seq or 0
        for seq, message in enumerate(commit.messages, first):
            yield (*life, seq, first, commit.commit_id, *message, result.time)

    return Import(sql, _TYPES, rows)


def to_create(commit: Commit, now: datetime | None, *, imported: bool) -> dict[str, object]:
    """What ``create`` takes."""
    return to_parameters(commit, now, imported=imported) | {"user_id": commit.user_id, "incarnation": new_id()}


def to_update(commit: Commit, now: datetime | None, *, imported: bool) -> dict[str, object]:
    """What ``commit`` takes."""
    expected = commit.expect if isinstance(commit.expect, Token) else None
    owner = commit.key.scope.owner
    return to_parameters(commit, now, imported=imported) | {
        "owner": owner if isinstance(owner, str) else None,
        "drop_history": commit.drop_history,
        "sets_agent_name": commit.head.agent_name is not UNCHANGED,
        "sets_current_route": commit.head.current_route is not UNCHANGED,
        "sets_current_step": commit.head.current_step is not UNCHANGED,
        "version": expected.version if expected else None,
        "incarnation": expected.incarnation if expected else None,
        "last_commit": expected.commit_id if expected else None,
    }


def to_committed(commit: Commit, row: Sequence[Any]) -> Committed:
    """The result of a commit that took effect."""
    incarnation, version, old_commit, last_seq, message_count, time, expires_at = row
    return Committed(
        token=Token(incarnation, version, commit.commit_id),
        contiguous=commit.expect is not Expect.ANY or commit.seen == Token(incarnation, version - 1, old_commit),
        replayed=False,
        created=version == 1,
        first_seq=last_seq - len(commit.messages) + 1 if commit.messages else None,
        last_seq=last_seq if commit.messages else None,
        message_count=message_count,
        time=time,
        expires_at=expires_at,
    )


def to_past(columns: Sequence[Any]) -> PastCommit | None:
    """What a session remembers of a commit; None where it does not know it."""
    return None if columns[0] is None else PastCommit(*columns)
