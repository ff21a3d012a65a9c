"""What `check` says of servers: as they are, and as they might be."""

import pytest

from turnkeep.errors import StorageRefused
from turnkeep_redis.health import _server, require

from .kit import address, connected, from_url, new_prefix, opened
from .servers import PrivateRedis

HEALTHY = {
    "redis_version": "7.4.6",
    "role": "master",
    "redis_mode": "standalone",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "appendfsync": "always",
}


def lines(**facts):
    return {check.name: check for check in _server({**HEALTHY, **facts}, is_cluster=False)}


@pytest.mark.parametrize("server", ["redis", "old", "cluster"])
async def test_a_server_that_works(server):
    adapter = from_url(f"{address(server)}?key_prefix={new_prefix()}")
    async with opened(adapter):
        report = await adapter.check()
    assert report.ok, str(report)
    names = [check.name for check in report.checks]
    assert names[-1] == "schema"
    assert len([name for name in names if name.endswith("appendonly")]) == (3 if server == "cluster" else 1)
    assert "appendfsync always" in str(report)


def test_nothing_to_say_of_a_healthy_one():
    assert all(check.ok for check in lines().values())


@pytest.mark.parametrize(
    ("facts", "name", "fix"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy", "noeviction"),
        ({"role": "slave"}, "role", "sentinel"),
        ({"redis_mode": "cluster"}, "mode", "redis+cluster"),
        ({"redis_version": "6.0.16"}, "version", "6.2"),
        ({"aof_last_write_status": "err"}, "disk", "disk"),
    ],
)
def test_what_breaks_a_promise_is_wrong(facts, name, fix):
    check = lines(**facts)[name]
    assert not check.ok
    assert not check.warning
    assert fix in check.fix


@pytest.mark.parametrize(
    ("facts", "name", "fix"),
    [
        ({"aof_enabled": "0"}, "appendonly", "appendonly yes"),
        ({"appendfsync": "everysec"}, "appendonly", "always"),
        ({"appendfsync": "no"}, "appendonly", "always"),
        ({"redis_version": "7.0.15"}, "version", "7.2.11"),
        ({"redis_version": "6.2.19"}, "version", "6.2.20"),
        ({"redis_version": "8.2.1"}, "version", "8.2.2"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, "version", "8.1.4"),
    ],
)
def test_what_weakens_one_is_a_warning(facts, name, fix):
    check = lines(**facts)[name]
    assert check.warning
    assert not check.ok
    assert fix in check.fix


@pytest.mark.parametrize(
    "facts",
    [
        {"redis_version": "6.2.20"},
        {"redis_version": "8.0.4"},
        {"redis_version": "8.4.0"},
        {"redis_version": "7.2.4", "valkey_version": "9.0.0"},
    ],
)
def test_patched_versions(facts):
    assert lines(**facts)["version"].ok


async def test_what_is_hidden_is_said_to_be():
    hidden = {name: value for name, value in HEALTHY.items() if name != "appendfsync"}
    (check,) = [check for check in _server(hidden, is_cluster=False) if check.name == "appendonly"]
    assert check.warning
    assert "cannot be seen" in check.detail


async def test_a_server_that_is_not_there():
    report = await from_url("redis://127.0.0.1:1").check()
    assert not report.ok
    assert [check.name for check in report.checks] == ["server"]


async def test_waiting_for_the_disk_needs_a_server_that_can():
    with pytest.raises(StorageRefused, match=r"7\.2"):
        await from_url(f"{address('redis')}?durability=synced&key_prefix={new_prefix()}").open()
    require({"server": {**HEALTHY, "redis_version": "7.2.11"}}, is_cluster=False, waits=True)
    with pytest.raises(StorageRefused, match="appendonly"):
        require({"server": {**HEALTHY, "aof_enabled": "0"}}, is_cluster=False, waits=True)


async def test_check_and_migrate_leave_no_connection(tmp_path):
    with PrivateRedis(tmp_path) as private:
        async with connected(private.url) as client:
            before = len(await client.client_list())
            adapter = from_url(private.url)
            assert len(await adapter.migrate(dry_run=True)) == 1
            assert len(await adapter.migrate()) == 1
            assert await adapter.migrate() == []
            assert (await adapter.check()).ok
            private.wait(lambda: len(private.ask("CLIENT", "LIST")) > 0)
            assert len(await client.client_list()) == before
