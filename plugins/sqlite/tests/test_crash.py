"""Processes that are killed, compete and start at once, on one file."""

from functools import partial

import pytest

from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit.faults import ProcessFaultSuite

from .kit import count_rows, run_sql


class TestProcesses(ProcessFaultSuite):
    @pytest.fixture
    def adapter_factory(self, tmp_path):
        self.path = tmp_path / "store.db"
        yield partial(SQLiteAdapter, self.path)
        assert run_sql(self.path, "PRAGMA integrity_check") == [("ok",)]
        assert run_sql(self.path, "PRAGMA foreign_key_check") == []

    async def remains(self, key):
        return count_rows(self.path, key)
