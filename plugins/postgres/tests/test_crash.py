"""Processes and servers that are killed, and processes that compete: nothing lost, nothing torn, nothing twice."""

import asyncio
from functools import partial

import pytest

from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit.faults import ContentionSuite, ProcessFaultSuite, RaceSuite, StartSuite

from .kit import POOLER, count_rows, fresh_schema, server_url
from .servers import private_server


@pytest.fixture(scope="class")
def server(request, tmp_path_factory):
    """A server that nobody else misses when it is killed."""
    with private_server(tmp_path_factory.mktemp("server"), request.cls.kind) as server:
        yield server


@pytest.fixture(scope="class", autouse=True)
def every_day(request, pytestconfig):
    if not request.cls.every_day and not pytestconfig.getoption("turnkeep_campaign"):
        pytest.skip("processes compete every day on one server only; --turnkeep-campaign runs them on all")


class OnItsOwnServer(ProcessFaultSuite):
    every_day = True
    kind = "PostgreSQL"

    @pytest.fixture
    def kill_server(self, server):
        async def kill():
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.resume)

        return kill

    @pytest.fixture
    def adapter_factory(self, server):
        with fresh_schema(url=server.address()) as schema:
            self.place = server.address(), schema
            yield partial(PostgreSQLAdapter, server.address(), schema=schema, max_size=8)

    async def remains(self, key):
        return count_rows(*self.place, key)


class TestProcesses(OnItsOwnServer):
    pass


class TestOldProcesses(OnItsOwnServer):
    every_day = False
    kind = "PostgreSQLOld"


class TestProcessesThroughPooler(ContentionSuite, RaceSuite, StartSuite):
    every_day = False

    @pytest.fixture
    def adapter_factory(self):
        with fresh_schema(POOLER) as schema:
            yield partial(PostgreSQLAdapter, server_url(POOLER), schema=schema, max_size=4)
