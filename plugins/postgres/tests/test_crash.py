"""Processes that are killed, and processes that compete: nothing lost, nothing torn, nothing twice."""

import asyncio
import random
import time
from functools import partial

import pytest

from turnkeep.contract import Expect, LoadQuery, Scope
from turnkeep.errors import StorageError
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit import new_commit, new_key
from turnkeep_testkit.faults import ProcessFaultSuite

from .kit import opened, schema, server_url

__all__ = ["schema"]

SCOPE = Scope("crash")
SESSIONS = 4


async def verify(adapter, tried, acknowledged):
    """Holds what is stored to the ledger; how many turns were stored that nobody had heard of."""
    unheard = 0
    for number in range(SESSIONS):
        key = new_key(SCOPE, f"s{number}")
        stored = await adapter.load(key, LoadQuery())
        turns = {}
        for message in stored.messages:
            turns.setdefault(message.commit_id, []).append(message)
        assert [message.seq for message in stored.messages] == list(range(1, stored.head.last_seq + 1))
        for commit_id, messages in turns.items():
            assert [message.content for message in messages] == [f"{commit_id} question", f"{commit_id} answer"]
            assert {message.turn_seq for message in messages} == {messages[0].seq}
        assert stored.head.token.version == len(turns)
        assert stored.state == f'"{stored.head.token.commit_id}"'
        versions = {commit_id: version for version, commit_id in enumerate(turns, 1)}
        for commit_id, version in acknowledged.get(str(number), {}).items():
            assert versions.get(commit_id) == version, "an acknowledged turn is lost"
        for commit_id in tried.get(str(number), ()):
            if commit_id in turns and commit_id not in acknowledged.get(str(number), {}):
                again = new_commit(key, "q", "a", expect=Expect.NEW, state="[]", commit_id=commit_id, digest="d")
                assert (await adapter.commit(again)).replayed
                unheard += 1
        assert (await adapter.load(key, LoadQuery(0))).head.token == stored.head.token
    return unheard


class TestProcesses(ProcessFaultSuite):
    @pytest.fixture
    def adapter_factory(self, schema):
        return partial(PostgreSQLAdapter, server_url(), schema=schema, max_size=4)


async def test_a_killed_server_loses_no_acknowledged_turn(tmp_path, request):
    """T2: a server of the test's own is killed under 8 writers, and comes back without hands."""
    services = pytest.importorskip("tests.services.postgres", reason="this checkout cannot start a server of its own")
    kills = 20 if request.config.getoption("turnkeep_campaign") else 2
    server = services.PostgreSQL(tmp_path)
    url = await asyncio.to_thread(server.start)
    acknowledged, tried, slowest = {}, {}, 0.0
    try:
        async with opened(url, max_size=8) as adapter:
            stop = asyncio.Event()
            writers = [asyncio.create_task(_write(adapter, n, stop, tried, acknowledged)) for n in range(SESSIONS)]
            for _ in range(kills):
                await asyncio.sleep(0.2 + random.random() * 0.3)
                await asyncio.to_thread(server.kill)
                began, heard = time.monotonic(), sum(map(len, acknowledged.values()))
                await asyncio.to_thread(server.resume)
                while sum(map(len, acknowledged.values())) == heard:
                    await asyncio.sleep(0.01)
                    assert time.monotonic() - began < 60, "no commit after the server came back"
                slowest = max(slowest, time.monotonic() - began)
            stop.set()
            await asyncio.gather(*writers)
            unheard = await verify(adapter, tried, acknowledged)
    finally:
        await asyncio.to_thread(server.stop)
    count = sum(map(len, acknowledged.values()))
    print(f"T2: {kills} kills, {count} acknowledged, {unheard} unheard, 0 lost; back in {slowest:.1f} s at most")


async def _write(adapter, number, stop, tried, acknowledged):
    """Turns on one session; whatever becomes of one, it goes on from what is stored."""
    key, token, turn = new_key(SCOPE, f"s{number}"), Expect.NEW, 0
    while not stop.is_set():
        commit_id = f"{number}-{turn}"
        turn += 1
        texts = (f"{commit_id} question", f"{commit_id} answer")
        tried.setdefault(str(number), []).append(commit_id)
        try:
            done = await adapter.commit(
                new_commit(key, *texts, expect=token, state=f'"{commit_id}"', commit_id=commit_id, digest="d")
            )
            acknowledged.setdefault(str(number), {})[commit_id] = done.token.version
            token = done.token
        except StorageError:
            while not stop.is_set():
                try:
                    stored = await adapter.load(key, LoadQuery(0))
                    token = stored.head.token if stored else Expect.NEW
                    break
                except StorageError:
                    await asyncio.sleep(0.05)
