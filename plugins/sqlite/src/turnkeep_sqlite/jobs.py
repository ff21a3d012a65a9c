"""Handing work from an event loop to a thread, and its outcome back."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from turnkeep.errors import CommitOutcomeUnknown
from turnkeep_sqlite._errors import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class Job(Generic[T]):
    """A piece of work for a thread. Made, awaited and settled on its event loop; run and filled in by the thread.

    Attributes:
        work: what to do; it may be done again after a rollback.
        operation: what it is called in errors.
        commit_id: of the commit it makes, if it makes one.
        alone: it wants no transaction around it.
        result: what ``work`` returned.
        error: what it raised instead, as one of our errors.
        settled: the loop knows the outcome.
        withdrawn: nobody waits for the outcome any more; it must take no effect.
        sealed: it takes effect now and cannot be withdrawn.
    """

    __slots__ = (
        "alone",
        "commit_id",
        "error",
        "loop",
        "operation",
        "result",
        "sealed",
        "settled",
        "waiter",
        "withdrawn",
        "work",
    )

    def __init__(
        self, work: Callable[[Any], T], operation: str, *, commit_id: str | None = None, alone: bool = False
    ) -> None:
        self.work = work
        self.operation = operation
        self.commit_id = commit_id
        self.alone = alone
        self.loop = asyncio.get_running_loop()
        self.waiter: asyncio.Future[None] | None = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.settled = self.withdrawn = self.sealed = False

    async def outcome(self, withdraw: Callable[[Job[Any]], bool]) -> T:
        """Waits for the result, or raises the error.

        Cancelled, it asks ``withdraw`` whether the job can still be dropped; if not it goes on waiting, however often
        it is cancelled, because something that takes effect must be told.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self.settled:
            self.waiter = self.loop.create_future()
            try:
                await self.waiter
            except asyncio.CancelledError as error:
                if withdraw(self):
                    raise
                cancelled = error
        if self.error is None:
            return cast("T", self.result)
        try:
            if cancelled is not None and not isinstance(self.error, CommitOutcomeUnknown):
                raise cancelled
            raise self.error
        finally:
            self.error = cancelled = None  # a raised error holds this frame: they would keep each other alive

    def run(self, connection: object) -> None:
        """Does the work and keeps how it ended."""
        try:
            self.result, self.error = self.work(connection), None
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the caller, not to the thread
            self.error = translate(error, self.operation)


def deliver(jobs: Sequence[Job[Any]]) -> None:
    """Tells the loops of these jobs, from a thread, that they are settled: one wake-up for all of a loop."""
    for loop in {job.loop for job in jobs}:
        try:
            loop.call_soon_threadsafe(_settle, [job for job in jobs if job.loop is loop])
        except RuntimeError:  # the loop was closed: nobody waits
            continue


def _settle(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.settled = True
        if job.waiter is not None and not job.waiter.done():
            job.waiter.set_result(None)


async def run_in_thread(work: Callable[[], T], operation: str) -> T:
    """Does something rare in a thread of its own. Cancelled, it lets go; the thread ends by itself."""
    job = Job(lambda _: work(), operation)

    def main() -> None:
        job.run(None)
        deliver([job])

    thread = threading.Thread(target=main, name=f"turnkeep-sqlite-{operation}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return work()  # the interpreter is ending and starts no threads any more; nothing else is kept waiting
    try:
        return await job.outcome(lambda _: True)
    finally:
        if job.settled:
            thread.join()  # it has nothing left to do
