"""T17: slots that move while sessions are written to, and masters that die."""

import asyncio
from itertools import groupby

import pytest

from turnkeep.contract import Expect, LoadQuery, Scope, SessionKey, SessionQuery
from turnkeep.errors import (
    CommitOutcomeUnknown,
    SessionConflict,
    SessionExists,
    SessionNotFound,
    StorageTimeout,
    StorageUnavailable,
)
from turnkeep_redis.keys import Keys
from turnkeep_testkit import new_commit

from .kit import connected, from_url, opened
from .servers import PrivateCluster, PrivateRedis

WRITERS = 4
SCOPE = Scope("shop")


class Writer:
    """Commits turns to one session, each until it is acknowledged, and remembers which were."""

    def __init__(self, adapter, number):
        self.adapter = adapter
        self.key = SessionKey(SCOPE, f"s{number}")
        self.acknowledged = []
        self.conflicts = self.unknown = 0

    async def write(self, stop):
        expect, number = Expect.NEW, 0
        while not stop.is_set():
            number += 1
            commit = new_commit(self.key, f"{number} a", f"{number} b", expect=expect, state=str(number))
            try:
                expect = (await self.send(commit)).token
                self.acknowledged.append(number)
            except (SessionConflict, SessionExists, SessionNotFound):
                # Acknowledged turns went with a master that died: told as a conflict, and seen by loading anew.
                self.conflicts += 1
                stored = await self.repeat(lambda: self.adapter.load(self.key, LoadQuery(0)))
                expect = stored.head.token if stored else Expect.NEW

    async def send(self, commit):
        return await self.repeat(lambda: self.adapter.commit(commit))

    async def repeat(self, call):
        for _ in range(600):
            try:
                return await call()
            except CommitOutcomeUnknown:
                self.unknown += 1
            except (StorageUnavailable, StorageTimeout):
                pass
            await asyncio.sleep(0.05)
        raise AssertionError("the cluster did not come back within half a minute")

    async def expect_whole(self, *, complete):
        """Turns are whole, once and in order; all acknowledged ones are there if none may be lost."""
        stored = await self.adapter.load(self.key, LoadQuery())
        turns = [list(turn) for _, turn in groupby(stored.messages, key=lambda message: message.turn_seq)]
        numbers = [int(turn[0].content.split()[0]) for turn in turns]
        assert [[message.content for message in turn] for turn in turns] == [[f"{n} a", f"{n} b"] for n in numbers]
        assert numbers == sorted(set(numbers))
        assert stored.head.token.version == len(turns)
        assert stored.state == str(numbers[-1])
        lost = set(self.acknowledged) - set(numbers)
        assert not (complete and lost)
        return len(lost)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with PrivateCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


