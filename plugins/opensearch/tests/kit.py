"""What several test modules need."""

import asyncio
import os
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest
from opensearchpy import AsyncOpenSearch

from turnkeep.outbox import GivenClock
from turnkeep.urls import StorageURL
from turnkeep_opensearch import OpenSearchAdapter

QUIET = {"refresh_interval": "-1"}
"""Searches find nothing new until a test says so."""


def absent(said):
    """Skips the test, or fails it where the environment promises all servers."""
    if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
        pytest.fail(said)
    pytest.skip(said)


@asynccontextmanager
async def client_of(url, **options):
    """A client for the server of a URL."""
    found = StorageURL(url)
    async with AsyncOpenSearch(hosts=[{"host": found.host, "port": found.port}], **options) as client:
        yield client
    await asyncio.sleep(0)  # the loop closes sockets in its next round, which may be its last


def named(url, names, **options):
    """The URL of a server with these indices, and more options."""
    own = {f"indices.{kind}": name for kind, name in names.items()}
    return f"{url}?{urlencode({**own, **{f'settings.{name}': value for name, value in QUIET.items()}, **options})}"


def from_url(url, *, clock=None):
    """An adapter that opens its own client."""
    parsed = StorageURL(url)
    adapter = OpenSearchAdapter.from_url(parsed)
    parsed.finish()
    if clock is not None:
        adapter._clock = GivenClock(clock)
    return adapter


@asynccontextmanager
async def opened(url, names, **options):
    """An open adapter around a client of its own."""
    async with client_of(url, **options.pop("client_options", {})) as client:
        adapter = OpenSearchAdapter(client, names, settings=QUIET | options.pop("settings", {}), **options)
        try:
            await adapter.open()
            yield adapter
        finally:
            await adapter.aclose()


async def ask(client, method, path, body=None, **params):
    """What the server answers."""
    return await client.transport.perform_request(method, path, params=params, body=body)


async def remove(url, stem):
    """Removes the indices and templates whose names begin so."""
    async with client_of(url) as client:
        found = await ask(client, "GET", f"/{stem}*", expand_wildcards="all")
        if found:
            await ask(client, "DELETE", f"/{','.join(found)}")
        for template in (await ask(client, "GET", "/_index_template"))["index_templates"]:
            if template["name"].startswith(stem):
                await ask(client, "DELETE", f"/_index_template/{template['name']}")


async def refresh(url, names):
    """Lets searches find everything."""
    async with client_of(url) as client:
        await ask(client, "POST", f"/{','.join(names.values())}/_refresh")


async def everything(client, names):
    """Every document of both indices by kind, as a search finds them after a refresh."""
    await ask(client, "POST", f"/{','.join(names.values())}/_refresh")
    found = {}
    for kind, name in names.items():
        hits = (await ask(client, "POST", f"/{name}/_search", {"size": 10_000}))["hits"]["hits"]
        found[kind] = {hit["_id"]: hit["_source"] for hit in sorted(hits, key=lambda hit: hit["_id"])}
    return found


async def count_documents(url, names, key):
    """How many documents carry the id of a session."""
    async with client_of(url) as client:
        found = await everything(client, names)
    place = (key.scope.namespace, key.session_id)
    documents = [document for index in found.values() for document in index.values()]
    return sum((document.get("namespace"), document.get("session_id")) == place for document in documents)
