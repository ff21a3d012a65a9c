"""The driver's errors as ours; bad input; and that no password is told to anybody."""

import asyncio
import traceback

import psycopg
import psycopg_pool
import pytest
from psycopg import errors

from turnkeep.contract import Expect, LoadQuery, SessionQuery
from turnkeep.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    CorruptRecord,
    NotSerializable,
    SchemaMissing,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    TurnkeepError,
    ValueTooLarge,
)
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres._errors import MEANINGS, translate
from turnkeep_testkit import new_commit, new_key, new_message
from turnkeep_testkit.faults import FaultProxy, address_of, redirected

from .kit import opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]

CANARY = "c4nary-p4ssword"
CLASSES = sorted(
    {thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, psycopg.Error)}
    | {psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed, psycopg_pool.TooManyRequests},
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_of_the_driver_becomes_one_of_ours(cls):
    cause = cls("something")
    error = translate(cause, "load")
    assert isinstance(error, TurnkeepError)
    assert error.__cause__ is cause
    assert len(str(error)) > 20


def test_no_sqlstate_of_the_driver_is_without_a_meaning():
    """A class of SQLSTATEs that cannot come from our statements may be ours to fix; the others are meant."""
    states = {cls.sqlstate for cls in CLASSES if cls.sqlstate}
    ours = {state[:2] for state in states if state not in MEANINGS and state[:2] not in MEANINGS}
    # Cursors, triggers, procedures, savepoints, foreign data, PL/pgSQL, replication: nothing that our SQL has.
    assert ours <= {  # an older driver knows fewer
        "02", "03", "09", "0B", "0F", "0L", "0P", "0Z", "10", "20", "24", "27", "2B", "2D", "2F", "38", "39",
        "3B", "44", "72", "F0", "HV", "P0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "kind", "retryable"),
    [
        (errors.ConnectionFailure, StorageUnavailable, True),
        (errors.AdminShutdown, StorageUnavailable, True),
        (errors.CannotConnectNow, StorageUnavailable, True),
        (errors.TooManyConnections, StorageUnavailable, True),
        (errors.OutOfMemory, StorageUnavailable, True),
        (errors.DiskFull, StorageFull, False),
        (errors.QueryCanceled, StorageTimeout, True),
        (errors.LockNotAvailable, StorageTimeout, True),
        (errors.InsufficientPrivilege, StorageRefused, False),
        (errors.ReadOnlySqlTransaction, StorageRefused, False),
        (errors.InvalidPassword, StorageRefused, False),
        (errors.UndefinedTable, SchemaMissing, False),
        (errors.DataCorrupted, CorruptRecord, False),
        (errors.UniqueViolation, CorruptRecord, False),
        (errors.ProgramLimitExceeded, ValueTooLarge, False),
        (errors.UntranslatableCharacter, NotSerializable, False),
        (errors.SyntaxError, StorageError, False),
        (errors.InvalidSqlStatementName, StorageUnavailable, False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_meanings(cls, kind, retryable):
    error = translate(cls("x"), "load")
    assert type(error) is kind
    assert error.retryable is retryable
    assert (error.adapter, error.operation) == ("postgres", "load")


def test_other_errors_stay_what_they_are():
    error = KeyError("x")
    assert translate(error, "load") is error


@pytest.mark.parametrize(
    ("parts", "kind", "says"),
    [
        ({"user": "nobody_of_that_name"}, StorageRefused, "user, password and pg_hba.conf"),
        ({"dbname": "nothing_of_that_name"}, StorageUnavailable, "createdb"),
        ({"host": "unknown.invalid"}, StorageUnavailable, "cannot be reached"),
        ({"port": "1"}, StorageUnavailable, "cannot be reached"),
    ],
    ids=["user", "database", "host", "port"],
)
async def test_what_cannot_be_opened(parts, kind, says):
    adapter = PostgreSQLAdapter(replaced(server_url(), password=CANARY, **parts))
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(kind, match=says) as caught:
            await asyncio.wait_for(call(), 10)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    report = await adapter.check()
    assert not report.ok
    assert says in str(report)
    assert CANARY not in str(report)


async def test_a_server_that_only_reads(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
    reader = PostgreSQLAdapter(replaced(server_url(), options="-c default_transaction_read_only=on"), schema=schema)
    await reader.open()
    assert (await reader.load(key, LoadQuery())).messages[0].content == "one"
    for call in (reader.commit(new_commit(key, "two", expect=Expect.ANY)), reader.delete(key), reader.sweep(10)):
        with pytest.raises(StorageRefused, match="target_session_attrs=read-write"):
            await call
    report = await reader.check()
    assert not report.ok
    assert "default_transaction_read_only" in str(report)
    await reader.aclose()


async def test_an_exhausted_pool_is_told_in_time(schema):
    async with opened(server_url(), schema=schema, max_size=1, pool_timeout=0.2) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        held = await adapter._source.borrow()
        with pytest.raises(StorageTimeout, match="max_size"):
            await adapter.load(key, LoadQuery())
        with pytest.raises(StorageTimeout, match="max_size"):
            await adapter.commit(new_commit(key, "two", expect=Expect.ANY))
        await adapter._source.give_back(held)
        assert len((await adapter.load(key, LoadQuery())).messages) == 1


async def test_a_server_that_is_gone_is_not_taken_for_an_exhausted_pool(schema):
    address = address_of(server_url())
    async with FaultProxy(*address) as proxy:
        url = redirected(server_url(), proxy.host, proxy.port)
        async with opened(url, schema=schema, max_size=2, pool_timeout=0.3) as adapter:
            key = new_key()
            first = await adapter.commit(new_commit(key, "one"))
            proxy.refuse()
            proxy.cut_all()
            with pytest.raises(StorageUnavailable, match="cannot be reached"):
                await adapter.load(key, LoadQuery())
            with pytest.raises((StorageUnavailable, CommitOutcomeUnknown), match="cannot be reached"):
                await adapter.commit(new_commit(key, "two", expect=first.token))
            proxy.heal()
            for _ in range(600):
                try:
                    assert len((await adapter.load(key, LoadQuery())).messages) == 1
                    break
                except (StorageUnavailable, StorageTimeout):  # an older pool is slower to see that it can connect again
                    await asyncio.sleep(0.05)
            else:
                raise AssertionError("it did not find back")


async def test_a_connection_that_cannot_be_made_is_closed_while_its_error_is_kept():
    """A log, or whoever waits for an error report, keeps errors; a socket must not wait for that."""
    async with FaultProxy(*address_of(server_url())) as proxy:
        proxy.swallow("replies")
        adapter = PostgreSQLAdapter(f"{redirected(server_url(), proxy.host, proxy.port)}?connect_timeout=2")
        with pytest.raises(StorageUnavailable) as kept:
            await adapter.open()
        while proxy.connections:  # noqa: ASYNC110 - the proxy tells nobody
            await asyncio.sleep(0.01)
        assert "timeout" in str(kept.value)


async def test_server_processes_that_are_ended_between_calls_are_not_noticed(schema):
    async with opened(replaced(server_url(), application_name=schema), schema=schema, min_size=3) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        await asyncio.gather(*(adapter.load(key, LoadQuery()) for _ in range(3)))
        ended = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '{schema}'"
        assert len(run_sql(server_url(), ended)) >= 3
        second = await adapter.commit(new_commit(key, "two", expect=first.token))
        assert (second.replayed, second.contiguous, second.message_count) == (False, True, 2)
        run_sql(server_url(), ended)
        assert len((await adapter.load(key, LoadQuery())).messages) == 2
        run_sql(server_url(), ended)
        assert await adapter.delete(key) in {True}


async def test_a_server_process_that_is_ended_in_mid_commit(schema):
    """The commit waits for a lock when its process is ended; it is sent again and takes effect once."""
    async with opened(replaced(server_url(), application_name=schema), schema=schema) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        async with await psycopg.AsyncConnection.connect(server_url()) as holder:
            await holder.execute(f"SELECT 1 FROM {schema}.turnkeep_sessions FOR UPDATE")
            commit = asyncio.create_task(adapter.commit(new_commit(key, "two", expect=first.token)))
            waiting = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
            )
            while not run_sql(server_url(), waiting):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        done = await asyncio.wait_for(commit, 10)
        assert (done.message_count, done.replayed, done.contiguous) == (2, False, True)
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages] == ["one", "two"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE {0}.turnkeep_sessions SET updated_at = 'infinity'", "infinite"),
        ("UPDATE {0}.turnkeep_sessions SET marks = 'no json', trim_at = '1999-01-01'", "invalid input syntax"),
        ("DELETE FROM {0}.turnkeep_messages WHERE seq = 2", "counts messages 1 to 3, but 2 are there"),
        ("UPDATE {0}.turnkeep_messages SET seq = 9 WHERE seq = 1", "counts messages 1 to 3"),
    ],
)
async def test_what_cannot_be_read_is_never_taken_for_absent(schema, statement, says):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one", "two", "three"))
        run_sql(server_url(), statement.format(schema))
        with pytest.raises(CorruptRecord, match=says):
            await adapter.load(key, LoadQuery())


async def test_marks_that_cannot_be_read_are_told_by_heads_and_lists(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        run_sql(server_url(), f"UPDATE {schema}.turnkeep_sessions SET marks = '[[1]]', trim_at = '1999-01-01'")
        for call in (adapter.load(key, LoadQuery(0)), adapter.find_sessions(SessionQuery(key.scope, 1))):
            with pytest.raises(CorruptRecord, match="marks of session"):
                await call


async def test_text_that_postgresql_cannot_hold_is_refused_whole(schema):
    """Core escapes such content; an adapter that is handed it raw refuses, and nothing is written."""
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        with pytest.raises(NotSerializable):
            await adapter.commit(new_commit(key, new_message("x")._replace(content="a\0b")))
        with pytest.raises(NotSerializable):
            await adapter.commit(new_commit(key, "x", data='"\0"'))
        assert await adapter.load(key, LoadQuery()) is None


async def test_a_pool_that_is_not_open_says_so():
    async with psycopg_pool.AsyncConnectionPool(server_url(), open=False) as pool:
        pass
    with pytest.raises(ConfigurationError, match=r"await pool\.open"):
        await PostgreSQLAdapter(pool=pool).open()
