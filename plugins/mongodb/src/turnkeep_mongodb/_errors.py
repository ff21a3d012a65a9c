"""What PyMongo raises, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import pymongo.errors as driver
from bson.errors import BSONError, InvalidBSON

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
    from collections.abc import Generator, Mapping

NAME: Final = "mongodb"

DUPLICATE_KEY: Final = 11000


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_OURS = _Meaning(StorageError, "the server refused the command; if it is a supported one, please report it")
_AWAY = _Meaning(StorageUnavailable, "the connection to the server was lost; try again", True)
_ELECTION = _Meaning(StorageUnavailable, "the server is not the writable primary at the moment; try again", True)
_TIMEOUT = _Meaning(StorageTimeout, "the server did not finish in time; try again", True)
_PERMISSION = _Meaning(
    StorageRefused, "the server refused the credentials or the permission; look at user, password, authSource and role"
)
_TOO_LARGE = _Meaning(
    ValueTooLarge, "a document would be over MongoDB's 16 MB; commit fewer or smaller messages at a time"
)
_BUSY = _Meaning(StorageUnavailable, "the server was busy with a conflicting operation; try again", True)
_CONCERN = _Meaning(
    StorageRefused, "the server cannot acknowledge w=majority, j=true, without which no turn is safe; see check()"
)
_LACKING = _Meaning(
    StorageRefused, "the server lacks something that is needed; use MongoDB 4.4 or newer, not one that is like it"
)

_INDEX: Final = _Meaning(StorageRefused, "an index of ours is missing; make it again with: turnkeep migrate URL")
_BAD_VALUE: Final = 2

CODES: Final[Mapping[int, _Meaning]] = {
    6: _AWAY,  # HostUnreachable
    7: _AWAY,  # HostNotFound
    11: _PERMISSION,  # UserNotFound
    13: _PERMISSION,  # Unauthorized
    18: _PERMISSION,  # AuthenticationFailed
    24: _BUSY,  # LockTimeout
    26: _Meaning(SchemaMissing, "the collections are gone; was the database dropped?"),
    43: _Meaning(StorageUnavailable, "the server forgot the cursor of a long read; try again", True),
    46: _BUSY,  # LockBusy
    50: _TIMEOUT,  # MaxTimeMSExpired
    64: _CONCERN,  # WriteConcernFailed
    79: _CONCERN,  # UnknownReplWriteConcern
    85: _Meaning(StorageRefused, "an index of that name with other options is there; drop it, then: turnkeep migrate"),
    86: _Meaning(StorageRefused, "an index of that name with other keys is there; drop it, then: turnkeep migrate"),
    89: _AWAY,  # NetworkTimeout
    91: _ELECTION,  # ShutdownInProgress
    100: _CONCERN,  # UnsatisfiableWriteConcern
    112: _BUSY,  # WriteConflict
    115: _LACKING,  # CommandNotSupported
    121: _Meaning(StorageRefused, "a validator on the collection refuses our documents; remove it"),
    133: _ELECTION,  # FailedToSatisfyReadPreference
    134: _ELECTION,  # ReadConcernMajorityNotAvailableYet
    148: _CONCERN,  # ReadConcernMajorityNotEnabled
    166: _Meaning(ForeignTable, "one of our collections is a view; choose other names with collections="),
    189: _ELECTION,  # PrimarySteppedDown
    238: _LACKING,  # NotImplemented
    262: _TIMEOUT,  # ExceededTimeLimit
    8000: _PERMISSION,  # AtlasError
    9001: _AWAY,  # SocketException
    10058: _ELECTION,  # LegacyNotPrimary
    10107: _ELECTION,  # NotWritablePrimary
    10334: _TOO_LARGE,  # BSONObjectTooLarge
    11600: _ELECTION,  # InterruptedAtShutdown
    11601: _Meaning(StorageUnavailable, "the operation was interrupted on the server; try again", True),
    11602: _ELECTION,  # InterruptedDueToReplStateChange
    12501: _Meaning(StorageFull, "a quota of the server is used up; make room"),
    13435: _ELECTION,  # NotPrimaryNoSecondaryOk
    13436: _ELECTION,  # NotPrimaryOrSecondary
    14031: _Meaning(StorageFull, "the server's disk is full; make room"),
    17280: _TOO_LARGE,  # KeyTooLong, of servers before 4.2
    17419: _TOO_LARGE,  # the document would be too large after the update
}
"""What the server's error codes mean; every other is a refusal."""

_MAYBE_WRITTEN: Final = frozenset({6, 7, 50, 64, 79, 89, 91, 100, 262, 9001, 11600, 11601, 11602})
"""Codes with which a server may have carried out the write, or waited in vain for a majority after it."""

