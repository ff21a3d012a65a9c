"""The suite every adapter passes, whole on three databases; parts of it with other drivers, servers and names."""

import asyncio
from typing import ClassVar

import pytest

from turnkeep_sqlalchemy.store import Store
from turnkeep_sqlalchemy.tables import FIELDS, MAPPED
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    CancellationSuite,
    CompareAndSwapSuite,
    ConcurrencySuite,
    DeleteSuite,
    ExactnessSuite,
    ExpirySuite,
    FakeClock,
    HistorySuite,
    IdempotencySuite,
    LifecycleSuite,
    ListSuite,
    OrderSuite,
    SearchSuite,
)

from .kit import Place

RENAMED = {kind: {field: f"x_{field}" for field in FIELDS[kind]} for kind in MAPPED}
ONE_NAMESPACE = {kind: {"namespace": None} for kind in MAPPED}


@pytest.fixture(scope="class")
def shared_place(request, tmp_path_factory):
    with Place(request.cls.kind, tmp_path_factory.mktemp("store")) as place:
        yield place


class OnADatabase:
    """A place for each class; one of its own for a test that makes the tables itself."""

    kind = "sqlite"
    options: ClassVar = {}
    in_campaigns: ClassVar = ()
    session_ids: ClassVar = Place.session_ids

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        theme = request.function.__module__.rpartition(".")[2]
        if theme in self.in_campaigns and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day on another database; --turnkeep-campaign runs it on all")

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def place(self, request, tmp_path):
        if getattr(request.function, "starts_closed", False):
            with Place(self.kind, tmp_path) as place:
                yield place
        else:
            place = request.getfixturevalue("shared_place")
            yield place
            sessions = place.qualified(next(iter(self.session_ids)))
            asyncio.run(place.run(f"DELETE FROM {sessions}"))  # and by its foreign keys all the rest

    @pytest.fixture
    def make_adapter(self, place, fake_clock):
        self.place = place
        return lambda: place.adapter(clock=fake_clock, **self.options)

    async def remains(self, key):
        return await self.place.count_rows(key.session_id, self.session_ids)


class TestSQLite(OnADatabase, AdapterSuite):
    in_campaigns = ("exact", "isolation")


class TestMariaDB(OnADatabase, AdapterSuite):
    kind = "mariadb"
    session_ids: ClassVar = Place.session_ids | {"turnkeep_words": "session_id"}
    in_campaigns = ("isolation",)


class TestPostgreSQL(OnADatabase, AdapterSuite):
    kind = "postgresql"


class TestOldPostgreSQL(OnADatabase, LifecycleSuite, AtomicTurnSuite, ExpirySuite, ListSuite):
    kind = "postgresql-old"


class TestAsyncpg(
    OnADatabase, LifecycleSuite, AtomicTurnSuite, CompareAndSwapSuite, ExpirySuite, CancellationSuite, ExactnessSuite
):
    kind = "asyncpg"
    in_campaigns = ("exact",)


class TestAiomysql(OnADatabase, LifecycleSuite, AtomicTurnSuite, HistorySuite, CancellationSuite, ExactnessSuite):
    kind = "aiomysql"
    in_campaigns = ("exact",)


class TestFormForMySQL(OnADatabase, AtomicTurnSuite, CompareAndSwapSuite, IdempotencySuite, HistorySuite, DeleteSuite):
    """The statements that MySQL gets, on MariaDB, which understands them."""

    kind = "mariadb"

    @pytest.fixture(autouse=True)
    def _generic(self, monkeypatch):
        monkeypatch.setattr(
            "turnkeep_sqlalchemy.adapter.make_store", lambda statements, _, clock: Store(statements, clock)
        )


class Renamed(OnADatabase):
    """Every column under another name, as in a schema that was there first."""

    options: ClassVar = {"tables": {"sessions": "chat", "messages": "Said"}, "field_mappings": RENAMED}
    session_ids: ClassVar = {"chat": "x_id", '"Said"': "x_session_id", "turnkeep_commits": "session_id"}


class TestRenamedOnSQLite(
    Renamed,
    LifecycleSuite,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    IdempotencySuite,
    HistorySuite,
    ListSuite,
    DeleteSuite,
    ExpirySuite,
    ConcurrencySuite,
):
    pass


# The names go into the same statements: on servers, what has statements of its own there.
class TestRenamedOnMariaDB(Renamed, AtomicTurnSuite, HistorySuite, DeleteSuite, ExpirySuite, SearchSuite):
    kind = "mariadb"
    options: ClassVar = Renamed.options | {"tables": Renamed.options["tables"] | {"words": "Spoken"}}
    session_ids: ClassVar = {
        "chat": "x_id",
        "`Said`": "x_session_id",
        "turnkeep_commits": "session_id",
        "`Spoken`": "session_id",
    }


class TestRenamedOnPostgreSQL(
    Renamed,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    IdempotencySuite,
    HistorySuite,
    ListSuite,
    DeleteSuite,
    ExpirySuite,
    SearchSuite,
):
    kind = "postgresql"
    options: ClassVar = Renamed.options | {"tables": Renamed.options["tables"] | {"words": "Spoken"}}
    session_ids: ClassVar = Renamed.session_ids | {'"Spoken"': "session_id"}


class OneNamespace(OnADatabase):
    """Tables without a column for the namespace."""

    options: ClassVar = {"field_mappings": ONE_NAMESPACE}


class TestOneNamespaceOnSQLite(
    OneNamespace, AtomicTurnSuite, CompareAndSwapSuite, HistorySuite, OrderSuite, ExpirySuite
):
    pass


class TestOneNamespaceOnMariaDB(OneNamespace, AtomicTurnSuite):
    kind = "mariadb"


class TestOneNamespaceOnPostgreSQL(OneNamespace, AtomicTurnSuite, CompareAndSwapSuite, HistorySuite, ExpirySuite):
    kind = "postgresql"
