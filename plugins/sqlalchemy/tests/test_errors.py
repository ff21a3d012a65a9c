"""What databases, drivers and SQLAlchemy raise, as ours: typed, naming the fix, and without a secret."""

import asyncio
import inspect
import secrets
import sqlite3
import traceback

import psycopg.errors
import pytest
from sqlalchemy import exc, make_url, text

from turnkeep.contract import LoadQuery
from turnkeep.errors import (
    ConfigurationError,
    ForeignTable,
    InvalidArgument,
    MissingDriver,
    StorageError,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    TurnkeepError,
    ValueTooLarge,
)
from turnkeep.urls import StorageURL
from turnkeep_sqlalchemy import SQLAlchemyAdapter
from turnkeep_sqlalchemy._errors import translate
from turnkeep_testkit import new_commit, new_key

from .kit import Place, connected, execute, opened, url_of

CANARY = "c4n4ry-pass"


def driver_errors():
    """Every exception class of SQLAlchemy, and of the drivers at hand."""
    import asyncmy.errors
    import asyncpg.exceptions

    modules = [exc, psycopg.errors, asyncmy.errors, asyncpg.exceptions]
    found = [kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)]
    return sorted(
        {kind for kind in found if issubclass(kind, Exception)}, key=lambda kind: (kind.__module__, kind.__name__)
    )


def test_every_exception_of_the_drivers_becomes_one_of_ours():
    unmapped = []
    for kind in driver_errors():
        if kind.__module__ == "builtins" or issubclass(kind, Warning):
            continue
        try:
            original = kind("something")
        except TypeError:
            original = kind.__new__(kind, "something")
        try:
            str(original)
        except AttributeError:
            continue  # of asyncpg's own configuration: never raised without its details
        error = original
        if not issubclass(kind, exc.SQLAlchemyError):
            error = exc.DBAPIError("SELECT 1", {"secret": CANARY}, original)
        ours = translate(error, "load")
        if not isinstance(ours, StorageError) or CANARY in str(ours):
            unmapped.append(kind)
        assert CANARY not in "".join(traceback.format_exception(ours))
    assert unmapped == []


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("40001", StorageUnavailable, True),
        ("40P01", StorageUnavailable, True),
        ("55P03", StorageTimeout, True),
        ("57014", StorageTimeout, True),
        ("57P01", StorageUnavailable, True),
        ("28P01", StorageRefused, False),
        ("42501", StorageRefused, False),
        ("25006", StorageRefused, False),
        ("22001", ValueTooLarge, False),
        (1213, StorageUnavailable, True),
        (1205, StorageTimeout, True),
        (1045, StorageRefused, False),
        (1290, StorageRefused, False),
        (1406, ValueTooLarge, False),
        (2013, StorageUnavailable, True),
    ],
)
def test_meanings(code, kind, retryable):
    original = RuntimeError(*((code, "said") if isinstance(code, int) else ("said",)))
    if isinstance(code, str):
        original.sqlstate = code
    error = translate(exc.OperationalError("SELECT 1", {}, original), "load")
    assert type(error) is kind
    assert error.retryable is retryable
    assert (error.adapter, error.operation) == ("sqlalchemy", "load")


