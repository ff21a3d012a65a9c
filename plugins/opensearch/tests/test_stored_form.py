"""What lies in the indices: an interface, too. A change here needs a migration."""

from datetime import UTC, datetime, timedelta

import pytest

from turnkeep.contract import Expect, HeadChange, LoadQuery, Scope, SessionQuery
from turnkeep.errors import CorruptRecord
from turnkeep.outbox import store as store_module
from turnkeep.retention import to_microseconds
from turnkeep_opensearch import sessions as sessions_module
from turnkeep_opensearch.names import RECORD, head_id
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import ask, everything, opened

START = datetime(2126, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
START_US = to_microseconds(START)
SCOPE = Scope("shop")


async def test_one_session_at_rest(cluster_url, names, client, monkeypatch):
    monkeypatch.setattr(store_module, "new_id", lambda: "incarnation-1")
    monkeypatch.setattr(sessions_module, "new_id", lambda: "attempt-1")
    clock = FakeClock(START)
    key = new_key(SCOPE, "table-7")
    async with opened(cluster_url, names, clock=clock) as adapter:
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
    found = await everything(client, names)
    assert found["messages"] == {}
    assert found["sessions"] == {
        RECORD: {"version": 2, "after": None},
        "shop/table-7": {
            "namespace": "shop",
            "session_id": "table-7",
            "user_id": "ana",
            "agent_name": "Front desk",
            "status": "completed",
            "current_route": "book",
            "current_step": "guests",
            "message_count": 2,
            "last_message_at": "2126-03-14T15:09:28.035897+00:00",
            "last_message_us": START_US + 1_500_000,
            "completed_at": "2126-03-14T15:09:28.035897+00:00",
            "completed_us": START_US + 1_500_000,
            "created_at": "2126-03-14T15:09:26.535897+00:00",
            "created_us": START_US,
            "updated_at": "2126-03-14T15:09:28.035897+00:00",
            "updated_us": START_US + 1_500_000,
            "expires_at": "2126-03-14T16:09:28.035897+00:00",
            "expires_us": START_US + 3_601_500_000,
            "incarnation": "incarnation-1",
            "version": 2,
            "last_commit": "c2",
            "attempt": "attempt-1",
            "last_seq": 2,
            "floor": 0,
            "floor_bytes": 0,
            "total_bytes": 57,
            "flushed": 0,
            "waiting": 2,
            "erased": 0,
            "marks": [{"seq": 2, "leaves_us": START_US + 61_500_000, "bytes": 57}],
            "sweep_at": "2126-03-14T15:10:28.035897+00:00",
            "collected_data": '{"name":"Ana"}',
            "data_bytes": 14,
            "state": '{"v":1}',
            "state_bytes": 7,
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
                    "created_at": "2126-03-14T15:09:26.535897+00:00",
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
                    "created_at": "0001-01-01T00:00:00+00:00",
                    "created_us": -62135596800000000,
                    "bytes": 38,
                },
            ],
        },
    }


async def test_a_message_of_its_own(cluster_url, names, client, monkeypatch):
    monkeypatch.setattr(store_module, "new_id", lambda: "incarnation-1")
    key = new_key(SCOPE, "table-7")
    async with opened(cluster_url, names, clock=FakeClock(START)) as adapter:
        texts = [str(number) for number in range(16)]
        created = await adapter.commit(new_commit(key, *texts, commit_id="c1", user_id="ana"))
        assert (await everything(client, names))["messages"] == {}
        await adapter.commit(new_commit(key, "more", expect=created.token))
        found = await everything(client, names)
        head = found["sessions"]["shop/table-7"]
    place = {"session": "shop/table-7", "namespace": "shop", "session_id": "table-7", "incarnation": "incarnation-1"}
    # The tail's items, each with its place.
    assert found["messages"] == {
        f"incarnation-1#{item['seq']:010d}": {**place, "user_id": "ana", **item, "words": item["content"]}
        for item in head["tail"]
        if item["seq"] <= 16
    }
    assert head["flushed"] == 16
    assert [item["seq"] for item in head["tail"]] == list(range(1, 18))


IDS = [
    "$where",
    '{"query": {"match_all": {}}}',
    "a.b",
    "..",
    "a/b",
    "../_search",
    "_mapping",
    "#turnkeep",
    "a#0000000001",
    "a\r\nb",
    "a,b",
    "*",
    "a+b%20c?d=e&f",
    "trailing ",
    "Bob",
    "bob",
    "é",
    "e\u0301",
    "👩‍👩‍👧‍👦",
    "x" * 507,
    "x" * 508,
    "x" * 512,
    "ä" * 256,
    "\x01",
    "\U0010ffff",
    "__proto__",
]


