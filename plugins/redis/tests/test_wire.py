"""Round trips, bytes, scripts that a server forgot, clients that repeat by themselves, replies that nobody read."""

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost

from turnkeep.contract import Expect, LoadQuery, Scope, SessionKey
from turnkeep.errors import CommitOutcomeUnknown
from turnkeep_redis import RedisAdapter
from turnkeep_redis.scripts import LOAD
from turnkeep_testkit import FaultProxy, new_commit, new_message
from turnkeep_testkit.faults import CutConnectionSuite, MixedReplySuite, address_of, redirected

from .kit import address, connected, from_url, new_prefix, opened

KEY = SessionKey(Scope("shop"), "s1")
METADATA = '{"model":"m-1","usage":{"input":812,"output":164}}'


class TestClientThatRepeats(CutConnectionSuite, MixedReplySuite):
    """redis-py sends again by itself, ten times as it comes; nothing is doubled by that."""

    @pytest.fixture
    def server_url(self):
        return address("redis")

    @pytest.fixture
    def make_adapter_at(self):
        prefix = new_prefix()

        def make(url):
            return Repeating(url, prefix)

        return make


class Repeating:
    """An adapter around a client of the application's with redis-py's own settings, both closed at the end."""

    def __init__(self, url, prefix):
        self.url, self.prefix = url, prefix

    async def __aenter__(self):
        self.client = Redis.from_url(self.url, retry=Retry(NoBackoff(), 10), retry_on_error=[Lost])
        self.adapter = RedisAdapter(self.client, key_prefix=self.prefix)
        await self.adapter.open()
        return self.adapter

    async def __aexit__(self, *_):
        await self.adapter.aclose()
        await self.client.aclose()


async def through_proxy(url, history):
    """What a turn costs after so many messages: round trips and bytes of the load, of the commit."""
    async with FaultProxy(*address_of(url)) as proxy:
        prefix = new_prefix()
        led = redirected(url, proxy.host, proxy.port)
        async with opened(from_url(f"{led}?key_prefix={prefix}")) as adapter:
            token = (await adapter.commit(new_commit(KEY, *["x" * 400] * min(history, 1000)))).token
            for _ in range(1000, history, 1000):
                token = (await adapter.commit(new_commit(KEY, *["x" * 400] * 1000, expect=token))).token
            for _ in range(2):  # the first one makes the server learn the scripts
                start = proxy.traffic
                await adapter.load(KEY, LoadQuery(window=50))
                loaded = proxy.traffic
                messages = [new_message("y" * 1000, metadata=METADATA) for _ in range(2)]
                token = (await adapter.commit(new_commit(KEY, *messages, expect=token, state="s" * 900))).token
                committed = proxy.traffic
    return loaded - start, committed - loaded


async def test_a_turn_costs_the_same_after_any_history():
    url = address("redis")
    costs = {history: await through_proxy(url, history) for history in (10, 1_000, 10_000)}
    for load, commit in costs.values():
        assert (load.round_trips, load.connections) == (1, 0)
        assert (commit.round_trips, commit.connections) == (1, 0)
    sent = [commit.sent for _, commit in costs.values()]
    payload = 2 * (1000 + len(METADATA)) + 900
    assert max(sent) <= 1.5 * payload + 4096
    assert max(sent) - min(sent) <= 16, "only the digits of numbers may grow"
    received = [load.received for load, _ in costs.values()][1:]
    assert max(received) - min(received) <= 256


@pytest.mark.parametrize("server", ["redis", "old", "cluster"])
async def test_scripts_that_the_server_forgot(server):
    url = address(server)
    async with connected(url) as client, opened(from_url(f"{url}?key_prefix={new_prefix()}")) as adapter:
        result = await adapter.commit(new_commit(KEY, "0"))
        for number in range(1, 6):
            await client.script_flush()
            commit = new_commit(KEY, str(number), expect=result.token)
            flushing = asyncio.create_task(client.script_flush())
            result = await adapter.commit(commit)
            await flushing
            assert not result.replayed
            await client.script_flush()
            assert len((await adapter.load(KEY, LoadQuery())).messages) == number + 1


