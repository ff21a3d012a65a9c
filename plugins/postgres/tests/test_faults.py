"""T7: each call of the driver fails in turn, with its connection; those that hold no connection are the network's."""

import psycopg
import pytest

from turnkeep_postgres import PostgreSQLAdapter, commits
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite

from .kit import schema, server_url

__all__ = ["schema"]


def let_fail(monkeypatch, owner, method, connection_of):
    """Calls of a method of the driver's, each called after its first argument; one that fails ends its connection."""
    calls = DriverCalls(lambda: psycopg.OperationalError("made up"))
    inner = getattr(owner, method)

    async def failing(caller, what, *arguments, **options):
        try:
            with calls.call(str(what)[:60]):
                return await inner(caller, what, *arguments, **options)
        except psycopg.OperationalError:
            connection_of(caller).pgconn.finish()
            raise

    monkeypatch.setattr(owner, method, failing)
    return calls


class TestStatements(DriverFaultSuite):
    @pytest.fixture
    def make_adapter(self, schema):
        return lambda: PostgreSQLAdapter(server_url(), schema=schema)

    @pytest.fixture
    def driver_calls(self, monkeypatch):
        return let_fail(monkeypatch, psycopg.AsyncCursor, "execute", lambda cursor: cursor.connection)


class TestImports(TestStatements):
    """Messages are copied in: each wait for the server fails in turn, those around the transaction included."""

    @pytest.fixture(autouse=True)
    def _imported(self, monkeypatch):
        monkeypatch.setattr(commits, "_IMPORTED", 1)

    @pytest.fixture
    def driver_calls(self, monkeypatch):
        return let_fail(monkeypatch, psycopg.AsyncConnection, "wait", lambda connection: connection)
