"""Processes that are killed, compete, race and start at once (T1, T10, T15, T16); a server that is killed (T2)."""

import asyncio
import functools
from typing import ClassVar

import pytest

from turnkeep_testkit.faults import ProcessFaultSuite, adapter_at

from .kit import Place
from .servers import private_server


@pytest.fixture(scope="class")
def server(request, tmp_path_factory):
    """A server that nobody else misses when it is killed."""
    with private_server(request.cls.server_kind, tmp_path_factory.mktemp("server")) as server:
        yield server


class OnADatabase(ProcessFaultSuite):
    """A place for each test: the suites begin with nothing."""

    in_campaigns: ClassVar = ()

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        plan = request.function.__name__.split("_")[1]
        if plan in self.in_campaigns and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day on another database; --turnkeep-campaign runs it on all")

    @pytest.fixture
    def adapter_factory(self, place):
        self.place = place
        return functools.partial(adapter_at, place.address)

    async def remains(self, key):
        return await self.place.count_rows(key.session_id)


class TestSQLite(OnADatabase):
    in_campaigns = ("t1", "t15")

    @pytest.fixture
    def place(self, tmp_path):
        with Place("sqlite", tmp_path) as place:
            yield place


class OnItsOwnServer(OnADatabase):
    @pytest.fixture
    def kill_server(self, server):
        async def kill():
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.resume)

        return kill

    @pytest.fixture
    def place(self, server, tmp_path):
        with Place(self.kind, tmp_path, self.url_of(server)) as place:
            yield place

    def url_of(self, server):
        return server.address()


class TestMariaDB(OnItsOwnServer):
    kind = server_kind = "mariadb"


class TestPostgreSQL(OnItsOwnServer):
    kind, server_kind = "postgresql", "postgres"
    in_campaigns = ("t1", "t16")

    def url_of(self, server):
        return server.variables(server.address())["TURNKEEP_TEST_SQLALCHEMY_POSTGRES_URL"]
