"""The table of words: behind by what was said since the last search, and never ahead of what is there."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event

from turnkeep.contract import Capability, Expect, Level, Scope, SearchQuery, SessionKey
from turnkeep.errors import NotSupported, SchemaMissing
from turnkeep.words import Terms
from turnkeep_sqlalchemy import search
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import Place, opened

SHOP = Scope("shop")
NAMES = {"tables": {"sessions": "chats", "messages": "entries", "commits": "chat_commits", "words": "chat_words"}}


@pytest.fixture
def place(tmp_path):
    with Place("mariadb", tmp_path) as found:
        yield found


async def found(adapter, asked, scope=SHOP):
    page = await adapter.search_messages(SearchQuery(scope, Terms.parse(asked), 100))
    return sorted((hit.session_id, hit.message.seq) for hit in page.items)


async def words(place, table="turnkeep_words"):
    rows = await place.rows(f"SELECT words FROM {table} ORDER BY session_id, seq")
    return [row[0][search._PLACE_LENGTH :] for row in rows]


async def test_a_commit_leaves_the_words_to_the_next_search(place):
    key = new_key(SHOP, "s")
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(key, "A Refund!", "for my ORDER"))
        assert await words(place) == []
        assert await found(adapter, "order") == [("s", 2)]
        assert await words(place) == ["w_a w_refund ", "w_for w_my w_order "]
        sealed = new_message("x")._replace(encoding="sealed")
        await adapter.commit(new_commit(key, sealed, "...", expect=Expect.ANY))
        assert await found(adapter, "x") == []
        assert await words(place) == ["w_a w_refund ", "w_for w_my w_order ", "", ""]


async def test_a_search_reads_of_its_owner_only(place):
    async with opened(place.adapter()) as adapter:
        for name in ("ana", "bob"):
            await adapter.commit(new_commit(new_key(SHOP, name), f"refund {name}", user_id=name))
        assert await found(adapter, "refund", Scope("shop", "ana")) == [("ana", 1)]
        assert await words(place) == ["w_refund w_ana "]
        assert await found(adapter, "refund") == [("ana", 1), ("bob", 1)]


async def test_more_than_a_portion_is_read_before_a_search_answers(place, monkeypatch):
    monkeypatch.setattr(search, "_PORTION", 3)
    monkeypatch.setattr(search, "_SESSIONS", 2)
    async with opened(place.adapter()) as adapter:
        keys = [new_key(SHOP, f"s{number}") for number in range(5)]
        for key in keys:
            await adapter.commit(new_commit(key, *["refund"] * 4))
        assert len(await found(adapter, "refund")) == 20
        for key in keys:
            await adapter.commit(new_commit(key, *["refund"] * 2, expect=Expect.ANY))
        assert len(await found(adapter, "refund")) == 30


async def test_words_go_with_their_messages(place):
    async with opened(place.adapter()) as adapter:
        keys = {name: new_key(SHOP, name) for name in ("deleted", "cleared", "erased", "unread", "kept")}
        for name, key in keys.items():
            await adapter.commit(new_commit(key, f"refund {name}", user_id="ana" if name == "erased" else None))
        await adapter.delete(keys["unread"])
        assert len(await found(adapter, "refund")) == 4
        await adapter.delete(keys["deleted"])
        await adapter.commit(new_commit(keys["cleared"], "nothing", expect=Expect.ANY, drop_history=True))
        await adapter.delete_owner(Scope("shop", "ana"))
        assert await words(place) == ["w_refund w_kept "]
        assert await found(adapter, "nothing") == [("cleared", 2)]
    await place.run("DELETE FROM turnkeep_sessions")  # by somebody with a shell
    assert await words(place) == []


async def test_a_claim_moves_words_that_were_read(place):
    anonymous = SessionKey(Scope("shop", None), "s")
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(anonymous, "refund"))
        assert await found(adapter, "refund", Scope("shop", None)) == [("s", 1)]
        await adapter.commit(new_commit(anonymous, "refund later", expect=Expect.ANY, claim="ana"))
        assert await found(adapter, "refund", Scope("shop", None)) == []
        assert await found(adapter, "refund", Scope("shop", "ana")) == [("s", 1), ("s", 2)]
        assert await words(place) == ["w_refund ", "w_refund w_later "]


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
async def test_a_claim_moves_words_in_tables_of_ones_own(kind, tmp_path):
    anonymous = SessionKey(Scope("shop", None), "s")
    with Place(kind, tmp_path) as place:
        async with opened(place.adapter(**NAMES)) as adapter:
            await adapter.commit(new_commit(anonymous, "refund 東京"))
            assert await found(adapter, "東京", Scope("shop", None)) == [("s", 1)]
            await adapter.commit(new_commit(anonymous, "refund later", expect=Expect.ANY, claim="ana"))
            for _ in range(2):
                assert await found(adapter, "東京", Scope("shop", None)) == []
                assert await found(adapter, "refund 東京", Scope("shop", "ana")) == [("s", 1)]
            assert await place.count_rows("s", {"chat_words": "session_id"}) == 2
            assert await adapter.migrate(dry_run=True) == []
            assert (await adapter.check()).ok
            await adapter.delete(SessionKey(Scope("shop", "ana"), "s"))
            assert await place.count_rows("s", {"chat_words": "session_id"}) == 0


async def test_a_claim_without_a_message_moves_words_too(place):
    anonymous = SessionKey(Scope("shop", None), "s")
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(anonymous, "refund"))
        assert await found(adapter, "refund", Scope("shop", None)) == [("s", 1)]
        await adapter.commit(new_commit(anonymous, expect=Expect.ANY, claim="ana"))
        assert await found(adapter, "refund", Scope("shop", None)) == []
        assert await found(adapter, "refund", Scope("shop", "ana")) == [("s", 1)]


async def test_searches_beside_commits_claims_and_each_other_miss_nothing(place):
    async with opened(place.adapter()) as one, opened(place.adapter()) as two:

        async def converse(number):
            key = SessionKey(Scope("shop", None), f"s{number}")
            await one.commit(new_commit(key, "refund"))
            for turn in range(4):
                await one.commit(new_commit(key, "refund", expect=Expect.ANY))
                mine = len(await found(two if turn % 2 else one, "refund", Scope("shop", None)))
                assert mine >= turn + 2  # at least those of this session
            await one.commit(new_commit(key, expect=Expect.ANY, claim=f"user{number}"))
            return await found(two, "refund", Scope("shop", f"user{number}"))

        each = await asyncio.gather(*(converse(number) for number in range(8)))
        assert each == [[(f"s{number}", seq) for seq in range(1, 6)] for number in range(8)]
        assert len(await found(one, "refund")) == 40


async def test_a_cancelled_search_ends_and_the_next_one_goes_on(place, monkeypatch):
    monkeypatch.setattr(search, "_PORTION", 2)
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(new_key(SHOP, "s"), *["refund"] * 200))
        searching = asyncio.create_task(found(adapter, "refund"))
        while not await words(place):  # noqa: ASYNC110 - it is the database that changes
            await asyncio.sleep(0)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        assert 0 < len(await words(place)) < 200
        assert len((await adapter.search_messages(SearchQuery(SHOP, Terms.parse("refund"), 300))).items) == 200


async def test_a_database_from_before_gains_what_was_said(place):
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(new_key(SHOP, "s"), "A refund", "in Café 東京", user_id="ana"))
    await place.run("DROP TABLE turnkeep_words")
    with pytest.raises(SchemaMissing, match=r"no table turnkeep_words; .* turnkeep migrate"):
        await place.adapter().open(auto_create=False)
    planned = await place.adapter().migrate(dry_run=True)
    assert [step.split("(")[0].split(" ON ")[0].strip() for step in planned] == [
        "CREATE TABLE IF NOT EXISTS turnkeep_words",
        "CREATE FULLTEXT INDEX turnkeep_words_text",
    ]
    assert await place.adapter().migrate() == planned
    assert await place.adapter().migrate() == []
    async with opened(place.adapter()) as adapter:
        assert await found(adapter, "cafe 東京", Scope("shop", "ana")) == [("s", 2)]
        assert (await adapter.check()).ok


async def test_a_migration_that_was_killed_before_the_index_is_completed(place):
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(new_key(SHOP, "s"), "a refund"))
    await place.run("DROP INDEX turnkeep_words_text ON turnkeep_words")
    with pytest.raises(SchemaMissing, match="turnkeep_words with an index"):
        await place.adapter().open(auto_create=False)
    async with opened(place.adapter()) as adapter:
        assert await found(adapter, "refund") == [("s", 1)]


async def test_tables_of_ones_own_are_searched_where_words_have_a_table(place):
    without = {"tables": {kind: name for kind, name in NAMES["tables"].items() if kind != "words"}}
    async with opened(place.adapter(**without)) as adapter:
        await adapter.commit(new_commit(new_key(SHOP, "s"), "a refund"))
        assert adapter.supports(Capability.SEARCH).level is Level.NONE
        with pytest.raises(NotSupported, match=r"name one with tables=\{'words': "):
            await found(adapter, "refund")
        assert await adapter.migrate(dry_run=True) == []
    adapter = place.adapter(**NAMES)
    assert adapter.supports(Capability.SEARCH).level is Level.FULL
    async with opened(adapter):
        assert await found(adapter, "refund") == [("s", 1)]
        assert await words(place, "chat_words") == ["w_a w_refund "]


async def test_one_namespace_is_searched(place):
    without = {kind: {"namespace": None} for kind in ("sessions", "messages")}
    async with opened(place.adapter(tables={"words": "spoken"}, field_mappings=without)) as adapter:
        anonymous = SessionKey(Scope("shop", None), "s")
        await adapter.commit(new_commit(anonymous, "refund", "order"))
        assert await found(adapter, "order") == [("s", 2)]
        await adapter.commit(new_commit(anonymous, "order", expect=Expect.ANY, claim="ana"))
        assert await found(adapter, "order", Scope("shop", "ana")) == [("s", 2), ("s", 3)]


@pytest.mark.parametrize(("kind", "says"), [("sqlite", "turnkeep-sqlite"), ("postgresql", "turnkeep-postgres")])
async def test_where_it_cannot_search_it_says_who_can(kind, says, tmp_path):
    with Place(kind, tmp_path) as place:
        adapter = place.adapter()
        support = adapter.supports(Capability.SEARCH)
        assert (support.level, says in support.reason) == (Level.NONE, True)
        async with opened(adapter):
            with pytest.raises(NotSupported, match=says):
                await found(adapter, "refund")


@asynccontextmanager
async def explained(place, scope, **options):
    """The plan of a search, as the database explains the very statement that was sent; ours is in it to be judged."""
    async with opened(place.adapter(**options)) as adapter:
        for number in range(20):
            key = new_key(SHOP, f"s{number}")
            await adapter.commit(new_commit(key, "refund order", *["nothing"] * 200, user_id="ana"))
        engine, sent = adapter._connections.engine, []
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: sent.append(given[2:4]))
        asked = SearchQuery(scope, Terms.parse('"refund order" -cat'), 15, role="user")
        assert len((await adapter.search_messages(asked)).items) == 15
        async with engine.connect() as connection:
            statement, parameters = sent[-1]
            if place.kind == "postgresql":
                names = ", ".join(map(place.qualified, NAMES["tables"].values()))
                await connection.exec_driver_sql(f"ANALYZE {names}")
            yield (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).mappings().all()


@pytest.mark.parametrize("scope", [SHOP, Scope("shop", "ana")], ids=["anyone", "ana"])
async def test_searches_use_the_index(place, scope):
    async with explained(place, scope) as plan:
        assert [(row["table"], row["type"]) for row in plan] == [
            ("turnkeep_words", "fulltext"),
            ("turnkeep_messages", "eq_ref"),
            ("turnkeep_sessions", "eq_ref"),
        ]


@pytest.mark.parametrize("scope", [SHOP, Scope("shop", "ana")], ids=["anyone", "ana"])
async def test_searches_use_the_index_of_postgresql(scope, tmp_path):
    with Place("postgresql", tmp_path) as place:
        async with explained(place, scope, **NAMES) as plan:
            lines = "\n".join(row["QUERY PLAN"] for row in plan)
            assert "Bitmap Index Scan on chat_words_text" in lines, lines
