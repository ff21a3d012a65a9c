"""What SQLite raises, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    ForeignTable,
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

NAME: Final = "sqlite"


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_BUSY = _Meaning(StorageTimeout, "another connection held the database longer than busy_timeout; try again", True)
_IO = _Meaning(StorageUnavailable, "the file system failed; look at the disk, then try again", True)
_CORRUPT = _Meaning(CorruptRecord, "the file is damaged; restore it from a backup, or try `sqlite3 FILE .recover`")
_OURS = _Meaning(StorageError, "this is a bug in turnkeep-sqlite; please report it")
_OPEN = _Meaning(
    StorageUnavailable, "the file cannot be opened; look at its path, its permissions and the limit of open files"
)
_READ_ONLY = _Meaning(StorageRefused, "the file or its directory is read-only; make both writable")
_MISSING = _Meaning(SchemaMissing, "the tables are gone; was the file replaced?")

MEANINGS: Final[Mapping[int, _Meaning]] = {
    sqlite3.SQLITE_ERROR: _OURS,
    sqlite3.SQLITE_INTERNAL: _Meaning(StorageError, "SQLite found a fault in itself"),
    sqlite3.SQLITE_PERM: _Meaning(StorageRefused, "the file system refused; look at the file's permissions"),
    sqlite3.SQLITE_ABORT: _Meaning(StorageUnavailable, "the operation was rolled back; try again", True),
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_NOMEM: _Meaning(StorageUnavailable, "there was no memory left", True),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_INTERRUPT: _Meaning(StorageUnavailable, "the operation was interrupted; try again", True),
    sqlite3.SQLITE_IOERR: _IO,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTFOUND: _OURS,
    sqlite3.SQLITE_FULL: _Meaning(StorageFull, "the disk is full, or max_page_count is reached; make room"),
    sqlite3.SQLITE_CANTOPEN: _OPEN,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_EMPTY: _OURS,
    sqlite3.SQLITE_SCHEMA: _Meaning(StorageUnavailable, "the schema changed meanwhile; try again", True),
    sqlite3.SQLITE_TOOBIG: _Meaning(ValueTooLarge, "a value is larger than SQLite holds (usually 1 GB)"),
    sqlite3.SQLITE_CONSTRAINT: _Meaning(CorruptRecord, "what is stored contradicts itself; check() may tell more"),
    sqlite3.SQLITE_MISMATCH: _CORRUPT,
    sqlite3.SQLITE_MISUSE: _OURS,
    sqlite3.SQLITE_NOLFS: _Meaning(StorageRefused, "this system cannot hold files of that size"),
    sqlite3.SQLITE_AUTH: _Meaning(StorageRefused, "an authorizer on the connection refused"),
    sqlite3.SQLITE_FORMAT: _Meaning(ForeignTable, "the file is not a SQLite database; choose another path"),
    sqlite3.SQLITE_RANGE: _OURS,
    sqlite3.SQLITE_NOTADB: _Meaning(ForeignTable, "the file is not a SQLite database; choose another path"),
    sqlite3.SQLITE_NOTICE: _OURS,
    sqlite3.SQLITE_WARNING: _OURS,
}
"""Every primary result code that is an error."""

_OUT_OF_BOUNDS = "Could not decode to UTF-8"


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is not SQLite's."""
    if isinstance(error, (OverflowError, MemoryError)):
        return _caused(ValueTooLarge("a value is too large for SQLite", adapter=NAME, operation=operation), error)
    if not isinstance(error, sqlite3.Error):
        return error
    if str(error).startswith(_OUT_OF_BOUNDS):
        # SQLite's message quotes the stored text, so it must not come along as the cause.
        return CorruptRecord("a stored text is not UTF-8", adapter=NAME, operation=operation)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python's module itself, about a connection that was handed in
        said = f"the connection cannot be used: {error}"
        return _caused(StorageUnavailable(said, adapter=NAME, operation=operation, retryable=False), error)
    meaning = MEANINGS.get(code & 0xFF, _OURS)
    if str(error).startswith("no such table"):
        meaning = _MISSING
    ours = meaning.error(f"{meaning.says} ({error})", adapter=NAME, operation=operation, retryable=meaning.retryable)
    return _caused(ours, error)


def commit_failed(error: BaseException, operation: str, commit_id: str | None) -> BaseException:
    """What it means that COMMIT itself failed.

    After a failed sync the commit may lie in the log unseen, and come back with a power cut.
    """
    is_io = isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
    if is_io:
        again = "repeat it" if commit_id is None else "repeat it with the same commit id"
        said = f"the file system failed while a {operation} was made durable ({error}); {again}"
        return _caused(CommitOutcomeUnknown(said, commit_id=commit_id or "", adapter=NAME, operation=operation), error)
    return translate(error, operation)


def _caused(error: StorageError, cause: BaseException) -> StorageError:
    error.__cause__ = cause
    return error