CLASSES: Final[Mapping[type[Exception], _Meaning]] = {
    driver.PyMongoError: _Meaning(StorageError, "the driver failed"),
    driver.ProtocolError: _Meaning(StorageError, "the server does not speak MongoDB's protocol; look at the address"),
    driver.ConnectionFailure: _AWAY,
    driver.WaitQueueTimeoutError: _Meaning(
        StorageUnavailable, "every connection of the pool is in use; raise maxPoolSize, or try again", True
    ),
    driver.AutoReconnect: _AWAY,
    driver.NetworkTimeout: _Meaning(StorageTimeout, "the server did not answer within socketTimeoutMS", True),
    driver.NotPrimaryError: _ELECTION,
    driver.ServerSelectionTimeoutError: _Meaning(
        StorageUnavailable, "no server could be reached; look at host, port and network", True
    ),
    driver.ConfigurationError: _Meaning(
        StorageRefused, "the driver cannot work with this address or server; look at hosts, DNS, options and version"
    ),
    driver.OperationFailure: _OURS,
    driver.CursorNotFound: CODES[43],
    driver.ExecutionTimeout: _TIMEOUT,
    driver.WriteConcernError: _CONCERN,
    driver.WriteError: _OURS,
    driver.WTimeoutError: _CONCERN,
    driver.DuplicateKeyError: _Meaning(CorruptRecord, "a document is there that must not be; check() may tell more"),
    driver.BulkWriteError: _OURS,
    driver.ClientBulkWriteException: _OURS,
    driver.InvalidOperation: _Meaning(StorageUnavailable, "the client was closed"),
    driver.InvalidName: _Meaning(StorageRefused, "MongoDB does not take the name of the database or of a collection"),
    driver.CollectionInvalid: _Meaning(StorageRefused, "the collection cannot be made"),
    driver.InvalidURI: _Meaning(StorageRefused, "the driver does not take the URL"),
    driver.DocumentTooLarge: _TOO_LARGE,
    driver.EncryptionError: _Meaning(StorageRefused, "the driver's own encryption failed"),
    driver.EncryptedCollectionError: _Meaning(StorageRefused, "the driver's own encryption failed"),
    BSONError: _Meaning(StorageError, "the driver cannot encode a document; this is a bug in turnkeep-mongodb"),
    InvalidBSON: _Meaning(CorruptRecord, "a stored document cannot be decoded"),
}
"""Every class of error of the driver."""


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is not the driver's."""
    if not isinstance(error, (driver.PyMongoError, BSONError)):
        return error
    meaning = _meaning(error)
    code = _code(error)
    about = type(error).__name__ if code is None else f"{type(error).__name__}, code {code}"
    ours = meaning.error(f"{meaning.says} ({about})", adapter=NAME, operation=operation, retryable=meaning.retryable)
    # The error of a batch quotes the documents of the batch: what people said must not end in a log.
    if not isinstance(error, driver.BulkWriteError):
        ours.__cause__ = error
    return ours


def write_failed(error: BaseException, operation: str, commit_id: str) -> BaseException:
    """What it means that the write which decides over a commit failed: refused, or perhaps carried out."""
    if not isinstance(error, driver.PyMongoError) or not _maybe_written(error):
        return translate(error, operation)
    unknown = CommitOutcomeUnknown(
        f"the connection was lost, or no majority answered, while {operation} was carried out; "
        f"repeat it with the same commit id ({type(error).__name__})",
        commit_id=commit_id,
        adapter=NAME,
        operation=operation,
    )
    unknown.__cause__ = error
    return unknown


def only_duplicates(error: driver.BulkWriteError) -> bool:
    """Whether all that a batch was refused for is that its documents are there already."""
    details = cast("Mapping[str, Any]", error.details or {})
    failed: list[Mapping[str, Any]] = details.get("writeErrors", [])
    return bool(failed) and not details.get("writeConcernErrors") and all(e["code"] == DUPLICATE_KEY for e in failed)


@contextmanager
def translating(operation: str) -> Generator[None]:
    """Raises the driver's errors as ours."""
    try:
        yield
    except (driver.PyMongoError, BSONError) as error:
        ours = translate(error, operation)
        raise ours from ours.__cause__


@contextmanager
def writing(operation: str, commit_id: str) -> Generator[None]:
    """As ``translating``, around the write that decides."""
    try:
        yield
    except (driver.PyMongoError, BSONError) as error:
        ours = write_failed(error, operation, commit_id)
        raise ours from ours.__cause__


def _meaning(error: Exception) -> _Meaning:
    code = _code(error)
    if code == _BAD_VALUE and "hint" in str(error):
        return _INDEX
    if code in CODES:
        return CODES[code]
    return next(CLASSES[kind] for kind in type(error).__mro__ if kind in CLASSES)


def _code(error: Exception) -> int | None:
    if isinstance(error, driver.BulkWriteError):
        details = cast("Mapping[str, Any]", error.details or {})
        failed = [*details.get("writeErrors", []), *details.get("writeConcernErrors", [])]
        return next((one["code"] for one in failed if one.get("code") != DUPLICATE_KEY), None)
    return error.code if isinstance(error, driver.OperationFailure) else None


def _maybe_written(error: driver.PyMongoError) -> bool:
    if isinstance(error, driver.OperationFailure):
        return isinstance(error, driver.WriteConcernError) or error.code in _MAYBE_WRITTEN
    if isinstance(error, driver.NotPrimaryError):
        details = cast("Mapping[str, Any]", error.details or {})
        return details.get("code") in _MAYBE_WRITTEN
    if isinstance(error, (driver.ServerSelectionTimeoutError, driver.WaitQueueTimeoutError)):
        return False  # the driver raises the first error instead, if it had sent anything before
    if isinstance(error.__cause__, (ConnectionRefusedError, socket.gaierror)):
        return False  # there was no connection to send it over
    return isinstance(error, driver.ConnectionFailure)
