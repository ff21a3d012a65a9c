"""Turns per second: the SQLite adapter against Python's bare ``sqlite3``, interleaved in one run.

A turn loads a session with its last 50 messages, parses its data and state (metadata of messages is parsed when asked
for), and commits two messages and a new state. The bare program runs the same statements on the same tables with the
same settings and parses the same JSON, one transaction per turn, inline: no thread, no event loop, no objects made of
rows, no conflict to judge.

    python benchmarks/turn.py [--rounds 9] [--seconds 0.7] [--durability full|normal] [--dir DIRECTORY]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from turnkeep.contract import Commit, Expect, LoadQuery, NewMessage, Scope, SessionKey
from turnkeep.ids import new_id
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_sqlite.statements import Queries, Tables

SCOPE = Scope("default")
WINDOW = 50
CONTENT = "It is raining in Lisbon, and the table by the window is taken until nine. " * 5
METADATA = json.dumps({"model": "m-1", "usage": {"input": 812, "output": 164}, "locale": "pt-PT"})
STATE = json.dumps({"route_history": [{"route": "book-a-table", "entered_at": "2026-01-01T12:00:00Z"}] * 10})
DATA = json.dumps({"name": "Ana", "guests": 4})


def new_messages() -> tuple[NewMessage, ...]:
    now = datetime.now(UTC)
    rest = (None, None, None, "book-a-table", "guests", None, METADATA, None, now)
    return tuple(NewMessage(new_id(), role, CONTENT, "plain", *rest) for role in ("user", "assistant"))


class Bare:
    """What one would write by hand, with nothing between the program and ``sqlite3``."""

    def __init__(self, path: Path, durability: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA synchronous = {durability}")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.sql = Queries.load(Tables())

    def turn(self, session_id: str) -> None:
        execute, sql, identity = self.connection.execute, self.sql, ("default", session_id)
        execute("BEGIN")
        head = execute(sql.find_session, identity).fetchone()
        incarnation, last_seq = head[10], head[13]
        life = (*identity, incarnation)
        rows = execute(sql.read_messages, (*life, last_seq - WINDOW + 1, last_seq)).fetchall()
        if rows[0][14] < rows[0][13]:
            rows[:0] = execute(sql.read_messages, (*life, rows[0][14], rows[0][13] - 1)).fetchall()
        execute("ROLLBACK")
        json.loads(head[-2])
        json.loads(head[-1])

        commit_id, now = new_id(), f"{datetime.now(UTC).isoformat(timespec='microseconds')[:26]}Z"
        execute("BEGIN IMMEDIATE")
        row = execute(sql.find_head, identity).fetchone()
        execute(sql.find_commit, (*life, commit_id)).fetchone()
        if (row[10:13]) != head[10:13]:
            raise RuntimeError("conflict")
        counters = (row[11] + 1, commit_id, last_seq + 2, row[14])
        execute(
            sql.update_session, (*row[1:5], now, row[6], now, row[9], *counters, None, None, None, STATE, *identity)
        )
        execute(sql.insert_commit, (commit_id, "d" * 64, row[11] + 1, 0, last_seq + 1, last_seq + 2, 2, now, *life))
        place = (last_seq + 1, commit_id, *life, now)
        self.connection.executemany(
            sql.insert_message,
            [(*message[:12], now, last_seq + number, *place) for number, message in enumerate(new_messages(), 1)],
        )
        execute("COMMIT")


async def turn(adapter: SQLiteAdapter, session_id: str) -> None:
    key = SessionKey(SCOPE, session_id)
    session = await adapter.load(key, LoadQuery(WINDOW))
    assert session is not None
    json.loads(session.data)
    json.loads(session.state)
    await adapter.commit(Commit(key, new_id(), "d" * 64, session.head.token, new_messages(), state=STATE))


async def fill(adapter: SQLiteAdapter, session_ids: list[str]) -> None:
    async def one(session_id: str) -> None:
        messages = new_messages() * (WINDOW // 2 + 1)
        await adapter.commit(
            Commit(SessionKey(SCOPE, session_id), new_id(), "d" * 64, Expect.NEW, messages[:1], data=DATA)
        )
        for begin in range(0, WINDOW, 2):
            await adapter.commit(
                Commit(SessionKey(SCOPE, session_id), new_id(), "d" * 64, Expect.ANY, messages[begin : begin + 2])
            )

    await asyncio.gather(*map(one, session_ids))


async def run_adapter(adapter: SQLiteAdapter, session_ids: list[str], seconds: float) -> float:
    """Turns per second, each session a task of its own."""
    began = time.perf_counter()

    async def talk(session_id: str) -> int:
        turns = 0
        while time.perf_counter() - began < seconds:
            await turn(adapter, session_id)
            turns += 1
        return turns

    return sum(await asyncio.gather(*map(talk, session_ids))) / (time.perf_counter() - began)


def run_bare(bare: Bare, session_ids: list[str], seconds: float) -> float:
    """Turns per second, one session after the other."""
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        bare.turn(session_ids[turns % len(session_ids)])
        turns += 1
    return turns / (time.perf_counter() - began)


async def compare(directory: Path, sessions: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Pairs of (adapter, bare) turns per second; each has a file of its own, and they take turns at going first."""
    session_ids = [f"session_{number:032d}" for number in range(sessions)]
    paths = [directory / f"{name}-{sessions}.db" for name in ("adapter", "bare")]
    for path in paths:
        filler = SQLiteAdapter(path, durability="normal")
        await filler.open()
        await fill(filler, session_ids)
        await filler.aclose()
    adapter = SQLiteAdapter(paths[0], durability=options.durability)
    await adapter.open()
    bare = Bare(paths[1], options.durability)
    pairs: list[tuple[float, float]] = []
    with closing(bare.connection):
        for number in range(options.rounds + 1):
            if number % 2:
                right = run_bare(bare, session_ids, options.seconds)
                left = await run_adapter(adapter, session_ids, options.seconds)
            else:
                left = await run_adapter(adapter, session_ids, options.seconds)
                right = run_bare(bare, session_ids, options.seconds)
            pairs.append((left, right))
    await adapter.aclose()
    return pairs[1:]  # the first round warms up


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each side, in each round")
    parser.add_argument("--durability", choices=("full", "normal"), default="full")
    parser.add_argument("--dir", help="where the databases are made; the system's temporary directory unless given")
    options = parser.parse_args()
    print(f"SQLite {sqlite3.sqlite_version}, durability={options.durability}, medians of {options.rounds} rounds")
    print(f"{'sessions':>8} {'adapter turns/s':>16} {'bare turns/s':>13} {'ratio':>6} {'(lowest - highest)':>19}")
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for sessions in (1, 64):
            pairs = await compare(Path(directory), sessions, options)
            ratios = sorted(left / right for left, right in pairs)
            left, right = (statistics.median(side) for side in zip(*pairs, strict=True))
            spread = f"({ratios[0]:.2f} - {ratios[-1]:.2f})"
            print(f"{sessions:>8} {left:>16,.0f} {right:>13,.0f} {statistics.median(ratios):>6.2f} {spread:>19}")


if __name__ == "__main__":
    asyncio.run(main())
