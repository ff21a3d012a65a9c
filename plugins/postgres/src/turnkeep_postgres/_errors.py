"""What psycopg and PostgreSQL raise, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import psycopg
import psycopg_pool

from turnkeep.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    CorruptRecord,
    ForeignTable,
    NotSerializable,
    SchemaMissing,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    ValueTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "postgres"

_E = TypeVar("_E", bound=Exception)


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_OURS = _Meaning(StorageError, "this is a bug in turnkeep-postgres; please report it")
_GONE = _Meaning(StorageUnavailable, "the server cannot be reached, or went away; look at it, then try again", True)
_BUSY = _Meaning(StorageTimeout, "the server gave up waiting (a lock, or a time-out of its own); try again", True)
_CONTESTED = _Meaning(StorageUnavailable, "others were in the way each time; try again", True)
_CORRUPT = _Meaning(CorruptRecord, "what is stored contradicts itself; check() may tell more")
_UNREADABLE = _Meaning(CorruptRecord, "what is stored cannot be read")
_TEXT = _Meaning(NotSerializable, "the database cannot hold this text; it needs the encoding UTF8, and no NUL")
_LARGE = _Meaning(ValueTooLarge, "a value, or a result, is larger than PostgreSQL holds (1 GB)")
_RIGHTS = _Meaning(
    StorageRefused, "the role may not do that; grant it (see the how-to on roles), or let a DBA run `turnkeep migrate`"
)
_READ_ONLY = _Meaning(
    StorageRefused,
    "the server only reads: it is a replica, or default_transaction_read_only is on; use the writer's address "
    "(target_session_attrs=read-write finds it)",
)
_LOGIN = _Meaning(StorageRefused, "the server refused the login; look at user, password and pg_hba.conf")
_NO_DATABASE = _Meaning(StorageUnavailable, "there is no such database; make it with createdb, or correct the name")
_POOLER = _Meaning(
    StorageUnavailable,
    "a pooler gave prepared statements of one connection to another; leave prepare_threshold unset behind it",
)

MEANINGS: Final[Mapping[str, _Meaning]] = {
    "08": _GONE,
    "0A": _Meaning(StorageUnavailable, "the server cannot do that now (were the tables changed?); try again", True),
    "0A000": _Meaning(StorageUnavailable, "the tables changed since a statement was prepared; try again", True),
    "21": _CORRUPT,
    "22": _UNREADABLE,
    "22021": _TEXT,
    "22P05": _TEXT,
    "23": _CORRUPT,
    "25": _OURS,
    "25006": _READ_ONLY,
    "26": _POOLER,
    "28": _LOGIN,
    "34": _POOLER,
    "3D": _NO_DATABASE,
    "3F": _Meaning(SchemaMissing, "there is no such schema; make it with CREATE SCHEMA, or correct schema="),
    "40": _CONTESTED,
    "42": _OURS,
    "42501": _RIGHTS,
    "42703": _Meaning(ForeignTable, "a column is missing; were the tables changed by hand?"),
    "42723": _Meaning(
        ForeignTable, "a function has the name of ours; choose other names with tables=, or another schema with schema="
    ),
    "42P01": _Meaning(SchemaMissing, "the tables are gone; make them with: turnkeep migrate"),
    "42P05": _POOLER,
    "53": _Meaning(StorageUnavailable, "the server has no room for this now (memory, connections); try again", True),
    "53100": _Meaning(StorageFull, "the server's disk is full; make room"),
    "53300": _Meaning(
        StorageUnavailable, "the server has no connections left; lower max_size, or put a pooler in between", True
    ),
    "54": _LARGE,
    "55": _Meaning(StorageUnavailable, "something is not in the state for that; try again", True),
    "55P03": _BUSY,
    "57": _GONE,
    "57014": _BUSY,
    "58": _Meaning(StorageUnavailable, "the server's file system failed; look at its log, then try again", True),
    "XX": _Meaning(StorageError, "PostgreSQL found a fault in itself; look at its log"),
    "XX001": _Meaning(CorruptRecord, "the database is damaged; restore it from a backup"),
    "XX002": _Meaning(CorruptRecord, "an index is damaged; REINDEX it"),
}
"""SQLSTATEs that mean something here, and classes of them (the first two characters) for all others."""

# While connecting libpq gives no SQLSTATE, only the server's text; in another language it is said less well.
_CONNECTING: Final = (
    (re.compile(r"password|no pg_hba\.conf entry|authentication|role .* (does not exist|is not permitted)"), _LOGIN),
    (re.compile(r"database .* does not exist"), _NO_DATABASE),
    (re.compile(r"session is (read-only|not read-only)|server is in hot standby"), _READ_ONLY),
    (re.compile(r"too many clients|remaining connection slots|no more connections allowed"), MEANINGS["53300"]),
)
RESTARTABLE: Final = ("40001", "40P01")
"""SQLSTATEs after which the same statement is simply run again: nothing of it took effect."""


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is not the driver's."""
    if isinstance(error, psycopg_pool.PoolTimeout):
        said = (
            "no connection became free in time; raise max_size (or that of the pool you handed in), or find out "
            "what holds them"
        )
        return _caused(StorageTimeout(said, adapter=NAME, operation=operation), error)
    if isinstance(error, psycopg_pool.PoolClosed):
        said = "the pool is not open: await pool.open() before you use the adapter"
        return _caused(ConfigurationError(said), error)
    if not isinstance(error, psycopg.Error):
        return error
    meaning = _meaning(error, operation)
    said = f"{meaning.says} ({_plain(error)})"
    return _caused(meaning.error(said, adapter=NAME, operation=operation, retryable=meaning.retryable), error)


def outcome_unknown(error: BaseException, operation: str, commit_id: str) -> CommitOutcomeUnknown:
    """What it means that the reply to a write did not arrive, and that it could not be asked for."""
    why = str(error) or "its caller went away, and the server did not say in time whether it stopped"
    said = f"the reply did not arrive and the outcome could not be found out ({why}); repeat it"
    if commit_id:
        said += " with the same commit id"
    return _caused(CommitOutcomeUnknown(said, commit_id=commit_id, adapter=NAME, operation=operation), error)


def _meaning(error: psycopg.Error, operation: str) -> _Meaning:
    state = error.sqlstate
    if state is not None:
        return MEANINGS.get(state) or MEANINGS.get(state[:2], _OURS)
    if isinstance(error, psycopg.OperationalError):
        text = str(error)
        return next((meaning for pattern, meaning in _CONNECTING if pattern.search(text)), _GONE)
    if isinstance(error, psycopg.DataError):  # raised by psycopg itself, about a value it was to send or had received
        return _TEXT if operation == "commit" else _UNREADABLE
    return _OURS


def _plain(error: psycopg.Error) -> str:
    """What happened, in one line; the details of an error may quote what is stored."""
    said = error.diag.message_primary or str(error).partition("\n")[0]
    return f"{said}, SQLSTATE {error.sqlstate}" if error.sqlstate else said or type(error).__name__


def _caused(error: _E, cause: BaseException) -> _E:
    error.__cause__ = cause
    return error
