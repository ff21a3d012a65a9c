"""The one thread that writes: waiting jobs share a transaction, each with an outcome of its own.

A sync to disk costs far more than the statements of a turn, so the turns that arrive while one sync runs are committed
together by the next. A conflict is found before its turn has written anything, so it leaves its neighbours alone; where
one fails halfway, all are rolled back and each is tried by itself. Nobody hears of success before COMMIT returned.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from turnkeep.errors import StorageUnavailable
from turnkeep_sqlite._errors import NAME, commit_failed, translate
from turnkeep_sqlite.forks import GATE
from turnkeep_sqlite.jobs import Job, deliver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from turnkeep_sqlite.connections import Source

T = TypeVar("T")

GROUP_SIZE: Final = 64
"""How many jobs share a transaction at most. Of those that need none, so many are told together: a wake-up of the loop
costs as much as a short read, and while its tasks run they and this thread take Python's lock from each other."""

GROUP_SECONDS: Final = 0.05
"""No job joins a transaction that is older: those in it are waiting, and so are other processes."""


class Writer:
    """A thread and the connection that writes.

    The thread is a daemon: an adapter that was never closed must not keep the interpreter from ending, and wherever it
    is cut off the database holds whole turns.
    """

    def __init__(self, source: Source) -> None:
        self.pid = os.getpid()
        self._source = source
        self._queue: queue.SimpleQueue[list[Job[Any]] | None] = queue.SimpleQueue()
        self._arrived: list[Job[Any]] = []  # on the loop, not handed over yet
        self._told_together = 1
        self._alone: deque[Job[Any]] = deque()
        self._waiting: deque[Job[Any]] = deque()  # for a transaction
        self._lock = threading.Lock()  # of what loop and thread decide between them: closed, withdrawn, sealed
        self._closed = False  # nothing can be handed over any more
        self._ended = False  # and the thread knows
        self.is_committing = False
        self._opening: Job[sqlite3.Connection] | None = None
        self._thread = threading.Thread(target=self._main, name="turnkeep-sqlite-writer", daemon=True)

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Starts the thread, which connects; raises what ``connect`` raises, and the thread ends."""
        self._opening = opening = Job(lambda _: connect(), "open")
        self._thread.start()
        try:
            await opening.outcome(lambda _: True)
        except BaseException:
            self.stop()
            raise

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        operation: str,
        *,
        commit_id: str | None = None,
        alone: bool = False,
    ) -> T:
        """Does ``work`` in a transaction, possibly together with others, or ``alone`` without one.

        ``work`` may be repeated after a rollback. Cancelled before COMMIT begins, the work is withdrawn and has no
        effect; later, the outcome is waited for and told.
        """
        job = Job(work, operation, commit_id=commit_id, alone=alone)
        with self._lock:
            if self._closed:
                raise StorageUnavailable("the store was closed meanwhile", adapter=NAME, operation=operation)
            self._arrived.append(job)
            if self._told_together == 1:
                self._flush()
            elif len(self._arrived) == 1 or self._arrived[-2].loop is not job.loop:
                # Where several tasks were told together they ask together again. Woken by the first of them, the thread
                # would fight the others for Python's lock, and share fewer transactions (a third of the speed).
                job.loop.call_soon(self._hand_over)
        return await job.outcome(self._withdraw)

    def stop(self) -> None:
        """Lets the thread end once everything that waits is done."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._flush()
                self._queue.put(None)

    def join(self) -> None:
        """Waits for the end of the thread."""
        self._thread.join()

    def _hand_over(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._arrived:
            self._queue.put(self._arrived)
            self._arrived = []

    def _main(self) -> None:
        connection = self._open()
        if connection is None:
            return
        try:
            while self._serve(connection):
                pass
        finally:
            self._source.release(connection)

    def _open(self) -> sqlite3.Connection | None:
        opening, self._opening = self._opening, None  # not kept: it leads to the adapter, which may be dropped
        if opening is None:
            return None
        opening.run(None)
        connection, opening.result = opening.result, None
        deliver([opening])
        return connection

    def _serve(self, connection: sqlite3.Connection) -> bool:
        """Does what waits; False at the end. A call of its own, so that nothing of it is kept while waiting."""
        self._receive()
        while self._alone:
            self._settle(connection, _pop(self._alone, GROUP_SIZE), _run_each)
        while self._waiting and self._queue.empty():
            self.is_committing = True
            self._settle(connection, _pop(self._waiting, GROUP_SIZE), self._commit)
        return bool(self._waiting) or not self._ended

    def _receive(self) -> None:
        """Sorts what has arrived; if there is nothing to do, waits for something."""
        block = not self._waiting
        while not self._ended:
            try:
                jobs = self._queue.get(block=block)
            except queue.Empty:
                break
            block = False
            if jobs is None:
                self._ended = True
            else:
                self._alone.extend(job for job in jobs if job.alone)
                self._waiting.extend(job for job in jobs if not job.alone)

    def _settle(
        self,
        connection: sqlite3.Connection,
        jobs: list[Job[Any]],
        settle: Callable[[sqlite3.Connection, list[Job[Any]]], None],
    ) -> None:
        if jobs:
            try:
                with GATE, self._source.in_use(connection):
                    settle(connection, jobs)
            except BaseException as error:  # noqa: BLE001 - the thread must live on: others wait for it
                _fail(jobs, error)
        self.is_committing = False  # before anybody hears of it, and asks for the next thing
        self._told_together = len(jobs)
        deliver(jobs)

    def _commit(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
        """Settles jobs by one transaction; those it has no time for leave ``jobs`` and go on waiting."""
        while True:
            _roll_back(connection)  # in case the last rollback failed
            try:
                connection.execute("BEGIN IMMEDIATE")  # a deferred one fails at its first write, without waiting
            except sqlite3.Error as error:
                _fail(jobs, error)
                return
            try:
                self._attempt_all(connection, jobs)
                if self._end(connection, jobs):
                    return
            except BaseException as error:  # noqa: BLE001 - nothing may stay half done, whatever went wrong
                _roll_back(connection)
                if len(jobs) == 1:
                    _fail(jobs, error)
                    return
                for job in jobs:  # the fault of one is not that of all: each gets a transaction of its own
                    self._commit(connection, [job])
                return

    def _attempt_all(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
        deadline = time.monotonic() + GROUP_SECONDS
        for done, job in enumerate(jobs, 1):
            _attempt(connection, job)
            if time.monotonic() > deadline:
                self._waiting.extendleft(reversed(jobs[done:]))
                del jobs[done:]
                return

    def _end(self, connection: sqlite3.Connection, jobs: list[Job[Any]]) -> bool:
        """Commits; or rolls back, and returns False, because a job that had run was withdrawn."""
        if not self._seal(jobs):
            connection.execute("ROLLBACK")
            return False
        self._source.check_place()
        connection.execute("COMMIT")
        return True

    def _seal(self, jobs: list[Job[Any]]) -> bool:
        """Fixes which jobs take effect; False if one of them was withdrawn since it ran."""
        with self._lock:
            effective = [job for job in jobs if job.error is None]
            if any(job.withdrawn for job in effective):
                return False
            for job in effective:
                job.sealed = True
            return True

    def _withdraw(self, job: Job[Any]) -> bool:
        with self._lock:
            job.withdrawn = True
            return not job.sealed


def _pop(jobs: deque[Job[Any]], count: int) -> list[Job[Any]]:
    """The first so many, without those that were withdrawn."""
    popped = [jobs.popleft() for _ in range(min(count, len(jobs)))]
    return [job for job in popped if not job.withdrawn]


def _run_each(connection: sqlite3.Connection, jobs: list[Job[Any]]) -> None:
    for job in jobs:
        job.run(connection)


def _attempt(connection: sqlite3.Connection, job: Job[Any]) -> None:
    """Runs a job within the transaction; raises its error if the transaction is not what it was before."""
    if job.withdrawn:
        job.error = asyncio.CancelledError()
        return
    before = connection.total_changes
    job.run(connection)
    # A conflict is found before anything is written. After other errors, a full disk among them, SQLite may even have
    # rolled back everything, neighbours included.
    if job.error is not None and (connection.total_changes != before or not connection.in_transaction):
        raise job.error


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # the transaction ends even where this reports an error
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _fail(jobs: Iterable[Job[Any]], error: BaseException) -> None:
    for job in jobs:
        if job.sealed:
            job.error = commit_failed(error, job.operation, job.commit_id)
        else:
            job.error = translate(error, job.operation)
