"""Threads, loops, processes: what is opened is closed, by whoever opened it."""

import asyncio
import gc
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.errors import ConfigurationError, StorageRefused, StorageUnavailable
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit import new_commit, new_key

from .kit import files_in, opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def ours():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("turnkeep-sqlite"))


def handles():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_threads_are_named_and_end_with_close(path):
    adapter = SQLiteAdapter(path, readers=3)
    await adapter.open()
    await adapter.load(new_key(), LoadQuery())
    assert ours() == [*(f"turnkeep-sqlite-reader-{number}" for number in (1, 2, 3)), "turnkeep-sqlite-writer"]
    await adapter.aclose()
    assert ours() == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not tell the open files of a process")
async def test_nothing_leaks_over_many_openings(path):
    async def once():
        async with opened(path) as adapter:
            key = new_key()
            await adapter.commit(new_commit(key, "x"))
            await asyncio.gather(*(adapter.load(key, LoadQuery()) for _ in range(5)))
            await adapter.check()
            await adapter.migrate()

    await once()
    before = handles()
    for _ in range(20):
        await once()
    assert handles() == before
    assert ours() == []


async def test_failing_to_open_leaves_nothing(tmp_path):
    (tmp_path / "store.db").write_text("something else entirely")
    before = handles()
    for _ in range(5):
        adapter = SQLiteAdapter(tmp_path / "store.db")
        with pytest.raises(Exception, match="not a SQLite database"):
            await adapter.open()
        await adapter.aclose()
    assert handles() == before
    await asyncio.sleep(0.05)
    assert ours() == []


async def test_opening_and_closing_twice(path):
    adapter = SQLiteAdapter(path)
    await adapter.aclose()
    await asyncio.gather(adapter.open(), adapter.open(), adapter.open())
    assert len(ours()) == 3
    await asyncio.gather(adapter.aclose(), adapter.aclose())
    await adapter.aclose()
    assert ours() == []
    with pytest.raises(ConfigurationError, match="open"):
        await adapter.load(new_key(), LoadQuery())


async def test_close_lets_pending_work_end(path):
    adapter = SQLiteAdapter(path)
    await adapter.open()
    keys = [new_key() for _ in range(100)]
    tasks = [asyncio.ensure_future(adapter.commit(new_commit(key, "x"))) for key in keys]
    await asyncio.sleep(0)
    await adapter.aclose()
    assert all(task.result().created for task in await asyncio.gather(*tasks, return_exceptions=True) and tasks)
    assert run_sql(path, "SELECT count(*) FROM turnkeep_sessions") == [(100,)]


