"""The memory adapter is the oracle of all others: it passes the whole kit."""

from __future__ import annotations

import pytest

from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import AdapterSuite, FakeClock


class TestMemory(AdapterSuite):
    no_schema = "a process has no schema"

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, fake_clock):
        # The store lives as long as the object: a "second process" can only be the same one.
        adapter = MemoryAdapter(clock=fake_clock)
        return lambda: adapter

    def connect_url(self):
        return "memory://"

    async def remains(self, key):
        found = self.adapter.snapshot()
        sessions = [row for row in found["sessions"] if (row["namespace"], row["id"]) == _identity(key)]
        messages = [row for row in found["messages"] if (row["namespace"], row["session_id"]) == _identity(key)]
        return len(sessions) + len(messages)


def _identity(key):
    return key.scope.namespace, key.session_id
