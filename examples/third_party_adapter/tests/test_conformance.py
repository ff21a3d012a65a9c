"""All that every adapter has to show."""

import pytest

from turnkeep_jsonl.adapter import JsonlAdapter
from turnkeep_jsonl.files import path_of, read, rewrite
from turnkeep_testkit import AdapterSuite, FakeClock


class TestConformance(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.root = tmp_path / "store"
        return lambda: JsonlAdapter(self.root, clock=fake_clock)

    def connect_url(self):
        return f"jsonl:///{self.root}"

    async def remains(self, key):
        session = read(path_of(self.root, key))
        return 0 if session is None else 1 + len(session.messages)

    async def lose_message(self, key, seq):
        path = path_of(self.root, key)
        session = read(path)
        session.messages = [message for message in session.messages if message.seq != seq]
        rewrite(path, session)

    async def make_schema_foreign(self):
        self.root.write_text("somebody else's")

    async def fingerprint(self):
        if not self.root.is_dir():
            return self.root.exists() and self.root.read_bytes()
        return {path.name: path.read_bytes() for path in self.root.iterdir()}
