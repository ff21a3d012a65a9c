"""The suite every adapter passes: over a file, and its core over a connection that was handed in."""

import sqlite3

import pytest

from turnkeep_sqlite import SQLiteAdapter
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

from .kit import count_rows


class TestFile(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.path = tmp_path / "store.db"
        return lambda: SQLiteAdapter(self.path, clock=fake_clock)

    async def remains(self, key):
        return count_rows(self.path, key)


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
