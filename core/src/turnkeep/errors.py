"""Every error Turnkeep raises, in one tree.

TurnkeepError
├── ConfigurationError          something was set up wrongly; the message names the fix
│   ├── AdapterNotFound         (LookupError) no installed adapter answers to this URL
│   ├── MissingDriver           (ImportError) the adapter is there, its database driver is not
│   ├── PluginLoadError         a plugin could not be loaded or registered
│   ├── HookError               a hook failed, or was declared wrongly
│   └── InvalidArgument         (ValueError) a call was given a value it cannot take; nothing was done
├── SessionError
│   ├── SessionNotLoaded        a live session was read before anything was loaded into it
│   ├── TurnInProgress          not possible while a turn on this session is open
│   ├── DataIncomplete          the collected data lacks required fields
│   ├── InvalidData             the collected data does not fit the schema
│   └── PersistenceClosed       used after close
├── ProviderError               the model could not answer; the vendor's error is the cause
└── StorageError                the database could not do it; the driver's error is the cause
    ├── StorageUnavailable      cannot be reached
    ├── StorageTimeout          did not answer within the deadline; nothing was written
    ├── StorageRefused          credentials, permission, read-only
    ├── StorageFull             no room left
    ├── CommitOutcomeUnknown    a commit may or may not have taken effect
    ├── Conflict
    │   ├── SessionConflict     somebody else committed to the session first
    │   ├── SessionExists       a session with this id is already there
    │   └── CommitIdReused      a commit id came back with another request
    ├── SessionNotFound         (LookupError) there is no such session, or it is not yours
    ├── SchemaError
    │   ├── SchemaMissing       the database has no tables of ours
    │   ├── SchemaOutdated      they are of an older version
    │   ├── SchemaTooNew        they are of a newer version
    │   └── ForeignTable        a table of that name is not ours
    ├── DataError
    │   ├── CorruptRecord       what is stored cannot be read
    │   ├── NotSerializable     a value cannot be stored exactly
    │   ├── ValueTooLarge       a value is over a limit
    │   ├── DataTooNew          the data was written by a newer application
    │   └── DecryptionError     what is stored cannot be opened with this key
    └── NotSupported            this database cannot do that
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from turnkeep.agent.reply import Reply
    from turnkeep.contract import Capability, Token


def _rebuild(cls: type[TurnkeepError], args: tuple[object, ...], state: dict[str, object]) -> TurnkeepError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class TurnkeepError(Exception):
    """The root of every error Turnkeep raises."""

    def __reduce__(self) -> tuple[object, ...]:
        # Job queues send errors between processes; pickle's default cannot fill keyword-only arguments.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigurationError(TurnkeepError):
    """Something was set up wrongly. The message names the fix; nothing was read or written."""


class AdapterNotFound(ConfigurationError, LookupError):
    """No installed adapter answers to this URL."""


class MissingDriver(ConfigurationError, ImportError):
    """The adapter is installed, the database driver it needs is not."""


class PluginLoadError(ConfigurationError):
    """A plugin could not be loaded or registered.

    Attributes:
        plugin: the plugin's name.
    """

    def __init__(self, message: str, *, plugin: str) -> None:
        super().__init__(message)
        self.plugin = plugin


class HookError(ConfigurationError):
    """A hook failed, or was declared wrongly. What it raised is the cause.

    Attributes:
        plugin: the name of the plugin that carries the hook.
        hook: the hook's name.
    """

    def __init__(self, message: str, *, plugin: str, hook: str) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.hook = hook


class InvalidArgument(ConfigurationError, ValueError):
    """A call was given a value it cannot take. Raised before anything is read or written."""


class SessionError(TurnkeepError):
    """A live session cannot do what was asked."""


class SessionNotLoaded(SessionError):
    """A live session was read before anything was loaded into it: await ``get_or_create()`` first."""


class TurnInProgress(SessionError):
    """Not possible while a turn on this session is open.

    Attributes:
        session_id: the session.
    """

    def __init__(self, message: str, *, session_id: str) -> None:
        super().__init__(message)
        self.session_id = session_id


class DataIncomplete(SessionError):
    """The collected data lacks required fields.

    Attributes:
        missing: the names of the fields that are absent, None or empty, in the schema's order.
    """

    def __init__(self, message: str, *, missing: Iterable[str]) -> None:
        super().__init__(message)
        self.missing: tuple[str, ...] = tuple(missing)


class InvalidData(SessionError):
    """The collected data does not fit the schema. Nothing was changed.

    Attributes:
        problems: field name to what is wrong with it.
    """

    def __init__(self, message: str, *, problems: dict[str, str]) -> None:
        super().__init__(message)
        self.problems = problems


class PersistenceClosed(SessionError):
    """The persistence was used after ``aclose()``."""


class ProviderError(TurnkeepError):
    """The model could not answer. The vendor's own error is the cause; the turn left nothing behind.

    Attributes:
        retryable: whether the same request may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StorageError(TurnkeepError):
    """The database could not do what was asked. The driver's error, if there was one, is the cause.

    Attributes:
        adapter: the adapter's name, or None where no adapter was involved yet.
        operation: the operation that failed, for example ``"commit"``.
        retryable: whether the same call may succeed later, unchanged.
    """

    retryable: bool = False

    def __init__(
        self, message: str, *, adapter: str | None = None, operation: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message)
        self.adapter = adapter
        self.operation = operation
        if retryable is not None:
            self.retryable = retryable


