"""What networks do to an adapter, and what a turn costs on the wire."""

from typing import ClassVar

import pytest

from turnkeep.urls import StorageURL
from turnkeep_sqlalchemy import SQLAlchemyAdapter
from turnkeep_testkit.faults import NetworkFaultSuite

from .kit import Place


@pytest.fixture(scope="class")
def shared_place(request, tmp_path_factory):
    with Place(request.cls.kind, tmp_path_factory.mktemp("store")) as place:
        yield place


class ThroughAProxy(NetworkFaultSuite):
    kind: ClassVar[str]

    @pytest.fixture
    def server_url(self, shared_place):
        self.place = shared_place
        return shared_place.url

    @pytest.fixture
    def make_adapter_at(self, shared_place):
        schema = shared_place.options.get("schema")
        option = f"?schema={schema}" if schema else ""
        return lambda url: SQLAlchemyAdapter.from_url(StorageURL(f"{url}{option}"))


class TestPostgreSQL(ThroughAProxy):
    kind = "postgresql"


class TestAsyncpg(ThroughAProxy):
    kind = "asyncpg"


class TestMariaDB(ThroughAProxy):
    kind = "mariadb"
    commit_round_trips = 3


class TestAiomysql(ThroughAProxy):
    kind = "aiomysql"
    commit_round_trips = 3

    @pytest.fixture(autouse=True)
    def _in_campaigns(self, pytestconfig):
        if not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day with another driver; --turnkeep-campaign runs it with both")
