"""Commits that wait for the disk, of the server and of its replicas: WAITAOF, on Valkey."""

import asyncio
from contextlib import contextmanager

import pytest

from turnkeep.contract import Expect, LoadQuery, Scope, SessionKey
from turnkeep.errors import CommitOutcomeUnknown, SessionExists, StorageRefused
from turnkeep_testkit import FaultProxy, new_commit
from turnkeep_testkit.faults import address_of, redirected

from .kit import connected, from_url, opened
from .servers import PrivateRedis

KEY = SessionKey(Scope("shop"), "s1")
LAZY = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
"""The server itself answers before what it wrote is on its disk."""


@pytest.fixture
def server(tmp_path, valkey_program):
    with PrivateRedis(tmp_path / "server", *LAZY, program=valkey_program) as server:
        yield server


@contextmanager
def replica_of(server, directory):
    """A replica of it, with a log."""
    master = f"127.0.0.1 {server.port}"
    with PrivateRedis(directory, *LAZY, "--replicaof", master, program=server.program) as replica:
        replica.wait(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")
        yield replica


def count(server, command):
    """How often the server was asked that."""
    return server.ask("INFO", "commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def test_it_travels_with_the_commit(server):
    async with FaultProxy(*address_of(server.url)) as proxy:
        led = redirected(server.url, proxy.host, proxy.port)
        async with opened(from_url(f"{led}?durability=synced")) as adapter:
            token = (await adapter.commit(new_commit(KEY, "one"))).token
            await adapter.load(KEY, LoadQuery())  # the server knows both scripts from now on
            before, waited = proxy.traffic, count(server, "waitaof")
            await adapter.load(KEY, LoadQuery())
            token = (await adapter.commit(new_commit(KEY, "two", expect=token))).token
            assert (proxy.traffic - before).round_trips == 2
            assert count(server, "waitaof") == waited + 1
            with pytest.raises(SessionExists):
                await adapter.commit(new_commit(KEY, "two"))
            assert (await adapter.load(KEY, LoadQuery())).head.token == token


async def test_what_is_acknowledged_is_in_the_log_at_once(server):
    """The log is read by a second server, while the first has not synced it by itself."""
    async with opened(from_url(f"{server.url}?durability=synced")) as adapter:
        token = (await adapter.commit(new_commit(KEY, "0"))).token
        for number in range(1, 10):
            token = (await adapter.commit(new_commit(KEY, str(number), expect=token))).token
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.resume)
        assert len((await adapter.load(KEY, LoadQuery())).messages) == 10


async def test_a_replica_that_is_missing_leaves_the_outcome_open(server, tmp_path):
    """Nobody can say that it was synced; repeated when there is one, it is answered."""
    async with opened(from_url(server.url)) as other:
        await other.commit(new_commit(SessionKey(KEY.scope, "s2"), "teaches the server the script"))
    async with opened(from_url(f"{server.url}?durability=synced&replicas=1")) as adapter:
        commit = new_commit(KEY, "one")
        with pytest.raises(CommitOutcomeUnknown):
            async with asyncio.timeout(0.3):
                await adapter.commit(commit)
        assert (await adapter.load(KEY, LoadQuery())).head.token.commit_id == commit.commit_id
        with replica_of(server, tmp_path / "replica") as replica:
            assert (await adapter.commit(commit)).replayed
            await adapter.commit(new_commit(KEY, "two", expect=Expect.ANY))
            assert replica.ask("DBSIZE") == server.ask("DBSIZE")


async def test_a_log_that_is_turned_off_leaves_the_outcome_open(server):
    """What cannot be synced is not said to be."""
    async with connected(server.url) as client, opened(from_url(f"{server.url}?durability=synced")) as adapter:
        await client.config_set("appendonly", "no")
        with pytest.raises(CommitOutcomeUnknown):
            await adapter.commit(new_commit(KEY, "one"))
        with pytest.raises(StorageRefused, match="appendonly yes"):
            await from_url(f"{server.url}?durability=synced").open()
        await client.config_set("appendonly", "yes")
