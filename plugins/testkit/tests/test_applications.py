"""What the kit offers to those who test an application: faults, a record of calls, fixtures."""

from __future__ import annotations

import asyncio

import pytest

import turnkeep
from turnkeep import (
    CommitOutcomeUnknown,
    InvalidArgument,
    MemoryAdapter,
    SessionConflict,
    StorageTimeout,
    StorageUnavailable,
)
from turnkeep.contract import Expect, LoadQuery
from turnkeep_testkit import FaultyAdapter, RecordingAdapter, WrappedAdapter, new_commit, new_key

KEY = new_key()
APPEND = new_commit(KEY, "two", expect=Expect.ANY)


@pytest.fixture
async def adapter():
    faulty = FaultyAdapter(MemoryAdapter())
    await faulty.commit(new_commit(KEY, "one"))
    return faulty


async def contents(adapter):
    stored = await adapter.inner.load(KEY, LoadQuery())
    return [message.content for message in stored.messages]


async def test_a_call_that_fails_does_nothing(adapter):
    adapter.fail("commit")
    with pytest.raises(StorageUnavailable) as caught:
        await adapter.commit(APPEND)
    assert (caught.value.adapter, caught.value.operation, caught.value.retryable) == ("memory", "commit", True)
    assert await contents(adapter) == ["one"]
    await adapter.commit(APPEND)
    assert await contents(adapter) == ["one", "two"]


async def test_an_error_of_ones_own_at_the_third_and_fourth_call(adapter):
    error = SessionConflict("made up", session_id="s")
    adapter.fail("load", error, nth=3, times=2)
    outcomes = await asyncio.gather(*(adapter.load(KEY, LoadQuery()) for _ in range(5)), return_exceptions=True)
    assert [outcome is error for outcome in outcomes] == [False, False, True, True, False]
    assert adapter.pending == 0


async def test_a_lost_reply_takes_effect(adapter):
    adapter.lose_reply("commit")
    with pytest.raises(CommitOutcomeUnknown) as caught:
        await adapter.commit(APPEND)
    assert caught.value.commit_id == APPEND.commit_id
    assert (await adapter.commit(APPEND)).replayed
    assert await contents(adapter) == ["one", "two"]


async def test_a_lost_request_takes_none_and_looks_the_same(adapter):
    adapter.lose_request("commit")
    with pytest.raises(CommitOutcomeUnknown) as caught:
        await adapter.commit(APPEND)
    assert caught.value.commit_id == APPEND.commit_id
    assert not (await adapter.commit(APPEND)).replayed


async def test_a_lost_reply_of_a_read_is_unavailable(adapter):
    adapter.lose_reply("load")
    with pytest.raises(StorageUnavailable):
        await adapter.load(KEY, LoadQuery())


async def test_an_error_after_the_call_took_effect(adapter):
    adapter.fail_after("delete", RuntimeError("made up"))
    with pytest.raises(RuntimeError):
        await adapter.delete(KEY)
    assert await adapter.load(KEY, LoadQuery()) is None


async def test_a_call_that_hangs_lets_go_and_does_nothing(adapter):
    adapter.hang("commit")
    task = asyncio.create_task(adapter.commit(APPEND))
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await contents(adapter) == ["one"]


async def test_a_delayed_call_lets_others_run(adapter):
    adapter.delay("commit", 0)
    slow = asyncio.create_task(adapter.commit(APPEND))
    fast = asyncio.create_task(adapter.commit(new_commit(KEY, "fast", expect=Expect.ANY)))
    await asyncio.gather(slow, fast)
    assert await contents(adapter) == ["one", "fast", "two"]


async def test_something_else_comes_first(adapter):
    adapter.precede("commit", lambda: adapter.commit(new_commit(KEY, "somebody else", expect=Expect.ANY)))
    await adapter.commit(APPEND)
    assert await contents(adapter) == ["one", "somebody else", "two"]


async def test_a_fault_that_lasts_until_it_heals(adapter):
    adapter.fail("load", times=None)
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await adapter.load(KEY, LoadQuery())
    assert adapter.pending == 1
    adapter.heal()
    assert await adapter.load(KEY, LoadQuery())


