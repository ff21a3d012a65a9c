"""What `check` says, and the clock that rules."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.outbox import ServerClock
from turnkeep.outbox import clock as clock_module
from turnkeep_opensearch import health
from turnkeep_opensearch.calls import Calls
from turnkeep_opensearch.schema import Index
from turnkeep_opensearch.sessions import Sessions
from turnkeep_testkit import new_commit, new_key

from .kit import ask, from_url, named, opened

LINES = ["server", "cluster", "schema", "mapping", "durability", "writable", "copies", "clock", "lag"]


async def lines(adapter):
    return {check.name: check for check in (await adapter.check()).checks}


async def test_a_healthy_cluster_line_by_line(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        found = await lines(adapter)
        assert list(found) == LINES
        assert all(check.ok for name, check in found.items() if name != "copies")
        assert "OpenSearch 2." in found["server"].detail
        assert (await adapter.check()).ok


async def test_before_there_is_anything(cluster_url, names):
    report = await from_url(named(cluster_url, names)).check()
    assert [(check.name, check.ok) for check in report.checks] == [("server", True), ("indices", False)]
    assert "turnkeep migrate" in report.checks[-1].fix


async def test_how_far_the_documents_of_messages_lag(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        for number in range(3):
            await adapter.commit(new_commit(new_key(), *["x"] * number))
        key = new_key()
        created = await adapter.commit(new_commit(key, *["x"] * 20))
        await adapter.commit(new_commit(key, "y", expect=created.token))
        await ask(client, "POST", f"/{names['sessions']}/_refresh")
        said = (await lines(adapter))["lag"].detail
        assert said == "4 messages of 3 sessions have no document of their own yet; a search writes them first"


async def test_settings_that_may_lose_turns_are_told(cluster_url, names, client):
    async with opened(cluster_url, names, settings={"number_of_replicas": 1}) as adapter:
        settings = {"index.translog.durability": "async"}
        await ask(client, "PUT", f"/{names['messages']}/_settings", settings)
        found = await lines(adapter)
        assert (found["durability"].ok, found["durability"].warning) == (False, True)
        assert "messages" in found["durability"].detail
        assert (found["cluster"].ok, found["cluster"].warning) == (False, True)  # a replica without a second node
        assert found["copies"].ok
        assert (await adapter.check()).ok


@pytest.mark.parametrize("name", ["read_only", "read_only_allow_delete", "write", "metadata"])
def test_every_block_is_told(name):
    found = health._blocks({"sessions": Index(1, {}, {f"index.blocks.{name}": "true"})})
    assert (found.ok, found.warning) == (False, False)
    assert name in found.detail
    assert found.fix


async def test_a_machine_that_is_far_off_is_told(cluster_url, names, client, monkeypatch):
    async with opened(cluster_url, names) as adapter:

        async def tell_time(self):
            return datetime.now(UTC) - timedelta(hours=1)

        monkeypatch.setattr(Sessions, "tell_time", tell_time)
        found = (await lines(adapter))["clock"]
        assert (found.ok, found.warning) == (False, True)
        assert "-3600" in found.detail


async def test_the_servers_clock_rules(cluster_url, names, monkeypatch):
    """A machine whose own clock is an hour off stores the server's time."""
    async with opened(cluster_url, names) as adapter:
        true = datetime.now(UTC)

        class Wrong(datetime):
            @classmethod
            def now(cls, tz=None):
                return true - timedelta(hours=1)

        monkeypatch.setattr(clock_module, "datetime", Wrong)
        done = await adapter.commit(new_commit(new_key(), "x", ttl=timedelta(minutes=5)))
        assert abs(done.time - true) < timedelta(seconds=20)


async def test_a_session_expires_by_the_servers_clock(cluster_url, names):
    """The rest of expiry is the kit's, on a clock that it moves."""
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        done = await adapter.commit(new_commit(key, "x", ttl=timedelta(seconds=3)))
        assert done.expires_at - done.time == timedelta(seconds=3)
        assert await adapter.load(key, LoadQuery()) is not None
        await asyncio.sleep(3.1)
        assert await adapter.load(key, LoadQuery()) is None
        assert (await adapter.sweep(10)).sessions == 1


async def test_the_clock_is_set_by_a_request_that_writes_nothing(cluster_url, names, client, monkeypatch):
    async with opened(cluster_url, names):
        clock, sessions = ServerClock(), Sessions(Calls(client), names["sessions"])
        assert clock.is_due
        record = f"/{names['sessions']}/_doc/%23turnkeep"
        before = await ask(client, "GET", record)
        await clock.set(sessions.tell_time)
        assert not clock.is_due
        assert abs(clock() - datetime.now(UTC)) < timedelta(seconds=5)
        assert await ask(client, "GET", record) == before
        monkeypatch.setattr(clock_module, "_KEEPS", -1.0)
        assert clock.is_due
        told = clock()
        await ask(client, "DELETE", record)
        await clock.set(sessions.tell_time)  # a server that does not tell leaves it as it is
        assert clock() >= told
