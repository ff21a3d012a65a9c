"""What SQLAlchemy and the drivers below it raise, as Turnkeep's errors: the only place that knows both."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import exc

from turnkeep.errors import (
    CorruptRecord,
    InvalidArgument,
    MissingDriver,
    SchemaMissing,
    SchemaOutdated,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    TurnkeepError,
    ValueTooLarge,
)

NAME: Final = "sqlalchemy"


class _Meaning(NamedTuple):
    error: type[StorageError]
    says: str
    retryable: bool = False


_GONE = _Meaning(StorageUnavailable, "the database went away; try again", True)
_UNREACHABLE = _Meaning(
    StorageUnavailable, "the database cannot be reached; look at host and port, and whether the server runs", True
)
_PASSWORD = _Meaning(StorageRefused, "the database refused user or password; look at both")
_NO_DATABASE = _Meaning(StorageRefused, "there is no database of that name; create it, or correct the URL")
_FORBIDDEN = _Meaning(StorageRefused, "the user lacks a privilege; grant it, or let the owner run the migration")
_READ_ONLY = _Meaning(StorageRefused, "the database is read-only, perhaps a replica; connect to the one that writes")
_DEADLOCK = _Meaning(StorageUnavailable, "the transaction met another one and was rolled back; try again", True)
_LOCKED = _Meaning(StorageTimeout, "a lock was not released in time; try again", True)
_CANCELLED = _Meaning(StorageTimeout, "the database stopped the statement; look at its statement_timeout", True)
_BUSY = _Meaning(StorageUnavailable, "the database has no connection left; raise its limit, or use smaller pools", True)
_FULL = _Meaning(StorageFull, "the database has no room left; make room")
_TOO_LARGE = _Meaning(ValueTooLarge, "a value does not fit its column, or the largest packet the database takes")
_NO_TABLE = _Meaning(SchemaMissing, "a table is missing; make the tables with: turnkeep migrate URL")
_NO_COLUMN = _Meaning(SchemaOutdated, "a column is missing; `turnkeep doctor URL` names it")
_CORRUPT = _Meaning(CorruptRecord, "the database found damaged data; restore it from a backup")
_CONTRADICTS = _Meaning(CorruptRecord, "what is stored contradicts itself, or the tables have rules of their own")
_OURS = _Meaning(StorageError, "this is a bug in turnkeep-sqlalchemy, or tables that do not fit; please report it")

SQLSTATES: Final = {
    "28": _PASSWORD,
    "3D000": _NO_DATABASE,
    "3F000": _Meaning(SchemaMissing, "there is no schema of that name; create it, or correct schema="),
    "42501": _FORBIDDEN,
    "25006": _READ_ONLY,
    "40": _DEADLOCK,
    "55P03": _LOCKED,
    "57014": _CANCELLED,
    "57": _GONE,
    "58": _Meaning(StorageUnavailable, "the database's file system failed; look at its log"),
    "53100": _FULL,
    "53300": _BUSY,
    "53": _Meaning(StorageUnavailable, "the database ran out of resources; look at its log", True),
    "08": _GONE,
    "22001": _TOO_LARGE,
    "22003": _TOO_LARGE,
    "54": _TOO_LARGE,
    "42P01": _NO_TABLE,
    "42703": _NO_COLUMN,
    "23": _CONTRADICTS,
    "XX001": _CORRUPT,
    "XX002": _CORRUPT,
}
"""PostgreSQL's codes, whole or by class."""

ERRNOS: Final = {
    1044: _FORBIDDEN, 1045: _PASSWORD, 1698: _PASSWORD, 1142: _FORBIDDEN, 1143: _FORBIDDEN, 1227: _FORBIDDEN,
    1370: _FORBIDDEN, 1049: _NO_DATABASE, 1290: _READ_ONLY, 1792: _READ_ONLY, 1836: _READ_ONLY, 3100: _READ_ONLY,
    1213: _DEADLOCK, 1020: _DEADLOCK, 1614: _DEADLOCK, 1205: _LOCKED, 3572: _LOCKED, 1317: _CANCELLED,
    1969: _CANCELLED, 3024: _CANCELLED, 1040: _BUSY, 1203: _BUSY, 1226: _BUSY, 1021: _FULL, 1114: _FULL, 1030: _FULL,
    1406: _TOO_LARGE, 1153: _TOO_LARGE, 1264: _TOO_LARGE, 1118: _TOO_LARGE, 1146: _NO_TABLE, 1054: _NO_COLUMN,
    1053: _GONE, 1077: _GONE, 1152: _GONE, 1158: _GONE, 1159: _GONE, 1160: _GONE, 1161: _GONE, 1184: _GONE,
    1927: _GONE, 2002: _UNREACHABLE, 2003: _UNREACHABLE, 2005: _UNREACHABLE, 2006: _GONE, 2013: _GONE, 2014: _GONE,
    2045: _GONE, 2055: _GONE, 1062: _CONTRADICTS, 1048: _CONTRADICTS, 1364: _CONTRADICTS, 1451: _CONTRADICTS,
    1452: _CONTRADICTS, 4025: _CONTRADICTS, 3819: _CONTRADICTS, 1034: _CORRUPT, 1194: _CORRUPT, 1712: _CORRUPT,
}  # fmt: skip
"""The numbers of MySQL and MariaDB: servers' from 1000, clients' from 2000."""