async def move(cluster, slot, source, target):
    """Moves one slot with all its keys, as a resharding does."""
    ask = asyncio.to_thread
    await ask(target.ask, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    await ask(source.ask, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    while keys := await ask(source.ask, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        await ask(source.ask, "MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000)
        await asyncio.sleep(0.002)  # the session's keys lie on two nodes meanwhile
    for node in (target, source):
        await ask(node.ask, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))


async def test_slots_move_while_four_write(cluster):
    async with opened(from_url(cluster.url)) as adapter, connected(cluster.url) as client:
        await client.initialize()
        writers = [Writer(adapter, number) for number in range(WRITERS)]
        stop = asyncio.Event()
        tasks = [asyncio.create_task(writer.write(stop)) for writer in writers]
        await asyncio.sleep(0.3)
        keys, moves = Keys("turnkeep:"), 0
        for _ in range(3):
            for writer in writers:
                names = (keys.session(writer.key)[0], keys.due(keys.shard("shop", writer.key.session_id)))
                for name in names:
                    slot = client.keyslot(name)
                    owner = client.get_node_from_key(name).port
                    source = next(node for node in cluster.masters if node.port == owner)
                    target = cluster.masters[(cluster.masters.index(source) + 1) % 3]
                    await move(cluster, slot, source, target)
                    await client.nodes_manager.initialize()
                    moves += 1
            await client.script_flush()
        stop.set()
        await asyncio.gather(*tasks)
        for writer in writers:
            assert len(writer.acknowledged) > 10
            assert writer.conflicts == 0
            await writer.expect_whole(complete=True)
        page = await adapter.find_sessions(SessionQuery(SCOPE, 10))
        assert {head.session_id for head in page.items} == {writer.key.session_id for writer in writers}
        turns = sum(len(writer.acknowledged) for writer in writers)
        print(f"T17: {moves} slots moved under {turns} turns of {WRITERS} writers, 0 torn, 0 lost, 0 twice")


async def test_a_cluster_is_opened_without_its_table_of_commands(cluster):
    """Which redis-py asks every cluster for: some 35,000 values, for calls whose slot it has to find out itself."""
    for node in cluster.nodes:
        node.ask("CONFIG", "RESETSTAT")
    async with opened(from_url(f"{cluster.url}?key_prefix=opened:")) as adapter:
        await adapter.commit(new_commit(SessionKey(SCOPE, "s1"), "one"))
        assert (await adapter.check()).ok
    called = {name for node in cluster.nodes for name in node.ask("INFO", "commandstats")}
    assert "cmdstat_cluster|slots" in called
    assert "cmdstat_command" not in called


async def test_a_master_dies_and_its_replica_takes_over(tmp_path):
    with PrivateCluster(tmp_path, masters=3, replicas=1) as cluster:
        async with opened(from_url(cluster.url)) as adapter:
            writers = [Writer(adapter, number) for number in range(WRITERS * 2)]
            stop = asyncio.Event()
            tasks = [asyncio.create_task(writer.write(stop)) for writer in writers]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(cluster.masters[1].kill)
            before = [len(writer.acknowledged) for writer in writers]
            for _ in range(400):
                if all(len(writer.acknowledged) > old + 5 for writer, old in zip(writers, before, strict=True)):
                    break
                await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*tasks)
            lost = sum([await writer.expect_whole(complete=False) for writer in writers])
            conflicts = sum(writer.conflicts for writer in writers)
            assert lost == 0 or conflicts > 0, "what was lost has to be told"
            turns = sum(len(writer.acknowledged) for writer in writers)
            print(f"T17: failover under {turns} turns: {lost} lost, {conflicts} conflicts told, 0 torn, 0 interleaved")


async def test_sentinel_leads_to_the_new_master(tmp_path):
    with PrivateRedis(tmp_path / "a") as master:  # noqa: SIM117 - the replica needs its port
        with PrivateRedis(tmp_path / "b", "--replicaof", f"127.0.0.1 {master.port}") as replica:
            replica.wait(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up")
            settings = tmp_path / "sentinel.conf"
            settings.write_text(
                f"sentinel monitor turnkeep 127.0.0.1 {master.port} 1\n"
                "sentinel down-after-milliseconds turnkeep 500\nsentinel failover-timeout turnkeep 3000\n"
            )
            with PrivateRedis(tmp_path / "c", before=(str(settings), "--sentinel")) as sentinel:
                sentinel.wait(lambda: len(sentinel.ask("SENTINEL", "REPLICAS", "turnkeep")) == 1)
                async with opened(from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/turnkeep")) as adapter:
                    writer = Writer(adapter, 1)
                    stop = asyncio.Event()
                    task = asyncio.create_task(writer.write(stop))
                    await asyncio.sleep(0.3)
                    await asyncio.to_thread(master.kill)
                    before = len(writer.acknowledged)
                    for _ in range(400):
                        if len(writer.acknowledged) > before + 5:
                            break
                        await asyncio.sleep(0.05)
                    stop.set()
                    await task
                    assert len(writer.acknowledged) > before + 5
                    await writer.expect_whole(complete=False)
