"""The suite every adapter passes: on a new and an old server, through a pooler, and its core over a pool of others."""

from types import MappingProxyType

import pytest

from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    CancellationSuite,
    CompareAndSwapSuite,
    ConcurrencySuite,
    DeleteSuite,
    ExpirySuite,
    FakeClock,
    IdempotencySuite,
    LifecycleSuite,
    ListSuite,
)

from .kit import NEW, OLD, POOLER, count_rows, fresh_schema, run_sql, server_url


@pytest.fixture(scope="class")
def shared_schema(request):
    with fresh_schema(request.cls.variable) as name:
        yield name


class OnServer:
    """A schema for each class; one of its own for a test that makes the tables itself."""

    variable = NEW
    options = MappingProxyType({})

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def schema(self, request):
        if getattr(request.function, "starts_closed", False):
            with fresh_schema(self.variable) as name:
                yield name
        else:
            name = request.getfixturevalue("shared_schema")
            yield name
            run_sql(server_url(self.variable), f"DELETE FROM {name}.turnkeep_sessions")

    @pytest.fixture
    def make_adapter(self, schema, fake_clock):
        self.schema = schema
        url = server_url(self.variable)
        return lambda: PostgreSQLAdapter(url, schema=schema, clock=fake_clock, **self.options)

    async def remains(self, key):
        return count_rows(server_url(self.variable), self.schema, key)


class TestNew(OnServer, AdapterSuite):
    pass


class TestOld(OnServer, AdapterSuite):
    variable = OLD
    options = MappingProxyType({"prepare_threshold": 2})


class TestPooler(
    OnServer,
    LifecycleSuite,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    IdempotencySuite,
    ConcurrencySuite,
    CancellationSuite,
    DeleteSuite,
    ListSuite,
):
    variable = POOLER


class TestServerClock(OnServer, ExpirySuite, IdempotencySuite):
    """Nobody hands in a clock: the server's time decides."""

    @pytest.fixture
    def fake_clock(self):
        return None