async def test_a_call_that_is_sent_twice_is_told_from_a_commit_that_is_repeated():
    url = address("redis")
    async with opened(from_url(f"{url}?key_prefix={new_prefix()}")) as adapter:
        sent = []
        ask = adapter._store._wire.ask

        async def ask_twice(call, *more, attempt=None):
            sent.append(await ask(call, *more, attempt=attempt))
            return await ask(call, *more, attempt=attempt)

        adapter._store._wire.ask = ask_twice
        commit = new_commit(KEY, "one", "two")
        first = await adapter.commit(commit)
        assert (first.replayed, first.created, first.contiguous) == (False, True, True)
        assert sent[0][1:10] == sent[0][1:10]
        adapter._store._wire.ask = ask
        again = await adapter.commit(commit)
        assert replace(again, replayed=False, contiguous=True) == first
        assert again.replayed
        append = new_commit(KEY, "three", expect=Expect.ANY, seen=first.token)
        adapter._store._wire.ask = ask_twice
        assert (await adapter.commit(append)).contiguous
        adapter._store._wire.ask = ask
        assert len((await adapter.load(KEY, LoadQuery())).messages) == 3


async def test_a_connection_whose_reply_was_not_read_is_not_used_again():
    url = address("redis")
    async with opened(from_url(f"{url}?key_prefix={new_prefix()}&max_connections=1")) as adapter:
        keys = [SessionKey(Scope("shop", owner), f"s of {owner}") for owner in ("ana", "bob")]
        for key in keys:
            await adapter.commit(new_commit(key, f"secret of {key.scope.owner}" * 1000, user_id=key.scope.owner))
        for number in range(200):
            task = asyncio.create_task(adapter.load(keys[number % 2], LoadQuery()))
            for _ in range(number % 8):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            other = await adapter.load(keys[1 - number % 2], LoadQuery())
            assert other.head.user_id == keys[1 - number % 2].scope.owner
            assert other.messages[0].content.startswith(f"secret of {other.head.user_id}")


async def test_more_callers_than_connections_wait_for_their_turn():
    url = address("redis")
    async with (
        connected(url) as client,
        opened(from_url(f"{url}?key_prefix={new_prefix()}&max_connections=2")) as adapter,
    ):
        before = len(await client.client_list())
        await asyncio.gather(*(adapter.commit(new_commit(SessionKey(KEY.scope, f"s{n}"), "x")) for n in range(100)))
        assert len(await client.client_list()) <= before + 2


async def test_what_waits_for_the_disk_travels_with_the_commit():
    """WAITAOF needs a newer Redis than most machines have; WAIT travels the same way."""
    url = address("redis")
    async with FaultProxy(*address_of(url)) as proxy:
        adapter = from_url(f"{redirected(url, proxy.host, proxy.port)}?key_prefix={new_prefix()}")
        adapter._prepare = lambda wire, *, create: asyncio.sleep(0)  # which would refuse a server without WAITAOF
        adapter._wait_for = ("WAIT", 0, 1)
        async with opened(adapter):
            token = (await adapter.commit(new_commit(KEY, "one"))).token
            before = proxy.traffic
            token = (await adapter.commit(new_commit(KEY, "two", expect=token))).token
            assert (proxy.traffic - before).round_trips == 1
        adapter._wait_for = ("WAITAOF", 1, 0, 0)
        async with opened(adapter), connected(url) as client:
            if (await client.info("server"))["redis_version"] >= "7.2":
                pytest.skip("this server can wait")
            commit = new_commit(KEY, "three", expect=token)
            with pytest.raises(CommitOutcomeUnknown):
                await adapter.commit(commit)
            assert (await adapter.load(KEY, LoadQuery())).head.token.commit_id == commit.commit_id


def test_what_is_sent_is_bytes_whatever_the_clients_encoding():
    call = LOAD(("p:{shop:é}:head", "m"), "é", 3, b"\xff")
    assert all(type(part) is bytes for part in call.command)
    assert call.in_full().command[:2] == (b"EVAL", call.source)
