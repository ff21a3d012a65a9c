"""What networks do (T4, T5, T6), what a turn costs on the wire, directly and through a pooler."""

import pytest

from turnkeep.urls import StorageURL
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit.faults import NetworkFaultSuite
from turnkeep_testkit.faults.counting import WireCostSuite
from turnkeep_testkit.faults.cutting import CutConnectionSuite
from turnkeep_testkit.faults.mixing import MixedReplySuite
from turnkeep_testkit.faults.stalling import StalledServerSuite

from .kit import NEW, OLD, POOLER, fresh_schema, server_url


@pytest.fixture(scope="class")
def shared_schema(request):
    with fresh_schema(request.cls.variable) as name:
        yield name


class OnServer:
    variable = NEW
    options = ""

    @pytest.fixture
    def server_url(self):
        return server_url(self.variable)

    @pytest.fixture
    def make_adapter_at(self, shared_schema):
        return lambda url: PostgreSQLAdapter.from_url(StorageURL(f"{url}?schema={shared_schema}{self.options}"))


class TestNetwork(OnServer, NetworkFaultSuite):
    pass


class TestPrepared(OnServer, CutConnectionSuite, WireCostSuite):
    options = "&prepare_threshold=0"


class TestThroughPooler(OnServer, MixedReplySuite, WireCostSuite):
    variable = POOLER


class InCampaigns:
    @pytest.fixture(autouse=True)
    def _in_campaigns(self, pytestconfig):
        if not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("connections break every day on one server only; --turnkeep-campaign breaks them on all")


class TestOld(InCampaigns, OnServer, NetworkFaultSuite):
    variable = OLD


class TestBrokenBeforePooler(InCampaigns, OnServer, CutConnectionSuite, StalledServerSuite):
    variable = POOLER
