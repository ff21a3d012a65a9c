"""What redis-py raises and Redis answers, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from redis import exceptions

from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "redis"

DRIVER_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""Whatever can come of a call to a server."""


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_GONE = _Meaning(StorageUnavailable, "the server cannot be reached, or hung up; try again", True)
_TLS = _Meaning(
    StorageUnavailable,
    "there is no TLS with this server: tls.ca= names who vouches for its certificate, which must be for this host; "
    "a server without TLS is redis://",
)
_OURS = _Meaning(StorageError, "this is a bug in turnkeep-redis; please report it")
_FULL = _Meaning(StorageFull, "the server is out of memory; raise maxmemory, or delete what is not needed")
_LOGIN = _Meaning(StorageRefused, "the server refused the login; look at user name and password")
_PERMISSION = _Meaning(
    StorageRefused,
    "the user may not do this; it needs ~PREFIX* and +@read +@write +@scripting +@connection, and +info for check()",
)
_READ_ONLY = _Meaning(
    StorageRefused, "this server is a read-only replica; connect to its master, or through redis+sentinel://"
)
_LOADING = _Meaning(StorageUnavailable, "the server is still loading its data; try again", True)
_BUSY = _Meaning(StorageUnavailable, "the server is busy with somebody's long script; try again, or SCRIPT KILL", True)
_CLUSTER = _Meaning(StorageUnavailable, "the cluster does not serve this slot at the moment; try again", True)
_CROSS_SLOT = _Meaning(
    StorageRefused, "this server is part of a cluster; write redis+cluster:// in the URL, or hand in a RedisCluster"
)
_MISCONFIGURED = _Meaning(
    StorageRefused, "the server cannot save to its disk and refuses to write; look at its log and its disk"
)
_FEW_REPLICAS = _Meaning(
    StorageUnavailable, "fewer replicas are connected than min-replicas-to-write asks for; try again", True
)
_WRONG_TYPE = _Meaning(
    CorruptRecord, "a key of ours holds something else; who else writes below key_prefix? choose another prefix"
)

CODES: Final[Mapping[str, _Meaning]] = {
    "OOM": _FULL,
    "READONLY": _READ_ONLY,
    "WRONGTYPE": _WRONG_TYPE,
    "NOAUTH": _LOGIN,
    "WRONGPASS": _LOGIN,
    "NOPERM": _PERMISSION,
    "LOADING": _LOADING,
    "BUSY": _BUSY,
    "UNKILLABLE": _BUSY,
    "MISCONF": _MISCONFIGURED,
    "NOREPLICAS": _FEW_REPLICAS,
    "MASTERDOWN": _Meaning(StorageUnavailable, "this replica has lost its master; connect to a master", True),
    "CLUSTERDOWN": _CLUSTER,
    "TRYAGAIN": _CLUSTER,
    "MOVED": _CROSS_SLOT,
    "ASK": _CROSS_SLOT,
    "CROSSSLOT": _CROSS_SLOT,
}
"""The first word of an error of the server; within a script it stands further back."""

MEANINGS: Final[Mapping[type[BaseException], _Meaning]] = {
    exceptions.ConnectionError: _GONE,
    exceptions.TimeoutError: _Meaning(
        StorageTimeout, "the server did not answer within the client's socket time-out; try again", True
    ),
    exceptions.AuthenticationError: _LOGIN,
    exceptions.AuthorizationError: _PERMISSION,
    exceptions.AuthenticationWrongNumberOfArgsError: _LOGIN,
    exceptions.BusyLoadingError: _LOADING,
    exceptions.MaxConnectionsError: _Meaning(
        StorageUnavailable, "all connections are in use; raise max_connections, or try again", True
    ),
    exceptions.OutOfMemoryError: _FULL,
    exceptions.ReadOnlyError: _READ_ONLY,
    exceptions.NoPermissionError: _PERMISSION,
    exceptions.ClusterDownError: _CLUSTER,
    exceptions.TryAgainError: _CLUSTER,
    exceptions.MasterDownError: _CLUSTER,
    exceptions.SlotNotCoveredError: _CLUSTER,
    exceptions.RedisClusterException: _Meaning(StorageUnavailable, "no node of the cluster can be reached", True),
    exceptions.AskError: _CROSS_SLOT,
    exceptions.ClusterCrossSlotError: _CROSS_SLOT,
    exceptions.InvalidResponse: _Meaning(
        StorageUnavailable, "what answers there does not speak Redis's protocol; look at host and port"
    ),
    exceptions.ResponseError: _Meaning(StorageError, "the server refused a command of turnkeep-redis"),
    exceptions.RedisError: _OURS,
    # The driver's own, which no call of ours leads to.
    exceptions.DataError: _OURS,
    exceptions.NoScriptError: _OURS,
}
"""By class; what is not here means what its nearest base class means."""

_CODE = re.compile(rf"(?:^|[\s:-])({'|'.join(CODES)})\s")
_ARGUMENTS = "with args beginning with"


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is not redis-py's."""
    if isinstance(error, OSError) and not isinstance(error, exceptions.RedisError):
        said = f"{_GONE.says} ({error})"
        return _caused(StorageUnavailable(said, adapter=NAME, operation=operation), error)
    meaning = find_meaning(error)
    if meaning is None:
        return error
    text = str(error)
    ours = meaning.error(
        f"{meaning.says} ({text.partition(_ARGUMENTS)[0].strip(' ,') or type(error).__name__})",
        adapter=NAME,
        operation=operation,
        retryable=meaning.retryable,
    )
    # The server quotes the arguments of a command it does not know, and they may be anybody's words.
    return ours if _ARGUMENTS in text else _caused(ours, error)


def find_meaning(error: BaseException) -> _Meaning | None:
    """What an error of redis-py means; None for any other."""
    if isinstance(error, exceptions.ResponseError):
        found = _CODE.search(f"{error} ")
        if found is not None:
            return CODES[found[1]]
    if isinstance(error, exceptions.ConnectionError) and "[SSL" in str(error):
        return _TLS
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            return MEANINGS[kind]
    return None


def is_lost(error: BaseException) -> bool:
    """Whether a connection was lost, so that another may do better. The server said nothing."""
    kinds = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.BusyLoadingError)
    if isinstance(error, (*kinds, exceptions.MaxConnectionsError)):
        return False
    return isinstance(error, (exceptions.ConnectionError, OSError)) and not isinstance(error, exceptions.TimeoutError)


def corrupt(session_id: str, damage: str, operation: str) -> CorruptRecord:
    """The error for a session that contradicts itself."""
    return CorruptRecord(
        f"session {session_id!r:.200} is damaged: {damage}; was something evicted? "
        "The server's maxmemory-policy must be noeviction",
        adapter=NAME,
        operation=operation,
    )


def outcome_unknown(error: BaseException | None, commit_id: str, operation: str) -> CommitOutcomeUnknown:
    """The error for a write that was sent and not answered."""
    why = f" ({error})" if error is not None else ""
    unknown = CommitOutcomeUnknown(
        f"a {operation} was sent and not answered{why}; it may or may not have taken effect, and can be repeated",
        commit_id=commit_id,
        adapter=NAME,
        operation=operation,
    )
    unknown.__cause__ = error
    return unknown


def _caused(error: StorageError, cause: BaseException) -> StorageError:
    error.__cause__ = cause
    return error
