"""Group commit: one transaction for the turns that wait together, an outcome for each."""

import asyncio
import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import CommitOutcomeUnknown, SessionConflict, SessionNotFound, StorageFull, StorageTimeout
from turnkeep_sqlite import writer as writer_module
from turnkeep_testkit import new_commit, new_key

from .kit import opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@contextmanager
def held(adapter):
    """Keeps the writer busy, so that what is asked for meanwhile waits together."""
    begun, go = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        go.wait(10)

    task = asyncio.ensure_future(adapter._writer.run(wait, "wait", alone=True))

    class Hold:
        async def begun(self):
            await asyncio.to_thread(begun.wait, 10)

        async def release(self, *others):
            await asyncio.sleep(0.01)
            go.set()
            await task
            return await asyncio.gather(*others, return_exceptions=True)

    try:
        yield Hold()
    finally:
        go.set()


async def trace(adapter):
    """The statements the writer runs from now on."""
    seen = []

    def note(connection):
        connection.set_trace_callback(lambda sql: seen.append(sql.split("\n")[0]))

    await adapter._writer.run(note, "trace", alone=True)
    return seen


async def together(adapter, *calls):
    """Outcomes of calls that the writer meets at once."""
    with held(adapter) as hold:
        await hold.begun()
        return await hold.release(*[asyncio.ensure_future(call) for call in calls])


async def test_turns_of_many_sessions_share_one_transaction(path):
    async with opened(path) as adapter:
        seen = await trace(adapter)
        keys = [new_key() for _ in range(64)]
        outcomes = await together(adapter, *(adapter.commit(new_commit(key, "hello")) for key in keys))
        assert all(outcome.token.version == 1 for outcome in outcomes)
        assert (seen.count("BEGIN IMMEDIATE"), seen.count("COMMIT")) == (1, 1)
        for key in keys:
            assert (await adapter.load(key, LoadQuery())).messages[0].content == "hello"


async def test_a_conflict_fails_only_its_own_turn(path):
    async with opened(path) as adapter:
        keys = [new_key() for _ in range(64)]
        tokens = [(await adapter.commit(new_commit(key, "one"))).token for key in keys]
        await adapter.commit(new_commit(keys[7], "somebody else's", expect=tokens[7]))
        absent = new_key()
        seen = await trace(adapter)
        outcomes = await together(
            adapter,
            *(
                adapter.commit(new_commit(key, "two", expect=token, state='{"a":1}'))
                for key, token in zip(keys, tokens, strict=True)
            ),
            adapter.commit(new_commit(absent, "x", expect=Expect.ANY)),
            adapter.delete(keys[0]),
        )
        assert seen.count("COMMIT") <= 2  # 66 jobs, 64 to a group
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [7, 64]
        assert isinstance(outcomes[7], SessionConflict)
        assert isinstance(outcomes[64], SessionNotFound)
        assert outcomes[65] is True
        assert await adapter.load(keys[0], LoadQuery()) is None
        for number, key in enumerate(keys[1:], 1):
            stored = await adapter.load(key, LoadQuery())
            assert [message.content for message in stored.messages] == [
                "one",
                "somebody else's" if number == 7 else "two",
            ]
        assert run_sql(path, "SELECT count(*) FROM turnkeep_commits") == [(63 * 2,)]


async def test_turns_of_one_session_in_one_group(path):
    async with opened(path) as adapter:
        key = new_key()
        first = new_commit(key, "one")
        outcomes = await together(
            adapter,
            adapter.commit(first),
            adapter.commit(first),
            adapter.commit(new_commit(key, "two", expect=Expect.ANY)),
            adapter.commit(new_commit(key, "three", expect=Expect.ANY)),
            adapter.commit(new_commit(key, "again")),
        )
        assert [outcome.replayed for outcome in outcomes[:4]] == [False, True, False, False]
        assert type(outcomes[4]).__name__ == "SessionExists"
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages] == ["one", "two", "three"]


async def test_nobody_hears_of_success_before_commit_returned(path):
    async with opened(path) as adapter:
        seen = await trace(adapter)
        heard = []

        async def commit(key):
            await adapter.commit(new_commit(key, "x"))
            heard.append(seen.count("COMMIT"))

        await together(adapter, *(commit(new_key()) for _ in range(10)))
        assert heard == [1] * 10


class Broken:
    """A connection some of whose statements fail."""

    def __init__(self, connection, fails):
        self.connection = connection
        self.fails = fails

    def execute(self, sql, *parameters):
        error = self.fails(sql)
        if error is not None:
            raise error
        return self.connection.execute(sql, *parameters)

    def __getattr__(self, name):
        return getattr(self.connection, name)


