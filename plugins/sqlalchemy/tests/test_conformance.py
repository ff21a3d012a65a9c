"""The suite every adapter passes, on every database we speak for; parts of it with other drivers and names."""

import asyncio

import pytest

from turnkeep_testkit import AdapterSuite, FakeClock

from .kit import Place

_TABLES = (("turnkeep_sessions", "id"), ("turnkeep_messages", "session_id"), ("turnkeep_commits", "session_id"))


class OnADatabase:
    """How the suites reach a database of this kind."""

    kind: str

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, tmp_path, fake_clock):
        self.place = Place(self.kind, tmp_path)
        asyncio.run(self.place.make())
        yield lambda: self.place.adapter(clock=fake_clock)
        asyncio.run(self.place.remove())

    async def remains(self, key):
        identity = {"namespace": key.scope.namespace, "id": key.session_id}
        counts = [
            await self.place.rows(
                f"SELECT count(*) FROM {self.place.qualified(table)} WHERE namespace = :namespace AND {column} = :id",
                **identity,
            )
            for table, column in _TABLES
        ]
        return sum(count for ((count,),) in counts)


class TestSQLite(OnADatabase, AdapterSuite):
    kind = "sqlite"


class TestMariaDB(OnADatabase, AdapterSuite):
    kind = "mariadb"


class TestPostgreSQL(OnADatabase, AdapterSuite):
    kind = "postgresql"