async def test_ids_are_values_whatever_they_hold(cluster_url, names, client):
    clock = FakeClock(START)
    async with opened(cluster_url, names, clock=clock) as adapter:
        for text in IDS:
            message = new_message(id=text, name=text, route=text)
            await adapter.commit(new_commit(new_key(SCOPE, text), message, commit_id="c", user_id=text))
        await ask(client, "POST", f"/{names['sessions']}/_refresh")
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
    found = await everything(client, names)
    assert (list(found["sessions"]), found["messages"]) == ([RECORD], {})


def test_ids_that_are_too_long_are_hashed_and_meet_no_other():
    longest = "n" * 64
    sessions = [f"{longest}/{'x' * length}" for length in (446, 447, 448, 512)]
    sessions += [f"{longest}/{'x' * 511}{end}" for end in "yz"] + [f"{'n' * 63}/{'x' * 512}"]
    ids = [head_id(session) for session in sessions]
    assert ids[:2] == sessions[:2]
    assert all(len(found.encode()) <= 512 for found in ids)
    assert len(set(ids)) == len(sessions)
    # What looks like a hash is a session's own name only behind a slash.
    assert head_id(f"{longest}/{ids[-1]}") not in ids


async def test_a_head_under_a_foreign_hash_is_told_and_never_shown(cluster_url, names, client):
    """Should two names ever have one hash."""
    async with opened(cluster_url, names) as adapter:
        one, two = (new_key(Scope("n" * 64), "x" * 511 + end) for end in "ab")
        await adapter.commit(new_commit(one, "one's"))
        head = (await everything(client, names))["sessions"][head_id(f"{'n' * 64}/{one.session_id}")]
        name = head_id(f"{'n' * 64}/{two.session_id}").replace("#", "%23")
        await ask(client, "PUT", f"/{names['sessions']}/_doc/{name}", head)
        with pytest.raises(CorruptRecord, match="another session"):
            await adapter.load(two, LoadQuery())
        with pytest.raises(CorruptRecord, match="another session"):
            await adapter.commit(new_commit(two, "two's", expect=Expect.ANY))
        assert (await adapter.load(one, LoadQuery())).head.session_id == one.session_id


@pytest.mark.parametrize(
    "change",
    [
        "ctx._source.remove('version')",
        "ctx._source.status = 'asleep'",
        "ctx._source.last_message_us = 'yesterday'",
        "ctx._source.flushed = null",
        "ctx._source.tail[0].remove('content')",
        "ctx._source.tail.remove(0)",
        "ctx._source.last_seq = 9",
        "ctx._source.recent = ['[\"c\",broken']",
    ],
)
async def test_what_cannot_be_read_is_corrupt_and_never_absent(cluster_url, shared_names, client, change):
    async with opened(cluster_url, shared_names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one", "two", commit_id="c"))
        path = f"/{shared_names['sessions']}/_update/{key.scope.namespace}%2F{key.session_id}"
        await ask(client, "POST", path, {"script": {"source": change}})
        before = (await everything(client, shared_names))["sessions"]
        with pytest.raises(CorruptRecord):
            await adapter.load(key, LoadQuery(commit_id="c"))
        assert (await everything(client, shared_names))["sessions"] == before


async def test_a_lost_message_document_is_told(cluster_url, shared_names, client):
    async with opened(cluster_url, shared_names) as adapter:
        key = new_key()
        created = await adapter.commit(new_commit(key, *["x"] * 80))
        await adapter.commit(new_commit(key, *["y"] * 80, expect=Expect.ANY))
        await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
        assert len((await adapter.load(key, LoadQuery())).messages) == 161
        await ask(client, "DELETE", f"/{shared_names['messages']}/_doc/{created.token.incarnation}%230000000007")
        with pytest.raises(CorruptRecord, match="messages 1 to 161"):
            await adapter.load(key, LoadQuery())
        assert len((await adapter.load(key, LoadQuery(50))).messages) > 49


async def test_a_document_copied_from_a_head_that_was_lost_is_written_over(cluster_url, shared_names, client):
    """A primary that fails may show a write that its successor does not know."""
    async with opened(cluster_url, shared_names) as adapter:
        key = new_key()
        created = await adapter.commit(new_commit(key, *[f"true {number}" for number in range(16)]))
        stray = {"id": "m", "commit_id": "lost", "content": "never said", "seq": 3}
        path = f"/{shared_names['messages']}/_create/{created.token.incarnation}%230000000003"
        await ask(client, "PUT", path, stray)
        await adapter.commit(new_commit(key, *["y"] * 60, expect=Expect.ANY))
        await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages[:16]] == [f"true {number}" for number in range(16)]
