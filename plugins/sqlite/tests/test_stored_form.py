"""What lies in the file: an interface, too. A change here needs a migration."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from turnkeep.contract import Expect, HeadChange, LoadQuery, Scope, SessionQuery
from turnkeep_sqlite import store as store_module
from turnkeep_sqlite.times import LATER, from_text, to_text
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def rows(path, table, order):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")]


async def test_one_session_at_rest(path, monkeypatch):
    monkeypatch.setattr(store_module, "new_id", lambda: "incarnation-1")
    clock = FakeClock(datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC))
    key = new_key(Scope("shop"), "table-7")
    async with opened(path, clock=clock) as adapter:
        question = new_message("Olá, 你好", id="m1", name="Ana", metadata='{"a":1}', created_at=clock())
        created = await adapter.commit(
            new_commit(
                key, question, commit_id="c1", digest="d1", user_id="ana", data='{"name":"Ana"}', state='{"v":1}'
            )
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
        await adapter.commit(
            new_commit(
                key,
                answer,
                commit_id="c2",
                digest="d2",
                expect=created.token,
                head=head,
                ttl=timedelta(hours=1),
                message_ttl=timedelta(minutes=1),
            )
        )
    assert rows(path, "turnkeep_sessions", "id") == [
        {
            "namespace": "shop",
            "id": "table-7",
            "user_id": "ana",
            "agent_name": "Front desk",
            "status": "completed",
            "current_route": "book",
            "current_step": "guests",
            "message_count": 2,
            "last_message_at": "2026-03-14T15:09:28.035897Z",
            "completed_at": "2026-03-14T15:09:28.035897Z",
            "created_at": "2026-03-14T15:09:26.535897Z",
            "updated_at": "2026-03-14T15:09:28.035897Z",
            "expires_at": "2026-03-14T16:09:28.035897Z",
            "incarnation": "incarnation-1",
            "version": 2,
            "last_commit": "c2",
            "last_seq": 2,
            "floor": 0,
            "trim_at": "2026-03-14T15:10:28.035897Z",
            "marks": "[[2,1773501028035897]]",
            "collected_data": '{"name":"Ana"}',
            "state": '{"v":1}',
        }
    ]
    place = {"namespace": "shop", "session_id": "table-7", "incarnation": "incarnation-1"}
    assert rows(path, "turnkeep_messages", "seq") == [
        place
        | {
            "seq": 1,
            "turn_seq": 1,
            "commit_id": "c1",
            "id": "m1",
            "role": "user",
            "name": "Ana",
            "content": "Olá, 你好",
            "encoding": "plain",
            "tool_calls": None,
            "tool_call_id": None,
            "route": None,
            "step": None,
            "event": None,
            "metadata": '{"a":1}',
            "reply": None,
            "created_at": "2026-03-14T15:09:26.535897Z",
            "committed_at": "2026-03-14T15:09:26.535897Z",
            "serial": 1,
        },
        place
        | {
            "seq": 2,
            "turn_seq": 2,
            "commit_id": "c2",
            "id": "m2",
            "role": "assistant",
            "name": None,
            "content": '"NUL: \\u0000"',
            "encoding": "json",
            "tool_calls": "[]",
            "tool_call_id": "t1",
            "route": "book",
            "step": "guests",
            "event": '{"kind":"x"}',
            "metadata": None,
            "reply": '{"ok":true}',
            "created_at": "0001-01-01T00:00:00.000000Z",
            "committed_at": "2026-03-14T15:09:28.035897Z",
            "serial": 2,
        },
    ]
    assert rows(path, "turnkeep_commits", "commit_id") == [
        place
        | {
            "commit_id": "c1",
            "digest": "d1",
            "version": 1,
            "created": 1,
            "first_seq": 1,
            "last_seq": 1,
            "message_count": 1,
            "committed_at": "2026-03-14T15:09:26.535897Z",
        },
        place
        | {
            "commit_id": "c2",
            "digest": "d2",
            "version": 2,
            "created": 0,
            "first_seq": 2,
            "last_seq": 2,
            "message_count": 2,
            "committed_at": "2026-03-14T15:09:28.035897Z",
        },
    ]


async def test_history_for_people(path):
    key = new_key(Scope("shop"), "s1")
    async with opened(path) as adapter:
        await adapter.commit(new_commit(key, "forgotten"))
        await adapter.commit(new_commit(key, "kept", expect=Expect.ANY, drop_history=True))
        seen = await adapter.commit(new_commit(new_key(Scope("shop", None), "s1"), expect=Expect.ANY, claim="ana"))
    assert seen.message_count == 1
    assert run_sql(path, "SELECT session_id, user_id, seq, content FROM turnkeep_history") == [("s1", "ana", 2, "kept")]
    assert run_sql(path, "SELECT count(*) FROM turnkeep_messages") == [(1,)]


async def test_removing_the_row_of_a_session_takes_everything_along(path):
    """For people with a shell in which foreign keys are on."""
    async with opened(path) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
    run_sql(path, "PRAGMA foreign_keys = ON", "DELETE FROM turnkeep_sessions")
    assert run_sql(path, "SELECT count(*) FROM turnkeep_messages") == [(0,)]
    assert run_sql(path, "SELECT count(*) FROM turnkeep_commits") == [(0,)]


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC),
        datetime(2026, 3, 14, 15, 9, 26, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_times_are_exact_and_of_one_width(moment):
    text = to_text(moment)
    assert len(text) == 27
    assert text.endswith("Z")
    assert from_text(text) == moment
    assert "" < text < LATER


def test_times_sort_as_texts():
    moments = [
        datetime(year, 1, 1, 0, 0, 0, micro, tzinfo=UTC)
        for year in (1, 999, 1970, 2026, 9999)
        for micro in (0, 1, 999999)
    ]
    assert sorted(map(to_text, moments)) == [to_text(moment) for moment in sorted(moments)]


IDS = [
    "'; DROP TABLE turnkeep_sessions; --",
    '"quoted"',
    "a\r\nb",
    "trailing ",
    "trailing",
    "Bob",
    "bob",
    "é",
    "e\u0301",
    "👩‍👩‍👧‍👦",
    "\u202egnp",
    "x" * 512,
    "%",
    "_",
    "*",
    "?1",
    ":name",
    "\x01",
    "\uffff",
    "\U0010ffff",
]


async def test_ids_are_kept_byte_for_byte_and_apart(path):
    scope = Scope("ids")
    async with opened(path) as adapter:
        for text in IDS:
            message = new_message(text, id=text, name=text, route=text)
            await adapter.commit(new_commit(new_key(scope, text), message, commit_id="c", user_id=text))
        page = await adapter.find_sessions(SessionQuery(scope, 100, order="created"))
        assert [head.session_id for head in page.items] == IDS
        for text in IDS:
            stored = await adapter.load(new_key(Scope("ids", text), text), LoadQuery(commit_id="c"))
            assert (stored.head.user_id, stored.messages[0].id, stored.messages[0].content) == (text, text, text)
            assert stored.replay.messages == stored.messages
        raw = run_sql(path, "SELECT hex(id) FROM turnkeep_sessions ORDER BY rowid")
        assert [bytes.fromhex(value).decode() for (value,) in raw] == IDS
        # lists break ties as the bytes do
        clock = FakeClock()
        async with opened(path.with_name("ties.db"), clock=clock) as ties:
            for text in IDS:
                await ties.commit(new_commit(new_key(scope, text)))
            for order in ("activity", "created"):
                page = await ties.find_sessions(SessionQuery(scope, 100, order=order))
                assert [head.session_id for head in page.items] == sorted(IDS)