SQLITE_CODES: Final = {
    5: _LOCKED, 6: _LOCKED, 3: _FORBIDDEN, 8: _READ_ONLY, 23: _FORBIDDEN, 10: _GONE, 7: _GONE, 9: _GONE, 4: _GONE,
    11: _CORRUPT, 26: _Meaning(StorageRefused, "the file is not a SQLite database; choose another path"),
    13: _FULL, 14: _Meaning(StorageUnavailable, "the file cannot be opened; look at its path and permissions"),
    18: _TOO_LARGE, 19: _CONTRADICTS,
}  # fmt: skip
"""SQLite's primary result codes."""

_DUPLICATES: Final = {"23505", 1062}
_CROSSED: Final = {"40001", "40P01", 1213, 1020}
_UNKNOWN_DATABASE: Final = "does not exist"


def translate(error: BaseException, operation: str) -> BaseException:
    """``error`` as one of ours, with itself as the cause; unchanged if it is nobody's we know."""
    if isinstance(error, TurnkeepError) or not isinstance(error, Exception):
        return error
    if isinstance(error, exc.StatementError):
        error.hide_parameters = True  # they are what people said
    if isinstance(error, exc.TimeoutError):
        says = "every connection of the pool is in use; raise pool_size, or hold connections for a shorter time"
        return _caused(StorageTimeout(says, adapter=NAME, operation=operation, retryable=True), error)
    if not isinstance(error, (exc.SQLAlchemyError, OSError)) and not _is_of_driver(error):
        return error
    meaning = _meaning(error)
    said = str(_original(error)).strip().partition("\n")[0][:300]
    ours = meaning.error(f"{meaning.says} ({said})", adapter=NAME, operation=operation, retryable=meaning.retryable)
    return _caused(ours, error)


def code_of(error: BaseException) -> str | int | None:
    """What the database calls it: PostgreSQL's sqlstate, the errno of MySQL, SQLite's result code."""
    original = _original(error)
    arguments: tuple[Any, ...] = original.args
    if arguments and type(arguments[0]) is int:
        return arguments[0]  # asyncmy has an sqlstate, too, which says less
    primary = getattr(original, "sqlite_errorcode", None)
    if isinstance(primary, int):
        return primary
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return state if isinstance(state, str) else None


def is_duplicate(error: BaseException) -> bool:
    """Whether a row of that key is there already: somebody was faster."""
    return code_of(error) in _DUPLICATES or (
        isinstance(error, exc.IntegrityError) and "UNIQUE constraint failed" in str(error.orig)
    )


def is_crossed(error: BaseException) -> bool:
    """Whether the transaction met another one and was rolled back as a whole."""
    return code_of(error) in _CROSSED


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the answer."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (exc.DBAPIError, OSError)) and _meaning(error) is _GONE


def missing_driver(drivername: str, error: BaseException) -> MissingDriver:
    """The error for a dialect or a driver that is not installed."""
    extras = {
        "psycopg": "postgresql",
        "asyncpg": "asyncpg",
        "asyncmy": "mysql",
        "aiomysql": "aiomysql",
        "aiosqlite": "sqlite",
    }
    driver = drivername.partition("+")[2]
    package = f"'turnkeep-sqlalchemy[{extras[driver]}]'" if driver in extras else f"the driver {driver!r}"
    fix = f"pip install {package}" if driver in extras else f"install {package}"
    return MissingDriver(f"{drivername} cannot be used: {error}; {fix}")


def wrong_url(drivername: str, error: BaseException) -> TurnkeepError:
    """The error for an engine that SQLAlchemy does not make."""
    if isinstance(error, exc.NoSuchModuleError):
        return missing_driver(drivername, error)
    return InvalidArgument(f"SQLAlchemy makes no async engine for {drivername}: {error}")


def _meaning(error: BaseException) -> _Meaning:
    code = code_of(error)
    original = _original(error)
    said = str(original)
    if isinstance(code, str):
        return SQLSTATES.get(code) or SQLSTATES.get(code[:2], _OURS)
    if hasattr(original, "sqlite_errorcode") and isinstance(code, int):
        return _meaning_in_sqlite(code, said)
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return _GONE
    if isinstance(code, int) and code in ERRNOS:
        return ERRNOS[code]
    if isinstance(original, (OSError, EOFError)) or isinstance(error, (OSError, exc.DisconnectionError)):
        return _UNREACHABLE
    if isinstance(error, (exc.OperationalError, exc.InterfaceError)):
        return _meaning_by_words(said)
    return _OURS


def _meaning_in_sqlite(code: int, said: str) -> _Meaning:
    if said.startswith("no such table"):
        return _NO_TABLE
    return _NO_COLUMN if "no such column" in said else SQLITE_CODES.get(code & 0xFF, _OURS)


def _meaning_by_words(said: str) -> _Meaning:
    """For a connection that never was: libpq says what happened in words only."""
    lowered = said.lower()
    for words, meaning in (
        ("password", _PASSWORD),
        ("authentication", _PASSWORD),
        ("no pg_hba.conf", _PASSWORD),
        ("role ", _PASSWORD),
        (_UNKNOWN_DATABASE, _NO_DATABASE),
        ("too many", _BUSY),
        ("connection slots", _BUSY),
    ):
        if words in lowered:
            return meaning
    return _UNREACHABLE


def _original(error: BaseException) -> BaseException:
    """The driver's own error."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else error


def _is_of_driver(error: BaseException) -> bool:
    """Whether a driver's own error came through as it is, as some do while connecting."""
    return type(error).__module__.partition(".")[0] in {
        "psycopg",
        "asyncpg",
        "asyncmy",
        "aiomysql",
        "pymysql",
        "sqlite3",
    }


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error
