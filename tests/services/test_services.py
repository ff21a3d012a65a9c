"""The promises of the registry, with toy servers."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import packages, processes
from .commands import ServiceError
from .ports import free_port, port_of
from .processes import Processes
from .registry import Registry
from .server import Server

TESTS = Path(__file__).parents[1]


class Toy(Server):
    name = "toy"

    def find(self):
        return Path(sys.executable)

    def prepare(self, program):
        return f"http://127.0.0.1:{free_port()}"

    def launch(self, program, url):
        self.processes.spawn([program, "-m", "http.server", str(port_of(url)), "--bind", "127.0.0.1"])

    def answers(self, url):
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return response.status == 200
        except OSError:
            return False


class Behind(Toy):
    name = "behind"
    needs = (Toy,)

    def prepare(self, program):
        assert Toy(self.home).address(), "it was started before what it needs"
        return super().prepare(program)


class Absent(Toy):
    name = "absent"
    debian = ("toyd", "toy-common")

    def find(self):
        return packages.program("toyd")


class Refused(Toy):
    name = "refused"

    def find(self):
        raise ServiceError("no wheel for this machine")


class Crashing(Toy):
    name = "crashing"

    def launch(self, program, url):
        self.processes.spawn([program, "-c", "print('no room on this disk'); raise SystemExit(3)"])


class Silent(Toy):
    name = "silent"
    start_seconds = 0.5

    def launch(self, program, url):
        self.processes.spawn([program, "-c", "print('still thinking', flush=True); import time; time.sleep(600)"])


@pytest.fixture
def registry_of(tmp_path):
    made = []

    def make(*kinds, environment=None):
        made.append(Registry(tmp_path / "services", tmp_path / "env", kinds, environment or {}))
        return made[-1]

    yield make
    for registry in made:
        registry.down()


def test_up_starts_writes_the_address_and_down_ends_it(registry_of, tmp_path):
    registry = registry_of(Toy)
    assert registry.up() == ["toy"]
    url = registry.addresses()["TURNKEEP_TEST_TOY_URL"]
    assert (tmp_path / "env").read_text() == f"TURNKEEP_TEST_TOY_URL={url}\n"
    assert Toy(registry.home).answers(url)
    assert registry.down() == ["toy"]
    assert registry.down() == []
    assert not Toy(registry.home).answers(url)
    assert registry.addresses() == {}
    assert (tmp_path / "env").read_text() == ""
    assert not (registry.home / "toy").exists()


def test_a_running_server_is_kept(registry_of):
    registry = registry_of(Toy)
    assert registry.up() == ["toy"]
    first = registry.addresses()
    assert registry.up() == []
    assert registry.addresses() == first


def test_a_running_server_that_no_longer_answers_is_replaced(registry_of, monkeypatch):
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    registry = registry_of(Toy)
    registry.up()
    [old] = Toy(registry.home).processes._records()
    os.kill(old["pid"], signal.SIGSTOP)
    assert registry.up() == ["toy"]
    assert Toy(registry.home).answers(registry.addresses()["TURNKEEP_TEST_TOY_URL"])
    assert processes._born(old["pid"]) is None


def test_an_address_of_the_users_comes_first(registry_of):
    class Renamed(Toy):
        def variables(self, url):
            return {self.variable: url, "TURNKEEP_TEST_OTHER_URL": f"other+{url}"}

    given = {"TURNKEEP_TEST_TOY_URL": "http://elsewhere", "TURNKEEP_TEST_BEHIND_URL": "http://elsewhere"}
    registry = registry_of(Renamed, Behind, environment=given)
    assert registry.up() == []
    assert registry.addresses() == {"TURNKEEP_TEST_OTHER_URL": "other+http://elsewhere"}
    assert not (registry.home / "toy").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Absent, "sudo apt-get install -y --no-install-recommends toyd toy-common"),
        (Refused, "no wheel for this machine"),
        (Crashing, "ended while starting\nno room on this disk"),
        (Silent, "no answer in 0.5 s\nstill thinking"),
    ],
)
def test_what_cannot_be_had_is_left_out_or_refused(kind, reason, registry_of, monkeypatch, capsys):
    monkeypatch.setattr(packages, "PATH", "")
    registry = registry_of(Toy, kind)
    assert registry.up() == ["toy"]
    assert reason in capsys.readouterr().out
    registry.down()
    with pytest.raises(ServiceError) as caught:
        registry.up(required=True)
    assert reason in str(caught.value)
    assert registry.addresses() == {}
    assert not any(Processes(registry.home / name).running() for name in registry.servers)


def test_what_it_needs_is_started_first_even_if_unnamed(registry_of):
    registry = registry_of(Toy, Behind, Silent)
    assert sorted(registry.up(["behind"])) == ["behind", "toy"]


def test_without_what_it_needs_it_is_left_out(registry_of, capsys):
    class AbsentToy(Toy):
        def find(self):
            return None

    registry = registry_of(AbsentToy, Behind)
    assert registry.up() == []
    assert "behind: it needs toy" in capsys.readouterr().out


def test_an_unknown_name_is_refused(registry_of):
    with pytest.raises(ServiceError, match="no server mysql; there are toy"):
        registry_of(Toy).up(["mysql"])


def test_it_can_be_killed_and_started_again_at_the_same_address(registry_of):
    registry = registry_of(Toy)
    registry.up()
    url = registry.addresses()["TURNKEEP_TEST_TOY_URL"]
    registry.kill(["toy"])
    assert registry.addresses() == {}
    registry.resume(["toy"])
    assert registry.addresses()["TURNKEEP_TEST_TOY_URL"] == url
    assert Toy(registry.home).answers(url)
    registry.down()
    with pytest.raises(ServiceError, match="never started"):
        registry.resume(["toy"])


def test_two_at_once_start_one(registry_of):
    registries = registry_of(Toy), registry_of(Toy)
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(Registry.up, registries)) == [[], ["toy"]]


def test_two_folders_have_servers_of_their_own(registry_of, tmp_path):
    here, there = registry_of(Toy), Registry(tmp_path / "elsewhere", tmp_path / "elsewhere.env", [Toy], {})
    here.up()
    assert there.up() == ["toy"]
    assert here.addresses() != there.addresses()
    there.down()
    assert Toy(here.home).answers(here.addresses()["TURNKEEP_TEST_TOY_URL"])


def test_what_a_killed_start_left_is_found_and_ended(registry_of):
    registry = registry_of(Toy)
    program = (
        "import pathlib, sys\n"
        "from services.test_services import Silent, Toy\n"
        "Silent.name, Silent.start_seconds = Toy.name, 600\n"
        "Silent(pathlib.Path(sys.argv[1])).start()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    log = registry.home / "toy" / "log"
    with subprocess.Popen([sys.executable, "-c", program, registry.home], env=environment) as starter:
        while not (log.exists() and log.read_text()):
            assert starter.poll() is None
            time.sleep(0.02)
        starter.kill()
    [old] = Toy(registry.home).processes._records()
    assert processes._born(old["pid"])
    assert registry.addresses() == {}
    assert registry.up() == ["toy"]
    assert processes._born(old["pid"]) is None


def test_what_cannot_be_recorded_does_not_begin(tmp_path, monkeypatch):
    def refuse(path, value):
        raise OSError("disk full")

    monkeypatch.setattr(processes, "write_json", refuse)
    with pytest.raises(OSError, match="disk full"):
        Processes(tmp_path).spawn(["/bin/sh", "-c", f"touch {tmp_path / 'begun'}"])
    Processes._children[-1].wait()
    assert not (tmp_path / "begun").exists()


def test_a_process_id_that_became_anothers_is_not_ended(registry_of):
    registry = registry_of(Toy)
    registry.up()
    toy = Toy(registry.home)
    pids = toy.directory / "pids"
    ours = pids.read_text()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pids.write_text(f'[{{"pid": {stranger.pid}, "born": "long ago"}}]')
        assert toy.address() is None
        toy.stop(keep_files=True)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    pids.write_text(ours)


def services(folder, *words):
    """What the command returns, says, and says of errors, where the environment gives a server."""
    run = subprocess.run(
        [sys.executable, "-m", "services", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS), "TURNKEEP_TEST_REDIS_URL": "redis://elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def test_the_command_takes_servers_of_its_own(tmp_path):
    status, _, complaint = services(tmp_path, "--home", "mine", "up", "mysql")
    assert (status, complaint.partition(";")[0]) == (1, "services: there is no server mysql")
    status, _, complaint = services(tmp_path, "--home", "mine", "resume", "redis")
    assert (status, "never started" in complaint) == (1, True)
    assert services(tmp_path, "--home", "mine", "down") == (0, "services: none was running\n", "")
    assert (tmp_path / "mine" / "env").read_text() == ""


def test_the_command_refuses_what_it_does_not_know(tmp_path):
    status, _, complaint = services(tmp_path, "sideways")
    assert status == 2
    assert "up" in complaint
