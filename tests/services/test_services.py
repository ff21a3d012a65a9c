"""The promises of the registry, with a toy server."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from . import registry
from .server import Server, ServiceError, free_port


class Toy(Server):
    name = "toy"

    def find(self):
        return sys.executable

    def launch(self, program):
        port = free_port()
        self.processes.spawn([program, "-m", "http.server", str(port), "--bind", "127.0.0.1"])
        return f"http://127.0.0.1:{port}"

    def answers(self, url):
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return response.status == 200
        except OSError:
            return False


class Absent(Toy):
    name = "absent"

    def find(self):
        return None


class Crashing(Toy):
    name = "crashing"

    def launch(self, program):
        self.processes.spawn([program, "-c", "print('no room on this disk'); raise SystemExit(3)"])
        return "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def sandbox(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "HOME", tmp_path / "services")
    monkeypatch.setattr(registry, "ENV_FILE", tmp_path / "services.env")
    monkeypatch.setattr(registry, "SERVERS", (Toy,))
    monkeypatch.delenv("TURNKEEP_TEST_TOY_URL", raising=False)
    yield
    registry.down()


def test_up_starts_writes_the_address_and_down_ends_it(capsys):
    assert registry.up() == ["toy"]
    address = registry.addresses()["TURNKEEP_TEST_TOY_URL"]
    assert registry.ENV_FILE.read_text() == f"TURNKEEP_TEST_TOY_URL={address}\n"
    assert Toy(registry.HOME).answers(address)
    registry.down()
    assert not Toy(registry.HOME).answers(address)
    assert registry.addresses() == {}
    assert registry.ENV_FILE.read_text() == ""


def test_a_running_server_is_kept():
    assert registry.up() == ["toy"]
    first = registry.addresses()
    assert registry.up() == []
    assert registry.addresses() == first


def test_an_address_of_the_users_comes_first(monkeypatch):
    monkeypatch.setenv("TURNKEEP_TEST_TOY_URL", "http://elsewhere")
    assert registry.up() == []
    assert registry.addresses() == {}
    assert not (registry.HOME / "toy").exists()


@pytest.mark.parametrize(("kind", "reason"), [(Absent, "no such server"), (Crashing, "no room on this disk")])
def test_what_cannot_be_had_is_left_out_or_refused(kind, reason, monkeypatch, capsys):
    monkeypatch.setattr(registry, "SERVERS", (Toy, kind))
    assert registry.up() == ["toy"]
    assert reason in capsys.readouterr().out
    registry.down()
    with pytest.raises(ServiceError, match=reason):
        registry.up(required=True)
    assert registry.addresses() == {}


def test_a_process_id_that_became_anothers_is_not_ended():
    registry.up()
    toy = Toy(registry.HOME)
    pids = toy.directory / "pids"
    ours = pids.read_text()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pids.write_text(f'[{{"pid": {stranger.pid}, "born": "long ago"}}]')
        assert toy.address() is None
        toy.stop(keep_files=True)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    pids.write_text(ours)


def test_without_servers_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(registry, "SERVERS", ())
    assert registry.up(required=True) == []
    assert "nothing to start" in capsys.readouterr().out


def test_the_command_refuses_what_it_does_not_know():
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests)}
    run = subprocess.run(
        [sys.executable, "-m", "services", "sideways"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "up" in run.stderr