async def test_a_cancelled_close_closes_all_the_same(path):
    adapter = SQLiteAdapter(path)
    await adapter.open()
    task = asyncio.ensure_future(adapter.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(200):
        if not ours():
            break
        await asyncio.sleep(0.01)
    assert ours() == []
    assert files_in(path.parent) == ["store.db"]


def test_one_adapter_in_several_loops_one_after_the_other(path):
    adapter = SQLiteAdapter(path)
    key = new_key()

    async def first():
        await adapter.open()
        await adapter.commit(new_commit(key, "x"))
        await adapter.aclose()

    async def second():
        await adapter.open()
        stored = await adapter.load(key, LoadQuery())
        await adapter.commit(new_commit(key, "y", expect=stored.head.token))
        await adapter.aclose()

    asyncio.run(first())
    for _ in range(3):
        asyncio.run(second())
    assert ours() == []


def test_a_loop_that_ends_while_a_job_runs_hurts_nothing(path):
    adapter = SQLiteAdapter(path)
    key = new_key()

    async def abandon():
        await adapter.open()
        tasks = [asyncio.ensure_future(adapter.commit(new_commit(new_key(), "x"))) for _ in range(20)]
        await asyncio.sleep(0)
        assert not all(task.done() for task in tasks)

    asyncio.run(abandon())

    async def go_on():
        await adapter.commit(new_commit(key, "x"))
        assert await adapter.load(key, LoadQuery()) is not None
        await adapter.aclose()

    asyncio.run(go_on())
    assert ours() == []


def run_program(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_an_adapter_that_was_never_closed_lets_the_process_end(path):
    done = run_program(
        """
import asyncio, sys
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit import new_commit, new_key
async def main():
    global adapter
    adapter = SQLiteAdapter(sys.argv[1])
    await adapter.open()
    await adapter.commit(new_commit(new_key(), "x"))
    asyncio.ensure_future(adapter.commit(new_commit(new_key(), "y")))
    await asyncio.sleep(0)
asyncio.run(main())
""",
        str(path),
    )
    assert done.returncode == 0, done.stderr
    assert run_sql(path, "SELECT count(*) FROM turnkeep_sessions")[0][0] in {1, 2}


async def test_an_adapter_that_was_dropped_warns_and_ends_its_threads(path):
    adapter = SQLiteAdapter(path)
    await adapter.open()
    await adapter.commit(new_commit(new_key(), "x"))
    await adapter.load(new_key(), LoadQuery(50))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del adapter
        gc.collect()
    assert [str(warning.message) for warning in caught if "never closed" in str(warning.message)]
    for _ in range(200):
        if not ours():
            break
        await asyncio.sleep(0.01)
    assert ours() == []


# Fork


def in_child(function):
    """What a forked child's call of ``function`` returned or raised."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads: our very case
        child = os.fork()
    if not child:
        try:
            try:
                outcome = function()
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
async def test_a_child_must_open_anew(path):
    async with opened(path) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))

        def use():
            return asyncio.new_event_loop().run_until_complete(adapter.load(key, LoadQuery()))

        error = in_child(use)
        assert isinstance(error, StorageUnavailable)
        assert "forked" in str(error)
        assert not error.retryable

        def open_anew():
            async def main():
                await adapter.open()
                stored = await adapter.load(key, LoadQuery())
                committed = await adapter.commit(new_commit(key, "y", expect=stored.head.token))
                await adapter.aclose()
                return committed.token.version

            return asyncio.new_event_loop().run_until_complete(main())

        assert in_child(open_anew) == 2

        def close():
            return asyncio.new_event_loop().run_until_complete(adapter.aclose())

        assert in_child(close) is None
        assert (await adapter.load(key, LoadQuery())).head.token.version == 2
        await adapter.commit(new_commit(new_key(), "z"))
    assert run_sql(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
async def test_a_child_cannot_use_a_connection_of_its_parent(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    async with opened(connection) as adapter:
        error = in_child(lambda: asyncio.new_event_loop().run_until_complete(adapter.open()))
        assert isinstance(error, StorageUnavailable)
        assert "make another" in str(error)
    connection.close()


# Connections that are handed in


async def test_a_connection_is_left_as_it_was(path):
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level="EXCLUSIVE")
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    async with opened(connection) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "hello"))
        assert (await adapter.load(key, LoadQuery())).messages[0].content == "hello"
        assert (await adapter.check()).ok
        assert await adapter.migrate() == []
        # between calls it is the caller's
        assert connection.execute("SELECT content FROM turnkeep_messages").fetchone()["content"] == b"hello"
        connection.commit()
    assert connection.row_factory is sqlite3.Row
    assert connection.text_factory is bytes
    assert connection.isolation_level == "EXCLUSIVE"
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == b"delete"
    assert not connection.in_transaction
    assert ours() == []
    connection.close()


async def test_a_connection_in_memory():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    adapter = SQLiteAdapter(connection)
    await adapter.open()
    key = new_key()
    await adapter.commit(new_commit(key, "x"))
    await adapter.aclose()
    await adapter.open()
    assert await adapter.load(key, LoadQuery()) is not None
    await adapter.aclose()
    connection.close()


async def test_a_connection_is_used_by_one_thread_at_a_time():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            adapter = SQLiteAdapter(connection)
            *_, report = await asyncio.gather(*(adapter.open() for _ in range(5)), adapter.check())
            await adapter.aclose()
            connection.close()
            assert [check for check in report.checks if "report it" in check.detail or "of yours" in check.detail] == []
    finally:
        sys.setswitchinterval(interval)


async def test_our_tables_stand_beside_those_of_the_connection(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("CREATE TABLE invoices (id)")
    async with opened(connection) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
    connection.close()


async def test_an_open_transaction_of_the_caller_is_explained(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    async with opened(connection) as adapter:
        key = new_key()
        token = (await adapter.commit(new_commit(key, "x"))).token
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE invoices (id)")
        for call in (adapter.commit(new_commit(key, "y", expect=token)), adapter.load(key, LoadQuery())):
            with pytest.raises(StorageUnavailable, match="commit it or roll it back") as caught:
                await call
            assert caught.value.retryable
        assert connection.in_transaction
        connection.rollback()
        await adapter.commit(new_commit(key, "y", expect=token))
    connection.close()


async def test_a_connection_bound_to_its_thread_is_explained(path):
    connection = sqlite3.connect(path)
    with pytest.raises(ConfigurationError, match="check_same_thread=False"):
        await SQLiteAdapter(connection).open()
    connection.close()


async def test_a_connection_that_is_closed(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    adapter = SQLiteAdapter(connection)
    await adapter.open()
    key = new_key()
    await adapter.commit(new_commit(key, "x"))
    connection.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        await adapter.load(key, LoadQuery())
    with pytest.raises(StorageUnavailable, match="closed"):
        await adapter.commit(new_commit(key, "x"))
    await adapter.aclose()
    with pytest.raises(StorageUnavailable, match="closed"):
        await adapter.open()
    assert not (await adapter.check()).ok


async def test_an_authorizer_that_refuses(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    async with opened(connection) as adapter:
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_INSERT else sqlite3.SQLITE_OK
        )
        with pytest.raises(StorageRefused):
            await adapter.commit(new_commit(new_key(), "x"))
        connection.set_authorizer(None)
    connection.close()


def test_the_plugin_loads_no_driver():
    done = run_program(
        "import sys; import turnkeep_sqlite.plugin; assert 'sqlite3' not in sys.modules;"
        "import turnkeep_sqlite; assert turnkeep_sqlite.SQLiteAdapter.__name__ == 'SQLiteAdapter';"
        "assert 'sqlite3' in sys.modules"
    )
    assert done.returncode == 0, done.stderr
