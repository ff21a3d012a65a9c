"""Connections: borrowed from the engine, never used again where their state is not known, and settled writes.

A write runs in a task of its own, which a cancellation of the caller does not reach at once. As long as nothing was
sent that could take effect by itself, the write is *unsealed*: it may be dropped, and the database rolls back. Where a
sealed one does not end soon, the database is asked what came of it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import sqlite3
import time
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import event

from turnkeep.errors import CommitOutcomeUnknown, ConfigurationError, StorageUnavailable
from turnkeep_sqlalchemy._errors import NAME, is_crossed, is_duplicate, is_lost, translate
from turnkeep_sqlalchemy.columns import MYSQL
from turnkeep_sqlalchemy.store import Raced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

_ATTEMPTS: Final = 12
"""How often a write is tried that meets others; each time one of them gets through."""

_SETTLE_SECONDS: Final = 0.1
"""How long a cancelled call waits at each step: for its answer, for the database and the driver to let go, and for what
the database says came of it."""

_WAL_SECONDS: Final = 5.0
"""How long a new SQLite file is waited for that others open, too; as long as its driver waits for a lock."""


class Attempt:
    """How far a call got.

    Attributes:
        connection: the one that is working on it.
        returning: it is done, and the connection is on its way back.
        sealed: something was sent that may take effect though no answer comes.
        was_sealed: that was so in an earlier try, whose answer was lost.
    """

    def __init__(self) -> None:
        self.connection: AsyncConnection | None = None
        self.returning = False
        self.sealed = False
        self.was_sealed = False

    async def stop(self) -> None:
        """Asks the database to give up, where a driver can: then it is certain that nothing comes of it."""
        driver = self._driver()
        if hasattr(driver, "cancel_safe"):
            with suppress(Exception):  # whether it was heard shows in the call itself
                await driver.cancel_safe(timeout=_SETTLE_SECONDS)

    def drop(self) -> None:
        """Closes the connection under the driver, which may be waiting for an answer that never comes."""
        driver = self._driver()
        if hasattr(driver, "pgconn"):
            driver.pgconn.finish()  # psycopg
        elif hasattr(driver, "terminate"):
            driver.terminate()  # asyncpg
        elif driver is not None and not inspect.iscoroutinefunction(driver.close):
            driver.close()  # asyncmy and aiomysql; aiosqlite has nobody to wait for

    def _driver(self) -> Any:
        connection = None if self.connection is None else self.connection.sync_connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        return connection.connection.driver_connection


class Connections:
    """What an engine lends out.

    Args:
        engine: the engine.
        owned: it is ours to dispose.
    """

    def __init__(self, engine: AsyncEngine, *, owned: bool) -> None:
        self.owned = owned
        self._engine = engine
        self._modes: dict[str, AsyncEngine] = {}
        self._pid = os.getpid()
        self._pending: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()

    @property
    def engine(self) -> AsyncEngine:
        """The engine; with connections of its own in a child process."""
        if self._pid != os.getpid():
            if not self.owned:
                raise StorageUnavailable(
                    "the engine that was handed in belongs to the process this one was forked from; make another",
                    adapter=NAME,
                    retryable=False,
                )
            self._engine.sync_engine.dispose(close=False)  # the sockets are the parent's
            self._pending, self._turn, self._pid = set(), asyncio.Lock(), os.getpid()
        return self._engine

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the database."""
        return self.engine.dialect.name

    async def aclose(self) -> None:
        """Lets writes end, then disposes the engine, if it is ours."""
        while self._pending:
            await asyncio.wait(self._pending)
        self._turn = asyncio.Lock()  # the next loop's
        if self.owned:
            await self.engine.dispose()

    def reading(self, attempt: Attempt) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection on which each statement stands alone, where that costs nothing to arrange."""
        return self._borrowed(self._in_mode("AUTOCOMMIT"), attempt)

    @asynccontextmanager
    async def writing(self, attempt: Attempt, *, begin: bool = True) -> AsyncGenerator[AsyncConnection]:
        """A connection with a transaction, which is committed at the end and rolled back where it was left."""
        engine = self._in_mode("READ COMMITTED")
        # SQLite has one writer at a time, and lets the others look again now and then: waiting here is shorter.
        alone = self._turn if engine.dialect.name == "sqlite" else nullcontext()
        async with alone, self._borrowed(engine, attempt) as connection:
            try:
                if begin:
                    await start(connection)
                yield connection
                attempt.sealed = True
                await connection.commit()
            except Exception:
                await _clean(connection)
                raise
            except BaseException:
                await connection.invalidate()  # cancelled who knows where: nobody else may read what comes still
                raise

    def _in_mode(self, isolation_level: str) -> AsyncEngine:
        """The engine, on PostgreSQL with this isolation level for what is borrowed from it."""
        engine = self.engine
        if engine.dialect.name != "postgresql" or isolation_level == isolation_level_of(engine):
            return engine
        mode = self._modes.get(isolation_level)
        if mode is None:
            mode = self._modes[isolation_level] = engine.execution_options(isolation_level=isolation_level)
        return mode

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]], operation: str) -> T:
        """Does work that only reads. Cancelled, it lets go."""
        attempt = Attempt()
        task = self._start(self._read(work, attempt, operation))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _settle(task, attempt)
            raise

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]], attempt: Attempt, operation: str) -> T:
        """Reads; once more where a pooled connection turns out to be gone."""
        for last in (False, True):
            try:
                async with self.reading(attempt) as connection:
                    return await work(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, it leaves as one of ours
                if last or not is_lost(error):
                    raise translate(error, operation)  # noqa: B904 - it carries its cause itself
        raise AssertionError

    async def write(
        self,
        work: Callable[[Attempt], Awaitable[T]],
        operation: str,
        *,
        commit_id: str,
        resolve: Callable[[], Coroutine[Any, Any, T | None]] | None = None,
    ) -> T:
        """Does work that writes, and settles if it is cancelled.

        Args:
            work: borrows a connection, writes, and commits; may be repeated.
            operation: for errors.
            commit_id: for errors.
            resolve: asks on a fresh connection what came of it; None: that is not known.
        """
        attempt = Attempt()
        task = self._start(self._repeat(work, attempt, operation, commit_id))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _settle(task, attempt)
            if task.done() and not task.cancelled():
                error = task.exception()
                if error is None:
                    return task.result()
                if not isinstance(error, CommitOutcomeUnknown):
                    raise
            elif not attempt.sealed and not attempt.was_sealed:
                raise
            return await _uncancelled(self._ask(resolve, operation, commit_id))

    async def _ask(
        self, resolve: Callable[[], Coroutine[Any, Any, T | None]] | None, operation: str, commit_id: str
    ) -> T:
        """What came of a write whose answer is lost."""
        if resolve is not None:
            asking = self._start(resolve())
            await asyncio.wait({asking}, timeout=_SETTLE_SECONDS)
            asking.cancel()  # not waited for: it has to settle in its turn, and the caller was promised an end
            if asking.done() and not asking.cancelled() and asking.exception() is None:
                found = asking.result()
                if found is not None:
                    return found
        raise _unknown(operation, commit_id)

    async def _repeat(
        self, work: Callable[[Attempt], Awaitable[T]], attempt: Attempt, operation: str, commit_id: str
    ) -> T:
        """Tries until nobody else is faster, and once more where the connection was lost: work is idempotent."""
        lost = False
        for number in range(_ATTEMPTS):
            attempt.sealed = False
            try:
                return await work(attempt)
            except Raced:
                pass
            except Exception as error:
                if is_lost(error):
                    attempt.was_sealed = attempt.was_sealed or attempt.sealed
                    if not lost:
                        lost = True
                        continue
                elif is_duplicate(error) or is_crossed(error):
                    await asyncio.sleep(random.random() * 0.002 * 2 ** min(number, 5))  # noqa: S311 - no secret
                    continue
                ours = translate(error, operation)
                if attempt.was_sealed and isinstance(ours, StorageUnavailable):
                    raise _unknown(operation, commit_id) from error
                raise ours  # noqa: B904 - it carries its cause itself
        raise StorageUnavailable(
            f"{_ATTEMPTS} times others were faster; try again", adapter=NAME, operation=operation, retryable=True
        )

    @asynccontextmanager
    async def _borrowed(self, engine: AsyncEngine, attempt: Attempt) -> AsyncGenerator[AsyncConnection]:
        """A connection. Its way back is not cut short: SQLAlchemy would lose it."""
        attempt.connection = connection = await engine.connect()
        try:
            yield connection
        finally:
            attempt.connection, attempt.returning = None, True
            await connection.close()
            attempt.returning = False

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that ``aclose`` waits for."""
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # who was cancelled asked for it, or nobody does


