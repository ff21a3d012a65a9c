"""The suite every adapter passes: on a replica set, its core on a server without one and on a client handed in."""

from contextlib import asynccontextmanager

import pytest
from pymongo import AsyncMongoClient, MongoClient

from turnkeep_mongodb import MongoDBAdapter
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    ConcurrencySuite,
    DeleteSuite,
    FakeClock,
    IdempotencySuite,
)

from .kit import FUTURE, from_url, named


def count_documents(url, database, key):
    """How many documents carry the id of a session."""
    session = f"{key.scope.namespace}/{key.session_id}"
    with MongoClient(url) as client:
        heads = client[database]["turnkeep_sessions"].count_documents({"_id": session})
        return heads + client[database]["turnkeep_messages"].count_documents({"session": session})


class TestReplicaSet(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock(FUTURE)

    @pytest.fixture
    def make_adapter(self, request, replica_url, shared_database, fake_clock):
        # Those that look at an empty store need one of their own.
        is_empty = (
            getattr(request.function, "starts_closed", False) or "LifecycleSuite" in request.function.__qualname__
        )
        database = request.getfixturevalue("database") if is_empty else shared_database
        self.place = (replica_url, database)
        return lambda: from_url(named(replica_url, database), clock=fake_clock)

    def connect_url(self):
        return named(*self.place)

    async def remains(self, key):
        return count_documents(*self.place, key)

    async def search_settle(self):
        """A search reads what is there."""


class TestStandalone(AtomicTurnSuite, CompareAndSwapSuite, ConcurrencySuite, DeleteSuite, IdempotencySuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock(FUTURE)

    @pytest.fixture
    def make_adapter(self, standalone_url, standalone_database, fake_clock):
        self.place = (standalone_url, standalone_database)
        return lambda: from_url(named(standalone_url, standalone_database), clock=fake_clock)

    async def remains(self, key):
        return count_documents(*self.place, key)


class TestClientHandedIn(AtomicTurnSuite, DeleteSuite):
    """With the server's own clock."""

    @pytest.fixture
    def make_adapter(self, replica_url, shared_database):
        self.place = (replica_url, shared_database)

        @asynccontextmanager
        async def make():
            async with AsyncMongoClient(replica_url, w=1, readPreference="secondaryPreferred") as client:
                adapter = MongoDBAdapter(client, shared_database)
                await adapter.open()
                yield adapter
                await adapter.aclose()
                await client.admin.command("ping")  # still open

        return make

    async def remains(self, key):
        return count_documents(*self.place, key)
