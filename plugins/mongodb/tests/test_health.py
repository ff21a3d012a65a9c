"""What ``check`` says, and which clock rules."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from turnkeep.contract import Capability, Level, LoadQuery
from turnkeep.outbox import ServerClock
from turnkeep.outbox import clock as clock_module
from turnkeep_mongodb import health
from turnkeep_mongodb.sessions import Sessions
from turnkeep_testkit import new_commit, new_key

from .kit import everything, from_url, named, opened

GENUINE = {"version": "8.0.4", "versionArray": [8, 0, 4, 0], "gitVersion": "b0a1c2", "openssl": {}}
MEMBERS = ["a:1", "b:1", "c:1"]


async def lines(adapter):
    report = await adapter.check()
    assert report.adapter == "mongodb"
    assert all(check.fix for check in report.checks if not check.ok), str(report)
    return {check.name: check for check in report.checks}


async def test_a_healthy_server(replica_url, database):
    async with opened(replica_url, database) as adapter:
        found = await lines(adapter)
        assert list(found) == [
            "server",
            "version",
            "primary",
            "topology",
            "write concern",
            "journal",
            "clock",
            "schema",
            "indexes",
        ]
        assert (await adapter.check()).ok
        assert "w=majority, j=true" in found["write concern"].detail
        assert found["schema"].detail == "version 1"
        assert adapter.supports(Capability.DURABLE).level is Level.FULL


async def test_it_changes_nothing(replica_url, database, client):
    adapter = from_url(named(replica_url, database))
    report = await adapter.check()
    assert not report.ok
    assert await client[database].list_collection_names() == []
    await adapter.migrate()
    before = await everything(client, database)
    assert (await adapter.check()).ok
    assert await everything(client, database) == before


async def test_a_server_without_a_replica_set(standalone_url, standalone_database):
    async with opened(standalone_url, standalone_database) as adapter:
        found = await lines(adapter)
        assert found["topology"].warning
        assert "standalone" in found["topology"].detail
        assert (await adapter.check()).ok


@pytest.mark.parametrize(
    ("build", "ok", "warning"),
    [
        (GENUINE, True, False),
        (GENUINE | {"version": "4.2.0", "versionArray": [4, 2, 0, 0]}, False, False),
        (GENUINE | {"ferretdb": {"version": "2"}}, False, True),
        (GENUINE | {"gitVersion": "0" * 40}, False, True),
        ({"version": "7.0.0", "versionArray": [7, 0, 0, 0]}, False, True),
    ],
)
def test_versions_and_other_servers(build, ok, warning):
    found = health._version(build)
    assert (found.ok, found.warning) == (ok, warning)
    assert found.ok or found.fix


@pytest.mark.parametrize(
    ("hello", "ok", "says"),
    [
        ({"msg": "isdbgrid"}, True, "sharded"),
        ({"setName": "rs", "hosts": MEMBERS}, True, "3 data-bearing"),
        ({"setName": "rs", "hosts": MEMBERS[:1]}, False, "1 data-bearing"),
        ({"setName": "rs", "hosts": MEMBERS, "arbiters": ["d:1"]}, False, "1 arbiters"),
        ({}, False, "standalone"),
    ],
)
def test_topologies(hello, ok, says):
    found = health._topology(hello)
    assert found.ok is ok
    assert says in found.detail
    assert found.ok or found.fix


def test_a_secondary_and_a_far_off_clock_are_told():
    assert health._primary({"isWritablePrimary": True}).ok
    assert not health._primary({"isWritablePrimary": False, "secondary": True}).ok
    now = datetime.now(UTC).replace(tzinfo=None)
    assert health._clock({"localTime": now}, 0).ok
    far = health._clock({"localTime": now - timedelta(hours=1)}, 0)
    assert (far.ok, far.warning) == (False, True)


async def test_the_servers_clock_rules(replica_url, database, monkeypatch):
    """A machine whose own clock is an hour off stores the server's time."""
    async with opened(replica_url, database) as adapter:
        true = datetime.now(UTC)

        class Wrong(datetime):
            @classmethod
            def now(cls, tz=None):
                return true - timedelta(hours=1)

        monkeypatch.setattr(clock_module, "datetime", Wrong)
        done = await adapter.commit(new_commit(new_key(), "x", ttl=timedelta(minutes=5)))
        assert abs(done.time - true) < timedelta(seconds=20)


async def test_a_session_expires_by_the_servers_clock(replica_url, database):
    """The rest of expiry is the kit's, on a clock that it moves."""
    async with opened(replica_url, database) as adapter:
        key = new_key()
        done = await adapter.commit(new_commit(key, "x", ttl=timedelta(seconds=3)))
        assert done.expires_at - done.time == timedelta(seconds=3)
        assert await adapter.load(key, LoadQuery()) is not None
        await asyncio.sleep(3.1)
        assert await adapter.load(key, LoadQuery()) is None
        assert (await adapter.sweep(10)).sessions == 1


async def test_the_clock_is_set_again_beside_a_load(replica_url, database, client, monkeypatch):
    clock = ServerClock()
    assert clock.is_due
    assert abs(clock() - datetime.now(UTC)) < timedelta(seconds=1)
    await clock.set(Sessions(client[database]["turnkeep_sessions"]).tell_time)
    assert not clock.is_due
    monkeypatch.setattr(clock_module, "_KEEPS", -1.0)
    assert clock.is_due
    told = clock()
    await client.close()
    await clock.set(
        Sessions(client[database]["turnkeep_sessions"]).tell_time
    )  # a server that does not answer leaves it as it is
    assert clock() >= told
