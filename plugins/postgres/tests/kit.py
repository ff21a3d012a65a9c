"""What several test modules need: real servers, and a schema of one's own on them for each test."""

import os
import secrets
from contextlib import asynccontextmanager, contextmanager

import psycopg
import psycopg.conninfo
import pytest

from turnkeep_postgres import PostgreSQLAdapter

NEW, OLD, POOLER = "TURNKEEP_TEST_POSTGRES_URL", "TURNKEEP_TEST_POSTGRES_OLD_URL", "TURNKEEP_TEST_PGBOUNCER_URL"
TABLES = (("turnkeep_sessions", "id"), ("turnkeep_messages", "session_id"), ("turnkeep_commits", "session_id"))


def server_url(variable=NEW):
    """The address of a real server; without one the test is skipped, or fails where servers are promised."""
    url = os.environ.get(variable)
    if url:
        return url
    if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{variable} is not set, but TURNKEEP_REQUIRE_SERVICES=1 promises a server")
    pytest.skip(f"no server: {variable} is not set")


@contextmanager
def fresh_schema(variable=NEW, *, url=None):
    """A schema that nobody used before, removed afterwards."""
    name, url = f"kit_{secrets.token_hex(8)}", url or server_url(variable)
    run_sql(url, f"CREATE SCHEMA {name}")
    try:
        yield name
    finally:
        run_sql(url, f"DROP SCHEMA {name} CASCADE")


def run_sql(url, *statements):
    """Runs statements on a connection of its own; the rows of the last one."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        rows = []
        for statement in statements:
            cursor = connection.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
        return rows


def count_rows(url, schema, key):
    """How many rows of all tables carry the session's id."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        return sum(
            connection.execute(
                f"SELECT count(*) FROM {schema}.{table} WHERE namespace = %s AND {column} = %s",
                (key.scope.namespace, key.session_id),
            ).fetchone()[0]
            for table, column in TABLES
        )


@asynccontextmanager
async def opened(url, **options):
    adapter = PostgreSQLAdapter(url, **options)
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.aclose()


@pytest.fixture
def schema():
    """An empty schema on the newest server."""
    with fresh_schema() as name:
        yield name


def replaced(url, **parts):
    """The URL with another user, password, host, port or database."""
    given = psycopg.conninfo.conninfo_to_dict(url) | parts
    return psycopg.conninfo.make_conninfo(**given)
