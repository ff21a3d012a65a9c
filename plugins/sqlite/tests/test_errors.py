"""SQLite's errors as ours."""

import sqlite3

import pytest

from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    ForeignTable,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    ValueTooLarge,
)
from turnkeep_sqlite._errors import MEANINGS, commit_failed, translate

_NO_ERRORS = {sqlite3.SQLITE_OK, 100, 101}  # 100 and 101: a row, done
_PRIMARY = """
    ABORT AUTH BUSY CANTOPEN CONSTRAINT CORRUPT EMPTY ERROR FORMAT FULL INTERNAL INTERRUPT IOERR LOCKED MISMATCH MISUSE
    NOLFS NOMEM NOTADB NOTFOUND NOTICE PERM PROTOCOL RANGE READONLY SCHEMA TOOBIG WARNING
"""


def sqlite_error(code, message="something", kind=sqlite3.OperationalError):
    error = kind(message)
    error.sqlite_errorcode = code
    return error


def result_codes():
    """The SQLITE_* constants that are result codes; the module mixes them with limits and authorizer actions."""
    primary = [f"SQLITE_{name}" for name in _PRIMARY.split()]
    extended = [name for name in dir(sqlite3) if name.startswith(tuple(f"{known}_" for known in primary))]
    return {name: getattr(sqlite3, name) for name in (*primary, *extended)}


def test_every_primary_result_code_has_a_meaning():
    codes = {code & 0xFF for code in result_codes().values()} - _NO_ERRORS
    assert codes == set(MEANINGS)
    # What C calls a primary code is below 256; from 1 to 28 there is no gap.
    assert set(range(1, 29)) == set(MEANINGS)


@pytest.mark.parametrize("name", sorted(result_codes()))
def test_every_result_code_becomes_one_of_ours(name):
    cause = sqlite_error(result_codes()[name])
    error = translate(cause, "load")
    assert isinstance(error, StorageError)
    assert (error.adapter, error.operation, error.__cause__) == ("sqlite", "load", cause)
    assert len(str(error)) > 20


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (sqlite3.SQLITE_BUSY, StorageTimeout, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageTimeout, True),
        (sqlite3.SQLITE_LOCKED, StorageTimeout, True),
        (sqlite3.SQLITE_IOERR_READ, StorageUnavailable, True),
        (sqlite3.SQLITE_CANTOPEN, StorageUnavailable, False),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StorageRefused, False),
        (sqlite3.SQLITE_PERM, StorageRefused, False),
        (sqlite3.SQLITE_AUTH, StorageRefused, False),
        (sqlite3.SQLITE_FULL, StorageFull, False),
        (sqlite3.SQLITE_CORRUPT_VTAB, CorruptRecord, False),
        (sqlite3.SQLITE_NOTADB, ForeignTable, False),
        (sqlite3.SQLITE_TOOBIG, ValueTooLarge, False),
        (9999 << 8 | 200, StorageError, False),
    ],
)
def test_meanings(code, kind, retryable):
    error = translate(sqlite_error(code), "load")
    assert type(error) is kind
    assert error.retryable is retryable


def test_errors_without_a_code():
    connection = sqlite3.connect(":memory:")
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError) as caught:
        connection.execute("SELECT 1")
    error = translate(caught.value, "load")
    assert type(error) is StorageUnavailable
    assert not error.retryable


def test_undecodable_text_is_not_quoted():
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("SELECT CAST(x'7365637265ff' AS TEXT)").fetchall()
    connection.close()
    assert "secre" in str(caught.value)
    error = translate(caught.value, "load")
    assert type(error) is CorruptRecord
    assert "secre" not in str(error)
    assert error.__cause__ is None


def test_too_large_an_integer():
    assert type(translate(OverflowError("too large"), "load")) is ValueTooLarge


def test_other_errors_stay_what_they_are():
    error = KeyError("x")
    assert translate(error, "load") is error


def test_a_commit_whose_sync_failed_is_of_unknown_outcome():
    error = commit_failed(sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "commit", "c1")
    assert type(error) is CommitOutcomeUnknown
    assert error.commit_id == "c1"
    assert type(commit_failed(sqlite_error(sqlite3.SQLITE_FULL), "commit", "c1")) is StorageFull
    assert type(commit_failed(sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), "delete", None)) is CommitOutcomeUnknown
