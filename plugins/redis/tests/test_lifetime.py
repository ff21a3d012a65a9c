"""Opening, closing, forks, cancelled writes: what is told is what happened."""

import asyncio
import os

import pytest
from redis.asyncio import Redis

from turnkeep.contract import Expect, LoadQuery, Scope, SessionKey
from turnkeep.errors import CommitOutcomeUnknown, StorageUnavailable
from turnkeep_redis import RedisAdapter, settling
from turnkeep_testkit import FaultProxy, new_commit
from turnkeep_testkit.faults import address_of, redirected

from .kit import address, connected, from_url, new_prefix, opened

KEY = SessionKey(Scope("shop"), "s1")


@pytest.fixture
def url():
    return f"{address('redis')}?key_prefix={new_prefix()}"


async def test_after_a_fork_the_child_opens_anew(url, monkeypatch):
    async with opened(from_url(url)) as adapter:
        await adapter.commit(new_commit(KEY, "one"))
        parents = adapter._source._open[0]
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(StorageUnavailable, match="forked") as caught:
            await adapter.load(KEY, LoadQuery())
        assert not caught.value.retryable
        await adapter.open()
        assert adapter._source._open[0] is not parents
        assert (await adapter.load(KEY, LoadQuery())).head.message_count == 1
        await parents.aclose()


async def test_a_client_that_was_handed_in_stays_with_the_parent(monkeypatch):
    async with connected(address("redis")) as client, opened(RedisAdapter(client, key_prefix=new_prefix())) as adapter:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(StorageUnavailable, match="make another"):
            await adapter.open()


async def test_a_failed_opening_leaves_nothing_open():
    adapter = from_url("redis://127.0.0.1:1")
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await adapter.open()
        assert adapter._source._open == []
    await adapter.aclose()


async def test_a_write_that_was_not_sent_is_withdrawn_at_once(url, monkeypatch):
    monkeypatch.setattr(settling, "GRACE", 60)
    async with opened(from_url(f"{url}&max_connections=1")) as adapter:
        async with adapter._store._wire._places:  # the only connection is in use
            task = asyncio.create_task(adapter.commit(new_commit(KEY, "one")))
            await asyncio.sleep(0.01)
            began = asyncio.get_running_loop().time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.get_running_loop().time() - began < 30
        assert await adapter.load(KEY, LoadQuery()) is None


async def arrives(proxy, call):
    """A task with the call, whose request has arrived at the proxy."""
    before = proxy.traffic.requests
    task = asyncio.create_task(call)
    while proxy.traffic.requests == before:  # noqa: ASYNC110 - the proxy has no event for it
        await asyncio.sleep(0.001)
    return task


async def test_a_write_that_was_sent_tells_its_outcome_or_that_it_is_unknown(url, monkeypatch):
    host, port = address_of(address("redis"))
    async with FaultProxy(host, port) as proxy:
        led = redirected(url, proxy.host, proxy.port)
        async with opened(from_url(led)) as adapter:
            await adapter.commit(new_commit(KEY, "one"))
            monkeypatch.setattr(settling, "GRACE", 30)
            proxy.delay(0.05)
            slow = await arrives(proxy, adapter.commit(new_commit(KEY, "two", expect=Expect.ANY)))
            for _ in range(3):
                slow.cancel()
                await asyncio.sleep(0)
            assert (await slow).token.version == 2
            monkeypatch.setattr(settling, "GRACE", 0.1)
            proxy.delay(30)
            lost = await arrives(proxy, adapter.commit(new_commit(KEY, "three", expect=Expect.ANY)))
            lost.cancel()
            with pytest.raises(CommitOutcomeUnknown):
                await lost
            proxy.heal()
            assert (await adapter.load(KEY, LoadQuery())).head.message_count in {2, 3}


async def test_on_a_cluster_everything_of_a_turn_is_under_way_at_once(monkeypatch):
    """One round trip: whatever is sent is sent before the first answer is there."""
    async with opened(from_url(f"{address('cluster')}?key_prefix={new_prefix()}")) as adapter:
        key = SessionKey(Scope("shop"), "s1")
        result = await adapter.commit(new_commit(key, "zero", user_id="ana"))
        wire, spans = adapter._store._wire, []
        exchange = wire._exchange

        async def timed(node, commands, attempt):
            span = [len(spans), None]
            spans.append(span)
            answers = await exchange(node, commands, attempt)
            span[1] = len(spans)
            return answers

        monkeypatch.setattr(wire, "_exchange", timed)
        for _ in range(3):  # scripts are known and connections open by then
            spans.clear()
            await adapter.load(key, LoadQuery(50))
            loading = len(spans)
            spans.clear()
            result = await adapter.commit(new_commit(key, "a", "b", expect=result.token, state='{"s":1}'))
        assert loading == 1
        assert len(spans) == 3, "the session, everybody's index, its owner's"
        assert {begun for _, begun in spans} == {3}, "none ended before all were begun"


async def test_close_leaves_a_client_that_was_handed_in_open():
    client = Redis.from_url(address("redis"))
    adapter = RedisAdapter(client, key_prefix=new_prefix())
    for _ in range(2):
        await adapter.open()
        await adapter.aclose()
    assert await client.ping()
    await client.aclose()
