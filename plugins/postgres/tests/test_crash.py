"""Processes that are killed, and processes that compete: nothing lost, nothing torn, nothing twice."""

import asyncio
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from turnkeep.contract import Expect, LoadQuery, Scope
from turnkeep.errors import SessionConflict, SessionExists, StorageError
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit import new_commit, new_key

from .kit import opened, run_sql, schema, server_url

__all__ = ["schema"]

SCOPE = Scope("crash")
SESSIONS = 4
WRITER = """
import asyncio, os, random, signal, sys, time
from turnkeep.contract import Expect, LoadQuery, Scope
from turnkeep_postgres.adapter import PostgreSQLAdapter
from turnkeep_testkit.making import new_commit, new_key

def tell(line):  # one write is atomic: the ledger is whole up to the kill
    os.write(1, f"{line}\\n".encode())

async def talk(adapter, kill, number):
    key = new_key(Scope("crash"), f"s{number}")
    stored = await adapter.load(key, LoadQuery(0))
    token, turn = stored.head.token if stored else Expect.NEW, 0
    while True:
        commit_id = f"{kill}-{number}-{turn}"
        texts = (f"{commit_id} question", f"{commit_id} answer")
        tell(f"try {number} {commit_id}")
        commit = new_commit(key, *texts, expect=token, state=f'"{commit_id}"', commit_id=commit_id, digest="d")
        token = (await adapter.commit(commit)).token
        tell(f"ack {number} {commit_id} {token.version}")
        turn += 1

async def write(url, schema, kill, ready):
    adapter = PostgreSQLAdapter(url, schema=schema, max_size=4)
    await adapter.open()
    os.write(ready, b"!")
    await asyncio.gather(*(talk(adapter, kill, number) for number in range(4)))

url, schema, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(3)
for kill in range(kills):  # each writer is a process of its own, forked from this one to save its start
    began, ready = os.pipe()
    child = os.fork()
    if not child:
        try:
            asyncio.run(write(url, schema, kill, ready))
        finally:
            os._exit(1)  # a commit of the writer before it may still be under way: then this one ends by a conflict
    os.read(began, 1)
    time.sleep(0.06 + rng.random() * 0.08)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(began)
    os.close(ready)
"""


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


def test_killed_clients_lose_and_tear_nothing(schema, request):
    kills = 200 if request.config.getoption("turnkeep_campaign") else 15
    command = [sys.executable, "-c", WRITER, server_url(), schema, str(kills)]
    done = subprocess.run(command, capture_output=True, timeout=110, check=True)
    tried, acknowledged = {}, {}
    for kind, number, commit_id, *version in (line.split() for line in done.stdout.decode().splitlines()):
        if kind == "try":
            tried.setdefault(number, []).append(commit_id)
        else:
            acknowledged.setdefault(number, {})[commit_id] = int(version[0])

    async def look():
        async with opened(server_url(), schema=schema) as adapter:
            return await verify(adapter, tried, acknowledged)

    unheard = asyncio.run(look())
    print(f"T1: {kills} kills, {sum(map(len, acknowledged.values()))} acknowledged, {unheard} unheard, 0 lost")
    assert sum(map(len, acknowledged.values())) > kills / 3


def _compete(url, schema, turns, results):
    async def main():
        adapter = PostgreSQLAdapter(url, schema=schema)
        await adapter.open()
        key = new_key(SCOPE, "contended")
        conflicts, longest = 0, 0.0
        for turn in range(turns):
            commit_id = f"{os.getpid()}-{turn}"
            began = time.monotonic()
            while True:
                try:
                    stored = await adapter.load(key, LoadQuery(0))
                    expect = stored.head.token if stored else Expect.NEW
                    await adapter.commit(new_commit(key, "a", "b", "c", expect=expect, commit_id=commit_id))
                    break
                except (SessionConflict, SessionExists):
                    conflicts += 1
                    await asyncio.sleep(random.random() * 0.01)
            longest = max(longest, time.monotonic() - began)
        await adapter.aclose()
        return conflicts, longest

    try:
        results.put(asyncio.run(main()))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent looks at it
        results.put(repr(error))


def test_processes_on_one_session(schema, request):
    """T10: 8 processes of 250 turns in the campaign."""
    count, turns = (8, 250) if request.config.getoption("turnkeep_campaign") else (3, 15)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    began = time.monotonic()
    processes = [context.Process(target=_compete, args=(server_url(), schema, turns, results)) for _ in range(count)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=110) for _ in processes]
    for process in processes:
        process.join()
    assert all(isinstance(outcome, tuple) for outcome in outcomes), outcomes
    print(f"T10: {count * turns} turns in {time.monotonic() - began:.1f} s, {sum(o[0] for o in outcomes)} conflicts")
    messages = run_sql(server_url(), f"SELECT seq, turn_seq, commit_id FROM {schema}.turnkeep_messages ORDER BY seq")
    assert [seq for seq, _, _ in messages] == list(range(1, 3 * count * turns + 1))
    assert set(Counter(commit_id for _, _, commit_id in messages).values()) == {3}
    assert all(commit_id == messages[turn_seq - 1][2] for _, turn_seq, commit_id in messages)
    head = run_sql(server_url(), f"SELECT version, last_seq FROM {schema}.turnkeep_sessions")
    assert head == [(count * turns, 3 * count * turns)]


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
                    assert time.monotonic() - began < 20, "no commit after the server came back"
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
