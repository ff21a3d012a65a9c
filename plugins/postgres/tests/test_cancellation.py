"""Callers that go away while the server is busy: the outcome is told, and the connection is not lost."""

import asyncio

import psycopg
import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import CommitOutcomeUnknown
from turnkeep_postgres import calls
from turnkeep_testkit import new_commit, new_key

from .kit import opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]


async def until_it_waits(schema, task):
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
    for _ in range(2000):
        if run_sql(server_url(), query) == [(1,)]:
            return
        assert not task.done()
        await asyncio.sleep(0.005)
    raise AssertionError("it did not wait for the lock")


@pytest.mark.parametrize("operation", ["commit", "delete"])
async def test_a_write_that_waits_for_a_lock_is_stopped_by_the_server(schema, operation, monkeypatch):
    monkeypatch.setattr(calls, "PATIENCE", 5.0)  # on a busy machine
    url = replaced(server_url(), application_name=schema)
    async with opened(url, schema=schema, max_size=1) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        ((before,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        async with await psycopg.AsyncConnection.connect(server_url()) as holder:
            await holder.execute(f"SELECT 1 FROM {schema}.turnkeep_sessions FOR UPDATE")
            work = adapter.delete(key) if operation == "delete" else adapter.commit(new_commit(key, expect=Expect.ANY))
            task = asyncio.create_task(work)
            await until_it_waits(schema, task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(task), 20)
        assert (await adapter.load(key, LoadQuery())).head.token.version == 1
        ((after,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        assert after == before, "the server said that it stopped: the connection is as good as before"


async def test_a_commit_that_ends_while_it_is_cancelled_tells_its_result(schema):
    url = replaced(server_url(), application_name=schema)
    async with opened(url, schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        async with await psycopg.AsyncConnection.connect(server_url()) as holder:
            await holder.execute(f"SELECT 1 FROM {schema}.turnkeep_sessions FOR UPDATE")
            task = asyncio.create_task(adapter.commit(new_commit(key, "two", expect=Expect.ANY)))
            await until_it_waits(schema, task)
            task.cancel()
            await holder.rollback()
        try:
            assert (await task).message_count == 2
        except asyncio.CancelledError:
            assert len((await adapter.load(key, LoadQuery())).messages) == 1


async def test_a_read_that_takes_long_is_let_go_and_its_connection_closed(schema):
    async with opened(server_url(), schema=schema, max_size=1) as adapter:
        ((before,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        task = asyncio.create_task(calls.read(adapter._source, b"SELECT pg_sleep(30)", {}, "load"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), 20)
        ((after,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        assert after != before


async def test_a_write_that_does_not_stop_is_of_unknown_outcome(schema, monkeypatch):
    """The server does not hear that it should stop: nobody knows, and the connection is not used again."""

    async def unheard(connection, **options):
        raise psycopg.OperationalError("nobody hears")

    monkeypatch.setattr(psycopg.AsyncConnection, "cancel_safe", unheard)
    async with opened(server_url(), schema=schema, max_size=1) as adapter:
        ((before,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        task = asyncio.create_task(calls.write(adapter._source, b"SELECT pg_sleep(30)", {}, "commit", commit_id="c1"))
        sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {before} AND wait_event = 'PgSleep'"
        while run_sql(server_url(), sleeping) == [(0,)]:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(CommitOutcomeUnknown) as caught:
            await asyncio.wait_for(asyncio.shield(task), 20)
        assert caught.value.commit_id == "c1"
        ((after,),) = await calls.read(adapter._source, b"SELECT pg_backend_pid()", {}, "load")
        assert after != before


async def test_what_waits_for_a_connection_is_simply_withdrawn(schema):
    async with opened(server_url(), schema=schema, max_size=1) as adapter:
        key = new_key()
        held = await adapter._source.borrow()
        for work in (adapter.commit(new_commit(key, "one")), adapter.load(key, LoadQuery())):
            task = asyncio.create_task(work)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await adapter._source.give_back(held)
        assert await adapter.load(key, LoadQuery()) is None
