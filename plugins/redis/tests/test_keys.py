"""Which keys there are, when, and for how long: the page on keys, held to the server."""

import asyncio
import re
import time
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from turnkeep.contract import Expect, HeadChange, LoadQuery, Scope, SessionKey
from turnkeep.errors import InvalidArgument
from turnkeep_redis._errors import CODES
from turnkeep_redis.keys import SHARDS, Due, Keys
from turnkeep_testkit import FakeClock, new_commit

from .kit import address, connected, find_keys, from_url, new_prefix, opened

SCOPE = Scope("shop")
SWEEPS = {"ZRANGEBYSCORE", "WITHSCORES", "LIMIT", "ZREM"}
HOUR = timedelta(hours=1)


@pytest.fixture(params=["redis", "old", "cluster"])
def url(request):
    return address(request.param)


class Store:
    """An open adapter, and what lies below its prefix."""

    def __init__(self, adapter, client, prefix):
        self.adapter, self.client, self.prefix = adapter, client, prefix

    async def names(self):
        return {name.removeprefix(self.prefix) for name in await find_keys(self.client, f"{self.prefix}*")}

    def shard(self, session_id):
        return f"{{{Keys(self.prefix).shard('shop', session_id):x}}}"

    async def create(self, session_id, *messages, user_id=None, **fields):
        key = SessionKey(SCOPE, session_id)
        await self.adapter.commit(new_commit(key, *messages, user_id=user_id, **fields))
        return key


@pytest.fixture
async def store(url):
    prefix = new_prefix()
    async with connected(url) as client, opened(from_url(f"{url}?key_prefix={prefix}")) as adapter:
        yield Store(adapter, client, prefix)


async def test_exactly_the_documented_keys(store):
    assert await store.names() == {"schema"}
    key = await store.create("s1", "one", user_id="ana")
    everyone, ana, session = store.shard("s1"), "{shop@ana}", "{shop:s1}"
    lists = {f"{everyone}:shop:active", f"{everyone}:shop:created", f"{ana}:active", f"{ana}:created"}
    assert await store.names() == {"schema", f"{session}:head", f"{session}:messages", *lists}

    await store.adapter.commit(new_commit(key, "two", expect=Expect.ANY, head=HeadChange(status="completed")))
    lists = {name.replace("active", "completed") for name in lists}
    assert await store.names() == {"schema", f"{session}:head", f"{session}:messages", *lists}

    await store.adapter.commit(new_commit(key, expect=Expect.ANY, drop_history=True, ttl=HOUR))
    assert await store.names() == {"schema", f"{session}:head", f"{everyone}:due", *lists}

    assert await store.adapter.delete(key)
    assert await store.names() == {"schema"}


async def test_an_erased_owner_leaves_no_key(store):
    for number in range(5):
        await store.create(f"s{number}", "one", user_id="ana", ttl=HOUR)
    other = await store.create("s9", "one", user_id="bob")
    assert (await store.adapter.delete_owner(Scope("shop", "ana"))).sessions == 5
    left = await store.names()
    assert {name for name in left if "{shop:" in name} == {"{shop:s9}:head", "{shop:s9}:messages"}
    assert not {name for name in left if "ana" in name or name.endswith("due")}
    await store.adapter.delete(other)
    assert await store.names() == {"schema"}


async def test_an_expired_session_leaves_no_key_after_a_sweep(store):
    await store.create("s1", "one", user_id="ana", ttl=timedelta(milliseconds=200))
    await asyncio.sleep(0.3)
    left = await store.names()
    assert not {name for name in left if "{shop:" in name}, "Redis itself lets go of the session"
    swept = await store.adapter.sweep(10)
    assert (swept.sessions, swept.more) == (1, False)
    assert await store.names() == {"schema"}


async def test_what_expired_of_an_owner_is_erased_from_the_lists(store):
    await store.create("s1", "one", user_id="ana", ttl=timedelta(milliseconds=200))
    await asyncio.sleep(0.3)
    assert (await store.adapter.delete_owner(Scope("shop", "ana"))).sessions == 0
    assert await store.names() == {"schema"}


async def test_one_expiry_for_all_keys_of_a_session(store):
    key = SessionKey(SCOPE, "s1")
    await store.adapter.commit(new_commit(key, ttl=2 * HOUR))
    result = await store.adapter.commit(new_commit(key, "the first one", expect=Expect.ANY, ttl=HOUR))
    left = [await store.client.pttl(name) for name in Keys(store.prefix).session(key)]
    assert abs(left[0] - left[1]) < 1000
    assert all(3_590_000 < milliseconds <= 3_600_000 for milliseconds in left)
    assert result.expires_at is not None
    assert abs(result.expires_at.timestamp() - time.time() - 3600) < 5
    await store.adapter.commit(new_commit(key, expect=Expect.ANY))
    assert [await store.client.pttl(name) for name in Keys(store.prefix).session(key)] == [-1, -1]


