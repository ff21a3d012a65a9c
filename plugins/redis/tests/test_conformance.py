"""The suite every adapter passes: on Redis, on the oldest one, on a cluster, on Valkey; parts of it in other settings.

What depends on the texts alone, and not on the server, runs every day on one of them only.
"""

from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import quote

import pytest

from turnkeep_redis import RedisAdapter
from turnkeep_testkit import (
    AdapterSuite,
    AtomicTurnSuite,
    CapabilitySuite,
    ConcurrencySuite,
    DeleteSuite,
    ExpirySuite,
    FakeClock,
    IdempotencySuite,
    LifecycleSuite,
    ListSuite,
)

from .kit import address, connected, find_keys, from_url, new_prefix, opened

_BY_TEXT = {"exact", "isolation"}


class OnServer:
    """Each test has a prefix of its own, which is removed after it."""

    server = "redis"

    @pytest.fixture
    def url(self):
        return address(self.server)

    @pytest.fixture
    def prefix(self, url):
        self.url, self.prefix = url, new_prefix()
        return self.prefix

    async def remains(self, key):
        """How many keys there are of a session, and how many sorted sets name it."""
        async with connected(self.url) as client:
            tag = f"{{{key.scope.namespace}:{quote(key.session_id, safe='')}}}"
            keys = await find_keys(client, f"{self.prefix}*")
            count = 0
            for name in keys:
                kind = await client.type(name)
                if tag in name:
                    count += 1 if kind == b"hash" else await client.llen(name)
                elif kind == b"zset":
                    members = await client.zrange(name, 0, -1)
                    if name.endswith(":due"):
                        members = [member.split(b" ")[1] for member in members]
                        count += members.count(quote(key.session_id, safe="").encode())
                    else:
                        count += members.count(key.session_id.encode())
            return count


class WithClock(OnServer):
    options = ""

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, url, prefix, fake_clock):
        def make():
            adapter = from_url(f"{url}?key_prefix={prefix}{self.options}")
            adapter._clock = fake_clock
            return adapter

        return make

    def connect_url(self):
        return f"{self.url}?key_prefix={self.prefix}{self.options}"


class TestRedis(WithClock, AdapterSuite):
    pass


class WholeInCampaigns(WithClock):
    left_out = _BY_TEXT

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        theme = request.function.__module__.rpartition(".")[2]
        if theme in self.left_out and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day on one server only; --turnkeep-campaign runs it on all")


class TestOldRedis(WholeInCampaigns, AdapterSuite):
    server = "old"


class TestCluster(WholeInCampaigns, AdapterSuite):
    server = "cluster"
    machine_runs = 10


class TestValkey(WholeInCampaigns, AdapterSuite):
    """Each commit waits for the disk, by WAITAOF."""

    server = "valkey"
    options = "&durability=synced"
    left_out = _BY_TEXT | {"expiry", "history", "isolation", "lists", "order", "schema", "stateful"}


class WithServersClock(OnServer):
    """As an application uses it: the server's own time and expiry, which take the time they take."""

    @pytest.fixture
    def make_adapter(self, url, prefix):
        return lambda: from_url(f"{url}?key_prefix={prefix}")

    @pytest.fixture(autouse=True)
    def _every_day(self, request, pytestconfig):
        if request.function.__name__ not in self.daily and not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("every day by a clock of the test's only; --turnkeep-campaign runs it by the server's, too")


class TestServersClock(WithServersClock, ExpirySuite, ListSuite, CapabilitySuite):
    """Every day, what Redis itself has a part in: instants that are set, moved, cleared and met."""

    daily: ClassVar = {
        "test_g12_a_commit_renews",
        "test_g12_a_commit_without_a_ttl_clears_it",
        "test_g12_a_load_does_not_renew",
        "test_g12_an_expired_id_can_be_created_again",
        "test_g12_an_expired_session_is_absent_everywhere",
        "test_g12_expiry_counts_from_the_commit",
        "test_g12_messages_leave_by_age",
        "test_g12_sweep_removes_what_is_expired",
        "test_list_older_than_a_duration",
    }


class TestServersClockOnCluster(WithServersClock, ExpirySuite):
    """Every day, what the clocks of several nodes have a part in."""

    server = "cluster"
    daily: ClassVar = {
        "test_g12_an_expired_id_can_be_created_again",
        "test_g12_an_expired_session_of_an_owner_is_erased_too",
        "test_g12_messages_leave_by_age",
        "test_g12_sweep_removes_what_is_expired",
    }


class TestHandedIn(OnServer, LifecycleSuite, AtomicTurnSuite, IdempotencySuite, ConcurrencySuite, DeleteSuite):
    """A client of the application's, with settings of its own that must not matter, and that stays open."""

    def settings(self):
        return {"decode_responses": True, "encoding": "latin-1", "protocol": 3}

    @pytest.fixture
    def make_adapter(self, url, prefix):
        @asynccontextmanager
        async def make():
            async with connected(url, **self.settings()) as client:
                async with opened(RedisAdapter(client, key_prefix=prefix)) as adapter:
                    yield adapter
                assert await client.ping()

        return make


class TestHandedInCluster(OnServer, LifecycleSuite, AtomicTurnSuite):
    server = "cluster"
    make_adapter = TestHandedIn.make_adapter

    def settings(self):
        return {"decode_responses": True}
