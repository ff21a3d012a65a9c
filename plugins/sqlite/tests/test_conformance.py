"""The suite every adapter passes: over a file, and its core over a connection that was handed in."""

import sqlite3

import pytest

from turnkeep_sqlite import SQLiteAdapter, schema
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    ConcurrencySuite,
    DeleteSuite,
    FakeClock,
    LifecycleSuite,
    ListSuite,
)

from .kit import ANOTHER, count_rows, run_sql


class TestFile(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock, monkeypatch):
        self.path, self.monkeypatch = tmp_path / "store.db", monkeypatch
        return lambda: SQLiteAdapter(self.path, clock=fake_clock)

    def connect_url(self):
        return f"sqlite:///{self.path}"

    async def remains(self, key):
        return count_rows(self.path, key)

    async def lose_message(self, key, seq):
        identity = f"namespace = '{key.scope.namespace}' AND session_id = '{key.session_id}'"
        run_sql(self.path, f"DELETE FROM turnkeep_messages WHERE {identity} AND seq = {seq}")

    async def fingerprint(self):
        return {file.name: file.read_bytes() for file in self.path.parent.iterdir()}

    async def make_schema_older(self):
        self.monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ANOTHER))

    async def make_schema_newer(self):
        run_sql(self.path, "INSERT INTO turnkeep_schema VALUES (7, '0007_later', 'x')")

    async def make_schema_foreign(self):
        run_sql(self.path, "CREATE TABLE turnkeep_messages (id)", "INSERT INTO turnkeep_messages VALUES (1)")


class TestConnection(LifecycleSuite, AtomicTurnSuite, CompareAndSwapSuite, ConcurrencySuite, DeleteSuite, ListSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.path = tmp_path / "store.db"
        connections = []

        def make():
            connection = sqlite3.connect(self.path, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connections.append(connection)
            return SQLiteAdapter(connection, clock=fake_clock)

        yield make
        for connection in connections:
            connection.execute("SELECT 1")  # still open
            connection.close()

    async def remains(self, key):
        return count_rows(self.path, key)