async def test_what_left_by_age_is_removed_by_commits_and_sweeps(url):
    clock, prefix = FakeClock(), new_prefix()
    adapter = from_url(f"{url}?key_prefix={prefix}")
    adapter._clock = clock
    async with connected(url) as client, opened(adapter):
        store = Store(adapter, client, prefix)
        key = await store.create("s1", "1", "2", message_ttl=HOUR)
        messages = Keys(prefix).session(key)[1]
        clock.advance(1800)
        await adapter.commit(new_commit(key, "3", expect=Expect.ANY, message_ttl=HOUR))
        clock.advance(1801)
        await adapter.commit(new_commit(key, "4", expect=Expect.ANY, message_ttl=HOUR))
        assert await client.llen(messages) == 2
        clock.advance(1800)
        swept = await adapter.sweep(10)
        assert (swept.sessions, swept.messages, await client.llen(messages)) == (0, 1, 1)
        clock.advance(HOUR)
        assert (await adapter.sweep(10)).messages == 1
        assert (await store.names()) >= {"{shop:s1}:head"}
        assert "{shop:s1}:messages" not in await store.names()
        assert (await adapter.load(key, LoadQuery())).head.message_count == 0
        await adapter.delete(key)
        assert await store.names() == {"schema"}


async def test_what_lies_beside_the_prefix_is_not_touched(store):
    stranger = f"{store.prefix[:-1]}-stranger"
    await store.client.set(stranger, "mine")
    for number in range(3):
        await store.create(f"s{number}", "one", user_id="ana", ttl=HOUR)
    await store.adapter.delete_owner(Scope("shop", "ana"))
    await store.adapter.sweep(100)
    assert await store.client.get(stranger) == b"mine"
    assert await store.client.pttl(stranger) == -1


async def test_a_new_owner_after_expiry_takes_the_place_of_the_old(url):
    clock, prefix = FakeClock(), new_prefix()
    adapter = from_url(f"{url}?key_prefix={prefix}")
    adapter._clock = clock
    async with connected(url) as client, opened(adapter):
        store = Store(adapter, client, prefix)
        await store.create("s1", "one", user_id="ana", ttl=HOUR)
        clock.advance(2 * HOUR)
        await store.create("s1", "one", user_id="bob")
        assert not {name for name in await store.names() if "ana" in name}
        await adapter.sweep(10)
        assert {name for name in await store.names() if "@" in name} == {"{shop@bob}:active", "{shop@bob}:created"}


@pytest.mark.parametrize(
    "session_id",
    [
        "{",
        "}",
        "{}",
        "}{",
        "a{b}c",
        "*",
        "?",
        "[a]",
        "\\",
        "a\r\nDEL x\r\n",
        ":head",
        "a:messages",
        "%7B",
        "é",
        "😀" * 128,
    ],
)
def test_ids_mean_nothing_within_keys(session_id):
    keys = Keys("p:")
    head, messages = keys.parts("shop", session_id)
    assert head.count("{") == head.count("}") == 1
    assert head.endswith("}:head")
    assert messages == f"{head.removesuffix('head')}messages"
    assert head.isascii()
    assert not set(head) & set("*?[]\\\r\n ")
    due = Due("shop", session_id, session_id)
    assert Due.parse(str(due)) == due
    assert Due.parse(str(due._replace(user_id=None))).user_id is None


def test_nothing_looks_beyond_its_own_keys():
    """No command that walks or empties a whole server, in any script or module."""
    sources = [file.read_text(encoding="utf-8") for file in files("turnkeep_redis").joinpath("lua").iterdir()]
    called = {name for text in sources for name in re.findall(r"redis\.call\(\s*'(\w+)'", text)}
    hashes = {"HMGET", "HGET", "HSET", "HDEL", "HSTRLEN"}
    lists = {"LLEN", "LRANGE", "LINDEX", "LTRIM", "RPUSH"}
    sorted_sets = {"ZADD", "ZREM", "ZSCORE", "ZCARD", "ZCOUNT", "ZRANGE"}
    assert called == {"TIME", "EXISTS", "DEL", "PEXPIREAT", "PERSIST", *hashes, *lists, *sorted_sets}
    modules = [file.read_text(encoding="utf-8") for file in Path(str(files("turnkeep_redis"))).glob("*.py")]
    sent = {name for text in modules for name in re.findall(r"b?\"([A-Z]{3,})\"", text)} - set(CODES)
    assert sent == {"EVAL", "EVALSHA", "ASKING", "WAITAOF", "INFO", "CONFIG", "GET", "SETNX", "TIME", *SWEEPS}


def test_ids_do_not_share_keys():
    ids = ["a", "A", "a ", "a:head", "%61", "a%", "a{", "a@b", "é", "e\u0301"]
    keys = Keys("p:")
    assert len({keys.parts("shop", one) for one in ids}) == len(ids)
    assert len({keys.owner("shop", one) for one in ids}) == len(ids)
    assert keys.parts("shop", "x")[0] != keys.parts("sho", "p:x")[0]


def test_sessions_are_spread_over_all_indexes():
    keys = Keys("p:")
    assert {keys.shard("shop", f"session_{number}") for number in range(500)} == set(range(SHARDS))


@pytest.mark.parametrize("prefix", ["", "a{b}", "{", "a b", "a*", "a\n", "x" * 65, "é", None, 3])
def test_prefixes_that_could_be_misread(prefix):
    with pytest.raises(InvalidArgument, match="key_prefix"):
        Keys(prefix)