class StorageUnavailable(StorageError):
    """The database cannot be reached, or went away. Nothing was written."""

    retryable = True


class StorageTimeout(StorageError):
    """The database did not answer within the deadline. Nothing was written."""

    retryable = True


class StorageRefused(StorageError):
    """The database refused: credentials, permission, or it is read-only. Nothing was written."""


class StorageFull(StorageError):
    """The database has no room left. Nothing was written."""


class CommitOutcomeUnknown(StorageError):
    """A commit may or may not have taken effect, and asking again by its commit id failed too.

    Repeating the call with the same commit id is safe: it is applied at most once. Of a delete or a sweep, which have
    no commit id, it says the same; they may be called again as they are.

    Attributes:
        commit_id: the commit in question; empty where it was not a commit.
    """

    retryable = True

    def __init__(
        self, message: str, *, commit_id: str, adapter: str | None = None, operation: str | None = "commit"
    ) -> None:
        super().__init__(message, adapter=adapter, operation=operation)
        self.commit_id = commit_id


class Conflict(StorageError):
    """The write was refused because of another write. Nothing was written."""


class SessionConflict(Conflict):
    """Somebody else committed to the session first. Nothing was written.

    Attributes:
        session_id: the session.
        expected: the token this writer had read; None where it had read none.
        actual: the token the session is at; None where that is not known.
        reply: the reply that could not be stored, if a turn had already produced one.
    """

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        session_id: str,
        expected: Token | None = None,
        actual: Token | None = None,
        reply: Reply | None = None,
        adapter: str | None = None,
        operation: str | None = "commit",
    ) -> None:
        super().__init__(message, adapter=adapter, operation=operation)
        self.session_id = session_id
        self.expected = expected
        self.actual = actual
        self.reply = reply


class SessionExists(Conflict):
    """A session with this id is already there. Nothing was written.

    Attributes:
        session_id: the id that is taken.
    """

    def __init__(self, message: str, *, session_id: str, adapter: str | None = None) -> None:
        super().__init__(message, adapter=adapter, operation="commit")
        self.session_id = session_id


class CommitIdReused(Conflict):
    """A commit id came back with another request. Nothing was written; make a new id for a new request.

    Attributes:
        commit_id: the id in question.
    """

    def __init__(self, message: str, *, commit_id: str, adapter: str | None = None) -> None:
        super().__init__(message, adapter=adapter, operation="commit")
        self.commit_id = commit_id


class SessionNotFound(StorageError, LookupError):
    """There is no such session, or it belongs to somebody else: the two are not told apart.

    Attributes:
        session_id: the session asked for.
    """

    def __init__(
        self, message: str, *, session_id: str, adapter: str | None = None, operation: str | None = None
    ) -> None:
        super().__init__(message, adapter=adapter, operation=operation)
        self.session_id = session_id


class SchemaError(StorageError):
    """The database's tables are not what this version works with. Nothing was read or written."""


class SchemaMissing(SchemaError):
    """The database has no tables of ours, and making them was switched off."""


class SchemaOutdated(SchemaError):
    """The tables are of an older version: run the migration that the message names."""


class SchemaTooNew(SchemaError):
    """The tables are of a newer version than this code knows: upgrade the package."""


class ForeignTable(SchemaError):
    """A table or file of that name is there and is not ours. It was left alone."""


class DataError(StorageError):
    """A value cannot be stored, or what is stored cannot be read."""


class CorruptRecord(DataError):
    """What is stored cannot be read. It was left as it is; it is never treated as absent."""


class NotSerializable(DataError):
    """A value cannot be stored exactly. Nothing was written; the message names the place in the value."""


class ValueTooLarge(DataError):
    """A value is over one of the ``Limits``. Nothing was written."""


class DataTooNew(DataError):
    """The data was written by a newer version of the application. It was left as it is."""


class DecryptionError(DataError):
    """What is stored cannot be opened with this key. It was left as it is."""


class NotSupported(StorageError):
    """This database cannot do that.

    Attributes:
        capability: what is lacking.
        reason: why.
    """

    def __init__(
        self,
        message: str,
        *,
        capability: Capability | None = None,
        reason: str = "",
        adapter: str | None = None,
        operation: str | None = None,
    ) -> None:
        super().__init__(message, adapter=adapter, operation=operation)
        self.capability = capability
        self.reason = reason
