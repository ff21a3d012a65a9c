"""Processes that are killed, and processes that compete: nothing lost, nothing torn, nothing twice."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time

from turnkeep.contract import Expect, LoadQuery, Scope
from turnkeep.errors import SessionConflict, StorageTimeout
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit import new_commit, new_key

from .kit import opened, run_sql

SCOPE = Scope("crash")
WRITER = """
import asyncio, os, random, signal, sys, time
from turnkeep.contract import Expect, LoadQuery, Scope
from turnkeep_sqlite.adapter import SQLiteAdapter
from turnkeep_testkit.making import new_commit, new_key

def tell(line):  # one write is atomic: the ledger is whole up to the kill
    os.write(1, f"{line}\\n".encode())

async def talk(adapter, kill, number):
    key = new_key(Scope("crash"), f"s{number}")
    stored = await adapter.load(key, LoadQuery(0))
    token, turn = stored.head.token if stored else Expect.NEW, 0
    while True:
        commit_id = f"{kill}-{turn}"
        texts = (f"{commit_id} question", f"{commit_id} answer")
        commit = new_commit(key, *texts, expect=token, state=f'"{commit_id}"', commit_id=commit_id, digest="d")
        tell(f"try {number} {commit_id}")
        done = await adapter.commit(commit)
        tell(f"ack {number} {commit_id} {done.token.version}")
        token, turn = done.token, turn + 1

async def write(path, kill, ready):
    adapter = SQLiteAdapter(path)
    await adapter.open()
    os.write(ready, b"!")
    await asyncio.gather(*(talk(adapter, kill, number) for number in range(4)))

path, kills = sys.argv[1], int(sys.argv[2])
rng = random.Random(3)
for kill in range(kills):  # each writer is a process of its own, forked from this one to save its start
    began, ready = os.pipe()
    child = os.fork()
    if not child:
        asyncio.run(write(path, kill, ready))
    os.read(began, 1)
    time.sleep(rng.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(began)
    os.close(ready)
"""


def test_fifty_kills(tmp_path):
    path = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", WRITER, str(path), "50"], capture_output=True, timeout=100, check=True)
    ledger = [line.split() for line in done.stdout.decode().splitlines()]
    tried = [tuple(entry[1:3]) for entry in ledger if entry[0] == "try"]
    acknowledged = {tuple(entry[1:3]): int(entry[3]) for entry in ledger if entry[0] == "ack"}
    unheard = [turn for turn in tried if turn not in acknowledged]

    async def verify():
        async with opened(path) as adapter:
            report = await adapter.check()
            assert report.ok, str(report)
            committed = 0
            for number in range(4):
                key = new_key(SCOPE, f"s{number}")
                stored = await adapter.load(key, LoadQuery())
                turns = {}
                for message in stored.messages:
                    turns.setdefault(message.commit_id, []).append(message)
                # order and completeness: gap-free, each turn whole, state of the last one
                assert [message.seq for message in stored.messages] == list(range(1, stored.head.last_seq + 1))
                for commit_id, messages in turns.items():
                    assert [message.content for message in messages] == [f"{commit_id} question", f"{commit_id} answer"]
                    assert {message.turn_seq for message in messages} == {messages[0].seq}
                assert stored.head.token.version == len(turns)
                assert stored.state == f'"{stored.head.token.commit_id}"'
                # nothing lost: every acknowledged turn is there, at the version it was told
                versions = {commit_id: version for version, commit_id in enumerate(turns, 1)}
                for (session, commit_id), version in acknowledged.items():
                    if session == str(number):
                        assert versions.get(commit_id) == version
                # nothing twice: sent again with the same commit id, it is recognised
                before = stored.head.token
                for session, commit_id in unheard:
                    if session == str(number) and commit_id in turns:
                        again = await adapter.commit(
                            new_commit(key, "q", "a", expect=Expect.NEW, state="[]", commit_id=commit_id, digest="d")
                        )
                        assert again.replayed
                        assert again.token.version == versions[commit_id]
                        committed += 1
                assert (await adapter.load(key, LoadQuery(0))).head.token == before
            return committed

    committed = asyncio.run(verify())
    assert len(acknowledged) > 100
    assert len(unheard) >= 50
    assert committed > 0  # some were durable though nobody had heard
    assert run_sql(path, "PRAGMA foreign_key_check") == []


def _compete(path, results):
    async def main():
        adapter = SQLiteAdapter(path)
        await adapter.open()
        key = new_key(SCOPE, "contended")
        conflicts, longest = 0, 0.0
        for turn in range(50):
            commit_id = f"{os.getpid()}-{turn}"
            began = time.monotonic()
            while True:
                try:
                    stored = await adapter.load(key, LoadQuery(0))
                    expect = stored.head.token if stored else Expect.NEW
                    await adapter.commit(new_commit(key, "a", "b", "c", expect=expect, commit_id=commit_id))
                    break
                except SessionConflict:
                    conflicts += 1
                except StorageTimeout:
                    pass
                except Exception as error:
                    if type(error).__name__ != "SessionExists":
                        raise
            longest = max(longest, time.monotonic() - began)
        await adapter.aclose()
        return conflicts, longest

    try:
        results.put(asyncio.run(main()))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent looks at it
        results.put(repr(error))


def test_four_processes_on_one_session(tmp_path):
    path = tmp_path / "store.db"
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_compete, args=(path, results)) for _ in range(4)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=100) for _ in processes]
    for process in processes:
        process.join()
    assert all(isinstance(outcome, tuple) for outcome in outcomes), outcomes
    assert max(longest for _, longest in outcomes) < 10
    messages = run_sql(path, "SELECT seq, turn_seq, commit_id FROM turnkeep_messages ORDER BY seq")
    assert [seq for seq, _, _ in messages] == list(range(1, 601))
    assert len({commit_id for _, _, commit_id in messages}) == 200
    assert all(commit_id == messages[turn_seq - 1][2] for _, turn_seq, commit_id in messages)
    assert run_sql(path, "SELECT version, last_seq FROM turnkeep_sessions") == [(200, 600)]
