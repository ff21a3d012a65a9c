"""What a search reads: each message of the head and of its documents once, as far as its bound, along an index."""

import asyncio
import logging

import bson
import pytest

from turnkeep.contract import ANYONE, Expect, LoadQuery, Scope, SearchQuery, SessionKey
from turnkeep.errors import CorruptRecord
from turnkeep.words import Terms
from turnkeep_mongodb import search
from turnkeep_mongodb.messages import Messages
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import FUTURE, opened

TERMS = Terms.parse("refund")
OLD, NEW = new_key(Scope("kit"), "old"), new_key(Scope("kit"), "new")


@pytest.fixture
def clock():
    return FakeClock(FUTURE)


@pytest.fixture
async def adapter(replica_url, database, clock):
    async with opened(replica_url, database, clock=clock) as found:
        yield found


async def hits(adapter, scope=NEW.scope, limit=100, **conditions):
    """Every hit, in order, with the size of no page over the limit."""
    found, cursor = [], None
    while True:
        page = await adapter.search_messages(SearchQuery(scope, TERMS, limit, cursor=cursor, **conditions))
        assert len(page.items) <= limit
        found += page.items
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def places(adapter, scope=NEW.scope, **conditions):
    return [(hit.session_id, hit.message.seq) for hit in await hits(adapter, scope, **conditions)]


async def talk(adapter, key, count, *, each="refund", user_id=None):
    """A session of so many messages, ten to a commit."""
    await adapter.commit(new_commit(key, user_id=user_id))
    for begin in range(0, count, 10):
        await adapter.commit(new_commit(key, *[each] * min(10, count - begin), expect=Expect.ANY))


async def test_each_message_is_found_once_wherever_it_lies(adapter, client, database):
    await talk(adapter, NEW, 120)
    head = await client[database]["turnkeep_sessions"].find_one({"session_id": "new"})
    in_tail = {item["seq"] for item in head["tail"]}
    alone = {item["seq"] async for item in client[database]["turnkeep_messages"].find()}
    assert in_tail - alone, "none waits in the outbox"
    assert in_tail & alone, "none lies in both"
    assert alone - in_tail, "none has left the head"
    expected = [("new", seq) for seq in range(1, 121)]
    assert await places(adapter) == expected
    assert await places(adapter, limit=7) == expected
    messages = (await adapter.load(NEW, LoadQuery())).messages
    assert tuple(hit.message for hit in await hits(adapter)) == messages


async def test_beyond_the_bound_nothing_is_found_and_the_log_says_so(adapter, clock, monkeypatch, caplog):
    monkeypatch.setattr(search, "MOST_MESSAGES", 70)
    caplog.set_level(logging.INFO, "turnkeep.storage")
    await talk(adapter, OLD, 60)
    clock.advance(1)
    await talk(adapter, NEW, 8, user_id="ana")
    assert await places(adapter) == [("new", seq) for seq in range(1, 9)] + [("old", seq) for seq in range(1, 61)]
    assert not caplog.records
    monkeypatch.setattr(search, "MOST_MESSAGES", 60)
    nearest = [("new", seq) for seq in range(1, 9)] + [("old", seq) for seq in range(9, 61)]
    for limit in (100, 13):
        caplog.clear()
        assert await places(adapter, limit=limit) == nearest
        assert {record.getMessage() for record in caplog.records} == {
            "mongodb: search_messages read the newest 60 messages of its scope, and there are more"
        }
    caplog.clear()
    assert await places(adapter, session_id="old") == [("old", seq) for seq in range(1, 61)]
    assert await places(adapter, Scope("kit", None)) == [("old", seq) for seq in range(1, 61)]
    assert await places(adapter, Scope("kit", "ana")) == [("new", seq) for seq in range(1, 9)]
    assert not caplog.records
    monkeypatch.setattr(search, "MOST_MESSAGES", 3)
    assert await places(adapter, session_id="old") == [("old", 58), ("old", 59), ("old", 60)]
    assert len(caplog.records) == 1


async def test_sessions_without_messages_and_long_texts_are_bounded_too(adapter, clock, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "turnkeep.storage")
    await talk(adapter, OLD, 3, each="refund " * 100)
    clock.advance(1)
    for number in range(3):
        await adapter.commit(new_commit(new_key(Scope("kit"), f"empty {number}")))
    assert len(await places(adapter)) == 3
    assert not caplog.records
    monkeypatch.setattr(search, "MOST_BYTES", 701)
    assert await places(adapter) == [("old", 2), ("old", 3)]
    assert len(caplog.records) == 1
    monkeypatch.setattr(search, "MOST_MESSAGES", 3)
    assert await places(adapter) == []
    assert len(caplog.records) == 2