def test_a_full_pool_is_told_as_one():
    error = translate(exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached"), "load")
    assert type(error) is StorageTimeout
    assert error.retryable
    assert "pool_size" in str(error)


def test_other_errors_stay_what_they_are():
    error = KeyError("x")
    assert translate(error, "load") is error


SERVERS = ["postgresql", "asyncpg", "mariadb"]


def altered(kind, tmp_path, **changes):
    url = make_url(url_of(kind, tmp_path).removeprefix("sqlalchemy+")).set(**changes)
    return f"sqlalchemy+{url.render_as_string(hide_password=False)}"


async def refusal(url, **options):
    """What opening raises; no canary in anything that could be seen of it."""
    adapter = SQLAlchemyAdapter.from_url(StorageURL(url), **options)
    with pytest.raises(TurnkeepError) as caught:
        await adapter.open()
    report = await adapter.check()
    assert not report.ok
    seen = [str(caught.value), repr(caught.value), repr(adapter), str(report)]
    seen += traceback.format_exception(caught.value)
    assert not [text_ for text_ in seen if CANARY in text_]
    return caught.value


@pytest.mark.parametrize("kind", SERVERS)
async def test_an_unknown_host(kind, tmp_path):
    error = await refusal(altered(kind, tmp_path, host="no-such-host.invalid", password=CANARY))
    assert type(error) is StorageUnavailable
    assert "host and port" in str(error)


@pytest.mark.parametrize("kind", SERVERS)
async def test_nobody_listens(kind, tmp_path):
    error = await refusal(altered(kind, tmp_path, port=1, password=CANARY))
    assert type(error) is StorageUnavailable


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_missing_database(kind, tmp_path):
    error = await refusal(
        altered(kind, tmp_path, database="turnkeep_no_such", password=CANARY if kind == "x" else None)
    )
    assert type(error) is StorageRefused
    assert "no database of that name" in str(error)


async def test_a_wrong_password_on_mariadb(tmp_path):
    error = await refusal(altered("mariadb", tmp_path, password=CANARY))
    assert type(error) is StorageRefused
    assert "user or password" in str(error)


@pytest.mark.parametrize("kind", ["postgresql", "asyncpg"])
async def test_an_unknown_user_on_postgresql(kind, tmp_path):
    error = await refusal(altered(kind, tmp_path, username="turnkeep_nobody", password=CANARY))
    assert type(error) is StorageRefused
    assert "user or password" in str(error)


async def test_no_right_to_create_tables(tmp_path):
    with Place("postgresql", tmp_path) as place:
        role = f"turnkeep_{secrets.token_hex(4)}"
        await execute(place.server, f"CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'")
        try:
            await execute(place.server, f"GRANT USAGE ON SCHEMA {place.name} TO {role}")
            url = altered("postgresql", tmp_path, username=role, password=CANARY)
            error = await refusal(f"{url}?schema={place.name}")
            assert type(error) is StorageRefused
            assert "grant it" in str(error)
        finally:
            await execute(place.server, f"REVOKE USAGE ON SCHEMA {place.name} FROM {role}")
            await execute(place.server, f"DROP ROLE {role}")


async def test_a_read_only_database(tmp_path):
    with Place("postgresql", tmp_path) as place:
        async with opened(place.adapter()):
            pass
        url = f"{place.server}?schema={place.name}&options=-c%20default_transaction_read_only%3Don"
        adapter = SQLAlchemyAdapter.from_url(StorageURL(url))
        async with opened(adapter):
            assert await adapter.load(new_key(), LoadQuery()) is None
            with pytest.raises(StorageRefused, match="read-only, perhaps a replica"):
                await adapter.commit(new_commit(new_key(), "hello"))


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_pool_that_is_exhausted(kind, tmp_path):
    with Place(kind, tmp_path) as place:
        schema = f"&schema={place.name}" if place.options else ""
        url = f"{place.url}?pool_size=1&max_overflow=0&pool_timeout=0.2{schema}"
        adapter = SQLAlchemyAdapter.from_url(StorageURL(url))
        async with opened(adapter):
            async with adapter._connections.engine.connect():
                with pytest.raises(StorageTimeout, match="pool_size"):
                    await adapter.commit(new_commit(new_key(), "hello"))
            assert (await adapter.commit(new_commit(new_key(), "hello"))).created


async def test_connections_that_died_in_the_pool_are_replaced(tmp_path):
    with Place("postgresql", tmp_path) as place:
        async with opened(place.adapter()) as adapter:
            key = new_key()
            created = await adapter.commit(new_commit(key, "hello"))
            async with connected(place.server) as other:
                await other.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                        "AND usename = current_user AND query LIKE :query"
                    ),
                    {"query": f"%{place.name}%"},
                )
            assert (await adapter.commit(new_commit(key, "again", expect=created.token))).token.version == 2
            assert len((await adapter.load(key, LoadQuery())).messages) == 2


