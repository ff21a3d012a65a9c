"""The table of words: behind by what was said since the last search, and never ahead of what is there."""

import sqlite3
from contextlib import closing

import pytest

from turnkeep.contract import Expect, Scope, SearchQuery, SessionKey
from turnkeep.words import Terms
from turnkeep_sqlite import search
from turnkeep_sqlite.schema import MIGRATIONS, Schema
from turnkeep_sqlite.statements import Queries, Tables
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


async def found(adapter, text, scope=None):
    page = await adapter.search_messages(SearchQuery(scope or Scope("shop"), Terms.parse(text), 100))
    return sorted((hit.session_id, hit.message.seq) for hit in page.items)


def words(path):
    """What the table holds; its index has to agree."""
    run_sql(path, "INSERT INTO turnkeep_words (turnkeep_words) VALUES ('integrity-check')")
    return [row[0] for row in run_sql(path, "SELECT words FROM turnkeep_words ORDER BY rowid")]


async def test_a_commit_leaves_the_words_to_the_next_search(path):
    key = new_key(Scope("shop"), "s")
    async with opened(path) as adapter:
        await adapter.commit(new_commit(key, "A Refund!", "for my ORDER"))
        assert words(path) == []
        assert await found(adapter, "order") == [("s", 2)]
        assert words(path) == ["a refund", "for my order"]
        await adapter.commit(new_commit(key, new_message("x")._replace(encoding="sealed"), "...", expect=Expect.ANY))
        assert await found(adapter, "x") == []
        assert words(path) == ["a refund", "for my order", "", ""]
        assert not await adapter._read(adapter._store.words_are_behind, "x")


async def test_more_than_a_portion_is_read_before_a_search_answers(path, monkeypatch):
    monkeypatch.setattr(search, "_PORTION", 3)
    async with opened(path) as adapter:
        key = new_key(Scope("shop"), "s")
        await adapter.commit(new_commit(key, *["refund"] * 7))
        assert len(await found(adapter, "refund")) == 7
        await adapter.commit(new_commit(key, *["refund"] * 3, expect=Expect.ANY))
        assert len(await found(adapter, "refund")) == 10


async def test_words_go_with_their_messages(path):
    async with opened(path) as adapter:
        keys = {name: new_key(Scope("shop"), name) for name in ("deleted", "cleared", "erased", "unread", "kept")}
        for name, key in keys.items():
            await adapter.commit(new_commit(key, f"refund {name}", user_id="ana" if name == "erased" else None))
        await adapter.delete(keys["unread"])
        assert len(await found(adapter, "refund")) == 4
        await adapter.delete(keys["deleted"])
        await adapter.commit(new_commit(keys["cleared"], "nothing", expect=Expect.ANY, drop_history=True))
        await adapter.delete_owner(Scope("shop", "ana"))
        assert words(path) == ["refund kept"]
        assert await found(adapter, "nothing") == [("cleared", 2)]
    # Not only through us: somebody with a shell, and foreign keys on or off.
    run_sql(path, "DELETE FROM turnkeep_messages WHERE session_id = 'kept'")
    run_sql(path, "PRAGMA foreign_keys = ON", "DELETE FROM turnkeep_sessions WHERE id = 'cleared'")
    assert words(path) == []


async def test_numbers_outlive_a_vacuum_and_the_newest_message(path):
    async with opened(path) as adapter:
        one, two = new_key(Scope("shop"), "one"), new_key(Scope("shop"), "two")
        await adapter.commit(new_commit(one, "first", "second"))
        await adapter.commit(new_commit(two, "third"))
        assert await found(adapter, "third") == [("two", 1)]
        await adapter.delete(two)
        await adapter.commit(new_commit(two, "fourth"))
        await adapter.commit(new_commit(one, expect=Expect.ANY, drop_history=True))
        await adapter.commit(new_commit(one, "fifth", expect=Expect.ANY))
    run_sql(path, "VACUUM")
    async with opened(path) as adapter:
        assert await found(adapter, "third") == []
        assert await found(adapter, "fourth") == [("two", 1)]
        assert await found(adapter, "fifth") == [("one", 3)]


async def test_a_claim_moves_words_that_were_read(path):
    async with opened(path) as adapter:
        anonymous = SessionKey(Scope("shop", None), "s")
        await adapter.commit(new_commit(anonymous, "refund"))
        assert await found(adapter, "refund", Scope("shop", None)) == [("s", 1)]
        await adapter.commit(new_commit(anonymous, "refund later", expect=Expect.ANY, claim="ana"))
        assert await found(adapter, "refund", Scope("shop", None)) == []
        assert await found(adapter, "refund", Scope("shop", "ana")) == [("s", 1), ("s", 2)]


async def test_a_database_from_before_gains_what_was_said(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        Schema(Tables(), "x", shared=False, migrations=MIGRATIONS[:1]).migrate(connection)
        connection.execute(
            "INSERT INTO turnkeep_sessions (namespace, id, user_id, status, created_at, updated_at, incarnation, "
            "version, last_commit, last_seq, floor, collected_data, state) VALUES ('shop', 's', 'ana', 'active', "
            "'2026-03-14T15:09:26.535897Z', '2026-03-14T15:09:26.535897Z', 'i', 1, 'c', 2, 0, '{}', '{}')"
        )
        connection.executemany(
            "INSERT INTO turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, "
            "content, encoding, created_at, committed_at) VALUES ('shop', 's', 'i', ?, 1, 'c', 'm', 'user', ?, "
            "'plain', '2026-03-14T15:09:26.535897Z', '2026-03-14T15:09:26.535897Z')",
            [(1, "A refund"), (2, "in Café 東京")],
        )
        assert len(Schema(Tables(), "x", shared=False).migrate(connection)) == len(MIGRATIONS) - 1
    async with opened(path) as adapter:
        assert words(path) == ["a refund", "in cafe 東 京"]
        assert await found(adapter, "cafe 東京", Scope("shop", "ana")) == [("s", 2)]
        await adapter.commit(new_commit(SessionKey(Scope("shop"), "s"), "refund", expect=Expect.ANY))
        assert await found(adapter, "refund") == [("s", 1), ("s", 3)]


async def test_searches_use_the_index(path):
    async with opened(path) as adapter:
        await adapter.commit(new_commit(new_key(), *["refund"] * 100))
        await found(adapter, "refund")
    sql = Queries.load(Tables()).search
    with closing(sqlite3.connect(path)) as connection:
        names = ("namespace", "anyone", "owner", "session_id", "role", "since", "until", "now", "stamp", "score")
        parameters = dict.fromkeys((*names, "last_id", "last_seq", "limit")) | {"terms": "x"}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    assert plan[0].startswith("SCAN turnkeep_words VIRTUAL TABLE INDEX")
    assert "M" in plan[0].rpartition(":")[2], plan  # MATCH
    assert plan[1].startswith("SEARCH message USING INDEX turnkeep_messages_serial")
    assert plan[2].startswith("SEARCH session USING INDEX")
