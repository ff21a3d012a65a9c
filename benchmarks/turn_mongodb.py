"""Turns per second: the MongoDB adapter against bare PyMongo, interleaved in one run on one server.

A turn loads a session with its last 50 messages, parses its data and state, and commits two messages and a new state.
The bare program does the same with the same documents, concerns and indexes: it finds the head, and pushes the two
messages and the remembered commit by one update that compares the version; each eighth turn it writes 16 documents
first. It makes no objects of what it reads, and judges nothing.

Each contender has sessions of its own. ``cpu`` is the time of this process in a turn, which a slow or busy server does
not blur. With ``--history`` the two lengths that are compared can be set: a turn after 10,000 messages should take what
one after 50 takes (after fewer, there is less to load). A server that slows down as its collections grow slows both
contenders down; what the adapter adds is the one's growth by the other's.

    python benchmarks/turn_mongodb.py mongodb://127.0.0.1:27017 [--rounds 9] [--seconds 1] [--sessions 1 16]
                                                                [--history 10 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pymongo import AsyncMongoClient
from workload import CONTENT, DATA, METADATA, SCOPE, STATE, WINDOW, new_messages, parse, turn

from turnkeep.contract import Commit, Expect, SessionKey
from turnkeep.ids import new_id
from turnkeep.retention import to_microseconds
from turnkeep_mongodb import MongoDBAdapter
from turnkeep_mongodb.names import Collections, Names
from turnkeep_mongodb.schema import INDEXES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OUTBOX = 16


class Bare:
    """What one would write by hand, with nothing between the program and PyMongo."""

    def __init__(self, collections: Collections) -> None:
        self.sessions, self.messages = collections.sessions, collections.messages

    async def turn(self, session_id: str) -> float:
        began = time.perf_counter()
        head = await self.sessions.find_one({"_id": f"default/{session_id}"})
        assert head is not None
        parse(head["collected_data"], head["state"])
        await self.commit(head)
        return time.perf_counter() - began

    async def commit(self, head: dict[str, Any]) -> None:
        now, commit_id, seq = datetime.now(UTC), new_id(), head["last_seq"]
        stamp = to_microseconds(now)
        waiting = [item for item in head["tail"] if item["seq"] > head["flushed"]]
        flushed = head["flushed"]
        if len(waiting) >= OUTBOX:
            place = {name: head[name] for name in ("namespace", "session_id", "incarnation")} | {"session": head["_id"]}
            await self.messages.insert_many(
                [{"_id": f"{head['incarnation']}#{item['seq']:010d}", **place, **item} for item in waiting],
                ordered=False,
            )
            flushed = seq
        items = [
            {
                "seq": seq + number,
                "turn_seq": seq + 1,
                "commit_id": commit_id,
                "id": new_id(),
                "role": role,
                "content": CONTENT,
                "route": "book-a-table",
                "step": "guests",
                "metadata": METADATA,
                "created_at": now,
                "created_us": stamp,
                "bytes": len(CONTENT) + len(METADATA),
            }
            for number, role in enumerate(("user", "assistant"), 1)
        ]
        kept = max(WINDOW, seq - flushed) + 2
        line = json.dumps([commit_id, "d" * 64, head["version"] + 1, False, seq + 1, seq + 2, seq + 2, stamp])
        fields = {"last_message_at": now, "last_message_us": stamp, "updated_at": now, "updated_us": stamp}
        fields |= {"version": head["version"] + 1, "last_commit": commit_id, "last_seq": seq + 2, "state": STATE}
        fields |= {"message_count": seq + 2, "flushed": flushed}
        pushed = {"tail": {"$each": items, "$slice": -kept}, "recent": {"$each": [line], "$slice": -32}}
        where = {"_id": head["_id"], "version": head["version"], "last_commit": head["last_commit"]}
        done = await self.sessions.update_one(where, {"$set": fields, "$push": pushed})
        if done.matched_count != 1:
            raise RuntimeError("conflict")


class Ours:
    """The adapter."""

    def __init__(self, adapter: MongoDBAdapter) -> None:
        self.adapter = adapter

    async def turn(self, session_id: str) -> float:
        began = time.perf_counter()
        await turn(self.adapter, session_id)
        return time.perf_counter() - began


async def fill(adapter: MongoDBAdapter, session_ids: list[str], history: int) -> None:
    async def one(session_id: str) -> None:
        key = SessionKey(SCOPE, session_id)
        done = await adapter.commit(Commit(key, new_id(), "d" * 64, Expect.NEW, data=DATA))
        while done.message_count < history:
            size = 500 if history - done.message_count > 600 else 2
            done = await adapter.commit(Commit(key, new_id(), "d" * 64, Expect.ANY, new_messages(size)))

    await asyncio.gather(*map(one, session_ids))


class Speed(NamedTuple):
    """Turns per second; the median of a turn, and this process's part in one, in milliseconds."""

    turns: float
    median: float
    cpu: float


