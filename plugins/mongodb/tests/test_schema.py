"""Making, checking and migrating the collections."""

import asyncio
from dataclasses import replace

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_mongodb.names import Collections, Names
from turnkeep_mongodb.schema import INDEXES, MIGRATIONS, Index, Migration, Schema
from turnkeep_testkit import new_commit, new_key

from .kit import COLLECTIONS, everything, from_url, named, opened

SECOND = Migration(2, "0002_test", "A second step.", (Index("messages", "turnkeep_x", (("id", 1),)),))


@pytest.fixture
def url(replica_url, database):
    return named(replica_url, database)


@pytest.fixture
def collections(client, database):
    return Collections.of(client, database, Names())


def test_migrations_are_numbered_and_described():
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert all(step.purpose.endswith(".") for step in MIGRATIONS)
    names = [index.name for index in INDEXES]
    assert len(set(names)) == len(names)


async def test_collections_and_indexes_are_made(url, client, database):
    adapter = from_url(url)
    assert await adapter.migrate(dry_run=True) == ["0001_initial: Makes the collections and their indexes."]
    assert await client[database].list_collection_names() == []
    with pytest.raises(SchemaMissing, match="turnkeep migrate"):
        await adapter.open(auto_create=False)
    assert await client[database].list_collection_names() == []
    assert len(await adapter.migrate()) == 1
    assert await adapter.migrate() == []
    assert sorted(await client[database].list_collection_names()) == list(COLLECTIONS)
    for name in ("sessions", "messages"):
        found = await client[database][f"turnkeep_{name}"].index_information()
        assert set(found) == {"_id_", *(index.name for index in INDEXES if index.collection == name)}


@pytest.mark.parametrize("name", COLLECTIONS)
async def test_a_collection_of_somebody_else_is_refused(url, client, database, name):
    await client[database][name].insert_one({"_id": "x", "version": "theirs"})
    before = await everything(client, database)
    adapter = from_url(url)
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(ForeignTable, match=name):
            await call()
    assert not (await adapter.check()).ok
    assert await everything(client, database) == before


async def test_other_collections_in_the_database_are_none_of_our_business(url, client, database):
    await client[database]["customers"].insert_one({"_id": 1})
    adapter = from_url(url)
    await adapter.open()
    await adapter.aclose()
    assert await client[database]["customers"].count_documents({}) == 1


async def test_other_names_over_our_record_are_refused(replica_url, database):
    async with opened(replica_url, database, collections={"sessions": "chat_sessions", "messages": "words"}):
        pass
    with pytest.raises(ForeignTable, match="other names"):
        async with opened(replica_url, database, collections={"sessions": "chat_sessions"}):
            pass


async def test_newer_collections_are_refused(url, collections):
    adapter = from_url(url)
    await adapter.migrate()
    await collections.schema.update_one({"_id": "turnkeep"}, {"$set": {"version": 2}})
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(SchemaTooNew, match="pip install --upgrade turnkeep-mongodb"):
            await call()


async def test_older_collections_are_explained_and_migrated(url, collections):
    await from_url(url).migrate()
    newer = Schema(Names(), "x", migrations=(*MIGRATIONS, SECOND))
    with pytest.raises(SchemaOutdated, match="turnkeep migrate"):
        newer.require(await newer.find_version(collections))
    assert await newer.migrate(collections, dry_run=True) == ["0002_test: A second step."]
    assert await newer.migrate(collections) == ["0002_test: A second step."]
    assert await newer.find_version(collections) == 2
    assert "turnkeep_x" in await collections.messages.index_information()
    assert await newer.migrate(collections) == []


class Killed(BaseException):
    """Ends a migration as a kill would: nothing after it happens."""


async def test_a_migration_killed_at_any_write_can_be_taken_again(url, collections, monkeypatch):
    writes = ("insert_one", "create_index", "update_one")
    kind = type(collections.schema)
    for number in range(100):
        for name in COLLECTIONS:
            await collections.database[name].drop()
        done = 0

        def dying(method, number=number):
            async def call(*args, **kwargs):
                nonlocal done
                if done == number:
                    raise Killed
                done += 1
                return await method(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in writes:
                patch.setattr(kind, name, dying(getattr(kind, name)))
            try:
                await Schema(Names(), "x").migrate(collections)
                was_killed = False
            except Killed:
                was_killed = True
        adapter = from_url(url)
        await adapter.open()
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        assert await adapter.load(key, LoadQuery()) is not None
        assert (await adapter.check()).ok
        await adapter.aclose()
        if not was_killed:
            assert number > len(INDEXES)
            return
    raise AssertionError("the migration never came to its end")


async def test_several_may_migrate_at_once(url):
    adapters = [from_url(url) for _ in range(4)]
    await asyncio.gather(*(adapter.migrate() for adapter in adapters))
    assert await adapters[0].migrate() == []


async def test_lost_and_changed_indexes_are_told_and_made_again(url, collections):
    adapter = from_url(url)
    await adapter.open()
    await collections.sessions.drop_index("turnkeep_activity")
    await collections.messages.drop_index("turnkeep_history")
    report = await adapter.check()
    assert not report.ok
    (line,) = [check for check in report.checks if not check.ok and not check.warning]
    assert (line.name, line.detail) == ("indexes", "missing or changed: turnkeep_activity, turnkeep_history")
    assert "turnkeep migrate" in line.fix
    assert len(await adapter.migrate(dry_run=True)) == 2
    assert not (await adapter.check()).ok
    assert await adapter.migrate() == [
        "index turnkeep_activity: Makes it again.",
        "index turnkeep_history: Makes it again.",
    ]
    assert (await adapter.check()).ok
    await adapter.aclose()


async def test_an_index_with_another_ttl_is_changed(collections, url):
    await from_url(url).migrate()
    schema = Schema(Names(), "x")
    await collections.sessions.drop_index("turnkeep_expiry")
    await collections.sessions.create_index("expires_at", name="turnkeep_expiry", expireAfterSeconds=60)
    assert [index.name for index in await schema.missing_indexes(collections)] == ["turnkeep_expiry"]
    assert replace(INDEXES[4], seconds=60).options == {"name": "turnkeep_expiry", "expireAfterSeconds": 60}
