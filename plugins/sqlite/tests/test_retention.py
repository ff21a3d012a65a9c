"""``message_ttl`` at rest: what is invisible is erased by the next commit, or by a sweep."""

from datetime import timedelta

import pytest

from turnkeep.contract import Expect, LoadQuery, Scope, StatsQuery
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import opened, run_sql

MINUTE = timedelta(minutes=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def clock():
    return FakeClock()


def count(path):
    return run_sql(path, "SELECT count(*) FROM turnkeep_messages")[0][0]


async def test_a_commit_erases_what_has_left(path, clock):
    async with opened(path, clock=clock) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one", "two", message_ttl=MINUTE))
        clock.advance(30)
        await adapter.commit(new_commit(key, "three", expect=Expect.ANY, message_ttl=MINUTE))
        clock.advance(31)
        assert [message.content for message in (await adapter.load(key, LoadQuery())).messages] == ["three"]
        assert count(path) == 3
        done = await adapter.commit(new_commit(key, "four", expect=Expect.ANY, message_ttl=MINUTE))
        assert done.message_count == 2
        assert count(path) == 2
        assert run_sql(path, "SELECT floor, message_count FROM turnkeep_sessions") == [(2, 2)]


async def test_a_sweep_erases_what_has_left(path, clock):
    async with opened(path, clock=clock) as adapter:
        keys = [new_key(session_id=f"s{number}") for number in range(5)]
        for key in keys:
            await adapter.commit(new_commit(key, "one", "two", message_ttl=MINUTE))
        for key in keys[:2]:
            await adapter.commit(new_commit(key, "kept", expect=Expect.ANY, ttl=timedelta(days=1)))
        assert (await adapter.sweep(10)).messages == 0
        clock.advance(61)
        stats = await adapter.stats(StatsQuery(keys[0].scope))
        assert (stats.sessions, stats.messages) == (1, 1)
        swept = await adapter.sweep(3)
        assert (swept.sessions, swept.messages, swept.more) == (0, 6, True)
        swept = await adapter.sweep(3)
        assert (swept.sessions, swept.messages, swept.more) == (0, 4, False)
        assert count(path) == 2
        assert run_sql(path, "SELECT DISTINCT message_count FROM turnkeep_sessions ORDER BY 1") == [(0,), (1,)]
        assert [message.content for message in (await adapter.load(keys[0], LoadQuery())).messages] == ["kept"]
        clock.advance(timedelta(days=2))
        swept = await adapter.sweep(10)
        assert (swept.sessions, swept.messages, swept.more) == (2, 2, False)
        assert run_sql(path, "SELECT count(*) FROM turnkeep_commits") == [(3,)]


async def test_counts_apply_marks_and_scope(path, clock):
    async with opened(path, clock=clock) as adapter:
        scope = Scope("n")
        await adapter.commit(new_commit(new_key(scope, "a"), "12345", user_id="u", message_ttl=MINUTE, data="{ }"))
        await adapter.commit(new_commit(new_key(scope, "b"), "é"))
        before = await adapter.stats(StatsQuery(scope))
        assert (before.messages, before.bytes) == (2, 3 + 2 + 5 + 2 + 2 + 2)
        clock.advance(61)
        after = await adapter.stats(StatsQuery(scope))
        assert (after.messages, after.bytes) == (1, before.bytes - 5)
        assert (await adapter.stats(StatsQuery(Scope("n", "u")))).sessions == 1
        assert (await adapter.stats(StatsQuery(Scope("n", None)))).messages == 1
        assert (await adapter.stats(StatsQuery(Scope("n", "nobody")))).oldest is None
