"""What several test modules need: a server's address, a prefix of one's own, a look at what lies there."""

import asyncio
import os
import secrets
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from redis._parsers import AsyncCommandsParser
from redis.asyncio import Redis, RedisCluster

from turnkeep.urls import StorageURL
from turnkeep_redis import RedisAdapter

VARIABLES = {
    "redis": "TURNKEEP_TEST_REDIS_URL",
    "old": "TURNKEEP_TEST_REDIS_OLD_URL",
    "cluster": "TURNKEEP_TEST_REDIS_CLUSTER_URL",
    "valkey": "TURNKEEP_TEST_VALKEY_URL",
}


def address(name):
    """The server's URL; skips the test where there is none, or fails it where one was promised."""
    url = os.environ.get(VARIABLES[name], "")
    if url:
        return url
    missing = f"no server for this: {VARIABLES[name]} is not set (make services starts one)"
    if os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"}:
        pytest.fail(missing)
    pytest.skip(missing)


RUN = f"tkt:{secrets.token_hex(6)}:"
"""What every key of this run begins with; all of them are removed when it ends."""


def new_prefix():
    """A prefix nobody used before."""
    return f"{RUN}{secrets.token_hex(4)}:"


class _Commands(AsyncCommandsParser):
    """The server's table of commands, read once for all clients: it takes longer than most tests."""

    known: ClassVar[dict] = {}

    async def initialize(self, node=None):
        if not self.known:
            await super().initialize(node)
            self.known.update(self.commands)
        self.node = node
        self.commands = self.known


def connect(url, **settings):
    """redis-py's own client for a URL of ours."""
    if url.startswith("redis+cluster://"):
        cluster = RedisCluster.from_url(f"redis{url.removeprefix('redis+cluster')}", **settings)
        cluster.commands_parser = _Commands()
        return cluster
    return Redis.from_url(url, **settings)


def from_url(text):
    """The adapter of a URL, all of whose options it has to know."""
    url = StorageURL(text)
    adapter = RedisAdapter.from_url(url)
    url.finish()
    return adapter


@asynccontextmanager
async def opened(adapter):
    """The adapter, open."""
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.aclose()


@asynccontextmanager
async def connected(url, **settings):
    """A client of the test's own."""
    client = connect(url, **settings)
    try:
        yield client
    finally:
        await client.aclose()


async def find_keys(client, pattern="*"):
    """The names of all keys that fit a pattern, on every node."""
    pattern = pattern.encode() if isinstance(pattern, str) else pattern
    return sorted([key.decode() async for key in client.scan_iter(match=pattern, count=10_000)])


async def remove(client, prefix):
    """Removes what a test left below its prefix."""
    keys = await find_keys(client, f"{prefix}*")
    for start in range(0, len(keys), 50):
        await asyncio.gather(*(client.unlink(key) for key in keys[start : start + 50]))
