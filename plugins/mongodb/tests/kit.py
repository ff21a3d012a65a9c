"""What several test modules need."""

import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient

from turnkeep.outbox import GivenClock
from turnkeep.urls import StorageURL
from turnkeep_mongodb import MongoDBAdapter

FUTURE = datetime(2100, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
"""The kit's own day has passed: the server's TTL index, which knows no fake clock, would remove what expired on it."""

COLLECTIONS = ("turnkeep_messages", "turnkeep_schema", "turnkeep_sessions")


def absent(said):
    """Skips the test, or fails it where the environment promises all servers."""
    if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
        pytest.fail(said)
    pytest.skip(said)


def named(url, database, **options):
    """The URL of a server with another database, and more options."""
    parts = urlsplit(url)
    query = "&".join(filter(None, [parts.query, *(f"{name}={value}" for name, value in options.items())]))
    return parts._replace(path=f"/{database}", query=query).geturl()


def watched(url):
    """The URL of a server whose recovery the driver notices within half a second; else it looks every ten."""
    parts = urlsplit(url)
    return parts._replace(query="&".join(filter(None, [parts.query, "heartbeatFrequencyMS=500"]))).geturl()


def from_url(url, *, clock=None):
    """An adapter that opens its own client."""
    parsed = StorageURL(url)
    adapter = MongoDBAdapter.from_url(parsed)
    parsed.finish()
    if clock is not None:
        adapter._clock = GivenClock(clock)
    return adapter


@asynccontextmanager
async def opened(url, database, **options):
    """An open adapter around a client of its own; with what it was handed as ``client``."""
    client = AsyncMongoClient(url, **options.pop("client_options", {}))
    adapter = MongoDBAdapter(client, database, **options)
    try:
        await adapter.open()
        yield adapter
    finally:
        await adapter.aclose()
        await client.close()


async def everything(client, database):
    """Every document of a database, by collection."""
    found = client[database]
    names = sorted(await found.list_collection_names())
    return {name: await found[name].find().sort("_id").to_list() for name in names}