async def test_loose_mode_is_refused_on_mariadb(tmp_path):
    with Place("mariadb", tmp_path) as place:
        adapter = SQLAlchemyAdapter.from_url(StorageURL(f"{place.url}?init_command=SET%20sql_mode%3D%27%27"))
        with pytest.raises(ConfigurationError, match="STRICT_TRANS_TABLES"):
            await adapter.open()


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("sqlalchemy+postgresql://h/d", InvalidArgument, r"sqlalchemy\+postgresql\+psycopg://"),
        ("sqlalchemy+sqlite+pysqlite:///x.db", InvalidArgument, "async"),
        ("sqlalchemy+acme+driver://h/d", MissingDriver, "install the driver"),
        ("sqlalchemy+mysql+mysqldb://h/d", TurnkeepError, "mysql"),
        ("sqlalchemy+mariadb+asyncmy://h", InvalidArgument, "names a database"),
        ("sqlalchemy+sqlite+aiosqlite:///x.db?pool_size=many", InvalidArgument, "whole number"),
        ("sqlalchemy+sqlite+aiosqlite:///x.db?field_mappings.sessions.user_id=a%20b", InvalidArgument, "letters"),
    ],
)
def test_refused_urls(url, kind, says):
    with pytest.raises(kind, match=says):
        SQLAlchemyAdapter.from_url(StorageURL(url))


@pytest.mark.parametrize(
    "scheme", ["postgresql+psycopg", "postgresql+asyncpg", "mariadb+asyncmy", "sqlite+aiosqlite"], ids=str
)
def test_an_option_that_nobody_knows_is_refused_by_name(scheme):
    url = StorageURL(f"sqlalchemy+{scheme}://{'' if 'sqlite' in scheme else 'h'}/d?connect_timeout=3&pool_sise=3")
    SQLAlchemyAdapter.from_url(url)
    with pytest.raises(InvalidArgument, match="no option 'pool_sise'; did you mean pool_size"):
        url.finish()


@pytest.mark.parametrize(
    ("scheme", "option"),
    [
        ("postgresql+psycopg", "application_name"),
        ("postgresql+asyncpg", "command_timeout"),
        ("mariadb+asyncmy", "charset"),
        ("mariadb+asyncmy", "ssl_ca"),
        ("sqlite+aiosqlite", "timeout"),
    ],
)
def test_options_of_a_driver_reach_it(scheme, option):
    url = StorageURL(f"sqlalchemy+{scheme}://{'' if 'sqlite' in scheme else 'h'}/d?{option}=7")
    adapter = SQLAlchemyAdapter.from_url(url)
    url.finish()
    assert adapter._connections.engine.url.query == {option: "7"}


def test_not_an_engine():
    with pytest.raises(InvalidArgument, match="create_async_engine"):
        SQLAlchemyAdapter("sqlite://")


def test_options_in_a_url():
    url = StorageURL(
        "sqlalchemy+postgresql+psycopg://ana:secret@h:1/d?tables.sessions=chats&field_mappings.sessions.user_id=uid"
        "&field_mappings.sessions.namespace=&field_mappings.messages.namespace=&schema=app&pool_size=3"
    )
    adapter = SQLAlchemyAdapter.from_url(url)
    url.finish()
    sessions = adapter._tables.sessions
    assert (sessions.name, sessions.schema, sessions.c.user_id.name) == ("chats", "app", "uid")
    assert "namespace" not in sessions.c
    assert "secret" not in repr(adapter)


async def test_a_value_that_does_not_fit_is_refused(tmp_path):
    with Place("mariadb", tmp_path) as place:
        async with opened(place.adapter()) as adapter:
            with pytest.raises(ValueTooLarge):
                await adapter.commit(new_commit(new_key(), "hello", digest="x" * 600))


async def test_sqlite_of_something_else(tmp_path):
    (tmp_path / "store.db").write_bytes(b"this is no database, but it is long enough to look like a file" * 40)
    error = await refusal(f"sqlalchemy+sqlite+aiosqlite:///{tmp_path}/store.db")
    assert isinstance(error, (StorageRefused, ForeignTable))


async def test_a_new_file_that_somebody_else_writes_is_waited_for(tmp_path):
    with Place("sqlite", tmp_path) as place, sqlite3.connect(tmp_path / "store.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")  # SQLite itself would not wait to switch to WAL now
        adapter = place.adapter()
        opening = asyncio.create_task(adapter.open())
        await asyncio.sleep(0.2)
        assert not opening.done()
        other.execute("COMMIT")
        await opening
        await adapter.aclose()
    other.close()
