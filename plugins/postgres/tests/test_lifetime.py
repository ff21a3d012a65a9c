"""Opening and closing across a fork: what the parent opened stays the parent's."""

import asyncio
import gc
import os
import pickle
import warnings

import psycopg_pool
import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import StorageUnavailable
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.calls import read
from turnkeep_testkit import new_commit, new_key

from .kit import opened, schema, server_url

__all__ = ["schema"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def in_child(work):
    """What a coroutine function returned or raised in a forked child, whose warnings are errors like the parent's."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads: our very case
        child = os.fork()
    if not child:
        try:
            try:
                outcome = asyncio.new_event_loop().run_until_complete(work())
            except BaseException as error:  # noqa: BLE001 - whatever it is, the parent looks at it
                outcome = error
            os.write(send, pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as stream:
        outcome = pickle.loads(stream.read())
    os.waitpid(child, 0)
    return outcome


async def server_processes(adapter):
    """Those that serve the connections of the adapter's pool, borrowed all at once."""
    waits = (read(adapter._source, b"SELECT pg_backend_pid(), pg_sleep(0.05)", {}, "load") for _ in range(2))
    return {rows[0][0] for rows in await asyncio.gather(*waits)}


async def test_a_child_opens_anew_and_leaves_the_parents_connections_alone(schema):
    async with opened(server_url(), schema=schema, min_size=2, max_size=2) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "parent"))
        before = await server_processes(adapter)

        async def use_it():
            await asyncio.wait_for(adapter.load(key, LoadQuery()), 10)

        error = in_child(use_it)
        assert isinstance(error, StorageUnavailable)
        assert "await open() once more" in str(error)
        assert not error.retryable

        async def open_anew():
            await adapter.open()
            committed = await adapter.commit(new_commit(key, "child", expect=Expect.ANY))
            processes = await server_processes(adapter)
            await adapter.aclose()
            gc.collect()
            return committed.token.version, processes

        version, processes = in_child(open_anew)
        assert version == 2
        assert not processes & before

        assert in_child(adapter.aclose) is None
        assert await server_processes(adapter) == before
        assert [message.content for message in (await adapter.load(key, LoadQuery())).messages] == ["parent", "child"]


async def test_a_child_forked_while_the_store_is_opened_does_not_wait_for_its_parent(schema):
    adapter = PostgreSQLAdapter(server_url(), schema=schema)
    async with adapter._opening:

        async def open_anew():
            await asyncio.wait_for(adapter.open(), 10)
            stored = await adapter.load(new_key(), LoadQuery())
            await adapter.aclose()
            return stored

        assert in_child(open_anew) is None


async def test_a_child_cannot_use_a_pool_that_was_handed_to_its_parent(schema):
    async with psycopg_pool.AsyncConnectionPool(server_url(), open=False) as pool:
        adapter = PostgreSQLAdapter(pool=pool, schema=schema)
        await adapter.open()
        key = new_key()
        await adapter.commit(new_commit(key, "parent"))
        for work in (adapter.open, adapter.migrate):
            error = in_child(work)
            assert isinstance(error, StorageUnavailable)
            assert "make another" in str(error)
            assert not error.retryable
        report = in_child(adapter.check)
        assert not report.ok
        assert "make another" in str(report)
        assert in_child(adapter.aclose) is None
        assert len((await adapter.load(key, LoadQuery())).messages) == 1
        await adapter.aclose()
