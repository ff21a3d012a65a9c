"""Blocking work in threads: a read that is cancelled lets go, a write settles."""

import asyncio
import threading

import pytest

from turnkeep.blocking import read_in_thread, write_in_thread
from turnkeep.errors import CommitOutcomeUnknown, StorageFull


class Work:
    """Ends when it is told to, with a result or an error."""

    def __init__(self, outcome="done"):
        self.begun, self.may_end, self.outcome = threading.Event(), threading.Event(), outcome

    def __call__(self):
        self.begun.set()
        assert self.may_end.wait(10)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def begin(run, work):
    task = asyncio.create_task(run(work))
    await asyncio.to_thread(work.begun.wait, 10)
    return task


@pytest.mark.parametrize("run", [read_in_thread, write_in_thread])
async def test_the_result_or_the_error_comes_back(run):
    assert await run(lambda: 7) == 7
    with pytest.raises(StorageFull):
        await run(raise_full)


def raise_full():
    raise StorageFull("no room")


async def test_a_cancelled_read_lets_go():
    work = Work()
    task = await begin(read_in_thread, work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    work.may_end.set()


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_write_that_took_effect_returns_its_result(times):
    work = Work()
    task = await begin(write_in_thread, work)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    work.may_end.set()
    assert await task == "done"


async def test_a_cancelled_write_that_failed_is_cancelled():
    work = Work(StorageFull("no room"))
    task = await begin(write_in_thread, work)
    task.cancel()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_write_that_does_not_know_says_so():
    work = Work(CommitOutcomeUnknown("who knows", commit_id="c"))
    task = await begin(write_in_thread, work)
    task.cancel()
    work.may_end.set()
    with pytest.raises(CommitOutcomeUnknown):
        await task