async def _clean(connection: AsyncConnection) -> None:
    """Rolls back; a connection on which that fails is not used again."""
    try:
        if connection.dialect.name in MYSQL:
            await connection.exec_driver_sql("ROLLBACK")  # in autocommit SQLAlchemy would see nothing to roll back
        await connection.rollback()
    except Exception:  # noqa: BLE001 - the error before it is the one to tell
        await connection.invalidate()


async def _settle(task: asyncio.Task[Any], attempt: Attempt) -> None:
    """Waits for a call whose caller was cancelled, until it has ended or waiting longer helps nobody."""
    # Most have ended by then, and an end is the best answer.
    await _uncancelled(asyncio.wait({task}, timeout=_SETTLE_SECONDS))
    if not task.done():
        await _uncancelled(attempt.stop())
        await _uncancelled(asyncio.wait({task}, timeout=_SETTLE_SECONDS))
    if not task.done():
        attempt.drop()  # before it is cancelled: psycopg would ask for the end of the statement once more
        if not attempt.returning:
            task.cancel()
        await _uncancelled(asyncio.wait({task}, timeout=_SETTLE_SECONDS))


async def _uncancelled(work: Awaitable[T]) -> T:
    """Awaits ``work`` to its end; it has to have one."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
        except Exception:  # noqa: BLE001 - raised below
            break
    return task.result()


async def start(connection: AsyncConnection) -> None:
    """Begins a transaction in the way that lets the database wait rather than fail.

    Elsewhere SQLAlchemy begins one with the first statement.
    """
    name = connection.dialect.name
    if name == "sqlite":
        await connection.exec_driver_sql("BEGIN IMMEDIATE")  # a deferred one fails at its first write, without waiting
    elif name in MYSQL:
        await connection.exec_driver_sql("START TRANSACTION")  # also where the engine is in autocommit


def isolation_level_of(engine: AsyncEngine) -> str | None:
    """The isolation level that the engine was made with; None: the driver's own."""
    given: str | None = engine.get_execution_options().get("isolation_level")
    return given or getattr(engine.dialect, "_on_connect_isolation_level", None)