def break_writer(adapter, monkeypatch, fails):
    original = writer_module.Writer._commit
    monkeypatch.setattr(
        writer_module.Writer,
        "_commit",
        lambda self, connection, jobs: original(
            self, connection if isinstance(connection, Broken) else Broken(connection, fails), jobs
        ),
    )


def sqlite_error(code):
    error = sqlite3.OperationalError("made up")
    error.sqlite_errorcode = code
    return error


async def test_a_commit_that_fails_for_the_group_is_tried_for_each_alone(path, monkeypatch):
    async with opened(path) as adapter:
        failures = iter([sqlite_error(sqlite3.SQLITE_FULL)])
        break_writer(adapter, monkeypatch, lambda sql: next(failures, None) if sql == "COMMIT" else None)
        seen = await trace(adapter)
        keys = [new_key() for _ in range(5)]
        outcomes = await together(adapter, *(adapter.commit(new_commit(key, "x")) for key in keys))
        assert all(outcome.token.version == 1 for outcome in outcomes)
        assert (seen.count("ROLLBACK"), seen.count("COMMIT")) == (1, 5)


@pytest.mark.parametrize(("code", "kind"), [("FULL", StorageFull), ("IOERR_FSYNC", CommitOutcomeUnknown)])
async def test_a_commit_that_fails_is_an_error_for_everybody(path, monkeypatch, code, kind):
    async with opened(path) as adapter:
        with monkeypatch.context() as patch:
            error = sqlite_error(getattr(sqlite3, f"SQLITE_{code}"))
            break_writer(adapter, patch, lambda sql: error if sql == "COMMIT" else None)
            keys = [new_key() for _ in range(5)]
            commits = [new_commit(key, "x") for key in keys]
            outcomes = await together(adapter, *map(adapter.commit, commits))
        assert [type(outcome) for outcome in outcomes] == [kind] * 5
        assert len({id(outcome) for outcome in outcomes}) == 5
        for key in keys:
            assert await adapter.load(key, LoadQuery()) is None
        outcomes = await together(adapter, *map(adapter.commit, commits))
        assert all(not outcome.replayed for outcome in outcomes)


async def test_an_error_that_rolls_back_everything_costs_only_its_own_turn(path, monkeypatch):
    """Some errors make SQLite end the whole transaction: the neighbours are done again."""
    async with opened(path) as adapter:
        keys = [new_key() for _ in range(6)]
        original = adapter._store.commit

        def commit(connection, commit):
            if commit.key == keys[3]:
                connection.execute("ROLLBACK")
                raise sqlite_error(sqlite3.SQLITE_IOERR)
            return original(connection, commit)

        monkeypatch.setattr(adapter._store, "commit", commit)
        outcomes = await together(adapter, *(adapter.commit(new_commit(key, "x")) for key in keys))
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [3]
        for key in keys:
            assert (await adapter.load(key, LoadQuery()) is None) == (key == keys[3])


async def test_a_bug_in_one_turn_reaches_its_caller_and_nobody_else(path, monkeypatch):
    async with opened(path) as adapter:
        keys = [new_key() for _ in range(3)]
        original = adapter._store.commit

        def commit(connection, commit):
            outcome = original(connection, commit)
            if commit.key == keys[1]:
                raise ZeroDivisionError
            return outcome

        monkeypatch.setattr(adapter._store, "commit", commit)
        outcomes = await together(adapter, *(adapter.commit(new_commit(key, "x")) for key in keys))
        assert isinstance(outcomes[1], ZeroDivisionError)
        assert await adapter.load(keys[1], LoadQuery()) is None
        assert await adapter.load(keys[2], LoadQuery()) is not None


async def test_a_group_takes_no_more_after_its_time(path, monkeypatch):
    monkeypatch.setattr(writer_module, "GROUP_SECONDS", 0.0)
    async with opened(path) as adapter:
        seen = await trace(adapter)
        keys = [new_key() for _ in range(5)]
        outcomes = await together(adapter, *(adapter.commit(new_commit(key, "x")) for key in keys))
        assert all(outcome.token.version == 1 for outcome in outcomes)
        assert seen.count("COMMIT") == 5


async def test_waiting_for_another_process_is_bounded_and_blocks_nobody(path):
    async with opened(path, busy_timeout=0.3) as adapter:
        key = new_key()
        token = (await adapter.commit(new_commit(key, "x"))).token
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        tasks = [asyncio.ensure_future(adapter.commit(new_commit(key, "y", expect=token))) for _ in range(3)]
        turns = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.01)
            turns += 1
            assert (await adapter.load(key, LoadQuery())).head.token == token  # reads go on
        assert turns > 10
        assert 0.25 < time.monotonic() - began < 2
        for task in tasks:
            assert isinstance(task.exception(), StorageTimeout)
            assert task.exception().retryable
        other.execute("ROLLBACK")
        other.close()
        await adapter.commit(new_commit(key, "y", expect=token))
