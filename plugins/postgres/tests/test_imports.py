"""Commits of many messages, which are copied in: as whole, as exact and as repeatable as all others."""

import asyncio
import secrets

import psycopg
import pytest

from turnkeep import Limits, Message, connect, create_session
from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import SessionConflict
from turnkeep_postgres import PostgreSQLAdapter, commits
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import count_rows, opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]

MANY = commits._IMPORTED
HOSTILE = [
    "tab\tnewline\nreturn\r",
    "\\N",
    "\\.",
    "back\\slash",
    '"quoted", {braced}',
    "",
    "é\u0301 𝄞 \u2028",
    "NUL\0 \ud800",
]


def many(count=MANY):
    texts = [f"{HOSTILE[number % len(HOSTILE)]} {number}" for number in range(count)]
    return [
        new_message(text, name="Ana" if number % 2 else None, metadata='{"a": "\\\\N"}', event="[null]")
        for number, text in enumerate(texts)
    ]


@pytest.fixture
def copied(monkeypatch):
    """The statements that copied."""
    found = []
    copy = psycopg.AsyncCursor.copy

    def noted(cursor, statement, *arguments, **options):
        found.append(statement)
        return copy(cursor, statement, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "copy", noted)
    return found


async def test_only_many_messages_are_copied(schema, copied):
    async with opened(server_url(), schema=schema) as adapter:
        await adapter.commit(new_commit(new_key(), *many(MANY - 1)))
        assert copied == []
        await adapter.commit(new_commit(new_key(), *many(MANY)))
        assert len(copied) == 1


async def test_what_is_copied_comes_back_exact(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "zero"))
        commit = new_commit(key, *many(), expect=first.token)
        done = await adapter.commit(commit)
        assert (done.first_seq, done.last_seq, done.message_count) == (2, MANY + 1, MANY + 1)
        stored = await adapter.load(key, LoadQuery())
        fields = len(commit.messages[0])
        assert [message[:fields] for message in stored.messages[1:]] == [tuple(message) for message in commit.messages]
        assert [(message.seq, message.turn_seq, message.commit_id) for message in stored.messages[1:]] == [
            (seq, 2, commit.commit_id) for seq in range(2, MANY + 2)
        ]
        again = await adapter.commit(commit)
        assert (again.replayed, again.token, again.first_seq) == (True, done.token, 2)


async def test_a_conflict_copies_nothing(schema, copied):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "zero"))
        await adapter.commit(new_commit(key, "one", expect=first.token))
        with pytest.raises(SessionConflict):
            await adapter.commit(new_commit(key, *many(), expect=first.token))
        assert copied == []
        assert len((await adapter.load(key, LoadQuery())).messages) == 2


async def test_a_connection_lost_in_the_middle_stores_all_once(schema, monkeypatch):
    url = replaced(server_url(), application_name=schema)
    write_row = psycopg.AsyncCopy.write_row
    rows = 0

    async def killed(copy, row):
        nonlocal rows
        rows += 1
        if rows == MANY // 2:
            ended = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '{schema}'"
            await asyncio.to_thread(run_sql, server_url(), ended)
        await write_row(copy, row)

    monkeypatch.setattr(psycopg.AsyncCopy, "write_row", killed)
    async with opened(url, schema=schema) as adapter:
        key = new_key()
        done = await adapter.commit(new_commit(key, *many()))
        assert rows > MANY, "it was sent again"
        assert (done.message_count, done.replayed) == (MANY, False)
        assert len((await adapter.load(key, LoadQuery())).messages) == MANY


async def test_a_cancelled_import_leaves_nothing(schema, monkeypatch):
    started = asyncio.Event()

    async def endless(copy, row):
        started.set()
        await asyncio.sleep(60)

    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "zero"))
        monkeypatch.setattr(psycopg.AsyncCopy, "write_row", endless)
        task = asyncio.create_task(adapter.commit(new_commit(key, *many(), expect=Expect.ANY)))
        await started.wait()
        task.cancel()
        outcome = (await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 20))[0]
        assert isinstance(outcome, Exception | asyncio.CancelledError)
        assert count_rows(server_url(), schema, key) == 3
        assert len((await adapter.load(key, LoadQuery())).messages) == 1


async def test_row_level_security_which_refuses_to_copy_changes_nothing(schema, copied):
    url, role = server_url(), f"kit_{secrets.token_hex(6)}"
    async with opened(url, schema=schema):
        pass
    run_sql(
        url,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT {role} TO CURRENT_USER",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"ALTER TABLE {schema}.turnkeep_messages ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY everything ON {schema}.turnkeep_messages USING (true) WITH CHECK (true)",
    )
    try:
        async with opened(replaced(url, user=role), schema=schema) as adapter:
            key = new_key()
            done = await adapter.commit(new_commit(key, *many()))
            assert (len(copied), done.message_count, done.replayed) == (1, MANY, False)
            assert len((await adapter.load(key, LoadQuery())).messages) == MANY
    finally:
        run_sql(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_history_of_thousands_is_imported(schema, copied):
    adapter = PostgreSQLAdapter(server_url(), schema=schema)
    async with connect(adapter, limits=Limits(commit_messages=5000)) as persistence:
        said = [Message("user", HOSTILE[number % 4] + str(number)) for number in range(2500)]
        await persistence.save_session_state("s", create_session("s"))
        await persistence.save_messages("s", said)
        history = await persistence.load_session_history("s")
        assert [message.content for message in history] == [message.content for message in said]
        assert len(copied) == 1
