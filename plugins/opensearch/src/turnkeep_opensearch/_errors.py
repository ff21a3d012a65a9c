"""What opensearch-py raises, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import opensearchpy.exceptions as driver
from aiohttp import ClientConnectorError

from turnkeep.errors import (
    CommitOutcomeUnknown,
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

NAME: Final = "opensearch"

FAILURES: Final = (driver.OpenSearchException, driver.ImproperlyConfigured, driver.OpenSearchDslException)
"""The roots of what the driver raises."""

CONFLICT: Final = "version_conflict_engine_exception"
NO_DOCUMENT: Final = "document_missing_exception"
NO_INDEX: Final = "index_not_found_exception"
INDEX_EXISTS: Final = "resource_already_exists_exception"


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_OURS = _Meaning(StorageError, "the server refused the request; if it is a supported one, please report it")
_AWAY = _Meaning(StorageUnavailable, "the connection to the server was lost, or there was none; try again", True)
_NOT_NOW = _Meaning(StorageUnavailable, "the cluster cannot serve our indices at the moment; see check()", True)
_BUSY = _Meaning(StorageUnavailable, "the server has more to do than it can; try again later", True)
_TIMEOUT = _Meaning(StorageTimeout, "the server did not answer in time; try again", True)
_CREDENTIALS = _Meaning(StorageRefused, "the server refused the credentials; look at user and password")
_PERMISSION = _Meaning(
    StorageRefused, "the server refused the permission; the role needs to read, write and manage our indices"
)
_TOO_LARGE = _Meaning(
    ValueTooLarge, "the request was larger than the server takes; commit fewer or smaller messages at a time"
)
_MAPPING = _Meaning(
    StorageRefused, "the mapping or a setting of an index does not take our documents: it was changed; see check()"
)
_BUG = _Meaning(StorageError, "the driver failed; please report it")

KINDS: Final[Mapping[str, _Meaning]] = {
    NO_INDEX: _Meaning(
        SchemaMissing, "an index of ours is gone, or its alias; make it again with: turnkeep migrate URL"
    ),
    "index_closed_exception": _Meaning(StorageRefused, "an index of ours is closed; open it"),
    "mapper_parsing_exception": _MAPPING,
    "strict_dynamic_mapping_exception": _MAPPING,
    "mapper_exception": _MAPPING,
    "circuit_breaking_exception": _Meaning(
        StorageUnavailable, "the server is short of memory; give it more, or commit less at a time", True
    ),
    "es_rejected_execution_exception": _BUSY,
    "opensearch_rejected_execution_exception": _BUSY,
    "rejected_execution_exception": _BUSY,
    "no_shard_available_action_exception": _NOT_NOW,
    "unavailable_shards_exception": _NOT_NOW,
    "cluster_manager_not_discovered_exception": _NOT_NOW,
    "master_not_discovered_exception": _NOT_NOW,
    "process_cluster_event_timeout_exception": _NOT_NOW,
    "validation_exception": _Meaning(
        StorageRefused, "the cluster has as many shards as it may; see cluster.max_shards_per_node"
    ),
    "security_exception": _PERMISSION,
}
"""What the server's own names of errors mean."""

BLOCKS: Final[Mapping[int, _Meaning]] = {
    403: _Meaning(StorageRefused, "the index, or the cluster, is set to be read-only; remove the block"),
    429: _Meaning(StorageFull, "the disk is over its flood-stage mark, so that the index takes no writes; make room"),
    503: _NOT_NOW,
}
"""What a block of an index or of the cluster means, by status."""

STATUSES: Final[Mapping[int, _Meaning]] = {
    401: _CREDENTIALS,
    403: _PERMISSION,
    408: _TIMEOUT,
    413: _TOO_LARGE,
    429: _BUSY,
    500: _Meaning(StorageError, "the server failed; see its log"),
    502: _NOT_NOW,
    503: _NOT_NOW,
    504: _TIMEOUT,
}
"""What a status means whose error has no name of ours; every other is a refusal."""