def refuse_autocommit(engine: AsyncEngine) -> None:
    """An engine in autocommit has no transactions, which only some databases can be asked for all the same.

    Raises:
        ConfigurationError: it is one.
    """
    if engine.dialect.name in {"postgresql", "sqlite", *MYSQL}:
        return
    if isolation_level_of(engine) == "AUTOCOMMIT":
        raise ConfigurationError(
            f"an engine in AUTOCOMMIT cannot keep turns whole on {engine.dialect.name}; "
            "make it without isolation_level='AUTOCOMMIT'"
        )


def make_durable(engine: AsyncEngine) -> None:
    """For SQLite: readers beside a writer, and an acknowledged commit that survives a power cut."""

    def settle_in(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        _switch_to_wal(connection, cursor)
        for setting in ("synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", settle_in)


def _switch_to_wal(connection: Any, cursor: Any) -> None:
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Others open the same new file, and for this statement SQLite does not wait by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            connection.run_async(_pause)
        else:
            return


async def _pause(_: object) -> None:
    await asyncio.sleep(0.01)


def _unknown(operation: str, commit_id: str) -> CommitOutcomeUnknown:
    return CommitOutcomeUnknown(
        f"the database did not answer in time whether the {operation} took effect; "
        "repeat it, it is applied at most once",
        commit_id=commit_id,
        adapter=NAME,
        operation=operation,
    )
