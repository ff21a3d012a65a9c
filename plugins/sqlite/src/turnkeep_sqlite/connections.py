"""Where connections come from: a file that is opened here, or a connection that was handed in."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol
from urllib.parse import quote

from turnkeep.errors import (
    ConfigurationError,
    ForeignTable,
    InvalidArgument,
    SchemaMissing,
    StorageError,
    StorageRefused,
    StorageUnavailable,
)
from turnkeep_sqlite._errors import NAME, translate

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

Durability = Literal["full", "normal"]
MINIMUM_VERSION: Final = (3, 37, 0)
"""The first SQLite with STRICT tables."""

_WAL_LIMIT = 64 * 1024 * 1024
_LONGEST_TIMEOUT = 3600
_MOST_READERS = 64
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Settings:
    """How a file is used.

    Raises:
        InvalidArgument: one of them makes no sense.
    """

    durability: Durability = "full"
    busy_timeout: float = 5.0
    readers: int = 2
    max_page_count: int | None = None

    def __post_init__(self) -> None:
        if self.durability not in {"full", "normal"}:
            raise InvalidArgument(f"durability is full or normal, not {self.durability!r:.40}")
        if self.busy_timeout > _LONGEST_TIMEOUT:
            raise InvalidArgument(f"busy_timeout is at most {_LONGEST_TIMEOUT} seconds, not {self.busy_timeout:g}")
        if type(self.readers) is not int or not 1 <= self.readers <= _MOST_READERS:
            raise InvalidArgument(f"readers must be 1 to {_MOST_READERS}, not {self.readers!r:.40}")
        if self.max_page_count is not None and (type(self.max_page_count) is not int or self.max_page_count < 1):
            raise InvalidArgument(f"max_page_count must be a positive whole number, not {self.max_page_count!r:.40}")


class Source(Protocol):
    """What gives the writer thread its connection."""

    @property
    def where(self) -> str:
        """What to name in messages: the file's URL, or what stands for it."""
        ...

    def exists(self) -> bool:
        """Whether there is anything to connect to."""
        ...

    def connect(self, *, create: bool) -> sqlite3.Connection:
        """A connection to write with; with ``create`` the file is made if there is none."""
        ...

    def settle_in(self, connection: sqlite3.Connection) -> None:
        """Makes lasting settings, once the database was found to be ours."""
        ...

    def in_use(self, connection: sqlite3.Connection) -> AbstractContextManager[None]:
        """Around every use of the connection."""
        ...

    def keep_place(self) -> None:
        """Remembers what the writer is connected to."""
        ...

    def check_place(self) -> None:
        """Refuses to write what nobody would find again."""
        ...

    def release(self, connection: sqlite3.Connection) -> None:
        """Closes the connection, if it was made here."""
        ...


