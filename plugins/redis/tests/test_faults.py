"""What networks, killed processes and killed servers do, on a server and on its log."""

import asyncio
from functools import partial

import pytest

from turnkeep_testkit.faults import NetworkFaultSuite, ProcessFaultSuite, adapter_at

from .kit import address, from_url, new_prefix
from .servers import PrivateRedis


class TestNetwork(NetworkFaultSuite):
    @pytest.fixture
    def server_url(self):
        return address("redis")

    @pytest.fixture
    def make_adapter_at(self):
        prefix = new_prefix()
        return lambda url: from_url(f"{url}?key_prefix={prefix}")


class TestProcesses(ProcessFaultSuite):
    """On a server of its own, which is killed, too; it syncs every write to its disk before it answers."""

    @pytest.fixture
    def server(self, tmp_path):
        with PrivateRedis(tmp_path / "server") as server:
            yield server

    @pytest.fixture
    def adapter_factory(self, server):
        return partial(adapter_at, f"{server.url}?key_prefix={new_prefix()}")

    @pytest.fixture
    def kill_server(self, server):
        async def kill():
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.resume)

        return kill
