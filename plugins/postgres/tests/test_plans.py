"""What PostgreSQL does for each statement among 100,000 sessions of 1,000 owners: it walks indexes."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from turnkeep.contract import (
    ANYONE,
    Expect,
    LoadQuery,
    MessageQuery,
    Scope,
    SearchQuery,
    SessionKey,
    SessionQuery,
    StatsQuery,
)
from turnkeep.cursors import make_cursor
from turnkeep.words import Terms
from turnkeep_postgres import PostgreSQLAdapter, calls
from turnkeep_postgres.values import Cursor
from turnkeep_testkit import new_commit

from .kit import fresh_schema, run_sql, server_url

NOW = datetime(2026, 3, 14, tzinfo=UTC)
FILL = """
INSERT INTO {0}.turnkeep_sessions (namespace, id, user_id, agent_name, status, current_route, created_at, updated_at,
    expires_at, trim_at, incarnation, version, last_commit, last_seq, floor, collected_data, state)
SELECT 'default', 's' || n, CASE WHEN n % 101 > 0 THEN 'u' || n % 1000 END, 'desk',
    (array['active', 'completed', 'abandoned'])[1 + n % 3], 'book', '2026-01-01'::timestamptz + n * interval '1 s',
    '2026-02-01'::timestamptz + n * interval '1 s', CASE WHEN n % 5 = 0 THEN '2100-01-01'::timestamptz END,
    CASE WHEN n % 7 = 0 THEN '2100-01-01'::timestamptz END, 'i', 1, 'c', CASE WHEN n = 77 THEN 20000 ELSE 2 END, 0,
    '{{}}', '{{}}'
FROM generate_series(1, 100000) AS n;
INSERT INTO {0}.turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
    encoding, created_at, committed_at)