class DatabaseFile:
    """A database in a file of its own opening.

    Args:
        path: of the file, relative to the working directory of this moment. ``~`` is not expanded.
        settings: how to use it.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path.absolute()
        self.settings = settings
        self._identity: tuple[int, int] | None = None

    @property
    def where(self) -> str:
        """The file's URL."""
        return f"sqlite:///{quote(os.fsencode(self.path))}"

    def exists(self) -> bool:
        """Whether there is such a file."""
        try:
            self._status()
        except FileNotFoundError:
            return False
        return True

    def connect(self, *, create: bool) -> sqlite3.Connection:
        """Connects, and makes an empty file for the owner's eyes only where there is none.

        Raises:
            SchemaMissing: there is no file, and none was to be made.
            StorageRefused, StorageUnavailable: it cannot be written; nothing was made.
        """
        if not self.exists():
            if not create:
                raise SchemaMissing(
                    f"there is no file {str(self.path)!r}; make it with: turnkeep migrate {self.where}", adapter=NAME
                )
            self._make()
        self._check()
        connection = self._connect()
        try:
            connection.execute(f"PRAGMA synchronous = {self.settings.durability}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            if self.settings.max_page_count is not None:
                connection.execute(f"PRAGMA max_page_count = {self.settings.max_page_count}")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_to_read(self) -> sqlite3.Connection:
        """A connection that cannot write."""
        connection = self._connect()
        try:
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def settle_in(self, connection: sqlite3.Connection) -> None:
        """Switches the file to WAL, which it keeps: readers then never wait for the writer."""
        deadline = time.monotonic() + self.settings.busy_timeout
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                # For this statement SQLite does not wait by itself.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            self._refuse(f"cannot use write-ahead logging (it stays in mode {mode!r}); put it on a local disk")

    def in_use(self, connection: sqlite3.Connection) -> AbstractContextManager[None]:
        """Needs nothing."""
        return nullcontext()

    def keep_place(self) -> None:
        """Remembers which file it is."""
        self._identity = self._look()

    def check_place(self) -> None:
        """Notices that the file was removed or replaced, where SQLite would go on writing into nothing."""
        if self._look() != self._identity:
            raise StorageUnavailable(
                f"the file {str(self.path)!r} was removed or replaced while it was open; close and open the store",
                adapter=NAME,
                retryable=False,
            )

    def release(self, connection: sqlite3.Connection) -> None:
        """Closes it."""
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: only `_make` makes files. The URL form also keeps a path from being read as options.
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=self.settings.busy_timeout,
            isolation_level=None,
            check_same_thread=False,  # a read is interrupted from the loop's thread; all else stays in one
        )

    def _make(self) -> None:
        if not self.path.parent.is_dir():
            raise StorageUnavailable(
                f"there is no directory {str(self.path.parent)!r}; make it first", adapter=NAME, retryable=False
            )
        try:
            # Somebody else may make it at the same time.
            with suppress(FileExistsError):
                os.close(os.open(self.path.resolve(), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            self._refuse(f"cannot be made: {error.strerror}")

    def _check(self) -> None:
        status = self._status()
        if stat.S_ISDIR(status.st_mode):
            self._refuse("is a directory; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            self._refuse("is not a regular file; name one")
        if status.st_size == 1:
            # Too short to be a database, but SQLite would take it for an empty file, and overwrite it.
            raise ForeignTable(f"{str(self.path)!r} is not a SQLite database; choose another path", adapter=NAME)
        # Without any write bit the owner wants it left alone, even by root, whom the bits do not bind.
        if not status.st_mode & _WRITABLE or not os.access(self.path, os.W_OK):
            self._refuse("is read-only; make it writable (chmod u+w), or open a copy")
        if not os.access(self.path.resolve().parent, os.W_OK | os.X_OK):
            self._refuse("lies in a read-only directory, where SQLite cannot put its log; make that writable")

    def _status(self) -> os.stat_result:
        try:
            return self.path.stat()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageUnavailable(
                f"the file {str(self.path)!r} cannot be looked at: {error.strerror}", adapter=NAME, retryable=False
            ) from error

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - with every commit: half the time of Path.stat
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _refuse(self, why: str) -> NoReturn:
        raise StorageRefused(f"{str(self.path)!r} {why}", adapter=NAME)


class HandedIn:
    """A connection of the caller's, who alone closes it. What it is set to, it stays."""

    where = "the connection that was handed in"

    def __init__(self, connection: sqlite3.Connection) -> None:
        if getattr(connection, "autocommit", None) is False:
            raise ConfigurationError(
                "a connection with autocommit=False always has a transaction open; "
                "hand in one with autocommit=True, or with isolation_level=None"
            )
        self._connection = connection
        # Tasks that open the adapter at once come from a thread each; a check or a migration may nest.
        self._one_at_a_time = threading.RLock()

    def exists(self) -> bool:
        """Always."""
        return True

    def connect(self, *, create: bool) -> sqlite3.Connection:
        """The connection itself.

        Raises:
            ConfigurationError: it can only be used in the thread that made it.
            StorageUnavailable: it is closed.
        """
        try:
            self._connection.total_changes  # noqa: B018 - the cheapest thing that says whether it is closed
            self._connection.cursor().close()
        except sqlite3.ProgrammingError as error:
            if "thread" in str(error):
                raise ConfigurationError(
                    "the connection is used from a thread of the adapter's: make it with check_same_thread=False"
                ) from error
            raise translate(error, "open") from error
        return self._connection

    def settle_in(self, connection: sqlite3.Connection) -> None:
        """Leaves it as it is."""

    @contextmanager
    def in_use(self, connection: sqlite3.Connection) -> Generator[None]:
        """Keeps other threads of ours out, and sets what rows look like, for as long as it is used here.

        Raises:
            StorageUnavailable: a transaction of the caller's is open on it.
        """
        with self._one_at_a_time:
            if connection.in_transaction:
                raise StorageUnavailable(
                    "the connection that was handed in is within a transaction of yours; "
                    "commit it or roll it back first",
                    adapter=NAME,
                )
            row_factory, text_factory = connection.row_factory, connection.text_factory
            connection.row_factory, connection.text_factory = None, str
            try:
                yield
            finally:
                connection.row_factory, connection.text_factory = row_factory, text_factory

    def keep_place(self) -> None:
        """Leaves that to the caller."""

    def check_place(self) -> None:
        """Leaves that to the caller."""

    def release(self, connection: sqlite3.Connection) -> None:
        """Leaves that to the caller."""


def check_version() -> None:
    """Refuses an SQLite that lacks what the schema needs.

    Raises:
        StorageError: it is too old.
    """
    if sqlite3.sqlite_version_info < MINIMUM_VERSION:
        needed = ".".join(str(part) for part in MINIMUM_VERSION)
        raise StorageError(
            f"this Python is linked to SQLite {sqlite3.sqlite_version}; turnkeep-sqlite needs {needed} or newer",
            adapter=NAME,
        )
