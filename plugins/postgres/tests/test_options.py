"""What the adapter is told: URLs, connection strings, pools."""

import subprocess
import sys
from datetime import timedelta

import psycopg.conninfo
import psycopg_pool
import pytest
from psycopg.rows import dict_row

from turnkeep.contract import LoadQuery
from turnkeep.errors import InvalidArgument
from turnkeep.urls import StorageURL
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.statements import Tables
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import opened, run_sql, schema, server_url

__all__ = ["schema"]


def from_url(text):
    url = StorageURL(text)
    adapter = PostgreSQLAdapter.from_url(url)
    url.finish()
    return adapter


def parameters(adapter):
    return psycopg.conninfo.conninfo_to_dict(adapter._source._conninfo)


def test_every_option():
    adapter = from_url(
        "postgresql://ana:p%40ss@db.example:6543/shop?tables.sessions=agent_sessions&tables.messages=m"
        "&tables.commits=c&schema=chat&min_size=2&max_size=20&pool_timeout=1.5&prepare_threshold=5"
        "&search_language=english"
        "&sslmode=require&connect_timeout=3&application_name=desk"
    )
    assert parameters(adapter) == {
        "user": "ana",
        "password": "p@ss",
        "host": "db.example",
        "port": "6543",
        "dbname": "shop",
        "sslmode": "require",
        "connect_timeout": "3",
        "application_name": "desk",
        "client_encoding": "UTF8",
    }
    settings = adapter._source._settings
    assert (settings.min_size, settings.max_size, settings.pool_timeout, settings.prepare_threshold) == (2, 20, 1.5, 5)
    assert adapter._schema._language == "english"
    assert adapter._schema._tables == Tables(
        "agent_sessions", "m", "c", "agent_schema", "agent_history", "agent_words", "chat"
    )


def test_defaults():
    adapter = from_url("postgresql://localhost/shop")
    assert parameters(adapter) == {
        "host": "localhost",
        "dbname": "shop",
        "application_name": "turnkeep",
        "connect_timeout": "4",
        "client_encoding": "UTF8",
    }
    settings = adapter._source._settings
    assert (settings.min_size, settings.max_size, settings.pool_timeout) == (1, 10, 4.0)
    assert settings.prepare_threshold is None
    assert adapter._schema._tables == Tables()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///shop?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "shop"}),
        ("postgresql://", {}),
        ("postgres://h", {"host": "h"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433", "dbname": "d"}),
        (
            "postgresql://a:1,b:2/d",
            {"host": "a,b", "port": "1,2", "dbname": "d", "target_session_attrs": "read-write"},
        ),
        ("postgresql://a,b/d?target_session_attrs=any", {"host": "a,b", "dbname": "d", "target_session_attrs": "any"}),
    ],
)
def test_places(url, expected):
    found = parameters(from_url(url))
    assert {name: value for name, value in found.items() if name not in parameters(from_url("postgres://"))} == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://h/d?sslmod=require", "did you mean sslmode"),
        ("postgresql://h/d?max_sise=3", "did you mean max_size"),
        ("postgresql://h/d?nonsense=1", "no option 'nonsense'"),
        ("postgresql://h/d?max_size=0", "at least 1"),
        ("postgresql://h/d?min_size=11", "from 0 to max_size"),
        ("postgresql://h/d?max_size=many", "whole number"),
        ("postgresql://h/d?pool_timeout=0", "positive"),
        ("postgresql://h/d?schema=", "must not be empty"),
        ("postgresql://h/d?schema=a%20b", "letters, digits"),
        ("postgresql://h/d?tables.users=x", "no option"),
        ("postgresql://u:hunter2@h/d?host=other", "names host twice"),
        ("postgresql://u:hunter2@h/d?password=other", "names password twice"),
    ],
)
def test_refused_urls(url, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        from_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["nonsense", "host", "host=a nonsense=1", "postgresql://h/?nonsense=1", 7])
def test_refused_connection_strings(dsn):
    with pytest.raises(InvalidArgument, match="not a connection string"):
        PostgreSQLAdapter(dsn)


