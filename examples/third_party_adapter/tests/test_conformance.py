"""All that every adapter has to show."""

import pytest

from turnkeep_jsonl.adapter import JsonlAdapter
from turnkeep_jsonl.files import path_of, read
from turnkeep_testkit import AdapterSuite, FakeClock


class TestConformance(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.root = tmp_path / "store"
        return lambda: JsonlAdapter(self.root, clock=fake_clock)

    async def remains(self, key):
        session = read(path_of(self.root, key))
        return 0 if session is None else 1 + len(session.messages)
