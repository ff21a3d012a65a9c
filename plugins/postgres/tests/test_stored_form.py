"""What lies in the tables: an interface, too. A change here needs a migration."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row

from turnkeep.contract import Expect, HeadChange, LoadQuery, Scope
from turnkeep.retention import MAX_MARKS, add_mark
from turnkeep_postgres import commits as commits_module
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import opened, run_sql, schema, server_url

__all__ = ["schema"]

START = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


def rows(schema, table, order):
    url = psycopg.conninfo.make_conninfo(server_url(), options="-c TimeZone=UTC")
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM {schema}.{table} ORDER BY {order}").fetchall()


async def two_commits(schema, monkeypatch):
    monkeypatch.setattr(commits_module, "new_id", lambda: "incarnation-1")
    clock = FakeClock(START)
    key = new_key(Scope("shop"), "table-7")
    async with opened(server_url(), schema=schema, clock=clock) as adapter:
        question = new_message("Olá, 你好", id="m1", name="Ana", metadata='{"a":1}', created_at=clock())
        documents = {"data": '{"name":"Ana"}', "state": '{"v":1}'}
        created = await adapter.commit(
            new_commit(key, question, commit_id="c1", digest="d1", user_id="ana", **documents)
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


async def test_one_session_at_rest(schema, monkeypatch):
    await two_commits(schema, monkeypatch)
    then = START + timedelta(seconds=1.5)
    assert rows(schema, "turnkeep_sessions", "id") == [
        {
            "namespace": "shop",
            "id": "table-7",
            "user_id": "ana",
            "agent_name": "Front desk",
            "status": "completed",
            "current_route": "book",
            "current_step": "guests",
            "message_count": 2,
            "last_message_at": then,
            "completed_at": then,
            "created_at": START,
            "updated_at": then,
            "expires_at": then + timedelta(hours=1),
            "incarnation": "incarnation-1",
            "version": 2,
            "last_commit": "c2",
            "last_seq": 2,
            "floor": 0,
            "trim_at": then + timedelta(minutes=1),
            "marks": "[[2,1773501028035897]]",
            "collected_data": '{"name":"Ana"}',
            "state": '{"v":1}',
        }
    ]
    place = {"namespace": "shop", "session_id": "table-7", "incarnation": "incarnation-1"}
    assert rows(schema, "turnkeep_commits", "version") == [
        place
        | {
            "commit_id": f"c{number}",
            "digest": f"d{number}",
            "version": number,
            "created": number == 1,
            "first_seq": number,
            "last_seq": number,
            "message_count": number,
            "committed_at": time,
        }
        for number, time in ((1, START), (2, then))
    ]


async def test_messages_at_rest(schema, monkeypatch):
    await two_commits(schema, monkeypatch)
    place = {"namespace": "shop", "session_id": "table-7", "incarnation": "incarnation-1"}
    nothing = dict.fromkeys(("name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "reply"))
    assert rows(schema, "turnkeep_messages", "seq") == [
        place
        | nothing
        | {
            "seq": 1,
            "turn_seq": 1,
            "commit_id": "c1",
            "id": "m1",
            "role": "user",
            "name": "Ana",
            "content": "Olá, 你好",
            "encoding": "plain",
            "metadata": '{"a":1}',
            "created_at": START,
            "committed_at": START,
            "words": "'ola':1 '你':2 '好':3",
        },
        place
        | nothing
        | {
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
            "created_at": datetime(1, 1, 1, tzinfo=UTC),
            "committed_at": START + timedelta(seconds=1.5),
            "words": None,
        },
    ]
    history = rows(schema, "turnkeep_history", "seq")
    assert [(row["user_id"], row["seq"], row["role"]) for row in history] == [
        ("ana", 1, "user"),
        ("ana", 2, "assistant"),
    ]


async def test_documents_can_be_asked_by_a_person(schema, monkeypatch):
    """Text, not jsonb: but a cast away from it."""
    await two_commits(schema, monkeypatch)
    query = f"SELECT collected_data::jsonb->>'name', state::json->>'v' FROM {schema}.turnkeep_sessions"
    assert run_sql(server_url(), query) == [("Ana", "1")]


async def test_marks_are_those_of_the_reference(schema):
    """`retention.add_mark` in Python and the statement that commits agree, beyond 64 marks and with uneven ages."""
    clock, marks = FakeClock(START), ()
    async with opened(server_url(), schema=schema, clock=clock) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "0"))
        for number in range(1, MAX_MARKS + 30):
            clock.advance(timedelta(seconds=1 + number * 7 % 11, microseconds=number * 13))
            age = timedelta(days=1, seconds=-number * 3 % 50)
            await adapter.commit(new_commit(key, "x", "y", expect=Expect.ANY, message_ttl=age))
            marks = add_mark(marks, 0, 1 + 2 * number, clock() + age)
        query = f"SELECT marks, trim_at FROM {schema}.turnkeep_sessions"
        ((text, trim_at),) = run_sql(server_url(), query)
        assert json.loads(text) == [list(mark) for mark in marks]
        assert len(marks) == MAX_MARKS
        assert trim_at == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=marks[0][1])
        clock.advance(timedelta(days=1, minutes=-5))
        while (await adapter.sweep(1)).more:
            pass
        before = (await adapter.load(key, LoadQuery())).head
        query = f"SELECT min(seq), count(*) FROM {schema}.turnkeep_messages"
        assert run_sql(server_url(), query) == [(before.floor + 1, before.message_count)]


@pytest.mark.parametrize("size", [1, 8_191, 100_000])
async def test_growth_is_what_is_new(schema, size):
    """The server writes about as much for a commit to a long history and a large state as to a short one."""
    async with opened(server_url(), schema=schema) as adapter:
        written = []
        for length in (1, 500):
            key = new_key()
            last = await adapter.commit(new_commit(key, *("x" * 200,) * length, state='"' + "s" * size + '"'))
            costs = []
            for _ in range(5):
                before = run_sql(server_url(), "SELECT pg_current_wal_insert_lsn()")[0][0]
                last = await adapter.commit(new_commit(key, "q" * 300, expect=last.token))
                query = f"SELECT pg_current_wal_insert_lsn() - '{before}'::pg_lsn"
                costs.append(int(run_sql(server_url(), query)[0][0]))
            written.append(min(costs))
        # Others use the server too, and a page is written whole once after each checkpoint: hence the least, and 64 KB.
        assert max(written) < 64 * 1024


async def test_a_commit_of_sixteen_megabytes(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        texts = ["\\\"é'%" * 700_000 for _ in range(4)]
        await adapter.commit(new_commit(key, *texts))
        assert [message.content for message in (await adapter.load(key, LoadQuery())).messages] == texts
