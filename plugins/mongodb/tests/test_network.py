"""What networks do to it: connections that are cut, silent or slow, and what a turn costs on the wire."""

import pytest

from turnkeep_testkit.faults import NetworkFaultSuite
from turnkeep_testkit.faults.cutting import CutConnectionSuite

from .kit import from_url, named


class TestNetwork(NetworkFaultSuite):
    @pytest.fixture
    def server_url(self, replica_url):
        return replica_url

    @pytest.fixture
    def make_adapter_at(self, shared_database):
        # Else the driver would learn the server's own address, and go past the proxy.
        return lambda url: from_url(named(url, shared_database, directConnection="true"))


class TestStandaloneCuts(CutConnectionSuite):
    """Without retryable writes: the driver repeats none by itself. Reads are repeated on either kind of server."""

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        name = request.function.__name__
        if ("_read_" in name or "goes_away" in name) and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day on the replica set only; --turnkeep-campaign runs it on both")

    @pytest.fixture
    def server_url(self, standalone_url):
        return standalone_url

    @pytest.fixture
    def make_adapter_at(self, standalone_database):
        return lambda url: from_url(named(url, standalone_database, directConnection="true"))
