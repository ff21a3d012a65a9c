"""The n-th statement fails, for every n: what is stored is the old or the new, and the adapter goes on."""

import sqlite3

import pytest

from turnkeep_sqlite import SQLiteAdapter, connections
from turnkeep_testkit import FakeClock
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite

from .kit import count_rows, run_sql


def disk_error():
    error = sqlite3.OperationalError("made up")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


class TestStatements(DriverFaultSuite):
    @pytest.fixture
    def driver_calls(self, monkeypatch):
        calls, connect = DriverCalls(disk_error), sqlite3.connect

        class Failing(sqlite3.Connection):
            def execute(self, sql, *parameters):
                with calls.call(sql):
                    return super().execute(sql, *parameters)

            def executemany(self, sql, *parameters):
                with calls.call(sql):
                    return super().executemany(sql, *parameters)

        monkeypatch.setattr(
            connections.sqlite3, "connect", lambda *args, **options: connect(*args, **options | {"factory": Failing})
        )
        return calls

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.path = tmp_path / "store.db"
        yield lambda: SQLiteAdapter(self.path, clock=fake_clock, durability="normal")
        assert run_sql(self.path, "PRAGMA foreign_key_check") == []

    async def remains(self, key):
        return count_rows(self.path, key)