SELECT 'default', 's' || n, 'i', seq, 1 + (seq - 1) / 2 * 2, 'c', 'm', 'user', 'hello w' || n, 'plain', now(), now()
FROM generate_series(1, 100000) AS n, generate_series(1, CASE WHEN n = 77 THEN 20000 ELSE 2 END) AS seq;
INSERT INTO {0}.turnkeep_commits
SELECT 'default', 's' || n, 'i', 'c', 'd', 1, true, 1, 2, 2, now() FROM generate_series(1, 100000) AS n;
"""
KEY = SessionKey(Scope("default"), "s77")


def listing(owner=ANYONE, **conditions):
    return lambda adapter: adapter.find_sessions(SessionQuery(Scope("default", owner), 20, **conditions))


def searching(text, owner=ANYONE, **conditions):
    query = SearchQuery(Scope("default", owner), Terms.parse(text), 20, **conditions)
    return lambda adapter: adapter.search_messages(query)


SEARCHES = {
    "search a rare word": searching("w777"),
    "search a rare word of those without an owner": searching("w101", None),
    "search a phrase": searching('"hello w777" -other'),
    "search a rare word later on": searching("w777", cursor=make_cursor("search", (0.05).hex(), "s1", 1)),
}
CALLS = {
    "load": lambda adapter: adapter.load(KEY, LoadQuery(50, commit_id="c")),
    "look up": lambda adapter: adapter.load(KEY, LoadQuery(0)),
    "load all of a short one": lambda adapter: adapter.load(SessionKey(Scope("default"), "s5"), LoadQuery()),
    "newest messages": lambda adapter: adapter.read_messages(KEY, MessageQuery(20)),
    "messages after": lambda adapter: adapter.read_messages(KEY, MessageQuery(20, after=500)),
    "messages before": lambda adapter: adapter.read_messages(KEY, MessageQuery(20, before=500)),
    "append": lambda adapter: adapter.commit(new_commit(KEY, "one", expect=Expect.ANY)),
    "append with ages": lambda adapter: adapter.commit(
        new_commit(KEY, "one", expect=Expect.ANY, message_ttl=timedelta(days=1), ttl=timedelta(days=2))
    ),
    "create": lambda adapter: adapter.commit(new_commit(SessionKey(Scope("default"), "new"), "one")),
    "active of an owner": listing("u7", status="active"),
    "an owner's": listing("u7"),
    "an owner's, oldest first": listing("u7", order="created"),
    "without an owner": listing(None, status="completed"),
    "of a status": listing(status="active"),
    "of the namespace": listing(),
    "of the namespace, oldest first": listing(order="created"),
    "older than a time": listing(older_than=NOW),
    "older than an age": listing(status="completed", older_than=timedelta(days=30)),
    "a later page": listing(cursor="later"),
    "search an owner's common word": searching("hello", "u7"),
    "search a common word in a session": searching("hello", session_id="s5"),
    "search an owner's rare word": searching("w7007", "u7"),
    **SEARCHES,
    "sweep": lambda adapter: adapter.sweep(100),
    "delete": lambda adapter: adapter.delete(SessionKey(Scope("default"), "s9")),
    "delete an owner": lambda adapter: adapter.delete_owner(Scope("default", "u3")),
}


@pytest.fixture(scope="module")
def filled():
    with fresh_schema() as name:
        run_sql(server_url(), "".join(_steps(name)).encode(), FILL.format(name).encode(), "VACUUM ANALYZE")
        yield name


def _steps(name):
    return asyncio.run(PostgreSQLAdapter(server_url(), schema=name).migrate(dry_run=True))


@pytest.fixture
def plans(monkeypatch):
    """Explains and runs whatever is sent, in a transaction that is rolled back; collects the plans."""
    collected = []

    class Explaining(Cursor):
        async def execute(self, query, params=None, **options):
            async with self.connection.transaction(force_rollback=True):
                await super().execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query, params)
                ((plan,),) = await self.fetchall()
                collected.extend(plan if isinstance(plan, list) else json.loads(plan))
            return await super().execute(query, params, **options)

    monkeypatch.setattr(calls, "Cursor", Explaining)
    return collected


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("call", CALLS)
async def test_no_table_is_read_through(filled, plans, call):
    adapter = PostgreSQLAdapter(server_url(), schema=filled)
    await adapter.open()
    work = CALLS[call]
    if call == "a later page":
        page = await adapter.find_sessions(SessionQuery(Scope("default"), 20))
        plans.clear()
        work = listing(cursor=page.next_cursor)
    await work(adapter)
    await adapter.aclose()
    assert plans
    for plan in plans:
        for node in nodes(plan["Plan"]):
            assert node["Node Type"] not in {"Seq Scan", "Parallel Seq Scan"} or node["Relation Name"] not in {
                "turnkeep_sessions",
                "turnkeep_messages",
                "turnkeep_commits",
            }, json.dumps(node, indent=1)
            if "Relation Name" in node and call != "delete an owner":
                # IS NULL, to the planner, fixes no order: it walks the namespace, or sorts, whichever is less.
                most = 5_000 if call == "without an owner" else 700
                read = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
                assert read * node.get("Actual Loops", 1) <= most, json.dumps(node, indent=1)


@pytest.mark.parametrize("search", SEARCHES)
async def test_a_search_asks_the_index_of_words(filled, plans, search):
    adapter = PostgreSQLAdapter(server_url(), schema=filled)
    await adapter.open()
    await SEARCHES[search](adapter)
    await adapter.aclose()
    (plan,) = plans
    assert "turnkeep_messages_words" in [node.get("Index Name") for node in nodes(plan["Plan"])], plan


@pytest.mark.parametrize("order", ["activity", "created"])
async def test_a_walk_to_the_end_meets_each_session_once_while_others_are_made(filled, order):
    there = {key for (key,) in run_sql(server_url(), f"SELECT id FROM {filled}.turnkeep_sessions")}
    assert len(there) > 99_000
    adapter = PostgreSQLAdapter(server_url(), schema=filled)
    await adapter.open()
    seen, made, cursor, more = [], 0, None, True
    while more:
        query = SessionQuery(Scope("default"), 1000, order=order, cursor=cursor)
        key = SessionKey(Scope("default"), f"{order} {made}")
        page, _ = await asyncio.gather(adapter.find_sessions(query), adapter.commit(new_commit(key, "one")))
        seen += [head.session_id for head in page.items]
        made, cursor, more = made + 1, page.next_cursor, page.next_cursor is not None
    await adapter.aclose()
    assert made >= 99
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


async def test_stats_count_a_namespace_by_reading_it(filled):
    """They count all sessions of a namespace, and say so in the documentation: not for every request."""
    adapter = PostgreSQLAdapter(server_url(), schema=filled)
    await adapter.open()
    stats = await adapter.stats(StatsQuery(Scope("default", "u8")))
    assert stats.sessions in {99, 100}
    await adapter.aclose()


def test_each_index_serves_a_list(filled):
    """Every index that a commit has to write is one that a statement needs."""
    with psycopg.connect(server_url()) as connection:
        names = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = 'turnkeep_sessions'", [filled]
        ).fetchall()
    kinds = {re.sub("turnkeep_sessions_", "", name) for (name,) in names}
    assert kinds == {"pkey", "activity", "owner_activity", "created", "owner_created", "expiry", "trim"}