async def test_a_former_life_is_not_found(adapter, client, database):
    await talk(adapter, NEW, 60)
    messages = client[database]["turnkeep_messages"]
    former = [message async for message in messages.find()]
    assert await adapter.delete(NEW)
    await talk(adapter, NEW, 60, each="nothing")
    await messages.insert_many(former)  # a killed deleter left them
    assert await places(adapter) == []


async def test_messages_that_are_lost_are_no_empty_answer(adapter, client, database, clock):
    await talk(adapter, OLD, 1)
    clock.advance(1)
    await talk(adapter, NEW, 70)
    for seq in (1, 10):
        await client[database]["turnkeep_messages"].delete_one({"session_id": "new", "seq": seq})
        with pytest.raises(CorruptRecord, match="session 'new' counts messages 1 to"):
            await places(adapter)
    assert await places(adapter, session_id="old") == [("old", 1)]


@pytest.mark.parametrize("how", ["cleared", "deleted", "claimed"])
async def test_a_session_that_changes_while_it_is_read_is_read_again(adapter, monkeypatch, how):
    await talk(adapter, NEW, 70)
    backwards = Messages.backwards
    changed = asyncio.Event()

    class Late:
        """The older messages, asked for after the session was changed."""

        def __init__(self, cursor):
            self.cursor = cursor

        async def __aenter__(self):
            if not changed.is_set():
                changed.set()
                if how == "deleted":
                    assert await adapter.delete(NEW)
                else:
                    claim = "ana" if how == "claimed" else None
                    key = SessionKey(Scope("kit", None), "new")
                    again = new_commit(key, "a refund", expect=Expect.ANY, drop_history=True, claim=claim)
                    await adapter.commit(again)
                    assert (await adapter.sweep(10)).messages
            return await self.cursor.__aenter__()

        async def __aexit__(self, *error):
            await self.cursor.__aexit__(*error)

    monkeypatch.setattr(Messages, "backwards", lambda *arguments: Late(backwards(*arguments)))
    found = await places(adapter, Scope("kit", None))
    assert changed.is_set()
    assert found == ([("new", 71)] if how == "cleared" else [])


async def test_others_go_on_while_a_reply_is_searched(adapter, monkeypatch):
    """Its messages are all there at once, so only the search itself can let others on."""
    await adapter.commit(new_commit(NEW, *["refund " * 2500] * 20))
    steps, seen = 0, []

    async def count():
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    def is_wanted(message, query, of=search.is_wanted):
        seen.append(steps)
        return of(message, query)

    monkeypatch.setattr(search, "is_wanted", is_wanted)
    counting = asyncio.create_task(count())
    assert len(await places(adapter)) == 20
    counting.cancel()
    assert len(set(seen)) >= 5


@pytest.mark.parametrize(
    ("scope", "session_id", "index"),
    [
        (Scope("kit", ANYONE), None, "turnkeep_activity"),
        (Scope("kit", "ana"), None, "turnkeep_owner_activity"),
        (Scope("kit", None), None, "turnkeep_owner_activity"),
        (Scope("kit", "ana"), "s7", "_id_"),
    ],
)
async def test_searches_go_along_an_index(adapter, scope, session_id, index):
    for number in range(20):
        await adapter.commit(new_commit(new_key(Scope("kit"), f"s{number}"), "a refund", user_id="ana"))
    collections = adapter._open.collections
    condition, order, named = search.looking_through(SearchQuery(scope, TERMS, 10, session_id), FUTURE)
    assert named == index
    heads = collections.sessions.find(condition, search.WITH_TAIL).hint(named).sort(order)
    plan = str((await heads.explain())["queryPlanner"]["winningPlan"])
    assert f"'{index}'" in plan
    assert "COLLSCAN" not in plan
    older = collections.messages.find({"session": "kit/s7", "incarnation": "i", "seq": {"$gte": 1, "$lte": 9}})
    plan = str((await older.sort("seq", -1).explain())["queryPlanner"]["winningPlan"])
    assert "'turnkeep_history'" in plan
    assert "COLLSCAN" not in plan


async def test_heads_bring_what_is_searched_and_no_more(adapter, client, database):
    await adapter.commit(new_commit(NEW, "a refund", data='"' + "d" * 10_000 + '"', state='"' + "s" * 10_000 + '"'))
    (head,) = await client[database]["turnkeep_sessions"].find({}, search.WITH_TAIL).to_list()
    assert len(bson.encode(head)) < 2000