async def run(turn: Callable[[str], Awaitable[float]], session_ids: list[str], seconds: float) -> Speed:
    """How fast it goes, each session being a task of its own."""
    began, busy = time.perf_counter(), time.process_time()
    took: list[float] = []

    async def talk(session_id: str) -> None:
        while time.perf_counter() - began < seconds:
            took.append(await turn(session_id))

    await asyncio.gather(*map(talk, session_ids))
    elapsed, spent = time.perf_counter() - began, time.process_time() - busy
    return Speed(len(took) / elapsed, statistics.median(took) * 1000, spent / len(took) * 1000)


async def compare(adapter: MongoDBAdapter, bare: Bare, options: argparse.Namespace) -> None:
    print(f"{'':73}p50 ms           cpu ms")
    print("sessions  history   adapter/s    bare/s   ratio  (lowest to highest)    adapter   bare  adapter   bare")
    for sessions in options.sessions:
        medians: list[tuple[float, float]] = []
        for history in options.history:
            ids = {name: [f"{name}-{secrets.token_hex(8)}" for _ in range(sessions)] for name in ("adapter", "bare")}
            for names in ids.values():
                await fill(adapter, names, history)
            turns = {"adapter": Ours(adapter).turn, "bare": bare.turn}
            found: dict[str, list[Speed]] = {"adapter": [], "bare": []}
            for number in range(options.rounds + 1):
                for name in sorted(found, reverse=bool(number % 2)):
                    speed = await run(turns[name], ids[name], options.seconds)
                    if number:  # the first round warms up
                        found[name].append(speed)
            ratios = sorted(a.turns / b.turns for a, b in zip(found["adapter"], found["bare"], strict=True))
            ours, bares = (Speed(*map(statistics.median, zip(*found[name], strict=True))) for name in found)
            medians.append((ours.median, bares.median))
            spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            speeds = f"{ours.turns:>12,.0f}{bares.turns:>10,.0f}{statistics.median(ratios):>8.2f}  {spread:22}"
            times = f"{ours.median:>9.2f}{bares.median:>7.2f}{ours.cpu:>9.2f}{bares.cpu:>7.2f}"
            print(f"{sessions:>8}{history:>9,}{speeds}{times}", flush=True)
        grown, bare_grown = (long / short for short, long in zip(*medians, strict=True))
        lengths = "p50 at {1:,} against {0:,}".format(*options.history)
        print(f"{'':8} {lengths}: adapter {grown:.2f}, bare {bare_grown:.2f}; ratio {grown / bare_grown:.2f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a server; a database of its own is made there and emptied again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender, in each round")
    parser.add_argument("--sessions", type=int, nargs="+", default=(1, 16), help="how many talk at the same time")
    parser.add_argument("--history", type=int, nargs=2, default=(10, 10_000), help="messages before the first turn")
    options = parser.parse_args()
    database = f"turnkeep_bench_{secrets.token_hex(8)}"
    async with AsyncMongoClient(options.url) as client:
        adapter = MongoDBAdapter(client, database)
        await adapter.open()
        version = (await client.admin.command("buildInfo"))["version"]
        print(f"server {version}, {len(INDEXES)} indexes, w=majority j=true; medians of {options.rounds} rounds")
        try:
            await compare(adapter, Bare(Collections.of(client, database, Names())), options)
        finally:
            await adapter.aclose()
            for name in await client[database].list_collection_names():
                await client[database][name].drop()


if __name__ == "__main__":
    asyncio.run(main())
