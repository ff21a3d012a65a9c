"""A server that is killed: one that keeps what it acknowledged passes, one that does not is caught."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from turnkeep_testkit.faults import KilledWriterSuite

HERE = Path(__file__).parent


class Server:
    def __init__(self, path, lazy):
        self.path, self.lazy, self.port = path, lazy, "0"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "durable.py"), str(self.path), self.port, str(self.lazy)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def kill_and_start(self):
        self.kill()
        self.start()


@pytest.fixture
def server(tmp_path, request):
    server = Server(tmp_path / "store", getattr(request, "param", 1))
    yield server
    server.kill()


@pytest.fixture
def wire(monkeypatch):
    # The other processes import it by this name, from the path they inherit.
    monkeypatch.syspath_prepend(str(HERE))
    import wire

    return wire


class TestDurableServer(KilledWriterSuite):
    @pytest.fixture
    def adapter_factory(self, server, wire):
        return partial(wire.WireAdapter, f"wire://127.0.0.1:{server.port}")

    @pytest.fixture
    def kill_server(self, server):
        return server.kill_and_start


@pytest.mark.parametrize("server", [1000], indirect=True)
def test_a_server_that_forgets_is_caught(server, wire):
    suite = KilledWriterSuite()
    suite.prepare(suite.start_with(partial(wire.WireAdapter, f"wire://127.0.0.1:{server.port}")))
    with pytest.raises(AssertionError, match=r"SessionNotFound|lost"):
        suite.test_t2_nothing_is_lost_when_the_server_is_killed(server.kill_and_start)
