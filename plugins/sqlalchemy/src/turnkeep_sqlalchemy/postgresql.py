"""PostgreSQL: a commit is one statement, in autocommit, so one message to the server; a load is written for it, too."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, text
from sqlalchemy.types import NullType

from turnkeep.contract import ANYONE, UNCHANGED, WIDEN_LIMIT, Committed, Expect, Token
from turnkeep.ids import new_id
from turnkeep.judge import judge
from turnkeep_sqlalchemy._errors import NAME
from turnkeep_sqlalchemy.columns import from_naive
from turnkeep_sqlalchemy.loading import Loaded
from turnkeep_sqlalchemy.statements import HEAD, MESSAGE, PAST
from turnkeep_sqlalchemy.store import Raced, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Dialect, Table
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.selectable import TextualSelect

    from turnkeep.contract import Commit, LoadQuery, NewMessage, SessionKey
    from turnkeep_sqlalchemy.connections import Attempt, Connections
    from turnkeep_sqlalchemy.statements import Statements

_NAMED: Final = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*", re.MULTILINE)
_ASIDE: Final = re.compile(r"^ *--.*\n| */\*.*?\*/|^ +", re.MULTILINE)
"""What the server need not read: comments and indentation."""
_PLACE: Final = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_ARRAYS: Final = {
    "ids": 0,
    "roles": 1,
    "contents": 2,
    "encodings": 3,
    "names": 4,
    "tool_calls": 5,
    "tool_call_ids": 6,
    "routes": 7,
    "steps": 8,
    "events": 9,
    "metadatas": 10,
    "replies": 11,
    "created": 12,
}
"""The parameter that carries a field of every message, and the field's place in ``NewMessage``."""


class PostgreSQLStore(Store):
    """The store whose commits are one statement each."""

    def __init__(self, statements: Statements, dialect: Dialect, clock: Callable[[], datetime] | None) -> None:
        super().__init__(statements, clock)
        found = read_statements(statements, dialect)
        self._load = _with_columns(found["load"], len(MESSAGE) + len(HEAD) + 3 + len(PAST))
        self._create = _with_columns(found["create"], 7)
        self._commit = _with_columns(f"{found['commit']}\n{found['recorded']}", 7)
        self._turn = _with_columns(f"{found['turn']}\n{found['recorded']}", 7)

    async def _loaded(self, connection: AsyncConnection, key: SessionKey, query: LoadQuery) -> Loaded | None:
        if query.window == 0:
            return await super()._loaded(connection, key, query)
        rows = sorted((await connection.execute(self._load, to_load(key, query))).fetchall(), key=_by_seq)
        if not rows:
            return None
        found = rows[0][len(MESSAGE) :]
        head, (data, state, moment), past = found[: len(HEAD)], found[len(HEAD) :][:3], found[-len(PAST) :]
        return Loaded(
            (*head[:5], *map(_aware, head[5:10]), *head[10:]),
            (data, state),
            _aware(moment),
            (*past[:-1], _aware(past[-1])),
            [(*row[:12], row[12].replace(tzinfo=UTC), *row[13:16]) for row in rows[1:]],
        )

    async def commit_through(self, connections: Connections, attempt: Attempt, commit: Commit) -> Committed:
        """Commits in one statement; only where that finds nothing to do, another one tells why."""
        async with connections.reading(attempt) as connection:
            attempt.sealed = True
            for statement, parameters in self._ways(commit):
                row = (await connection.execute(statement, parameters)).first()
                if row is not None:
                    return to_committed(commit, row)
            attempt.sealed = False
            return await self._judge(connection, commit)

    def _ways(self, commit: Commit) -> Iterator[tuple[TextualSelect, dict[str, Any]]]:
        """The statements that may make it take effect; where the first one finds nothing to do, the next."""
        if commit.expect is Expect.NEW:
            yield self._create, to_create(commit, self._time())
            return
        parameters = to_update(commit, self._time())
        if commit.message_ttl is None and not commit.drop_history:
            yield self._turn, parameters
        yield self._commit, parameters

    async def _judge(self, connection: AsyncConnection, commit: Commit) -> Committed:
        """Why a commit took no effect.

        Raises:
            Raced: it may by now.
        """
        record, now, past = await self._find(connection, commit.key, commit.commit_id, lock=False)
        replayed = judge(commit, record.head if record else None, past, now, adapter=NAME)
        if replayed is None:
            raise Raced
        return replayed


def read_statements(statements: Statements, dialect: Dialect) -> dict[str, str]:
    """The statements of ``postgresql.sql`` for these tables."""
    script = (files("turnkeep_sqlalchemy") / "sql" / "postgresql.sql").read_text(encoding="utf-8")
    parts = _NAMED.split(fill(script, statements, dialect))
    return {
        name: _ASIDE.sub("", sql).strip().removesuffix(";") for name, sql in zip(parts[1::2], parts[2::2], strict=True)
    }


