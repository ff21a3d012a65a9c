"""What lies in the collections: an interface, too. A change here needs a migration."""

from datetime import UTC, datetime, timedelta

import pytest
from bson.int64 import Int64

import turnkeep
from turnkeep.contract import Expect, HeadChange, LoadQuery, Scope, SessionQuery
from turnkeep.errors import CorruptRecord, InvalidArgument
from turnkeep.outbox import store as store_module
from turnkeep.retention import to_microseconds
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import everything, named, opened

START = datetime(2126, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
START_US = to_microseconds(START)
SCOPE = Scope("shop")


def naive(*parts):
    """A date as PyMongo gives it back."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


async def test_one_session_at_rest(replica_url, database, client, monkeypatch):
    monkeypatch.setattr(store_module, "new_id", lambda: "incarnation-1")
    clock = FakeClock(START)
    key = new_key(SCOPE, "table-7")
    async with opened(replica_url, database, clock=clock) as adapter:
        question = new_message("Olá, 你好", id="m1", name="Ana", metadata='{"a":1}', created_at=clock())
        documents = {"data": '{"name":"Ana"}', "state": '{"v":1}'}
        created = await adapter.commit(
            new_commit(key, question, commit_id="c1", digest="d 1", user_id="ana", **documents)
        )
        clock.advance(1.5)
        answer = new_message(
            "NUL: \0",
            id="m2",
            role="assistant",
            tool_calls="[]",
            tool_call_id="t1",
            route="book",
            step="guests",
            event='{"kind":"x"}',
            reply='{"ok":true}',
            created_at=datetime(1, 1, 1, tzinfo=UTC),
        )
        head = HeadChange("completed", None, "Front desk", "book", "guests")
        ages = {"ttl": timedelta(hours=1), "message_ttl": timedelta(minutes=1)}
        await adapter.commit(
            new_commit(key, answer, commit_id="c2", digest="d2", expect=created.token, head=head, **ages)
        )
    found = await everything(client, database)
    assert found["turnkeep_messages"] == []
    assert found["turnkeep_sessions"] == [
        {
            "_id": "shop/table-7",
            "namespace": "shop",
            "session_id": "table-7",
            "user_id": "ana",
            "agent_name": "Front desk",
            "status": "completed",
            "current_route": "book",
            "current_step": "guests",
            "message_count": 2,
            "last_message_at": naive(2126, 3, 14, 15, 9, 28, 35000),
            "last_message_us": START_US + 1_500_000,
            "completed_at": naive(2126, 3, 14, 15, 9, 28, 35000),
            "completed_us": START_US + 1_500_000,
            "created_at": naive(2126, 3, 14, 15, 9, 26, 535000),
            "created_us": START_US,
            "updated_at": naive(2126, 3, 14, 15, 9, 28, 35000),
            "updated_us": START_US + 1_500_000,
            "expires_at": naive(2126, 3, 14, 16, 9, 28, 35000),
            "expires_us": START_US + 3_601_500_000,
            "incarnation": "incarnation-1",
            "version": 2,
            "last_commit": "c2",
            "last_seq": 2,
            "floor": 0,
            "floor_bytes": 0,
            "total_bytes": 57,
            "flushed": 0,
            "erased": 0,
            "marks": [{"seq": 2, "leaves_us": START_US + 61_500_000, "bytes": 57}],
            "sweep_at": naive(2126, 3, 14, 15, 10, 28, 35000),
            "collected_data": '{"name":"Ana"}',
            "state": '{"v":1}',
            "recent": [
                f'["c1","d 1",1,true,1,1,1,{START_US}]',
                f'["c2","d2",2,false,2,2,2,{START_US + 1_500_000}]',
            ],
            "tail": [
                {
                    "seq": 1,
                    "turn_seq": 1,
                    "commit_id": "c1",
                    "id": "m1",
                    "role": "user",
                    "content": "Olá, 你好",
                    "name": "Ana",
                    "metadata": '{"a":1}',
                    "created_at": naive(2126, 3, 14, 15, 9, 26, 535000),
                    "created_us": START_US,
                    "bytes": 19,
                },
                {
                    "seq": 2,
                    "turn_seq": 2,
                    "commit_id": "c2",
                    "id": "m2",
                    "role": "assistant",
                    "content": '"NUL: \\u0000"',
                    "encoding": "json",
                    "tool_calls": "[]",
                    "tool_call_id": "t1",
                    "route": "book",
                    "step": "guests",
                    "event": '{"kind":"x"}',
                    "reply": '{"ok":true}',
                    "created_at": naive(1, 1, 1),
                    "created_us": Int64(-62135596800000000),
                    "bytes": 38,
                },
            ],
        }
    ]
    (record,) = found["turnkeep_schema"]
    assert (record["_id"], record["version"], record["name"]) == ("turnkeep", 1, "0001_initial")


async def test_a_message_of_its_own(replica_url, database, client, monkeypatch):
    monkeypatch.setattr(store_module, "new_id", lambda: "incarnation-1")
    key = new_key(SCOPE, "table-7")
    async with opened(replica_url, database, clock=FakeClock(START)) as adapter:
        created = await adapter.commit(new_commit(key, *(str(number) for number in range(16)), commit_id="c1"))
        assert (await everything(client, database))["turnkeep_messages"] == []
        await adapter.commit(new_commit(key, "more", expect=created.token))
        documents = (await everything(client, database))["turnkeep_messages"]
        (head,) = (await everything(client, database))["turnkeep_sessions"]
    place = {"session": "shop/table-7", "namespace": "shop", "session_id": "table-7", "incarnation": "incarnation-1"}
    # The tail's items, each with its place.
    assert documents == [
        {"_id": f"incarnation-1#{item['seq']:010d}", **place, **item} for item in head["tail"] if item["seq"] <= 16
    ]
    assert head["flushed"] == 16
    assert [item["seq"] for item in head["tail"]] == list(range(1, 18))


IDS = [
    "$where",
    '{"$ne": null}',
    "{",
    "{shop:s1}",
    "*",
    "a*b?[c-d]\\",
    "a.b",
    "$set.x",
    "a/b",
    "a#0000000001",
    "a\r\nb",
    "trailing ",
    "Bob",
    "bob",
    "é",
    "e\u0301",
    "👩‍👩‍👧‍👦",
    "x" * 512,
    "ä" * 256,
    "\x01",
    "\0",
    "nul\0within",
    "\U0010ffff",
    "__proto__",
]


async def test_ids_are_values_whatever_they_hold(replica_url, database, client):
    clock = FakeClock(START)
    async with opened(replica_url, database, clock=clock) as adapter:
        for text in IDS:
            message = new_message(id=text, name=text, route=text)
            await adapter.commit(new_commit(new_key(SCOPE, text), message, commit_id="c", user_id=text))
        for order in ("activity", "created"):
            page = await adapter.find_sessions(SessionQuery(SCOPE, 100, order=order))
            assert [head.session_id for head in page.items] == sorted(IDS)
        for text in IDS:
            stored = await adapter.load(new_key(Scope("shop", text), text), LoadQuery(commit_id="c"))
            assert (stored.head.user_id, stored.messages[0].id, stored.messages[0].route) == (text, text, text)
            assert stored.replay.messages == stored.messages
            assert await adapter.load(new_key(Scope("shop", f"{text}x"), text), LoadQuery()) is None
        for text in IDS:
            assert await adapter.delete(new_key(Scope("shop", text), text)) is True
    found = await everything(client, database)
    assert found["turnkeep_sessions"] == found["turnkeep_messages"] == []


@pytest.mark.parametrize("text", ["x" * 513, "€" * 171, "a\ud800", "", {"$ne": None}, b"s1"])
async def test_what_is_no_id_reaches_no_server(replica_url, database, client, text):
    url = named(replica_url, database)
    async with turnkeep.connect(url) as persistence:
        for call in (
            persistence.load_session_state(text),
            persistence.save_session_state(text, turnkeep.create_session("s1")),
            persistence.delete_session(text),
            persistence.erase_user(text),
        ):
            with pytest.raises(InvalidArgument):
                await call
    found = await everything(client, database)
    assert found["turnkeep_sessions"] == found["turnkeep_messages"] == []
    with pytest.raises(InvalidArgument):
        turnkeep.connect(url, user_id=text)


@pytest.mark.parametrize(
    "change",
    [
        {"$unset": {"version": 1}},
        {"$set": {"status": "asleep"}},
        {"$set": {"updated_us": "yesterday"}},
        {"$set": {"marks": 7}},
        {"$unset": {"tail.0.content": 1}},
        {"$pull": {"tail": {"seq": 1}}},
        {"$set": {"last_seq": 9}},
        {"$set": {"recent": ['["c",broken']}},
    ],
    ids=str,
)
async def test_what_cannot_be_read_is_corrupt_and_never_absent(replica_url, database, client, change):
    async with opened(replica_url, database) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one", "two", commit_id="c"))
        await client[database]["turnkeep_sessions"].update_one({}, change)
        before = await everything(client, database)
        with pytest.raises(CorruptRecord):
            await adapter.load(key, LoadQuery(commit_id="c"))
        assert await everything(client, database) == before


async def test_a_lost_message_document_is_told(replica_url, database, client):
    async with opened(replica_url, database) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, *["x"] * 80))
        await adapter.commit(new_commit(key, *["y"] * 80, expect=Expect.ANY))
        await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
        assert len((await adapter.load(key, LoadQuery())).messages) == 161
        await client[database]["turnkeep_messages"].delete_one({"seq": 7})
        with pytest.raises(CorruptRecord, match="messages 1 to 161"):
            await adapter.load(key, LoadQuery())
        assert len((await adapter.load(key, LoadQuery(50))).messages) > 49