CLASSES: Final[Mapping[type[Exception], _Meaning]] = {
    driver.OpenSearchException: _BUG,
    driver.ImproperlyConfigured: _Meaning(
        StorageRefused, "the driver cannot work with what it was told; look at hosts and certificates"
    ),
    driver.SerializationError: _Meaning(
        StorageError, "the answer is no JSON: is that an OpenSearch server? look at the address"
    ),
    driver.TransportError: _OURS,
    driver.ConnectionError: _AWAY,
    driver.SSLError: _Meaning(StorageRefused, "the server's certificate is not the one that was named"),
    driver.ConnectionTimeout: _TIMEOUT,
    driver.NotFoundError: _Meaning(StorageRefused, "the server has no such call; is that an OpenSearch server?"),
    driver.ConflictError: _Meaning(
        StorageUnavailable, "somebody else changed the document at that moment; try again", True
    ),
    driver.RequestError: _OURS,
    driver.AuthenticationException: _CREDENTIALS,
    driver.AuthorizationException: _PERMISSION,
    driver.OpenSearchDslException: _BUG,
    driver.UnknownDslObject: _BUG,
    driver.ValidationException: _BUG,
    driver.IllegalOperation: _BUG,
}
"""Every class of error of the driver."""

_NOT_WRITTEN: Final = frozenset(
    {"cluster_block_exception", "unavailable_shards_exception", "circuit_breaking_exception"}
)
"""Errors of a failing server that refuse a write before it begins."""

_FAILING: Final = 500


def as_object(value: object) -> dict[str, Any]:
    """A value of JSON, if it is an object; else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def refusal(status: int, error: object) -> driver.TransportError:
    """The driver's error for a status and what the server said, where the driver was told not to raise it."""
    kind = as_object(error).get("type", str(error))
    found = cast("type[driver.TransportError]", driver.HTTP_EXCEPTIONS.get(status, driver.TransportError))
    return found(status, kind, {"error": error})


def is_unsent(error: BaseException) -> bool:
    """Whether there was no connection to send the request over."""
    return isinstance(error, driver.ConnectionError) and isinstance(_part(error, 2), ClientConnectorError)


def kind_of(error: BaseException) -> str | None:
    """The server's name of an error."""
    kind = _part(error, 1)
    return kind if isinstance(error, driver.TransportError) and isinstance(kind, str) else None


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is not the driver's."""
    if not isinstance(error, FAILURES):
        return error
    meaning = _meaning(error)
    kind, status = kind_of(error), _status(error)
    about = ", ".join(filter(None, [type(error).__name__, str(status or ""), kind if status else ""]))
    ours = meaning.error(
        f"{meaning.says} ({about:.200})", adapter=NAME, operation=operation, retryable=meaning.retryable
    )
    # A refused document is quoted, and so is an answer that is no JSON: what people said must not end in a log.
    if not isinstance(error, (driver.RequestError, driver.SerializationError)):
        ours.__cause__ = error
    return ours


def write_failed(error: BaseException, operation: str, commit_id: str) -> BaseException:
    """What it means that the write which decides over a commit failed: refused, or perhaps carried out."""
    if not isinstance(error, FAILURES) or not _maybe_written(error):
        return translate(error, operation)
    unknown = CommitOutcomeUnknown(
        f"the connection was lost, or the server failed, while {operation} was carried out; "
        f"repeat it with the same commit id ({type(error).__name__})",
        commit_id=commit_id,
        adapter=NAME,
        operation=operation,
    )
    unknown.__cause__ = None if isinstance(error, driver.SerializationError) else error
    return unknown


@contextmanager
def translating(operation: str) -> Generator[None]:
    """Raises the driver's errors as ours."""
    try:
        yield
    except FAILURES as error:
        ours = translate(error, operation)
        raise ours from ours.__cause__


@contextmanager
def writing(operation: str, commit_id: str) -> Generator[None]:
    """As ``translating``, around the write that decides."""
    try:
        yield
    except FAILURES as error:
        ours = write_failed(error, operation, commit_id)
        raise ours from ours.__cause__


def _meaning(error: Exception) -> _Meaning:
    kind, status = kind_of(error) or "", _status(error)
    if kind == "cluster_block_exception" and status in BLOCKS:
        return BLOCKS[status]
    if kind in KINDS:
        return KINDS[kind]
    if status in STATUSES:
        return STATUSES[status]
    return next(CLASSES[base] for base in type(error).__mro__ if base in CLASSES)


def _status(error: Exception) -> int | None:
    status = _part(error, 0)
    return status if isinstance(error, driver.TransportError) and isinstance(status, int) else None


def _part(error: BaseException, number: int) -> object:
    """Status, name or body of an error of the driver, as far as it has one."""
    return error.args[number] if len(error.args) > number else None


def _maybe_written(error: Exception) -> bool:
    if isinstance(error, driver.SerializationError):
        return True  # an answer that cannot be read
    if isinstance(error, driver.ConnectionError):
        return not is_unsent(error)
    status = _status(error)
    return status is not None and status >= _FAILING and kind_of(error) not in _NOT_WRITTEN
