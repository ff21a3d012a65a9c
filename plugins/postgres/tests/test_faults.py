"""T7: each call of the driver fails in turn, with its connection; those that hold no connection are the network's."""

import psycopg
import pytest

from turnkeep_postgres import PostgreSQLAdapter, commits
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite

from .kit import schema, server_url

__all__ = ["schema"]


class TestStatements(DriverFaultSuite):
    @pytest.fixture
    def make_adapter(self, schema):
        return lambda: PostgreSQLAdapter(server_url(), schema=schema)

    @pytest.fixture
    def driver_calls(self, monkeypatch):
        calls = DriverCalls(lambda: psycopg.OperationalError("made up"))
        execute = psycopg.AsyncCursor.execute

        async def failing(cursor, query, *arguments, **options):
            try:
                with calls.call(str(query)[:60]):
                    return await execute(cursor, query, *arguments, **options)
            except psycopg.OperationalError:
                cursor.connection.pgconn.finish()
                raise

        monkeypatch.setattr(psycopg.AsyncCursor, "execute", failing)
        return calls


class TestImports(DriverFaultSuite):
    """Messages are copied in: each wait for the server fails in turn, those around the transaction included."""

    @pytest.fixture
    def make_adapter(self, schema, monkeypatch):
        monkeypatch.setattr(commits, "_IMPORTED", 1)
        return lambda: PostgreSQLAdapter(server_url(), schema=schema)

    @pytest.fixture
    def driver_calls(self, monkeypatch):
        calls = DriverCalls(lambda: psycopg.OperationalError("made up"))
        wait = psycopg.AsyncConnection.wait

        async def failing(connection, generator, *arguments, **options):
            try:
                with calls.call(generator.__qualname__):
                    return await wait(connection, generator, *arguments, **options)
            except psycopg.OperationalError:
                connection.pgconn.finish()
                raise

        monkeypatch.setattr(psycopg.AsyncConnection, "wait", failing)
        return calls
