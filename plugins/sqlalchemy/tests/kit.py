"""What several test modules need: real databases, each test in names of its own, which are removed afterwards.

Engines are as in an application, and each adapter's has connections of its own. What an application does once, though,
is done once: an engine that meets its server for the first time asks it a dozen questions and compiles every statement.
"""

import asyncio
import functools
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from sqlalchemy import Engine, NullPool, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from turnkeep.urls import StorageURL
from turnkeep_sqlalchemy import SQLAlchemyAdapter

ENVIRONMENT = {
    "postgresql": "TURNKEEP_TEST_SQLALCHEMY_POSTGRES_URL",
    "postgresql-old": "TURNKEEP_TEST_POSTGRES_OLD_URL",
    "asyncpg": "TURNKEEP_TEST_SQLALCHEMY_POSTGRES_URL",
    "mariadb": "TURNKEEP_TEST_MARIADB_URL",
    "aiomysql": "TURNKEEP_TEST_MARIADB_URL",
}


def url_of(kind, tmp_path):
    """The address of a database of this kind; skips where there is none, unless one was promised."""
    if kind == "sqlite":
        return f"sqlalchemy+sqlite+aiosqlite:///{tmp_path}/store.db"
    variable = ENVIRONMENT[kind]
    url = os.environ.get(variable)
    if not url:
        said = f"{variable} is not set: no such server to test on"
        if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
            pytest.fail(said)
        pytest.skip(said)
    if kind == "postgresql-old":
        return f"sqlalchemy+postgresql+psycopg://{url.partition('://')[2]}"
    scheme, _, rest = url.partition("://")
    return f"{scheme.rpartition('+')[0]}+{kind}://{rest}" if kind in {"asyncpg", "aiomysql"} else url


def engine_for(url, **options):
    """An engine of the test's own; the caller disposes it."""
    return create_async_engine(make_url(url.removeprefix("sqlalchemy+")), **options)


def run_aside(work):
    """Awaits work in a loop of its own, from within another one, too."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Acquainted:
    """Makes engines that know their server and the statements: each as a URL describes it, with a pool of its own.

    Args:
        url: of the database, as an adapter takes it.
    """

    def __init__(self, url):
        address = StorageURL(url)
        first = SQLAlchemyAdapter.from_url(address)._connections.engine
        address.finish()
        if first.dialect.name != "sqlite":  # where to connect is to make the file, and nothing is asked
            run_aside(_meet(first))
        self._first = first.sync_engine
        self._compiled = {}

    def engine(self):
        first = self._first
        options = {"compiled_cache": self._compiled}
        return AsyncEngine(
            Engine(first.pool.recreate(), first.dialect, first.url, hide_parameters=True, execution_options=options)
        )


async def _meet(engine):
    """Asks the server all that is asked once: engines that share a dialect do not wait for each other's answers."""
    async with engine.connect():
        pass
    await engine.dispose()


class Place:
    """A database, or a schema of one, that is this test's alone.

    Attributes:
        url: of it, for adapters.
        options: what to give an adapter beside.
    """

    session_ids: ClassVar = {
        "turnkeep_sessions": "id",
        "turnkeep_messages": "session_id",
        "turnkeep_commits": "session_id",
    }
    """The column of each table that names the session."""

    def __init__(self, kind, tmp_path, server=None):
        self.kind = kind
        self.server = server or url_of(kind, tmp_path)
        self.name = f"turnkeep_kit_{secrets.token_hex(6)}"
        self.options = {}
        self.url = self.server
        if "postgres" in self.server:
            self.options = {"schema": self.name}
        elif self.dialect == "mariadb":
            self.url = f"{self.server.rpartition('/')[0]}/{self.name}"

    @property
    def dialect(self):
        return make_url(self.server.removeprefix("sqlalchemy+")).get_backend_name()

    def __enter__(self):
        if self.dialect != "sqlite":
            run_aside(execute(self.server, f"CREATE {'SCHEMA' if self.options else 'DATABASE'} {self.name}"))
        return self

    def __exit__(self, *exc_info):
        if self.dialect != "sqlite":
            what = f"SCHEMA {self.name} CASCADE" if self.options else f"DATABASE {self.name}"
            run_aside(execute(self.server, f"DROP {what}"))

    @functools.cached_property
    def acquainted(self):
        # SQLite gives its lock to nobody in turn: on a busy machine a writer may wait long.
        return Acquainted(f"{self.url}?connect_timeout=60" if self.dialect == "sqlite" else self.url)

    def adapter(self, **options):
        """An adapter over it that owns its engine."""
        adapter = SQLAlchemyAdapter(self.acquainted.engine(), **(self.options | options))
        adapter._connections.owned = True
        return adapter

    @property
    def address(self):
        """Where it is, for an adapter in another process."""
        return f"{self.url}?schema={self.name}" if self.options else self.url

    async def count_rows(self, session_id, columns=None):
        """How many rows of all tables carry the session's id."""
        counts = [
            f"(SELECT count(*) FROM {self.qualified(table)} WHERE {column} = :id)"
            for table, column in (columns or self.session_ids).items()
        ]
        ((total,),) = await self.rows(f"SELECT {' + '.join(counts)}", id=session_id)
        return total

    def qualified(self, table):
        return f"{self.name}.{table}" if self.options else table

    async def rows(self, statement, **parameters):
        """What a statement of the test's own finds."""
        return await execute(self.url, statement, **parameters)

    async def run(self, *statements):
        """Executes statements of the test's own."""
        async with connected(self.url) as connection:
            for statement in statements:
                await connection.execute(text(statement))


async def execute(url, statement, **parameters):
    """Executes one statement; its rows."""
    async with connected(url) as connection:
        found = await connection.execute(text(statement), parameters)
        return found.fetchall() if found.returns_rows else []


@asynccontextmanager
async def connected(url):
    async with _without_pool(url).connect() as connection:
        yield connection


@functools.lru_cache(maxsize=64)
def _without_pool(url):
    """An engine for any loop, because it keeps no connections."""
    engine = engine_for(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _with_foreign_keys)
    return engine


def _with_foreign_keys(connection, _):
    connection.execute("PRAGMA foreign_keys = ON")


@asynccontextmanager
async def opened(adapter):
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.aclose()
