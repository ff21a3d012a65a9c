"""The real servers: one of each, of this test's own."""

import os
import socket
import sys
from pathlib import Path

import pytest

from turnkeep.urls import StorageURL

from . import pings
from .ports import port_of
from .redis import Redis, RedisCluster, RedisOld, Valkey
from .registry import SERVERS, Registry

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    home = tmp_path_factory.mktemp("services")
    registry = Registry(home, home / "env", environment={})
    try:
        registry.up(required=os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"})
        yield registry
    finally:
        registry.down()
    assert processes_in(home) == []


@pytest.fixture(params=SERVERS, ids=lambda kind: kind.name)
def server(request, registry):
    server = registry.servers[request.param.name]
    if not server.address():
        # What was promised has failed already, in `up`.
        pytest.skip(f"{server.name} cannot be had on this machine: `make services` says why")
    return server


def test_its_address_is_a_store_on_this_machine_alone(server):
    url = server.address()
    parsed = StorageURL(url)
    assert parsed.host == "127.0.0.1"
    assert server.answers(url)
    if sys.platform == "linux":
        # It reaches whoever listens on all interfaces.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port_of(url)), timeout=5)


def test_it_comes_back_after_a_kill(server):
    url = server.address()
    server.kill()
    assert server.address() is None
    assert not server.answers(url)
    assert server.resume() == url
    assert server.answers(url)


@pytest.mark.parametrize("kind", [Redis, RedisOld, RedisCluster, Valkey], ids=lambda kind: kind.name)
def test_redis_keeps_what_it_acknowledged(kind, registry):
    server = registry.servers[kind.name]
    url = server.address() or pytest.skip(f"{kind.name} cannot be had on this machine")
    # Of the cluster's three the first is asked, which holds this key.
    assert pings.redis(url, "SET", "b", "kept") == "OK"
    server.kill()
    server.resume()
    assert pings.redis(url, "GET", "b") == "kept"


def processes_in(home: Path) -> list[str]:
    """The processes whose working directory is below this folder, where /proc tells."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(home):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
