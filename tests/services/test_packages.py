"""What is installed, by an apt-get of our own that only pretends."""

import os
import sys

import pytest

from . import packages
from .commands import ServiceError

APT_GET = """\
#!/bin/sh
echo "$DEBIAN_FRONTEND: $*" >> {log}
cat {policy} >> {log}
case "$*" in *" install "*) {install} ;; esac
"""


@pytest.fixture
def debian(tmp_path, monkeypatch):
    """Makes a machine on which apt-get does this; returns what it was asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "asked"
    policy = tmp_path / "policy-rc.d"

    def make(install):
        program = folder / "apt-get"
        program.write_text(APT_GET.format(log=log, policy=policy, install=install))
        program.chmod(0o755)
        return log

    monkeypatch.setattr(packages, "POLICY", policy)
    monkeypatch.setattr(packages, "PATH", str(folder))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return make


def test_lists_are_fetched_then_packages_installed_and_nothing_starts(debian, tmp_path):
    asked = debian("true")
    packages.apt_install(["redis-server", "pgbouncer"], tmp_path / "log")
    lines = [line for line in asked.read_text().splitlines() if line.startswith(("noninteractive", "exit"))]
    update, denied, install, denied_again = lines
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends redis-server pgbouncer")
    assert denied == denied_again == "exit 101"
    assert not packages.POLICY.exists()


def test_a_policy_of_the_machines_own_stays(debian, tmp_path):
    asked = debian("true")
    packages.POLICY.write_text("its own\n")
    packages.apt_install(["redis-server"], tmp_path / "log")
    assert packages.POLICY.read_text() == "its own\n"
    assert asked.read_text().count("its own") == 2


def test_a_failure_shows_the_end_of_the_log_and_leaves_no_policy(debian, tmp_path):
    debian("echo 'Unable to locate package' >&2; exit 100")
    with pytest.raises(ServiceError, match=r"status 100 of apt-get .*redis-server\nUnable to locate package"):
        packages.apt_install(["redis-server"], tmp_path / "log")
    assert not packages.POLICY.exists()


def test_who_is_not_root_is_told_the_line(debian, tmp_path, monkeypatch):
    asked = debian("true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="sudo apt-get install -y --no-install-recommends redis-server"):
        packages.apt_install(["redis-server"], tmp_path / "log")
    assert not asked.exists()


def test_a_wheel_that_cannot_be_had_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    with pytest.raises(ServiceError, match="no-such-server"):
        packages.wheel("no-such-server==1")
    assert list(tmp_path.iterdir()) == []


def test_what_is_installed_is_installed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"
    first = packages._once("toy", lambda folder: [sys.executable, "-c", script, folder])
    assert first.is_dir()
    assert packages._once("toy", lambda folder: ["false"]) == first
