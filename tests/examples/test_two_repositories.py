"""The example of an adapter made of two repositories runs, and its repositories pass the kit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from turnkeep.repositories import RepositoryAdapter
from turnkeep_testkit import AdapterSuite, FakeClock

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "two_repositories" / "two_repositories.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("two_repositories", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("> ")] == ["> A table, please", "> Ana", "> 4"]
    assert lines[-1] == "kept: 6 messages, {'name': 'Ana', 'guests': 4}"
    assert list(tmp_path.iterdir()) == []


class TestConformance(AdapterSuite):
    no_schema = "dicts have no schema"

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, example, fake_clock):
        self.sessions, self.messages = example.DictSessions(), example.DictMessages()
        return lambda: RepositoryAdapter(self.sessions, self.messages, clock=fake_clock)

    async def remains(self, key):
        identity = key.scope.namespace, key.session_id
        messages = [len(rows) for history, rows in self.messages.rows.items() if history[:2] == identity]
        return (identity in self.sessions.rows) + sum(messages)
