"""What networks do to it: connections that are cut, silent or slow, and what a turn costs on the wire."""

import pytest

from turnkeep_testkit.faults import NetworkFaultSuite
from turnkeep_testkit.faults.cutting import CutConnectionSuite

from .kit import from_url, named, refresh


class TestNetwork(NetworkFaultSuite):
    @pytest.fixture
    def server_url(self, cluster_url):
        return cluster_url

    @pytest.fixture
    def make_adapter_at(self, cluster_url, shared_names):
        self.place = (cluster_url, shared_names)
        return lambda url: from_url(named(url, shared_names))

    async def lists_settle(self):
        await refresh(*self.place)


class TestCutsWithoutRepeats(CutConnectionSuite):
    """Each request is sent once: what was not answered is of unknown outcome."""

    @pytest.fixture
    def server_url(self, cluster_url):
        return cluster_url

    @pytest.fixture
    def make_adapter_at(self, cluster_url, shared_names):
        self.place = (cluster_url, shared_names)
        return lambda url: from_url(named(url, shared_names, max_retries=0))

    async def lists_settle(self):
        await refresh(*self.place)