async def test_faults_of_one_call_wait_for_each_other(adapter):
    adapter.fail("commit")
    adapter.lose_reply("commit")
    with pytest.raises(StorageUnavailable):
        await adapter.commit(APPEND)
    with pytest.raises(CommitOutcomeUnknown):
        await adapter.commit(APPEND)
    assert await contents(adapter) == ["one", "two"]


@pytest.mark.parametrize(
    "wrong", [{"operation": "save"}, {"operation": "load", "nth": 0}, {"operation": "load", "times": 0}]
)
def test_what_cannot_be_planned(wrong):
    with pytest.raises(InvalidArgument):
        FaultyAdapter(MemoryAdapter()).fail(**wrong)


def test_every_method_of_the_contract_passes_the_one_place():
    """A new method must not go around the faults."""
    missing = [
        name
        for name in vars(turnkeep.StorageAdapter)
        if asyncio.iscoroutinefunction(vars(turnkeep.StorageAdapter)[name]) and name not in vars(WrappedAdapter)
    ]
    assert missing == []


def test_there_is_no_url_for_it():
    with pytest.raises(turnkeep.ConfigurationError, match="by hand"):
        FaultyAdapter.from_url(turnkeep.StorageURL("memory://"))


async def test_the_recorder_counts_calls_and_bytes():
    recorder = RecordingAdapter(FaultyAdapter(MemoryAdapter()))
    await recorder.open()
    await recorder.commit(commit := new_commit(KEY, "ä" * 100, data='{"a":1}'))
    recorder.inner.fail("load")
    with pytest.raises(StorageUnavailable):
        await recorder.load(KEY, LoadQuery())
    await recorder.load(KEY, LoadQuery())
    assert recorder.operations == ["commit", "load", "load"]
    assert (recorder.count("load"), recorder.count("delete")) == (2, 0)
    assert recorder.commits == [commit]
    wrote, failed, read = recorder.calls[1:]
    assert wrote.sent > 207
    assert (type(failed.error), failed.received, failed.ended) == (StorageUnavailable, 0, True)
    assert read.received > 207
    assert (recorder.sent, recorder.received) == (wrote.sent + failed.sent + read.sent, wrote.received + read.received)
    recorder.reset()
    assert recorder.calls == []


async def test_the_recorder_shows_a_call_that_has_not_ended():
    recorder = RecordingAdapter(faulty := FaultyAdapter(MemoryAdapter()))
    faulty.hang("load")
    task = asyncio.create_task(recorder.load(KEY, LoadQuery()))
    await asyncio.sleep(0)
    assert (recorder.operations, recorder.calls[0].ended) == (["load"], False)
    task.cancel()
    await asyncio.wait({task})
    assert recorder.calls[0].ended
    assert isinstance(recorder.calls[0].error, asyncio.CancelledError)


class TestFixtures:
    async def test_a_lost_reply_is_found_out(self, memory_persistence, turnkeep_faults, turnkeep_recorder):
        turnkeep_faults.lose_reply("commit")
        await memory_persistence.save_session_state("s", turnkeep.create_session("s", data={"a": 1}))
        assert turnkeep_recorder.count("commit") == 2
        assert len({commit.commit_id for commit in turnkeep_recorder.commits}) == 1
        assert (await memory_persistence.load_session_state("s")).data == {"a": 1}

    async def test_the_clock_is_the_stores(self, memory_persistence, turnkeep_clock):
        await memory_persistence.save_session_state("s", turnkeep.create_session("s"))
        before = await memory_persistence.find_session_by_id("s")
        turnkeep_clock.advance(60)
        await memory_persistence.save_message("s", "user", "Hello")
        after = await memory_persistence.find_session_by_id("s")
        assert (after.updated_at - before.updated_at).total_seconds() == 60

    async def test_a_call_that_hangs_meets_the_deadline(self, turnkeep_faults):
        async with turnkeep.connect(turnkeep_faults, timeout=0.05) as persistence:
            turnkeep_faults.hang("load")
            with pytest.raises(StorageTimeout):
                await persistence.load_session_state("s")

    def test_each_test_has_a_store_of_its_own(self, memory_persistence):
        async def count():
            return [record async for record in await memory_persistence.find_sessions()]

        assert asyncio.run(count()) == []
