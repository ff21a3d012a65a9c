"""Turns per second: the Redis adapter against bare redis-py, interleaved in one run.

A turn loads a session with its last 50 messages, parses its data and state, and commits two messages and a new state if
nobody else wrote meanwhile. The bare program does it as one would by hand with redis-py's asyncio client: a script that
reads head and messages in one go, and one that compares the version, appends and sets the same fields and the same
lists; it parses the same JSON. It judges no repeated commits, no expiry by age, no owners, and makes no objects.

    python benchmarks/turn_redis.py redis://127.0.0.1:6379/0 [--rounds 9] [--seconds 0.5] [--history]

With --history: the time of one turn after 10 and after 10,000 messages, by the adapter alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from workload import DATA, SCOPE, STATE, WINDOW, new_messages, parse, run_tasks, turn

from turnkeep.contract import Commit, Expect, NewMessage, SessionKey
from turnkeep.ids import new_id
from turnkeep.urls import StorageURL
from turnkeep_redis import RedisAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOAD = """
local head = redis.call('HMGET', KEYS[1], 'version', 'status', 'user_id', 'last_seq', 'updated_at', 'data', 'state')
return {head, redis.call('LRANGE', KEYS[2], -tonumber(ARGV[1]), -1)}
"""
COMMIT = """
local version = redis.call('HGET', KEYS[1], 'version')
if version ~= ARGV[1] then return redis.error_reply('CONFLICT') end
local now = redis.call('TIME')
local stamp = string.format('%.0f', tonumber(now[1]) * 1000000 + tonumber(now[2]))
local last = redis.call('RPUSH', KEYS[2], ARGV[4], ARGV[5])
redis.call('HSET', KEYS[1], 'version', version + 1, 'last_commit', ARGV[2], 'state', ARGV[3], 'last_seq', last,
  'updated_at', stamp, 'last_message_at', stamp)
redis.call('ZADD', KEYS[3], '-' .. stamp, ARGV[6])
return {version + 1, last, stamp}
"""


class Bare:
    """What one would write by hand, with nothing between the program and redis-py."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.load_script = client.register_script(LOAD)
        self.commit_script = client.register_script(COMMIT)

    def keys(self, session_id: str) -> list[str]:
        return [f"{self.prefix}{session_id}:head", f"{self.prefix}{session_id}:messages", f"{self.prefix}list"]

    async def fill(self, session_ids: list[str]) -> None:
        for session_id in session_ids:
            head, messages, _ = self.keys(session_id)
            fields = {"version": 1, "status": "active", "user_id": "", "last_seq": WINDOW, "data": DATA, "state": STATE}
            await self.client.hset(head, mapping=fields)
            await self.client.rpush(messages, *[write(message) for message in new_messages() * (WINDOW // 2)])

    async def turn(self, session_id: str) -> None:
        keys = self.keys(session_id)
        head, messages = await self.load_script(keys[:2], [WINDOW])
        for message in messages:
            json.loads(message)
        parse(head[5], head[6])
        asked = [write(message) for message in new_messages()]
        await self.commit_script(keys, [head[0], new_id(), STATE, *asked, session_id])


def write(message: NewMessage) -> str:
    return json.dumps([*message[:12], message.created_at.isoformat()], ensure_ascii=False, separators=(",", ":"))


async def fill(adapter: RedisAdapter, session_id: str, length: int) -> None:
    key = SessionKey(SCOPE, session_id)
    await adapter.commit(Commit(key, new_id(), "d" * 64, Expect.NEW, data=DATA))
    for start in range(0, length, 1000):
        messages = (new_messages() * 500)[: length - start]
        for begin in range(0, len(messages), 2 if length <= WINDOW else 1000):
            part = messages[begin : begin + (2 if length <= WINDOW else 1000)]
            await adapter.commit(Commit(key, new_id(), "d" * 64, Expect.ANY, part))


async def compare(adapter: RedisAdapter, bare: Bare, sessions: int, options: argparse.Namespace) -> list[list[float]]:
    """Turns per second of the two, round by round; they go first in turns."""
    session_ids = [f"session_{sessions}_{number:032d}" for number in range(sessions)]
    for session_id in session_ids:
        await fill(adapter, session_id, WINDOW)
    await bare.fill(session_ids)
    contenders: list[Callable[[str], Awaitable[None]]] = [partial(turn, adapter), bare.turn]
    found: list[list[float]] = [[], []]
    for number in range(options.rounds + 1):
        for place in (0, 1) if number % 2 else (1, 0):
            speed = await run_tasks(contenders[place], session_ids, options.seconds)
            if number:  # the first round warms up
                found[place].append(speed)
    return found


async def compare_histories(adapter: RedisAdapter, options: argparse.Namespace) -> dict[int, float]:
    """Milliseconds of a turn that loads 10 messages, after so many; the histories take turns."""
    times: dict[int, list[float]] = {10: [], 10_000: []}
    for length in times:
        await fill(adapter, f"history_{length}", length)
    short = SessionKey(SCOPE, "history_10")
    for number in range(options.rounds * 40):
        for length in times if number % 2 else reversed(times):
            began = time.perf_counter()
            await turn(adapter, f"history_{length}", 10)
            if number > 20:
                times[length].append(time.perf_counter() - began)
        # Cut back, so that it stays short.
        await adapter.commit(Commit(short, new_id(), "d" * 64, Expect.ANY, new_messages() * 5, drop_history=True))
    return {length: statistics.median(found) * 1000 for length, found in times.items()}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a server; everything is written below a prefix of its own and removed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender, in each round")
    parser.add_argument("--history", action="store_true", help="compare short and long histories instead")
    options = parser.parse_args()
    prefix = f"bench:{secrets.token_hex(4)}:"
    client = Redis.from_url(options.url)
    adapter = RedisAdapter.from_url(StorageURL(f"{options.url}?key_prefix={prefix}"))
    await adapter.open()
    try:
        info: dict[str, Any] = await client.info()
        synced = (await client.config_get("appendfsync"))["appendfsync"] if info["aof_enabled"] else "no log"
        print(f"Redis {info['redis_version']}, {synced}; medians of {options.rounds} rounds")
        if options.history:
            for length, milliseconds in (await compare_histories(adapter, options)).items():
                print(f"{length:>7,} messages: p50 of a turn {milliseconds:.3f} ms")
            return
        print("sessions  adapter/s    bare/s   ratio  (lowest to highest)")
        for sessions in (1, 16):
            ours, theirs = await compare(adapter, Bare(client, f"{prefix}bare:"), sessions, options)
            ratios = sorted(left / right for left, right in zip(ours, theirs, strict=True))
            figures = f"{statistics.median(ours):>9,.0f}{statistics.median(theirs):>10,.0f}"
            print(f"{sessions:>8}  {figures}{statistics.median(ratios):>8.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    finally:
        await adapter.aclose()
        async for key in client.scan_iter(match=f"{prefix}*", count=1000):
            await client.delete(key)
        await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
