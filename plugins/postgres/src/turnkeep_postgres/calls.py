"""One statement, one round trip, one outcome: also where the caller goes away or the connection breaks meanwhile.

A statement runs in a task of its own, because psycopg answers a cancellation by waiting for the server, and then throws
the result away. Here the caller's cancellation is settled: a reply that comes soon decides; where none does, the server
is asked to give up; where it does not answer that either, the connection is closed and the outcome is unknown. A
connection whose reply was not read is never lent again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg

from turnkeep.errors import StorageError
from turnkeep_postgres._errors import RESTARTABLE, outcome_unknown, translate
from turnkeep_postgres.values import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from turnkeep_postgres.connections import Connection, Source

Rows = list[tuple[Any, ...]]

PATIENCE: Final = 0.15
"""Seconds a reply may still take after the caller went away, and again after the server was asked to give up."""

RESTARTS: Final = 8
"""How often, at most, a statement is run again that PostgreSQL broke off because of others."""


class Reply(NamedTuple):
    """What a write answered."""

    rows: Rows
    repeated: bool
    """An earlier answer was lost: if it had taken effect then, these rows do not show it."""


class Import(NamedTuple):
    """Rows that a statement's own row is followed by, in one transaction with it; none where it has no row."""

    sql: bytes
    """``COPY … FROM STDIN``, in binary."""
    types: tuple[str, ...]
    """Of the columns."""
    rows: Callable[[tuple[Any, ...]], Iterable[tuple[object, ...]]]
    """What is imported, given the statement's row."""


class Call:
    """A statement under way, or one with an import behind it."""

    def __init__(
        self,
        source: Source,
        sql: bytes,
        parameters: Mapping[str, object],
        operation: str,
        following: Import | None = None,
    ) -> None:
        self._source = source
        self._sql = sql
        self._parameters = parameters
        self._operation = operation
        self._following = following
        self._connection: Connection | None = None  # which is working on it
        self._sent = False
        self._abandoned = False
        self._asking: asyncio.Task[None] | None = None  # the server to stop
        self.lost: psycopg.Error | None = None
        """What broke a connection on which it may have been sent."""
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> Rows:
        """Sends it, again if its connection turns out to be dead or others were in the way; raises our errors."""
        restarts = deaths = 0
        while True:
            try:
                return await self._send()
            except psycopg.Error as error:
                if error.sqlstate in RESTARTABLE and restarts < RESTARTS:
                    restarts += 1
                elif error is self.lost and deaths <= self._source.size and not self._abandoned:
                    # After a restart of the server every idle connection of a pool is dead, and only using it tells.
                    deaths += 1
                else:
                    raise translate(error, self._operation) from error
                self._sent = False

    async def _send(self) -> Rows:
        connection = await self._source.borrow()
        self._connection, self._sent = connection, True
        try:
            if self._following is None:
                return await self._execute(Cursor(connection))
            async with connection.transaction():
                return await self._import(Cursor(connection), self._following)
        except psycopg.OperationalError as error:
            if connection.closed:
                self.lost = error
            raise
        finally:
            self._connection = None
            if self._asking is not None and not await _succeeds(self._asking):
                # The server may hear of it later still, and would stop the next statement instead.
                connection.pgconn.finish()
            await self._source.give_back(connection)

    async def _execute(self, cursor: Cursor) -> Rows:
        await cursor.execute(self._sql, self._parameters, binary=True)
        return await cursor.fetchall()

    async def _import(self, cursor: Cursor, following: Import) -> Rows:
        found = await self._execute(cursor)
        if found:
            async with cursor.copy(following.sql) as copy:
                copy.set_types(following.types)
                for row in following.rows(found[0]):
                    await copy.write_row(row)
        return found

    @property
    def is_sent(self) -> bool:
        """Whether the server has, or had, something to do with it."""
        return self._sent

    async def ends_within(self, seconds: float) -> bool:
        """Whether it ends in time; who waits cannot be cancelled meanwhile."""
        return await _ends(self.task, seconds)

    async def stop(self) -> None:
        """Asks the server to give it up, and waits a little for what it says."""
        if self._connection is not None:
            self._asking = asyncio.create_task(self._connection.cancel_safe(timeout=PATIENCE))
            await _succeeds(self._asking)

    async def abandon(self) -> None:
        """Closes its connection, so that nobody reads what may still arrive, and ends it."""
        self._abandoned = True  # psycopg may answer the cancellation by an error of the closed connection
        if self._connection is not None:
            self._connection.pgconn.finish()
        if self._connection is not None or not self._sent:  # otherwise it is giving its connection back
            self.task.cancel()
        await _ends(self.task)


async def read(source: Source, sql: bytes, parameters: Mapping[str, object], operation: str) -> Rows:
    """The rows of a statement that changes nothing. Cancelled, it lets go."""
    call = Call(source, sql, parameters, operation)
    try:
        return await asyncio.shield(call.task)
    except asyncio.CancelledError:
        if not (call.is_sent and await call.ends_within(PATIENCE)):
            await call.abandon()
        if not call.task.cancelled():
            call.task.exception()  # looked at, so that nobody is told that it was not
        raise


async def write(
    source: Source,
    sql: bytes,
    parameters: Mapping[str, object],
    operation: str,
    *,
    commit_id: str = "",
    following: Import | None = None,
) -> Reply:
    """What a statement answers that takes effect at most once, however often it is sent; with what follows it, if any.

    Cancelled, it settles: ``CancelledError`` means no effect, a reply is what it would have been.

    Raises:
        CommitOutcomeUnknown: nobody knows.
    """
    call = Call(source, sql, parameters, operation, following)
    try:
        rows = await asyncio.shield(call.task)
    except asyncio.CancelledError as cancelled:
        rows = await _settle(call, operation, commit_id, cancelled)
    except StorageError as error:
        if call.lost is not None:
            raise outcome_unknown(error, operation, commit_id) from error
        raise
    return Reply(rows, repeated=call.lost is not None)


async def _settle(call: Call, operation: str, commit_id: str, cancelled: asyncio.CancelledError) -> Rows:
    """The rows of a call whose caller was cancelled."""
    if not (call.is_sent and await call.ends_within(PATIENCE)):
        await call.stop()
        if not (call.is_sent and await call.ends_within(PATIENCE)):
            sent = call.is_sent
            await call.abandon()
            if sent and (call.task.cancelled() or call.task.exception() is not None):
                raise outcome_unknown(cancelled, operation, commit_id)
    error = cancelled if call.task.cancelled() else call.task.exception()
    if error is None:
        return call.task.result()
    if call.lost is not None:
        raise outcome_unknown(error, operation, commit_id)
    raise cancelled


async def _ends(task: asyncio.Task[Any], seconds: float | None = None) -> bool:
    """Whether the task ends in time; who waits cannot be cancelled meanwhile."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while not task.done():
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=left)
    return True


async def _succeeds(asking: asyncio.Task[None]) -> bool:
    """Whether the server hears in time that it should stop."""
    if not await _ends(asking, PATIENCE):
        asking.cancel()
        await _ends(asking)
    return not asking.cancelled() and asking.exception() is None
