"""Turns per second: the SQLite adapter against Python's bare ``sqlite3``, interleaved in one run.

A turn loads a session with its last 50 messages, parses its data and state (metadata of messages is parsed when asked
for), and commits two messages and a new state. The bare program runs the same statements on the same tables with the
same settings and parses the same JSON, one transaction per turn, with no objects made of rows and no conflict to judge:

- ``inline``: one session after the other, the whole process waiting for each statement and sync;
- ``thread``: a task for each session, the statements in one thread beside the event loop, as an async program must.

What a sync costs decides over what 64 sessions gain by sharing one; ``--durability normal`` shows the rest alone.
A turn is handed to a thread and back, twice. That wakes a processor which may have gone to sleep, and in a virtual
machine this alone can cost as much as the turn. ``--one-processor`` shows what the program costs without it.

    python benchmarks/turn.py [--rounds 9] [--seconds 0.5] [--durability full|normal] [--dir DIRECTORY]
                              [--one-processor]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload import DATA, SCOPE, STATE, WINDOW, new_messages, parse, run_tasks, turn

from turnkeep.contract import Commit, Expect, SessionKey
from turnkeep.ids import new_id
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_sqlite.statements import Queries, Tables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Bare:
    """What one would write by hand, with nothing between the program and ``sqlite3``."""

    def __init__(self, path: Path, durability: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute(f"PRAGMA synchronous = {durability}")
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.sql = Queries.load(Tables())

    def load(self, session_id: str) -> tuple[Any, ...]:
        execute, sql, identity = self.connection.execute, self.sql, ("default", session_id)
        execute("BEGIN")
        head = execute(sql.find_session, identity).fetchone()
        life, last_seq = (*identity, head[10]), head[13]
        rows = execute(sql.read_messages, (*life, last_seq - WINDOW + 1, last_seq)).fetchall()
        if rows[0][14] < rows[0][13]:
            rows[:0] = execute(sql.read_messages, (*life, rows[0][14], rows[0][13] - 1)).fetchall()
        execute("ROLLBACK")
        return head

    def commit(self, session_id: str, head: tuple[Any, ...]) -> None:
        execute, sql, identity = self.connection.execute, self.sql, ("default", session_id)
        commit_id, now = new_id(), f"{datetime.now(UTC).isoformat(timespec='microseconds')[:26]}Z"
        execute("BEGIN IMMEDIATE")
        row = execute(sql.find_head, identity).fetchone()
        life, version, last_seq = (*identity, row[10]), row[11] + 1, row[13]
        execute(sql.find_commit, (*life, commit_id)).fetchone()
        if row[10:13] != head[10:13]:
            raise RuntimeError("conflict")
        counters = (version, commit_id, last_seq + 2, row[14])
        execute(
            sql.update_session, (*row[1:5], now, row[6], now, row[9], *counters, None, None, None, STATE, *identity)
        )
        execute(sql.insert_commit, (commit_id, "d" * 64, version, 0, last_seq + 1, last_seq + 2, 2, now, *life))
        place = (last_seq + 1, commit_id, *life, now)
        messages = [(*message[:12], now, last_seq + number, *place) for number, message in enumerate(new_messages(), 1)]
        self.connection.executemany(sql.insert_message, messages)
        execute("COMMIT")

    def turn(self, session_id: str) -> None:
        head = self.load(session_id)
        parse(head[-2], head[-1])
        self.commit(session_id, head)


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


async def run_bare(bare: Bare, session_ids: list[str], seconds: float) -> float:
    """Turns per second inline, one session after the other."""
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        bare.turn(session_ids[turns % len(session_ids)])
        turns += 1
    return turns / (time.perf_counter() - began)


async def run_bare_in_thread(bare: Bare, session_ids: list[str], seconds: float) -> float:
    """Turns per second of a program that must not block its event loop: every statement in one other thread."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:

        async def turn(session_id: str) -> None:
            head = await loop.run_in_executor(executor, bare.load, session_id)
            parse(head[-2], head[-1])
            await loop.run_in_executor(executor, bare.commit, session_id, head)

        return await run_tasks(turn, session_ids, seconds)


async def compare(directory: Path, sessions: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Turns per second of each contender, round by round; each has a file of its own, and they go first in turns."""
    session_ids = [f"session_{number:032d}" for number in range(sessions)]
    names = ["adapter", "inline", "thread"]
    paths = {name: directory / f"{name}-{sessions}.db" for name in names}
    for path in paths.values():
        filler = SQLiteAdapter(path, durability="normal")
        await filler.open()
        await fill(filler, session_ids)
        await filler.aclose()
    adapter = SQLiteAdapter(paths["adapter"], durability=options.durability)
    await adapter.open()
    inline, thread = Bare(paths["inline"], options.durability), Bare(paths["thread"], options.durability)
    contenders: dict[str, Callable[[], Awaitable[float]]] = {
        "adapter": lambda: run_tasks(partial(turn, adapter), session_ids, options.seconds),
        "inline": lambda: run_bare(inline, session_ids, options.seconds),
        "thread": lambda: run_bare_in_thread(thread, session_ids, options.seconds),
    }
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds + 1):
        for name in names[number % 3 :] + names[: number % 3]:
            speed = await contenders[name]()
            if number:  # the first round warms up
                found[name].append(speed)
    await adapter.aclose()
    inline.connection.close()
    thread.connection.close()
    return found


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender, in each round")
    parser.add_argument("--durability", choices=("full", "normal"), default="full")
    parser.add_argument("--dir", help="where the databases are made; the system's temporary directory unless given")
    parser.add_argument("--one-processor", action="store_true", help="of those this process may use; on Linux")
    options = parser.parse_args()
    if options.one_processor:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"SQLite {sqlite3.sqlite_version}, durability={options.durability}; medians of {options.rounds} rounds")
    print("sessions  against       adapter/s    bare/s   ratio  (lowest to highest)")
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for sessions in (1, 64):
            found = await compare(Path(directory), sessions, options)
            for name in ("inline", "thread"):
                ratios = sorted(left / right for left, right in zip(found["adapter"], found[name], strict=True))
                ours, theirs = statistics.median(found["adapter"]), statistics.median(found[name])
                spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
                figures = f"{ours:>10,.0f}{theirs:>10,.0f}{statistics.median(ratios):>8.2f}"
                print(f"{sessions:>8}  bare {name:7} {figures}  {spread}")


if __name__ == "__main__":
    asyncio.run(main())
