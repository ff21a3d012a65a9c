"""Opening, closing, cancelling, forking."""

import asyncio
import gc
import multiprocessing
import os

import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import CommitOutcomeUnknown, ConfigurationError, StorageUnavailable
from turnkeep.outbox import Settler, settling
from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_testkit import new_commit, new_key

from .kit import ask, everything, from_url, named, opened


async def test_before_open_and_after_close_it_says_so(cluster_url, names):
    adapter = from_url(named(cluster_url, names))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"await open\(\) first"):
            await adapter.load(new_key(), LoadQuery())
        await adapter.open()
        assert await adapter.load(new_key(), LoadQuery()) is None
        await adapter.aclose()


async def test_a_client_handed_in_is_used_and_left_open(cluster_url, names, client):
    adapter = OpenSearchAdapter(client, names)
    for _ in range(2):
        await adapter.open()
        await adapter.commit(new_commit(new_key(), "x"))
        await adapter.aclose()
    assert (await adapter.check()).ok
    assert len((await everything(client, names))["sessions"]) == 2 + 1


async def test_an_adapter_that_was_never_closed_is_told(cluster_url, names):
    adapter = from_url(named(cluster_url, names))
    await adapter.open()
    client = adapter._open.client
    with pytest.warns(ResourceWarning, match=r"was never closed: await aclose\(\)"):
        adapter = None
    await client.close()


async def test_a_failed_open_leaves_no_client(cluster_url, names, client):
    await ask(client, "PUT", f"/{names['sessions']}")
    adapter = from_url(named(cluster_url, names))
    with pytest.raises(Exception, match="did not make"):
        await adapter.open()
    gc.collect()  # an unclosed session would warn, and a warning fails the test


def _in_child(adapter, queue):
    try:
        asyncio.run(adapter.load(new_key(), LoadQuery()))
    except StorageUnavailable as error:
        queue.put(str(error))
    finally:
        queue.close()
        queue.join_thread()
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:UserWarning")
async def test_a_child_process_is_told_to_open_anew(cluster_url, names):
    async with opened(cluster_url, names) as adapter:
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(adapter, _Put(queue)))
        child.start()
        said = await asyncio.to_thread(queue.get)
        child.join()
        assert "await open() once more" in said
        assert await adapter.load(new_key(), LoadQuery()) is None


class _Put:
    """A SimpleQueue with the methods of a queue that has a thread."""

    def __init__(self, queue):
        self.put = queue.put

    def close(self):
        pass

    def join_thread(self):
        pass


# Cancelling


async def cancel_soon(task, delay=0.01):
    await asyncio.sleep(delay)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def test_work_that_has_no_effect_yet_is_withdrawn():
    reached = []

    async def work(effect):
        try:
            await asyncio.sleep(10)
        finally:
            reached.append(effect.begun)

    outcome = await cancel_soon(asyncio.create_task(Settler("opensearch").run(work, "commit", "c")))
    assert isinstance(outcome, asyncio.CancelledError)
    assert reached == [False]


async def test_an_effect_under_way_is_waited_for_and_told(monkeypatch):
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 30)

    async def work(effect):
        effect.begun = True
        await asyncio.sleep(0.1)
        return "done"

    assert await cancel_soon(asyncio.create_task(Settler("opensearch").run(work, "commit", "c"))) == "done"


async def test_an_effect_that_failed_is_a_cancellation(monkeypatch):
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 30)

    async def work(effect):
        effect.begun = True
        await asyncio.sleep(0.1)
        raise StorageUnavailable("x")

    outcome = await cancel_soon(asyncio.create_task(Settler("opensearch").run(work, "commit", "c")))
    assert isinstance(outcome, asyncio.CancelledError)


async def test_an_effect_that_does_not_end_is_of_unknown_outcome(monkeypatch):
    monkeypatch.setattr(settling, "SETTLE_SECONDS", 0.05)
    ended = []

    async def work(effect):
        effect.begun = True
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    outcome = await cancel_soon(asyncio.create_task(Settler("opensearch").run(work, "commit", "c")))
    assert isinstance(outcome, CommitOutcomeUnknown)
    assert outcome.commit_id == "c"
    assert ended == [True]


async def test_closing_waits_for_a_commit_that_was_given_up(cluster_url, names):
    adapter = from_url(named(cluster_url, names))
    await adapter.open()
    key = new_key()
    await adapter.commit(new_commit(key))
    tasks = [asyncio.create_task(adapter.commit(new_commit(key, str(n), expect=Expect.ANY))) for n in range(5)]
    await asyncio.sleep(0)
    await adapter.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await adapter.open()
    stored = await adapter.load(key, LoadQuery())
    assert len(stored.messages) == sum(not isinstance(outcome, BaseException) for outcome in outcomes)
    await adapter.aclose()
