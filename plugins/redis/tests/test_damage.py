"""A server that is full, read-only, or has lost or mixed up what was stored: a typed error, and nothing half done."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery, Scope, SessionKey, SessionQuery
from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    ForeignTable,
    SchemaMissing,
    SchemaTooNew,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)
from turnkeep_redis.keys import Keys
from turnkeep_testkit import new_commit

from .kit import address, connected, find_keys, from_url, new_prefix, opened
from .servers import PrivateRedis

KEY = SessionKey(Scope("shop"), "s1")


@pytest.fixture(params=["redis", "old", "cluster"])
def url(request):
    return address(request.param)


@pytest.fixture
async def store(url):
    prefix = new_prefix()
    async with connected(url) as client, opened(from_url(f"{url}?key_prefix={prefix}")) as adapter:
        yield adapter, client, Keys(prefix)


async def everything(client, prefix):
    """All that lies below a prefix, byte by byte."""
    found = {}
    for name in await find_keys(client, f"{prefix}*"):
        match await client.type(name):
            case b"hash":
                found[name] = await client.hgetall(name)
            case b"list":
                found[name] = await client.lrange(name, 0, -1)
            case b"zset":
                found[name] = await client.zrange(name, 0, -1, withscores=True)
            case _:
                found[name] = await client.get(name)
    return found


async def test_a_head_that_counts_more_than_is_there(store):
    adapter, client, keys = store
    await adapter.commit(new_commit(KEY, "one", "two"))
    await client.delete(keys.session(KEY)[1])  # as an eviction does it
    before = await everything(client, keys.prefix)
    for call in (
        lambda: adapter.load(KEY, LoadQuery()),
        lambda: adapter.load(KEY, LoadQuery(window=0)),
        lambda: adapter.read_messages(KEY, MessageQuery(10)),
        lambda: adapter.commit(new_commit(KEY, "three", expect=Expect.ANY)),
    ):
        with pytest.raises(CorruptRecord, match="noeviction"):
            await call()
    assert await everything(client, keys.prefix) == before
    assert await adapter.delete(KEY)


async def test_messages_without_a_head_are_no_session(store):
    adapter, client, keys = store
    await adapter.commit(new_commit(KEY, "old"))
    await client.delete(keys.session(KEY)[0])
    assert await adapter.load(KEY, LoadQuery()) is None
    await adapter.commit(new_commit(KEY, "new"))
    stored = await adapter.load(KEY, LoadQuery())
    assert [message.content for message in stored.messages] == ["new"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "x"),
        ("last_seq", ""),
        ("incarnation", None),
        ("created_at", "now"),
        ("status", None),
        ("collected_data", None),
        ("session_id", "another"),
        ("last_message_at", "x"),
    ],
)
async def test_a_head_that_cannot_be_read(store, field, value):
    adapter, client, keys = store
    await adapter.commit(new_commit(KEY, "one"))
    head = keys.session(KEY)[0]
    await (client.hdel(head, field) if value is None else client.hset(head, field, value))
    with pytest.raises(CorruptRecord):
        await adapter.load(KEY, LoadQuery())


@pytest.mark.parametrize(
    "item", [b"", b"no json", b"[]", b"[0,1]", b'{"a":1}', b"\xff", b"[0," + b'"x",' * 13 + b'"x"]']
)
async def test_a_message_that_cannot_be_read(store, item):
    adapter, client, keys = store
    await adapter.commit(new_commit(KEY, "one", "two", "three"))
    await client.lset(keys.session(KEY)[1], 1, item)
    for window in (None, 2):
        with pytest.raises(CorruptRecord):
            await adapter.load(KEY, LoadQuery(window=window))
    with pytest.raises(CorruptRecord):
        await adapter.read_messages(KEY, MessageQuery(10))


@pytest.mark.parametrize("part", ["head", "messages", "index"])
async def test_another_type_at_a_key_of_ours(url, part):
    prefix = new_prefix()
    keys = Keys(prefix)
    names = {
        "head": keys.session(KEY)[0],
        "messages": keys.session(KEY)[1],
        "index": keys.everyone("shop", keys.shard("shop", "s1")).active,
    }
    async with connected(url) as client, opened(from_url(f"{url}?key_prefix={prefix}")) as adapter:
        await client.set(names[part], "somebody else's")
        if part == "index" and url.startswith("redis+cluster:"):
            # There the index is written beside the commit, which took effect; repeated, it heals the index.
            commit = new_commit(KEY, "one")
            with pytest.raises(CommitOutcomeUnknown):
                await adapter.commit(commit)
            await client.delete(names[part])
            assert (await adapter.commit(commit)).replayed
            assert [head.session_id for head in (await adapter.find_sessions(SessionQuery(KEY.scope, 9))).items] == [
                "s1"
            ]
            return
        before = await everything(client, prefix)
        with pytest.raises(CorruptRecord, match="key_prefix"):
            await adapter.commit(new_commit(KEY, "one"))
        with pytest.raises(CorruptRecord):
            await (
                adapter.find_sessions(SessionQuery(KEY.scope, 10))
                if part == "index"
                else adapter.load(KEY, LoadQuery())
                if part == "head"
                else adapter.commit(new_commit(KEY, "one"))
            )
        assert await everything(client, prefix) == before


@pytest.mark.parametrize(
    ("record", "error"), [("turnkeep 99", SchemaTooNew), ("something", ForeignTable), ("turnkeep x", ForeignTable)]
)
async def test_a_prefix_that_is_not_ours(url, record, error):
    prefix = new_prefix()
    async with connected(url) as client:
        await client.set(Keys(prefix).schema, record)
        adapter = from_url(f"{url}?key_prefix={prefix}")
        for call in (adapter.open, adapter.migrate):
            with pytest.raises(error):
                await call()
        report = await adapter.check()
        assert not report.ok
        assert await client.get(Keys(prefix).schema) == record.encode()


async def test_a_prefix_whose_record_is_another_type(url):
    prefix = new_prefix()
    async with connected(url) as client:
        await client.rpush(Keys(prefix).schema, "x")
        with pytest.raises(ForeignTable, match="key_prefix"):
            await from_url(f"{url}?key_prefix={prefix}").open()


async def test_nothing_is_made_unasked(url):
    prefix = new_prefix()
    adapter = from_url(f"{url}?key_prefix={prefix}")
    with pytest.raises(SchemaMissing, match="turnkeep migrate"):
        await adapter.open(auto_create=False)
    async with connected(url) as client:
        assert await find_keys(client, f"{prefix}*") == []


@pytest.mark.parametrize("server", ["redis", "old"])
async def test_a_full_server_refuses_a_commit_whole(server, tmp_path, old_program):
    with PrivateRedis(tmp_path, "--save", "", program=old_program if server == "old" else None) as private:
        async with connected(private.url) as client, opened(from_url(private.url)) as adapter:
            first = await adapter.commit(new_commit(KEY, "one", "two", data='{"a":1}', user_id="ana"))
            expired = SessionKey(KEY.scope, "s2")
            await adapter.commit(new_commit(expired, "one"))
            before = await everything(client, "turnkeep:")
            await client.config_set("maxmemory", "100kb")
            for commit in (
                new_commit(KEY, "three", expect=first.token, data='{"a":2}'),
                new_commit(KEY, "three", expect=Expect.ANY, drop_history=True),
                new_commit(SessionKey(KEY.scope, "s3"), "one"),
            ):
                with pytest.raises(StorageFull, match="maxmemory"):
                    await adapter.commit(commit)
            assert await everything(client, "turnkeep:") == before
            assert (await adapter.load(KEY, LoadQuery())).head.token == first.token
            assert await adapter.delete(expired), "deleting makes room"
            await client.config_set("maxmemory", "0")
            await adapter.commit(new_commit(KEY, "three", expect=first.token))


async def test_a_replica_is_refused(tmp_path):
    with (
        PrivateRedis(tmp_path / "a") as master,
        PrivateRedis(tmp_path / "b", "--replicaof", f"127.0.0.1 {master.port}") as replica,
    ):
        replica.wait(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")
        with pytest.raises(StorageRefused, match="master"):
            await from_url(replica.url).open()
        report = await from_url(replica.url).check()
        assert not report.ok
        assert "replica" in str(report)


async def test_a_master_that_becomes_a_replica_refuses_to_write(tmp_path):
    with PrivateRedis(tmp_path / "a") as master, PrivateRedis(tmp_path / "b") as other:
        async with opened(from_url(master.url)) as adapter:
            first = await adapter.commit(new_commit(KEY, "one"))
            other.ask("REPLICAOF", "127.0.0.1", master.port)
            other.wait(lambda: other.ask("INFO", "replication")["master_link_status"] == "up")
            other.ask("REPLICAOF", "NO", "ONE")
            master.ask("REPLICAOF", "127.0.0.1", other.port)
            with pytest.raises(StorageRefused, match="read-only replica"):
                await adapter.commit(new_commit(KEY, "two", expect=first.token))


async def test_one_node_of_a_cluster_is_told_to_be_one():
    url = address("cluster").replace("redis+cluster", "redis")
    with pytest.raises(StorageRefused, match=r"redis\+cluster://"):
        await from_url(url).open()


async def test_a_login_that_is_refused(tmp_path):
    with PrivateRedis(tmp_path, "--requirepass", "right") as private:
        wrong = private.url.replace("redis://", "redis://:wrong-password@")
        with pytest.raises(StorageRefused, match="login") as caught:
            await from_url(wrong).open()
        assert "wrong-password" not in f"{caught.value}{caught.value.__cause__!r}"
        with pytest.raises(StorageRefused, match="login"):
            await from_url(private.url).open()
        async with opened(from_url(private.url.replace("redis://", "redis://:right@"))) as adapter:
            await adapter.commit(new_commit(KEY, "one"))


async def test_a_user_with_no_more_than_the_documented_rights(tmp_path):
    page = (Path(__file__).parents[3] / "docs/how-to/redis.md").read_text(encoding="utf-8")
    rule = next(line for line in page.splitlines() if line.startswith("ACL SETUSER"))
    with PrivateRedis(tmp_path) as private:
        private.ask(*rule.replace(">PASSWORD", ">right").split())
        url = private.url.replace("redis://", "redis://turnkeep:right@")
        async with opened(from_url(url)) as adapter:
            await adapter.commit(new_commit(KEY, "one", user_id="ana", ttl=timedelta(hours=1)))
            assert (await adapter.load(KEY, LoadQuery())).head.message_count == 1
            assert len((await adapter.find_sessions(SessionQuery(KEY.scope, 9, older_than=timedelta(0)))).items) == 1
            await adapter.sweep(10)
            assert (await adapter.delete_owner(Scope("shop", "ana"))).sessions == 1
            assert "cannot be seen" in str(await adapter.check())
        with pytest.raises(StorageRefused, match="may not"):
            await from_url(f"{url}?key_prefix=other:").open()


async def test_what_answers_there_is_no_redis():
    async def talk(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StorageUnavailable):
            await from_url(f"redis://127.0.0.1:{port}").open()
