"""Where connections come from: a pool of our own, or one that was handed in and stays its owner's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import psycopg
from psycopg import conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from turnkeep.errors import InvalidArgument, StorageUnavailable
from turnkeep_postgres._errors import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    Connection = psycopg.AsyncConnection[Any]
    Pool = AsyncConnectionPool[Any]

_DEFAULTS: Final = {"application_name": "turnkeep", "connect_timeout": "4", "client_encoding": "UTF8"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set on a pool of our own."""

    min_size: int = 1
    max_size: int = 10
    pool_timeout: float = 4.0
    prepare_threshold: int | None = None

    def __post_init__(self) -> None:
        if type(self.max_size) is not int or self.max_size < 1:
            raise InvalidArgument("max_size must be a whole number, at least 1")
        if type(self.min_size) is not int or not 0 <= self.min_size <= self.max_size:
            raise InvalidArgument("min_size must be a whole number, from 0 to max_size")
        if self.prepare_threshold is not None and type(self.prepare_threshold) is not int:
            raise InvalidArgument("prepare_threshold must be a whole number, or None for never")


class TidyConnection(psycopg.AsyncConnection[Any]):
    """A connection that leaves nothing behind where it cannot be made.

    psycopg's error keeps all parameters of the attempt, the password among them, and by its frames the socket, which
    stays open as long as somebody, a log for example, keeps the error.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride] - none is left out
        """As psycopg's."""
        try:
            return await super().connect(conninfo, **options)
        except psycopg.Error as error:
            said = type(error)(*error.args)
            error.__traceback__ = None  # its frames hold it in turn, until a garbage collection
        raise said  # out here, so that the first one is not its context


class Source(Protocol):
    """Lends connections; each is in autocommit mode while it is lent."""

    @property
    def where(self) -> str:
        """What to call the database in messages; without secrets."""
        ...

    @property
    def size(self) -> int:
        """How many connections there are at most."""
        ...

    async def open(self) -> None:
        """Gets ready to lend. Connects in its own time."""
        ...

    async def close(self) -> None:
        """Closes what this opened."""
        ...

    def forget(self) -> None:
        """In a forked child: lets go of what the parent opened, without closing it."""
        ...

    async def borrow(self) -> Connection:
        """A connection that nobody else uses until it is given back."""
        ...

    async def give_back(self, connection: Connection) -> None:
        """Takes a connection back; a closed one too."""
        ...

    async def connect(self) -> Connection:
        """A connection for the schema or a check, opened or not; to be let go with ``disconnect``."""
        ...

    async def disconnect(self, connection: Connection) -> None:
        """Lets go of what ``connect`` gave."""
        ...


class OwnPool:
    """Connections that this adapter opens, and closes.

    Args:
        parameters: libpq's, by name.
        settings: of the pool.
    """

    def __init__(self, parameters: Mapping[str, str], settings: Settings) -> None:
        self._conninfo = conninfo.make_conninfo("", **_complete(parameters))
        self._kwargs = {"autocommit": True, "prepare_threshold": settings.prepare_threshold}
        self._settings = settings
        self._pool: Pool | None = None
        self.where = _describe(parameters)
        self.size = settings.max_size

    async def open(self) -> None:
        """Makes a pool, which connects in its own time."""
        # A closed pool cannot be opened again, so each opening makes one.
        pool: Pool = AsyncConnectionPool(
            self._conninfo,
            connection_class=TidyConnection,
            kwargs=self._kwargs,
            min_size=self._settings.min_size,
            max_size=self._settings.max_size,
            timeout=self._settings.pool_timeout,
            # The pool's own is five minutes, with pauses that double: too slow to be back after a long outage.
            reconnect_timeout=self._settings.pool_timeout,
            open=False,
            name="turnkeep",
        )
        await pool.open()
        self._pool = pool

    async def close(self) -> None:
        """Closes the pool, and its connections as they come back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def forget(self) -> None:
        """Drops the pool: psycopg says nothing on a connection that another process opened."""
        self._pool = None

    async def borrow(self) -> Connection:
        """One of the pool, opened if none is free."""
        if self._pool is None:
            raise StorageUnavailable("the store was closed meanwhile", adapter=NAME)
        try:
            return await self._pool.getconn()
        except PoolTimeout:
            # Are all in use, or can none be opened? The pool knows and does not say.
            await self.disconnect(await self.connect())
            raise

    async def give_back(self, connection: Connection) -> None:
        """Back to the pool it is of, which may be closed by now."""
        if self._pool is None or connection._pool is not self._pool:
            await connection.close()
        else:
            await self._pool.putconn(connection)

    async def connect(self) -> Connection:
        """One beside the pool, so that what keeps it from being opened is told as it is."""
        return await TidyConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)

    async def disconnect(self, connection: Connection) -> None:
        """Closes it."""
        await connection.close()


class HandedIn:
    """A pool that was handed in: never opened or closed here; its connections go back as they came."""

    where = "the database of the pool that was handed in"

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._pid = os.getpid()
        self._modes: dict[Connection, bool] = {}

    @property
    def size(self) -> int:
        """How many connections the pool has at most, as of now."""
        return self._pool.max_size

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    def forget(self) -> None:
        """Nothing to do: ``borrow`` refuses."""

    async def borrow(self) -> Connection:
        """One of the pool, in autocommit mode for now."""
        if self._pid != os.getpid():
            raise StorageUnavailable(
                "the pool that was handed in belongs to the process this one was forked from; make another",
                adapter=NAME,
                retryable=False,
            )
        connection = await self._pool.getconn()
        if not connection.autocommit:
            try:
                await connection.set_autocommit(True)  # says nothing to the server
            except BaseException:
                await self._pool.putconn(connection)
                raise
            self._modes[connection] = False
        return connection

    async def give_back(self, connection: Connection) -> None:
        """Back in the mode it came in."""
        if connection in self._modes:
            del self._modes[connection]
            if not connection.closed:
                await connection.set_autocommit(False)
        await self._pool.putconn(connection)

    async def connect(self) -> Connection:
        """One of the pool."""
        return await self.borrow()

    async def disconnect(self, connection: Connection) -> None:
        """Back to the pool."""
        await self.give_back(connection)


def check_pool(pool: Pool) -> Pool:
    """``pool`` itself.

    Raises:
        InvalidArgument: it is not an asynchronous pool of psycopg's.
    """
    if not isinstance(pool, AsyncConnectionPool):
        hint = "; this one is for threads" if isinstance(pool, ConnectionPool) else ""
        raise InvalidArgument(f"pool must be a psycopg_pool.AsyncConnectionPool, not {type(pool).__name__}{hint}")
    return pool


def read_dsn(dsn: str) -> dict[str, str]:
    """Libpq's parameters in a connection string, URI or not.

    Raises:
        InvalidArgument: it is none. The driver's own message may quote the password, so it is not repeated.
    """
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items()}
    except (psycopg.Error, TypeError, AttributeError):
        raise InvalidArgument(
            "dsn is not a connection string of libpq's, such as postgresql://user@host/database "
            "or host=… dbname=…; percent-encode special characters in a URL, quote them otherwise"
        ) from None


def _complete(parameters: Mapping[str, str]) -> dict[str, str]:
    complete = {**_DEFAULTS, **parameters}
    if "," in complete.get("host", ""):
        complete.setdefault("target_session_attrs", "read-write")  # of several servers, the one that writes
    return complete


def _describe(parameters: Mapping[str, str]) -> str:
    host = parameters.get("host") or "localhost"
    port = f":{parameters['port']}" if parameters.get("port") else ""
    return f"{host}{port}/{parameters.get('dbname') or ''}"
