"""Turns per second: the OpenSearch adapter against the bare client, interleaved in one run on one server.

A turn loads a session with its last 50 messages, parses its data and state, and commits two messages and a new state.
The bare program does the same with the same documents, mappings and scripts: it reads the head by its id, and sends the
two messages and the remembered commit by one update that compares the version; each eighth turn it writes 16 documents
first. It makes no objects of what it reads, and judges nothing.

Each contender has sessions of its own. ``cpu`` is the time of this process in a turn, which a slow or busy server does
not blur. ``requests`` and ``sent`` are the adapter's per turn, counted. With ``--history`` the two lengths that are
compared can be set: a turn after 10,000 messages should take what one after 50 takes (after fewer, there is less to
load).

    python benchmarks/turn_opensearch.py opensearch://127.0.0.1:9200 [--rounds 9] [--seconds 1] [--sessions 1 16]
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

from opensearchpy import AsyncOpenSearch
from workload import CONTENT, DATA, METADATA, SCOPE, STATE, WINDOW, new_messages, parse, turn

from turnkeep.contract import Commit, Expect, SessionKey
from turnkeep.ids import new_id
from turnkeep.retention import to_microseconds
from turnkeep.urls import StorageURL
from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_opensearch.scripts import SWAP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OUTBOX = 16


class Bare:
    """What one would write by hand, with nothing between the program and opensearch-py."""

    def __init__(self, client: AsyncOpenSearch, names: dict[str, str]) -> None:
        self.client, self.names = client, names

    async def turn(self, session_id: str) -> float:
        began = time.perf_counter()
        found = await self.client.get(
            index=self.names["sessions"], id=f"default/{session_id}", params={"preference": "_primary"}
        )
        head = found["_source"]
        parse(head["collected_data"], head["state"])
        await self.commit(head)
        return time.perf_counter() - began

    async def commit(self, head: dict[str, Any]) -> None:
        now, commit_id, seq = datetime.now(UTC), new_id(), head["last_seq"]
        stamp = to_microseconds(now)
        waiting = [item for item in head["tail"] if item["seq"] > head["flushed"]]
        flushed = head["flushed"]
        if len(waiting) >= OUTBOX:
            place = {name: head[name] for name in ("namespace", "session_id", "incarnation", "user_id")}
            place["session"] = f"default/{head['session_id']}"
            lines = []
            for item in waiting:
                lines += [{"create": {"_id": f"{head['incarnation']}#{item['seq']:010d}"}}, {**place, **item}]
            await self.client.bulk(body=lines, index=self.names["messages"], params={"require_alias": "true"})
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
        fields |= {"message_count": seq + 2, "flushed": flushed, "waiting": seq + 2 - flushed, "attempt": new_id()}
        params = {name: head[name] for name in ("incarnation", "version", "last_commit")}
        params |= {"fields": fields, "line": line, "past": 32, "items": items, "kept": kept}
        done = await self.client.update(
            index=self.names["sessions"],
            id=f"default/{head['session_id']}",
            body={"script": {"source": SWAP, "lang": "painless", "params": params}},
            params={"require_alias": "true", "_source": "attempt", "retry_on_conflict": "3"},
        )
        if done["result"] != "updated":
            raise RuntimeError("conflict")


class Ours:
    """The adapter."""

    def __init__(self, adapter: OpenSearchAdapter) -> None:
        self.adapter = adapter

    async def turn(self, session_id: str) -> float:
        began = time.perf_counter()
        await turn(self.adapter, session_id)
        return time.perf_counter() - began


async def fill(adapter: OpenSearchAdapter, session_ids: list[str], history: int) -> None:
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


async def compare(adapter: OpenSearchAdapter, bare: Bare, options: argparse.Namespace) -> None:
    print(f"{'':73}p50 ms           cpu ms")
    print("sessions  history   adapter/s    bare/s   ratio  (lowest to highest)    adapter   bare  adapter   bare")
    for sessions in options.sessions:
        medians: list[float] = []
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
            medians.append(ours.median)
            spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            speeds = f"{ours.turns:>12,.0f}{bares.turns:>10,.0f}{statistics.median(ratios):>8.2f}  {spread:22}"
            times = f"{ours.median:>9.2f}{bares.median:>7.2f}{ours.cpu:>9.2f}{bares.cpu:>7.2f}"
            print(f"{sessions:>8}{history:>9,}{speeds}{times}", flush=True)
        print(f"{'':8} p50 at {options.history[-1]:,} against {options.history[0]:,}: {medians[-1] / medians[0]:.2f}")


class Counted(AsyncOpenSearch):
    """A client that counts what it sends."""

    requests = sent = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        perform = self.transport.perform_request

        async def counting(method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            self.requests += 1
            self.sent += len((kwargs.get("body") or "").encode())
            return await perform(method, url, *args, **kwargs)

        self.transport.perform_request = counting


async def count(client: Counted, adapter: OpenSearchAdapter, history: int) -> None:
    """What 80 turns of one session send."""
    session_id = f"counted-{secrets.token_hex(8)}"
    await fill(adapter, [session_id], history)
    for _ in range(40):  # until tail and ring are full
        await turn(adapter, session_id)
    client.requests = client.sent = 0
    for _ in range(80):
        await turn(adapter, session_id)
    found = await client.get(index=adapter._indices.sessions, id=f"default/{session_id}")
    head = len(json.dumps(found["_source"], ensure_ascii=False).encode())
    requests, sent = client.requests / 80, client.sent / 80
    print(f"after {history:>6,} messages: {requests:.2f} requests, {sent:,.0f} bytes sent a turn; head {head:,} bytes")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a server; indices of its own are made there and removed again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contender, in each round")
    parser.add_argument("--sessions", type=int, nargs="+", default=(1, 16), help="how many talk at the same time")
    parser.add_argument("--history", type=int, nargs=2, default=(10, 10_000), help="messages before the first turn")
    options = parser.parse_args()
    url = StorageURL(options.url)
    hosts = [{"host": url.host, "port": url.port}]
    stem = f"turnkeep_bench_{secrets.token_hex(8)}"
    names = {"sessions": f"{stem}_sessions", "messages": f"{stem}_messages"}
    async with AsyncOpenSearch(hosts=hosts) as client, Counted(hosts=hosts) as counted:
        adapter, counting = OpenSearchAdapter(client, names), OpenSearchAdapter(counted, names)
        await adapter.open()
        await counting.open()
        version = (await client.info())["version"]["number"]
        print(f"server {version}, one node, translog request; medians of {options.rounds} rounds")
        try:
            for history in options.history:
                await count(counted, counting, history)
            await compare(adapter, Bare(client, names), options)
        finally:
            await adapter.aclose()
            await counting.aclose()
            await client.indices.delete(index=",".join(f"{name}-1" for name in names.values()))


if __name__ == "__main__":
    asyncio.run(main())
