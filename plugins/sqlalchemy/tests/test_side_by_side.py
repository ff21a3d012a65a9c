"""The same tables, written and read by two adapters: what one stores the other reads, exactly."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from turnkeep.contract import Expect, HeadChange, LoadQuery, MessageQuery, Scope, SearchQuery, SessionQuery, StatsQuery
from turnkeep.errors import SessionConflict
from turnkeep.words import Terms
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import Place, opened

TEXTS = [
    "Olá, 你好",
    "NUL: \0",
    "quote ' \" \\ {a,b} NULL",
    "👩‍👩‍👧‍👦",
    "",
    "line\nbreak\ttab",
    "%s :name $1 ?",
    "\ud800",
]


@asynccontextmanager
async def both(other, tmp_path, first="ours"):
    """Two open adapters over one database: ours and the other."""
    clock = FakeClock()
    if other == "sqlite":
        sqlite = pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")
        place = Place("sqlite", tmp_path)
        theirs = sqlite.SQLiteAdapter(tmp_path / "store.db", clock=clock)
    else:
        postgres = pytest.importorskip("turnkeep_postgres", reason="turnkeep-postgres is not installed")
        place = Place("postgresql", tmp_path)
        url = place.server.replace("sqlalchemy+postgresql+psycopg", "postgresql")
        theirs = postgres.PostgreSQLAdapter(url, schema=place.name, clock=clock)
    with place:
        ours = place.adapter(clock=clock)
        await (ours if first == "ours" else theirs).migrate()
        await theirs.migrate()  # what it needs for searches
        async with opened(ours), opened(theirs):
            yield ours, theirs, clock


async def test_both_make_the_tables_at_once(tmp_path):
    """One of them waits for the other, though one was told the schema and the other's connections are in it."""
    postgres = pytest.importorskip("turnkeep_postgres", reason="turnkeep-postgres is not installed")
    for _ in range(5):
        with Place("postgresql", tmp_path) as place:
            url = place.server.replace("sqlalchemy+postgresql+psycopg", "postgresql")
            theirs = [
                postgres.PostgreSQLAdapter(url, schema=place.name),
                postgres.PostgreSQLAdapter(f"{url}?options=-csearch_path%3D{place.name}"),
            ]
            ours = [place.adapter(), place.adapter()]
            steps = await asyncio.gather(*(adapter.migrate() for adapter in (*theirs, *ours)))
            # If ours was first, one of theirs had something to add.
            assert sum(map(bool, steps)) == (2 if any(steps[2:]) else 1)
            async with opened(theirs[0]), opened(ours[0]):
                pass


@pytest.fixture(params=["sqlite", "postgres"])
def other(request):
    return request.param


async def test_each_reads_what_the_other_wrote(other, tmp_path):
    rng = random.Random(6)
    async with both(other, tmp_path) as pair:
        *adapters, clock = pair
        key = new_key(Scope("shop"), "table 7 ' é")
        token = None
        for number in range(40):
            writer = rng.choice(adapters)
            messages = [
                new_message(
                    rng.choice(TEXTS),
                    role=rng.choice(["user", "assistant"]),
                    name=rng.choice([None, "Ana"]),
                    tool_calls=rng.choice([None, '[{"a":"\\u0000"}]']),
                    metadata=rng.choice([None, '{"a": 1,  "b":"x"}']),
                    reply=rng.choice([None, "{}"]),
                )
                for _ in range(rng.choice([0, 1, 2, 5]))
            ]
            commit = new_commit(
                key,
                *messages,
                expect=token or Expect.NEW,
                user_id="ana",
                data=rng.choice([None, '{"guests":4}', '{"guests" : "\\u0000"}']),
                state=rng.choice([None, '{"v":1}']),
                head=HeadChange(status=rng.choice(["active", "completed"]), agent_name=rng.choice([None, "desk"])),
                drop_history=rng.random() < 0.1 and number > 0,
                ttl=rng.choice([None, timedelta(days=30)]),
                message_ttl=rng.choice([None, timedelta(seconds=90), timedelta(hours=1)]),
            )
            committed = await writer.commit(commit)
            token = committed.token
            for window in (None, 0, 3, 50):
                query = LoadQuery(window, commit_id=commit.commit_id)
                one, two = [await adapter.load(key, query) for adapter in adapters]
                assert one == two
                assert one.head.token == token
            pages = [await adapter.read_messages(key, MessageQuery(4)) for adapter in adapters]
            assert pages[0] == pages[1]
            # Sent again, wherever, it is answered with its first result.
            again = [await adapter.commit(commit) for adapter in adapters]
            assert again[0] == again[1]
            assert again[0].replayed
            clock.advance(rng.choice([0, 1, 20, 61]))
        lists = [await adapter.find_sessions(SessionQuery(Scope("shop"), 5)) for adapter in adapters]
        assert lists[0] == lists[1]
        stats = [await adapter.stats(StatsQuery(Scope("shop"))) for adapter in adapters]
        assert (stats[0].sessions, stats[0].messages) == (stats[1].sessions, stats[1].messages)
        for adapter in adapters:
            with pytest.raises(SessionConflict):
                await adapter.commit(new_commit(key, "late", expect=replace(token, version=token.version - 1)))
        assert (await adapters[0].check()).ok
        assert (await adapters[1].check()).ok
        assert await rng.choice(adapters).delete(key)
        assert [await adapter.load(key, LoadQuery()) for adapter in adapters] == [None, None]


async def test_what_one_writes_the_other_searches(other, tmp_path):
    async with both(other, tmp_path) as (ours, theirs, _):
        key = new_key(Scope("shop", None))
        await ours.commit(new_commit(key, "a refund"))
        query = SearchQuery(Scope("shop", None), Terms.parse("refund"), 10)
        assert [hit.message.content for hit in (await theirs.search_messages(query)).items] == ["a refund"]
        await ours.commit(new_commit(key, "one more refund", expect=Expect.ANY, claim="ana"))
        assert (await theirs.search_messages(query)).items == ()
        mine = await theirs.search_messages(replace(query, scope=Scope("shop", "ana")))
        assert sorted(hit.message.content for hit in mine.items) == ["a refund", "one more refund"]
        await ours.delete(new_key(Scope("shop"), key.session_id))
        assert (await theirs.search_messages(replace(query, scope=Scope("shop")))).items == ()


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_tables_of_one_are_tables_of_the_other(other, first, tmp_path):
    """Whoever makes them, both take them for theirs and find nothing to do."""
    async with both(other, tmp_path, first) as (ours, theirs, _):
        for adapter in (ours, theirs):
            assert await adapter.migrate(dry_run=True) == []
            assert (await adapter.check()).ok