def fill(script: str, statements: Statements, dialect: Dialect) -> str:
    """The script with names of tables and columns in their places, without the lines of columns that are not there."""
    tables: Mapping[str, Table] = {
        "sessions": statements.tables.sessions,
        "messages": statements.tables.messages,
        "commits": statements.tables.commits,
    }
    preparer = dialect.identifier_preparer

    def is_there(kind: str, field: str) -> bool:
        if kind == "sessions" and field == "message_count":
            return statements.counts
        return not field or field in tables[kind].c

    def name(found: re.Match[str]) -> str:
        kind, field = found.groups()
        return preparer.quote(tables[kind].c[field].name) if field else preparer.format_table(tables[kind])

    lines = [line for line in script.splitlines() if all(is_there(*place) for place in _PLACE.findall(line))]
    return _PLACE.sub(name, "\n".join(lines))


def _with_columns(sql: str, count: int) -> TextualSelect:
    """The statement; SQLAlchemy takes its columns as they come, and remembers how."""
    return text(sql).columns(*(column(f"column_{number}", NullType()) for number in range(count)))


def _by_seq(row: Sequence[Any]) -> int:
    """The place of a message; that of the head is before them."""
    return row[13] or 0


def _aware(moment: datetime | None) -> datetime | None:
    return None if moment is None else from_naive(moment)


def to_load(key: SessionKey, query: LoadQuery) -> dict[str, Any]:
    """What ``load`` takes."""
    owner = key.scope.owner
    return {
        "namespace": key.scope.namespace,
        "id": key.session_id,
        "commit_id": query.commit_id,
        "anyone": owner is ANYONE,
        "owner": None if owner is ANYONE else owner,
        "window": query.window,
        "widen": WIDEN_LIMIT,
    }


def to_create(commit: Commit, now: datetime | None) -> dict[str, Any]:
    """What ``create`` takes."""
    return _parameters(commit, now) | {"user_id": commit.claim or commit.user_id, "incarnation": new_id()}


def to_update(commit: Commit, now: datetime | None) -> dict[str, Any]:
    """What ``commit`` takes."""
    expected = commit.expect if isinstance(commit.expect, Token) else None
    seen = expected or commit.seen
    owner = commit.key.scope.owner
    return _parameters(commit, now) | {
        "claim": commit.claim,
        "anyone": owner is ANYONE,
        "owner": None if owner is ANYONE else owner,
        "drop_history": commit.drop_history,
        "sets_agent_name": commit.head.agent_name is not UNCHANGED,
        "sets_current_route": commit.head.current_route is not UNCHANGED,
        "sets_current_step": commit.head.current_step is not UNCHANGED,
        "version": expected.version if expected else None,
        "incarnation": expected.incarnation if expected else None,
        "seen_version": seen.version if seen else None,
        "seen_incarnation": seen.incarnation if seen else None,
        "seen_commit": seen.commit_id if seen else None,
    }


def _parameters(commit: Commit, now: datetime | None) -> dict[str, Any]:
    """What both take."""
    change = commit.head
    return {
        "now": now,
        "namespace": commit.key.scope.namespace,
        "id": commit.key.session_id,
        "commit_id": commit.commit_id,
        "digest": commit.digest,
        "status": None if change.status is UNCHANGED else change.status,
        "completed_at": None if change.status is UNCHANGED else change.completed_at,
        "agent_name": None if change.agent_name is UNCHANGED else change.agent_name,
        "current_route": None if change.current_route is UNCHANGED else change.current_route,
        "current_step": None if change.current_step is UNCHANGED else change.current_step,
        "count": len(commit.messages),
        "ttl": commit.ttl,
        "message_ttl": commit.message_ttl,
        "data": commit.data,
        "state": commit.state,
        **_arrays(commit.messages),
    }


def _arrays(messages: Sequence[NewMessage]) -> dict[str, list[Any]]:
    return {name: [message[place] for message in messages] for name, place in _ARRAYS.items()}


def to_committed(commit: Commit, row: Sequence[Any]) -> Committed:
    """The result of a commit that took effect."""
    incarnation, version, contiguous, last_seq, message_count, time, expires_at = row
    return Committed(
        token=Token(incarnation, version, commit.commit_id),
        contiguous=contiguous,
        replayed=False,
        created=version == 1,
        first_seq=last_seq - len(commit.messages) + 1 if commit.messages else None,
        last_seq=last_seq if commit.messages else None,
        message_count=message_count,
        time=from_naive(time),
        expires_at=None if expires_at is None else from_naive(expires_at),
    )
