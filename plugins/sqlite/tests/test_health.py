"""What ``check`` says."""

import sqlite3

import pytest

from turnkeep.contract import Capability, Level
from turnkeep_sqlite import SQLiteAdapter, health
from turnkeep_testkit import new_commit, new_key

from .kit import files_in, opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


async def lines(adapter):
    report = await adapter.check()
    assert report.adapter == "sqlite"
    assert all(check.fix for check in report.checks if not check.ok), str(report)
    return {check.name: check for check in report.checks}


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("normal", 1)])
async def test_settings_are_read_back(path, durability, level):
    async with opened(path, durability=durability, max_page_count=5000) as adapter:
        settings = await adapter._writer.run(
            lambda c: [
                c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode", "foreign_keys")
            ],
            "x",
            alone=True,
        )
        assert settings == [level, "wal", 1]
        assert adapter._writer is not None
        reading = await adapter._readers.run(lambda c: c.execute("PRAGMA query_only").fetchone()[0], "x")
        assert reading == 1
    found = await lines(adapter)
    assert (await adapter.check()).ok
    assert found["synchronous"].detail == durability
    assert found["synchronous"].ok is (durability == "full")
    assert found["journal_mode"].detail == "wal"
    assert found["schema"].detail == "version 2"
    assert found["integrity"].detail == "ok"
    durable = adapter.supports(Capability.DURABLE)
    assert durable.level is (Level.FULL if durability == "full" else Level.PARTIAL)


async def test_it_changes_nothing(path):
    async with opened(path) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
    before = path.read_bytes()
    report = await SQLiteAdapter(path, durability="normal").check()
    assert report.ok
    assert path.read_bytes() == before
    assert files_in(path.parent) == ["store.db"]


async def test_a_database_without_tables_of_ours(path):
    run_sql(path, "CREATE TABLE x (a)")
    found = await lines(SQLiteAdapter(path, shared=True))
    assert not found["schema"].ok
    assert "turnkeep migrate" in found["schema"].fix


async def test_a_connection_that_waits_for_readers(path):
    connection = sqlite3.connect(path, check_same_thread=False)
    async with opened(connection) as adapter:
        found = await lines(adapter)
        assert not found["journal_mode"].ok
        assert found["journal_mode"].warning
        assert (await adapter.check()).ok
    connection.close()


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 40, 1), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 52, 0), True)]
)
async def test_the_wal_reset_bug_is_told(path, monkeypatch, version, ok):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    check = (await lines(SQLiteAdapter(path)))["library"]
    assert check.ok is ok
    assert ok or check.warning


async def test_too_old_a_library(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    for call in (SQLiteAdapter(path).open, SQLiteAdapter(path).migrate):
        with pytest.raises(Exception, match=r"needs 3\.37\.0 or newer"):
            await call()
    assert files_in(path.parent) == []


async def test_network_file_systems_and_full_disks_are_told(path, monkeypatch):
    async with opened(path):
        pass
    monkeypatch.setattr(health, "_file_system", lambda path: "nfs4")
    monkeypatch.setattr(health, "_ROOM", 1 << 62)
    found = await lines(SQLiteAdapter(path))
    assert not found["file system"].ok
    assert not found["room"].ok
    assert found["room"].warning


async def test_damage_is_told(path):
    async with opened(path) as adapter:
        for _ in range(20):
            await adapter.commit(new_commit(new_key(), "x" * 2000))
    content = bytearray(path.read_bytes())
    content[20 * 4096 : 21 * 4096] = bytes(4096)
    path.write_bytes(content)
    assert not (await lines(SQLiteAdapter(path)))["integrity"].ok


async def test_looking_through_a_large_file_is_bounded(path, monkeypatch):
    async with opened(path) as adapter:
        await adapter.commit(new_commit(new_key(), *["x" * 100] * 900))
    monkeypatch.setattr(health, "_CHECK_SECONDS", -1.0)
    monkeypatch.setattr(health, "_CHECK_STEPS", 1)
    assert "not looked at" in (await lines(SQLiteAdapter(path)))["integrity"].detail