def test_either_a_connection_string_or_a_pool():
    with pytest.raises(InvalidArgument, match="either dsn= or pool="):
        PostgreSQLAdapter()
    with pytest.raises(InvalidArgument, match="either dsn= or pool="):
        PostgreSQLAdapter("dbname=x", pool=psycopg_pool.AsyncConnectionPool(open=False))


def test_pools_that_cannot_be():
    with pytest.raises(InvalidArgument, match="this one is for threads"):
        PostgreSQLAdapter(pool=psycopg_pool.ConnectionPool(open=False))
    with pytest.raises(InvalidArgument, match="AsyncConnectionPool"):
        PostgreSQLAdapter(pool="dbname=x")


@pytest.mark.parametrize("option", [{"max_size": 3}, {"prepare_threshold": 1}, {"pool_timeout": timedelta(seconds=1)}])
async def test_settings_of_our_pool_are_refused_for_one_that_is_handed_in(option):
    async with psycopg_pool.AsyncConnectionPool("dbname=x", open=False) as pool:
        with pytest.raises(InvalidArgument, match="keeps its own settings"):
            PostgreSQLAdapter(pool=pool, **option)


@pytest.mark.parametrize("autocommit", [False, True])
async def test_a_pool_of_others_stays_theirs_whatever_its_settings(schema, autocommit):
    settings = {
        "autocommit": autocommit,
        "row_factory": dict_row,
        "options": "-c TimeZone=Asia/Kathmandu -c default_transaction_isolation=serializable -c DateStyle=German",
        "prepare_threshold": 0,
    }
    pool = psycopg_pool.AsyncConnectionPool(server_url(), kwargs=settings, min_size=1, max_size=2, open=False)
    async with pool:
        adapter = PostgreSQLAdapter(pool=pool, schema=schema)
        await adapter.open()
        key = new_key()
        message = new_message("one")
        first = await adapter.commit(new_commit(key, message))
        stored = await adapter.load(key, LoadQuery())
        assert stored.messages[0].created_at == message.created_at
        assert stored.messages[0].created_at.tzname() == "UTC"
        assert stored.head.token == first.token
        assert (await adapter.check()).ok
        await adapter.aclose()
        async with pool.connection() as connection:
            assert connection.autocommit is autocommit
            cursor = await connection.execute("SELECT current_setting('TimeZone') AS zone, 1 AS one")
            assert await cursor.fetchone() == {"zone": "Asia/Kathmandu", "one": 1}
        await adapter.open()
        assert await adapter.load(key, LoadQuery()) == stored
        await adapter.aclose()
        assert not pool.closed


async def test_prepared_statements_are_few(schema):
    """The type of a parameter does not depend on its value, so each statement is prepared once."""
    async with opened(server_url(), schema=schema, max_size=1, prepare_threshold=0) as adapter:
        key = new_key()
        last = await adapter.commit(new_commit(key, "one"))
        for state in (None, '"s"'):
            for texts in ((), ("a",), ("a", "b")):
                last = await adapter.commit(new_commit(key, *texts, expect=last.token, state=state))
                for window in (None, 0, 50, 70_000):
                    await adapter.load(key, LoadQuery(window, commit_id=last.token.commit_id))
        connection = await adapter._source.borrow()
        rows = await (await connection.execute("SELECT left(statement, 60) FROM pg_prepared_statements")).fetchall()
        await adapter._source.give_back(connection)
        assert len(rows) <= 8, rows


def test_nothing_of_the_driver_is_loaded_by_the_plugin():

    code = "import sys, turnkeep_postgres.plugin; assert not [m for m in sys.modules if m.startswith('psycopg')]"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_schema_by_the_search_path(schema):
    """Without schema= the tables are where the connection's search_path says."""
    url = psycopg.conninfo.make_conninfo(server_url(), options=f"-c search_path={schema}")
    async with opened(url) as adapter:
        await adapter.commit(new_commit(new_key(), "one"))
    assert run_sql(server_url(), f"SELECT count(*) FROM {schema}.turnkeep_messages") == [(1,)]
