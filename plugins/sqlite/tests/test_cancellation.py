"""A cancelled write either took effect and says so, or left nothing and says that."""

import asyncio
import random
import threading
from contextlib import suppress

import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import SessionNotFound, StorageFull
from turnkeep_sqlite.writer import Writer
from turnkeep_testkit import new_commit, new_key

from .kit import opened, run_sql
from .test_groups import break_writer, held, sqlite_error, trace


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


async def test_a_commit_that_has_not_begun_is_withdrawn_at_once(path):
    async with opened(path) as adapter:
        with held(adapter) as hold:
            await hold.begun()
            key = new_key()
            task = asyncio.ensure_future(adapter.commit(new_commit(key, "x")))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 0.5)  # while the writer is still held
            await hold.release()
        assert await adapter.load(key, LoadQuery()) is None
        assert run_sql(path, "SELECT count(*) FROM turnkeep_commits") == [(0,)]


class Gate:
    """Stops the writer's thread at a place of the test's choosing."""

    def __init__(self, monkeypatch, name):
        self.reached, self.go = threading.Event(), threading.Event()
        original = getattr(Writer, name)

        def stopping(writer, *args):
            if not self.reached.is_set():
                self.reached.set()
                self.go.wait(10)
            return original(writer, *args)

        monkeypatch.setattr(Writer, name, stopping)

    async def wait(self):
        await asyncio.to_thread(self.reached.wait, 10)


async def test_a_commit_that_ran_but_was_not_sealed_is_undone(path, monkeypatch):
    async with opened(path) as adapter:
        seen = await trace(adapter)
        gate = Gate(monkeypatch, "_seal")
        keys = [new_key() for _ in range(3)]
        with held(adapter) as hold:
            await hold.begun()
            tasks = [asyncio.ensure_future(adapter.commit(new_commit(key, "x"))) for key in keys]
            await hold.release()
        await gate.wait()
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(tasks[1], 0.5)
        gate.go.set()
        assert (await tasks[0]).token.version == (await tasks[2]).token.version == 1
        assert await adapter.load(keys[1], LoadQuery()) is None
        assert (seen.count("ROLLBACK"), seen.count("COMMIT")) == (1, 1)


async def test_a_commit_that_is_sealed_tells_its_result_however_often_it_is_cancelled(path, monkeypatch):
    async with opened(path) as adapter:
        sealed, go = threading.Event(), threading.Event()

        def check_place():
            sealed.set()
            go.wait(10)

        monkeypatch.setattr(adapter._source, "check_place", check_place)
        key = new_key()
        task = asyncio.ensure_future(adapter.commit(new_commit(key, "x")))
        await asyncio.to_thread(sealed.wait, 10)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        go.set()
        assert (await task).token.version == 1
        assert await adapter.load(key, LoadQuery()) is not None


async def test_a_sealed_commit_that_fails_after_all_is_cancelled(path, monkeypatch):
    async with opened(path) as adapter:
        sealed, go = threading.Event(), threading.Event()

        def fails(sql):
            if sql != "COMMIT":
                return None
            sealed.set()
            go.wait(10)
            return sqlite_error(13)  # full

        with monkeypatch.context() as patch:
            break_writer(adapter, patch, fails)
            keys = [new_key(), new_key()]
            with held(adapter) as hold:
                await hold.begun()
                tasks = [asyncio.ensure_future(adapter.commit(new_commit(key, "x"))) for key in keys]
                await hold.release()
            await asyncio.to_thread(sealed.wait, 10)
            tasks[0].cancel()
            await asyncio.sleep(0.01)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            with pytest.raises(StorageFull):
                await tasks[1]
        assert await adapter.load(keys[0], LoadQuery()) is None


async def test_a_refused_commit_that_is_cancelled(path, monkeypatch):
    async with opened(path) as adapter:
        gate = Gate(monkeypatch, "_seal")
        with held(adapter) as hold:
            await hold.begun()
            refused = asyncio.ensure_future(adapter.commit(new_commit(new_key(), "x", expect=Expect.ANY)))
            good = asyncio.ensure_future(adapter.commit(new_commit(new_key(), "x")))
            await hold.release()
        await gate.wait()
        refused.cancel()
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await refused
        assert (await good).created
        with pytest.raises(SessionNotFound):
            await adapter.commit(new_commit(new_key(), "x", expect=Expect.ANY))


async def test_a_lone_commit_that_is_cancelled_while_it_runs(path, monkeypatch):
    async with opened(path) as adapter:
        gate = Gate(monkeypatch, "_seal")
        key = new_key()
        task = asyncio.ensure_future(adapter.commit(new_commit(key, "x")))
        await gate.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 0.5)
        gate.go.set()
        assert await adapter.load(key, LoadQuery()) is None
        assert (await adapter.commit(new_commit(key, "x"))).created


async def test_many_cancelled_at_random(path):
    """What was told is what is there, for every single one."""
    rng = random.Random(7)
    async with opened(path) as adapter:

        async def one(delay):
            key = new_key()
            task = asyncio.ensure_future(adapter.commit(new_commit(key, "x", "y")))
            await asyncio.sleep(delay)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return key, False
            return key, True

        told = await asyncio.gather(*(one(rng.choice([0, rng.random() * 0.4])) for _ in range(600)))
        for key, done in told:
            stored = await adapter.load(key, LoadQuery())
            assert (stored is not None) == done
            assert stored is None or len(stored.messages) == 2
        assert {done for _, done in told} == {True, False}
        assert run_sql(path, "SELECT count(*) FROM turnkeep_messages") == [(2 * sum(done for _, done in told),)]


async def test_a_cancelled_delete(path):
    async with opened(path) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        with held(adapter) as hold:
            await hold.begun()
            task = asyncio.ensure_future(adapter.delete(key))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await hold.release()
        assert await adapter.load(key, LoadQuery()) is not None


async def test_a_cancelled_read_is_interrupted_and_hurts_no_other(path):
    async with opened(path, readers=1) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        for _ in range(20):
            task = asyncio.ensure_future(
                adapter._readers.run(lambda connection: connection.execute(endless).fetchone(), "x")
            )
            await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await asyncio.wait_for(adapter.load(key, LoadQuery()), 5)) is not None


async def test_cancelling_open_leaves_no_thread(path):
    before = set(threading.enumerate())
    from turnkeep_sqlite import SQLiteAdapter

    for delay in (0, 0.001, 0.002, 0.005):
        adapter = SQLiteAdapter(path)
        task = asyncio.ensure_future(adapter.open())
        await asyncio.sleep(delay)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await adapter.aclose()
    for _ in range(200):
        if set(threading.enumerate()) <= before:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(set(threading.enumerate()) - before)
