"""The suite every adapter passes: on a new and an old server, through a pooler, and its core over a pool of others."""

from types import MappingProxyType

import pytest

from turnkeep_postgres import PostgreSQLAdapter, commits
from turnkeep_postgres import schema as schema_module
from turnkeep_postgres.statements import Migration
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
    SearchSuite,
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
        test = request.function
        if getattr(test, "starts_closed", False) or test.__name__.startswith("test_schema"):
            with fresh_schema(self.variable) as name:
                yield name
        else:
            name = request.getfixturevalue("shared_schema")
            yield name
            run_sql(server_url(self.variable), f"DELETE FROM {name}.turnkeep_sessions")

    @pytest.fixture
    def make_adapter(self, schema, fake_clock, monkeypatch):
        self.schema, self.monkeypatch = schema, monkeypatch
        url = server_url(self.variable)
        return lambda: PostgreSQLAdapter(url, schema=schema, clock=fake_clock, **self.options)

    def connect_url(self):
        url = server_url(self.variable)
        return f"{url}{'&' if '?' in url else '?'}schema={self.schema}"

    async def make_schema_older(self):
        later = Migration(3, "0003_test", "A second step.", "ALTER TABLE turnkeep_messages ADD COLUMN x text;")
        self.monkeypatch.setattr(schema_module, "MIGRATIONS", (*schema_module.MIGRATIONS, later))

    async def make_schema_newer(self):
        self.sql("INSERT INTO {0}.turnkeep_schema VALUES (99, 'later', now())")

    async def make_schema_foreign(self):
        self.sql("CREATE TABLE {0}.turnkeep_messages (id text)")

    async def lose_message(self, key, seq):
        identity = f"namespace = '{key.scope.namespace}' AND session_id = '{key.session_id}'"
        self.sql(f"DELETE FROM {{0}}.turnkeep_messages WHERE {identity} AND seq = {seq}")

    async def fingerprint(self):
        tables = self.sql(
            "SELECT table_name, string_agg(column_name, ',' ORDER BY ordinal_position) "
            "FROM information_schema.columns WHERE table_schema = '{0}' GROUP BY 1 ORDER BY 1"
        )
        return tables, [
            self.sql(f"SELECT * FROM {{0}}.{name} ORDER BY 1, 2") for name, columns in tables if "," in columns
        ]

    def sql(self, statement):
        return run_sql(server_url(self.variable), statement.format(self.schema))

    async def remains(self, key):
        return count_rows(server_url(self.variable), self.schema, key)


class TestNew(OnServer, AdapterSuite):
    pass


class TestOld(OnServer, AdapterSuite):
    variable = OLD
    options = MappingProxyType({"prepare_threshold": 2})

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        theme = request.function.__module__.rpartition(".")[2]
        if theme in {"exact", "isolation", "stateful"} and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every text and random steps every day on one server only; --turnkeep-campaign: on all")


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
    SearchSuite,
):
    variable = POOLER


class TestImports(
    OnServer, AtomicTurnSuite, CompareAndSwapSuite, IdempotencySuite, ConcurrencySuite, CancellationSuite, DeleteSuite
):
    """Every message is copied in, as those of large commits are; through a pooler, where it needs a transaction."""

    variable = POOLER

    @pytest.fixture(autouse=True)
    def _imported(self, monkeypatch):
        monkeypatch.setattr(commits, "_IMPORTED", 1)


class TestServerClock(OnServer, ExpirySuite, IdempotencySuite):
    """Nobody hands in a clock: the server's time decides."""

    @pytest.fixture
    def fake_clock(self):
        return None
