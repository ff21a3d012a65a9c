"""Threads that read beside the writer: each load is one snapshot, and never waits for a commit."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from turnkeep.errors import StorageUnavailable
from turnkeep_sqlite._errors import NAME, translate
from turnkeep_sqlite.forks import GATE
from turnkeep_sqlite.jobs import Job, deliver

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

T = TypeVar("T")


class Readers:
    """Some threads, each with a connection that cannot write, made by ``connect`` when it is first needed."""

    def __init__(self, count: int, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of `closed`, and of who runs what
        self._closed = False
        self._running: dict[Job[Any], sqlite3.Connection] = {}
        self._threads = [
            threading.Thread(target=self._main, name=f"turnkeep-sqlite-reader-{number}", daemon=True)
            for number in range(1, count + 1)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T], operation: str) -> T:
        """Does ``work`` in one snapshot, which shows every commit acknowledged before. Cancelled, it is interrupted."""
        job = Job(work, operation)
        with self._lock:
            if self._closed:
                raise StorageUnavailable("the store was closed meanwhile", adapter=NAME, operation=operation)
            self._queue.put(job)
        return await job.outcome(self._withdraw)

    def stop(self) -> None:
        """Lets the threads end once everything that waits is done."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._queue.put(None)

    def join(self) -> None:
        """Waits for the end of the threads."""
        for thread in self._threads:
            thread.join()

    def _withdraw(self, job: Job[Any]) -> bool:
        with self._lock:
            job.withdrawn = True
            if job in self._running:
                self._running[job].interrupt()  # under the lock, so that it cannot hit the job after this one
        return True

    def _main(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (job := self._queue.get()) is not None:
                try:
                    with GATE:
                        connection = connection or self._connect()
                except BaseException as error:  # noqa: BLE001 - the next job may fare better
                    job.error = translate(error, job.operation)
                else:
                    self._serve(job, connection)
                deliver([job])
                del job  # nothing of it is kept while waiting
        finally:
            if connection is not None:
                connection.close()

    def _serve(self, job: Job[Any], connection: sqlite3.Connection) -> None:
        with self._lock:
            if job.withdrawn:
                return
            self._running[job] = connection
        try:
            with GATE:
                job.run(connection)
        finally:
            with self._lock:
                del self._running[job]


def snapshot(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """``work`` within one transaction of reading: everything it reads is of one moment."""

    def read(connection: sqlite3.Connection) -> T:
        if connection.in_transaction:  # the last rollback failed
            connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    return read
