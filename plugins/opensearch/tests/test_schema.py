"""Whose indices there are, and of which version. What every adapter promises of its schema is the kit's to show."""

import asyncio

import pytest
from opensearchpy import AsyncTransport

from turnkeep.contract import LoadQuery
from turnkeep.errors import ForeignTable, SchemaOutdated, SchemaTooNew
from turnkeep_opensearch.calls import Calls
from turnkeep_opensearch.names import Indices
from turnkeep_opensearch.schema import Migration, Schema, migrations
from turnkeep_opensearch.wording import Wording
from turnkeep_testkit import new_commit, new_key

from .kit import ask, from_url, named, opened, remove

THIRD = Migration(3, "0003_test", "A third step.", {"messages": {"tone": {"type": "keyword"}}})
STEPS = migrations(Wording())


@pytest.fixture
def url(cluster_url, names):
    """Where there is nothing yet."""
    return named(cluster_url, names)


@pytest.fixture
def calls(client):
    return Calls(client)


async def test_opening_makes_two_indices_behind_aliases(url, names, client):
    adapter = from_url(url)
    await adapter.open()
    await adapter.aclose()
    for kind, other in (("sessions", "messages"), ("messages", "sessions")):
        found = await ask(client, "GET", f"/{names[kind]}")
        assert list(found) == [f"{names[kind]}-1"]
        mappings = found[f"{names[kind]}-1"]["mappings"]
        assert mappings["dynamic"] == "false"
        assert mappings["_meta"] == {"turnkeep": {"version": 2, "kind": kind, "beside": names[other]}}


@pytest.mark.parametrize("kind", ["sessions", "messages"])
@pytest.mark.parametrize("how", ["index", "alias", "several", "behind no alias"])
async def test_an_index_of_somebody_else_is_refused(url, names, client, kind, how):
    name = names[kind]
    if how == "index":
        await ask(client, "PUT", f"/{name}", {"mappings": {"_meta": {"theirs": 1}}})
    elif how == "behind no alias":
        await ask(client, "PUT", f"/{name}-1")
    else:
        for number in range(1 + (how == "several")):
            await ask(client, "PUT", f"/{name}-theirs{number}", {"aliases": {name: {}}})
    before = await ask(client, "GET", f"/{name}*")
    adapter = from_url(url)
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(ForeignTable, match=name):
            await call()
    assert not (await adapter.check()).ok
    assert await ask(client, "GET", f"/{name}*") == before


async def test_other_names_over_our_record_are_refused(cluster_url, names):
    async with opened(cluster_url, names):
        pass
    with pytest.raises(ForeignTable, match="other names"):
        async with opened(cluster_url, {**names, "messages": f"{names['messages']}_2"}):
            pass


async def test_newer_indices_are_refused(url, names, client):
    adapter = from_url(url)
    await adapter.migrate()
    meta = {"turnkeep": {"version": 3, "kind": "messages", "beside": names["sessions"]}}
    await ask(client, "PUT", f"/{names['messages']}/_mapping", {"_meta": meta})
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(SchemaTooNew, match="pip install --upgrade turnkeep-opensearch"):
            await call()


async def test_older_indices_are_explained_and_migrated(url, names, client, calls):
    await from_url(url).migrate()
    newer = Schema(Indices(**names), "x", steps=(*STEPS, THIRD))
    with pytest.raises(SchemaOutdated, match="turnkeep migrate"):
        newer.require((await newer.find(calls)).version)
    assert await newer.migrate(calls, dry_run=True) == ["0003_test: A third step."]
    assert (await newer.find(calls)).version == 2
    assert await newer.migrate(calls) == ["0003_test: A third step."]
    assert (await newer.find(calls)).version == 3
    (index,) = (await ask(client, "GET", f"/{names['messages']}")).values()
    assert index["mappings"]["properties"]["tone"] == {"type": "keyword"}
    assert await newer.migrate(calls) == []


async def test_an_older_store_goes_on_after_its_migration(url, names, calls):
    adapter = from_url(url)
    await adapter.open()
    key = new_key()
    await adapter.commit(new_commit(key, "x"))
    await adapter.aclose()
    await Schema(Indices(**names), "x", steps=(*STEPS, THIRD)).migrate(calls)
    adapter._schema._steps = (*STEPS, THIRD)
    await adapter.open()
    assert len((await adapter.load(key, LoadQuery())).messages) == 1
    assert (await adapter.check()).ok
    await adapter.aclose()


class Killed(BaseException):
    """Ends a migration as a kill would: nothing after it happens."""


async def test_a_migration_killed_at_any_write_can_be_taken_again(cluster_url, url, names, calls, monkeypatch):
    perform = AsyncTransport.perform_request
    for number in range(100):
        for name in names.values():
            await remove(cluster_url, name)
        done = 0

        async def dying(self, method, *args, number=number, **kwargs):
            nonlocal done
            if method != "GET":
                if done == number:
                    raise Killed
                done += 1
            return await perform(self, method, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(AsyncTransport, "perform_request", dying)
            try:
                await Schema(Indices(**names), "x", steps=(*STEPS, THIRD), templates=True).migrate(calls)
                was_killed = False
            except Killed:
                was_killed = True
        adapter = from_url(url)
        adapter._schema._steps = (*STEPS, THIRD)
        await adapter.migrate()
        assert await adapter.migrate() == []
        await adapter.open()
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        assert await adapter.load(key, LoadQuery()) is not None
        assert (await adapter.check()).ok
        await adapter.aclose()
        if not was_killed:
            assert number > 4
            return
    raise AssertionError("the migration never came to its end")


async def test_several_may_migrate_at_once(url):
    adapters = [from_url(url) for _ in range(4)]
    await asyncio.gather(*(adapter.migrate() for adapter in adapters))
    assert await adapters[0].migrate() == []


async def test_lost_and_changed_fields_are_told_and_added_again(url, names, client):
    """Somebody made an index of ours anew, by a mapping of their own that kept our mark."""
    adapter = from_url(url)
    await adapter.open()
    index = f"{names['sessions']}-1"
    mappings = (await ask(client, "GET", f"/{index}/_mapping"))[index]["mappings"]

    async def make_anew(**changed):
        await ask(client, "DELETE", f"/{index}")
        fields = {name: field for name, field in mappings["properties"].items() if name != "waiting"} | changed
        body = {"aliases": {names["sessions"]: {}}, "mappings": {**mappings, "properties": fields}}
        await ask(client, "PUT", f"/{index}", body)
        await ask(client, "PUT", f"/{index}/_doc/%23turnkeep", {"version": 2, "after": None})

    await make_anew(user_id={"type": "text"})
    report = await adapter.check()
    (line,) = [check for check in report.checks if not check.ok and not check.warning]
    assert (line.name, line.detail) == ("mapping", "missing or changed: sessions: user_id, waiting")
    assert "reindex" in line.fix
    assert len(await adapter.migrate(dry_run=True)) == 1
    await make_anew()
    assert await adapter.migrate() == ["mapping of sessions: Adds waiting again."]
    assert (await adapter.check()).ok
    await adapter.aclose()


async def test_a_record_that_was_removed_is_made_again(url, names, client):
    adapter = from_url(url)
    await adapter.open()
    key = new_key()
    await adapter.commit(new_commit(key, "x"))
    await ask(client, "DELETE", f"/{names['sessions']}/_doc/%23turnkeep")
    assert not (await adapter.check()).ok
    assert await adapter.migrate() == [f"{step.name}: {step.purpose}" for step in STEPS]
    assert (await adapter.check()).ok
    assert len((await adapter.load(key, LoadQuery())).messages) == 1
    await adapter.aclose()
