"""The suite every adapter passes: as it comes, lists where commits wait for them, the core on a client handed in."""

from contextlib import asynccontextmanager

import pytest

from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_opensearch.schema import Migration
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    DeleteSuite,
    FakeClock,
    ListSuite,
    ReadYourWritesSuite,
    SearchSuite,
    StatefulSuite,
)

from .kit import QUIET, ask, client_of, count_documents, from_url, named, refresh

LENIENT = {"ignore_unavailable": "true"}


class TestOpenSearch(AdapterSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, request, cluster_url, shared_names, fake_clock):
        # Those that look at an empty store, or spoil one, need one of their own.
        of = request.function
        is_alone = getattr(of, "starts_closed", False) or of.__qualname__.startswith(("LifecycleSuite", "SchemaSuite"))
        names = request.getfixturevalue("names") if is_alone else shared_names
        self.place = (cluster_url, names)
        self.steps = ()

        def make():
            adapter = from_url(named(cluster_url, names), clock=fake_clock)
            adapter._schema._steps += self.steps
            return adapter

        return make

    def connect_url(self):
        return named(*self.place)

    async def lists_settle(self):
        await refresh(*self.place)

    async def search_settle(self):
        await refresh(*self.place)

    async def remains(self, key):
        return await count_documents(*self.place, key)

    async def lose_message(self, key, seq):
        async with client_of(self.place[0]) as client:
            path = f"/{self.place[1]['sessions']}/_update/{key.scope.namespace}%2F{key.session_id}"
            source = "ctx._source.tail.removeIf(item -> item.seq == params.seq)"
            await ask(client, "POST", path, {"script": {"source": source, "params": {"seq": seq}}})

    async def make_schema_older(self):
        self.steps = (Migration(3, "0003_test", "A third step.", {"messages": {"tone": {"type": "keyword"}}}),)

    async def make_schema_newer(self):
        async with client_of(self.place[0]) as client:
            for kind, other in (("sessions", "messages"), ("messages", "sessions")):
                meta = {"version": 3, "kind": kind, "beside": self.place[1][other]}
                await ask(client, "PUT", f"/{self.place[1][kind]}/_mapping", {"_meta": {"turnkeep": meta}})

    async def make_schema_foreign(self):
        async with client_of(self.place[0]) as client:
            await ask(client, "PUT", f"/{self.place[1]['messages']}/_doc/1", {"theirs": True}, refresh="true")

    async def fingerprint(self):
        async with client_of(self.place[0]) as client:
            found = await ask(client, "GET", f"/{self.place[1]['sessions']},{self.place[1]['messages']}", **LENIENT)
            documents = await ask(client, "POST", f"/{','.join(self.place[1].values())}/_search", **LENIENT)
        return found, [hit["_source"] for hit in documents["hits"]["hits"]]


class TestRefreshed(ListSuite, ReadYourWritesSuite, SearchSuite, StatefulSuite):
    """With ``refresh=True`` a list shows each commit at once, and a search finds it."""

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, cluster_url, shared_names, fake_clock):
        return lambda: from_url(named(cluster_url, shared_names, refresh="true"), clock=fake_clock)

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        if request.function.__qualname__.startswith("StatefulSuite") and not pytestconfig.getoption(
            "turnkeep_campaign"
        ):
            pytest.skip("random steps are taken every day without a refresh only; --turnkeep-campaign takes them with")


class TestClientHandedIn(AtomicTurnSuite, DeleteSuite):
    """With the server's own clock, and a driver that repeats what was not answered."""

    @pytest.fixture
    def make_adapter(self, cluster_url, shared_names):
        self.place = (cluster_url, shared_names)

        @asynccontextmanager
        async def make():
            async with client_of(cluster_url, max_retries=2, retry_on_timeout=True) as client:
                adapter = OpenSearchAdapter(client, shared_names, settings=QUIET)
                await adapter.open()
                yield adapter
                await adapter.aclose()
                await ask(client, "GET", "/")  # still open

        return make

    async def lists_settle(self):
        await refresh(*self.place)

    async def remains(self, key):
        return await count_documents(*self.place, key)
