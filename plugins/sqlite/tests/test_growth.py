"""What a turn costs does not depend on how much was said before, and no statement reads a whole table."""

import asyncio
import re
import sqlite3
import statistics
from contextlib import closing
from dataclasses import astuple, fields

import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep_sqlite.statements import Queries, Tables
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import opened
from .test_groups import trace

_FRAME = 4096 + 24


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def wal_size(path):
    return path.with_name(path.name + "-wal").stat().st_size


async def append(adapter, key, **fields):
    return await adapter.commit(new_commit(key, "hello " * 20, "hi " * 20, expect=Expect.ANY, **fields))


async def cost(adapter, path, key, times=40):
    """Rows and bytes written by an append, and statements run."""
    await adapter._writer.run(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(), "x", alone=True)
    rows, pages, statements = [], [], []
    seen = await trace(adapter)
    for _ in range(times):
        begun, size = len(seen), wal_size(path)
        before = await adapter._writer.run(lambda c: c.total_changes, "x", alone=True)
        await append(adapter, key)
        rows.append(await adapter._writer.run(lambda c: c.total_changes, "x", alone=True) - before)
        pages.append((wal_size(path) - size) / _FRAME)
        statements.append(len(seen) - begun)
    return set(rows), statistics.mean(pages), set(statements)


async def test_appending_to_a_long_session_writes_no_more_than_to_a_new_one(path):
    async with opened(path, durability="normal") as adapter:
        long, short = new_key(session_id="a-long-one"), new_key(session_id="a-short-1")
        await adapter.commit(new_commit(long, data='{"a":1}', state='{"b":2}'))
        for _ in range(10):
            messages = [new_message("hello " * 20) for _ in range(1000)]
            await adapter.commit(new_commit(long, *messages, expect=Expect.ANY))
        await adapter.commit(new_commit(short, data='{"a":1}', state='{"b":2}'))
        rows_short, pages_short, statements_short = await cost(adapter, path, short)
        rows_long, pages_long, statements_long = await cost(adapter, path, long)
        assert rows_short == rows_long == {4}  # head, commit, two messages
        assert statements_short == statements_long
        # Where pages happen to split decides over a page more or less; all the messages would be some 1,500.
        assert pages_long < pages_short + 2
        assert pages_long < 10
        assert (await adapter.load(long, LoadQuery(0))).head.message_count == 10_080


async def test_appending_leaves_large_documents_where_they_are(path):
    async with opened(path, durability="normal") as adapter:
        key = new_key()
        document = '"' + "x" * 500_000 + '"'
        await adapter.commit(new_commit(key, "first", data=document, state=document))
        for _ in range(130):  # past where the count of commits takes a byte more
            await append(adapter, key)
        _, pages, _ = await cost(adapter, path, key, times=20)
        assert pages < 10
        stored = await adapter.load(key, LoadQuery(0))
        assert stored.data == stored.state == document


async def test_a_turn_is_one_transaction_each_way(path):
    async with opened(path) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        seen = await trace(adapter)
        stored = await adapter.load(key, LoadQuery(50))
        await adapter.commit(new_commit(key, "y", "z", expect=stored.head.token, state="{}"))
        assert seen.count("BEGIN") == 1  # the load
        assert seen.count("BEGIN IMMEDIATE") == seen.count("COMMIT") == 1
        assert len(seen) < 18


def parameters(sql):
    return dict.fromkeys(re.findall(r":(\w+)", sql), "x") if ":" in sql else ("x",) * sql.count("?")


@pytest.mark.parametrize("name", [field.name for field in fields(Queries)])
async def test_no_statement_scans_or_sorts(path, name):
    async with opened(path, durability="normal") as adapter:
        keys = [new_key(session_id=f"s{number}") for number in range(200)]
        await asyncio.gather(*(adapter.commit(new_commit(key, "x", user_id="u")) for key in keys))
    sql = getattr(Queries.load(Tables()), name)
    with closing(sqlite3.connect(path)) as connection:
        for analysed in (False, True):
            if analysed:
                connection.execute("ANALYZE")
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters(sql))]
            scans = [
                step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step and "mark" not in step
            ]
            assert scans == [], plan
            if name not in {"count", "search"}:  # one groups what it counts, the other sorts by how well it matches
                assert not [step for step in plan if "TEMP B-TREE" in step], plan


def test_all_statements_were_looked_at():
    assert len(astuple(Queries.load(Tables()))) == len(fields(Queries)) > 15
