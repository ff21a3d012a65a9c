"""What is particular to PostgreSQL: its statements are written by hand, and most commits have one of their own."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg

from turnkeep.contract import Expect, LoadQuery
from turnkeep_sqlalchemy.postgresql import read_statements
from turnkeep_sqlalchemy.statements import statements_for
from turnkeep_sqlalchemy.tables import read_names, shared
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import Place, opened

REMEMBERED = 4096
"""Longer texts psycopg takes apart at each execution."""


@pytest.fixture
def place(tmp_path):
    with Place("postgresql", tmp_path) as place:
        yield place


def test_the_statements_of_a_turn_are_short_enough_to_be_remembered():
    statements = statements_for(
        shared(read_names(schema="conversations")), "postgresql", counts=False, client_clock=False
    )
    dialect = PGDialectAsync_psycopg()
    found = read_statements(statements, dialect)
    for sql in (found["load"], f"{found['turn']}\n{found['recorded']}"):
        assert len(str(text(sql).compile(dialect=dialect)).encode()) <= REMEMBERED


async def test_messages_that_leave_are_seen_to_by_a_commit_that_gives_none_a_time(place):
    clock = FakeClock()
    key = new_key()
    async with opened(place.adapter(clock=clock)) as adapter:
        await adapter.commit(new_commit(key, "leaves", message_ttl=timedelta(hours=1)))
        await adapter.commit(new_commit(key, "stays", expect=Expect.ANY))
        assert await place.rows(f"SELECT marks IS NULL FROM {place.qualified('turnkeep_sessions')}") == [(False,)]
        clock.advance(timedelta(hours=2))
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages] == ["stays"]
        last = await adapter.commit(new_commit(key, "too", expect=stored.head.token))
        assert (last.last_seq, last.message_count) == (3, 2)
        assert await place.rows(f"SELECT seq FROM {place.qualified('turnkeep_messages')} ORDER BY seq") == [(2,), (3,)]
