"""What happens at the same time, made to happen: one side holds a lock, the other waits for it in mid-statement.

A statement of READ COMMITTED that has waited sees the row it waited for as it is now and all others as they were when
it began. Each test holds one way in which that could go wrong.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest

from turnkeep.contract import Committed, Expect, HeadChange, LoadQuery
from turnkeep.errors import CommitIdReused, SessionConflict, SessionExists, SessionNotFound
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import count_rows, opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]


@pytest.fixture
def clock():
    return FakeClock()


@asynccontextmanager
async def two(schema, clock):
    """Two adapters over one store."""
    url = replaced(server_url(), application_name=schema)
    async with opened(url, schema=schema, clock=clock) as one, opened(url, schema=schema, clock=clock) as other:
        yield one, other


async def outcomes_of(schema, *calls):
    """How calls end that wait for the row of the same session, and go on in order."""
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}' AND wait_event_type = 'Lock'"
    tasks = []
    async with await psycopg.AsyncConnection.connect(server_url()) as holder:
        await holder.execute(f"SELECT 1 FROM {schema}.turnkeep_sessions FOR UPDATE")
        for call in calls:
            tasks.append(asyncio.create_task(call))
            for _ in range(2000):
                if run_sql(server_url(), waiting) == [(len(tasks),)]:
                    break
                assert not tasks[-1].done(), f"it did not wait: {tasks[-1]}"
                await asyncio.sleep(0.005)
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)


def texts(stored):
    return [message.content for message in stored.messages]


async def test_the_same_append_sent_twice_at_once_lands_once(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        commit = new_commit(key, "one", expect=Expect.ANY)
        first, second = await outcomes_of(schema, one.commit(commit), other.commit(commit))
        assert (first.replayed, second.replayed) == (False, True)
        assert first.token == second.token
        assert texts(await one.load(key, LoadQuery())) == ["zero", "one"]


async def test_a_commit_id_used_for_another_request_meanwhile_is_refused(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        commits = [
            new_commit(key, digest, expect=Expect.ANY, commit_id="same", digest=digest) for digest in ("d1", "d2")
        ]
        first, second = await outcomes_of(schema, one.commit(commits[0]), other.commit(commits[1]))
        assert isinstance(first, Committed)
        assert isinstance(second, CommitIdReused)
        assert texts(await one.load(key, LoadQuery())) == ["zero", "d1"]


async def test_of_two_swaps_the_second_conflicts_with_the_token_the_first_made(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        start = await one.commit(new_commit(key, "zero"))
        commits = [new_commit(key, text, expect=start.token, state=f'"{text}"') for text in ("a", "b")]
        first, second = await outcomes_of(schema, one.commit(commits[0]), other.commit(commits[1]))
        assert isinstance(second, SessionConflict)
        assert (second.expected, second.actual) == (start.token, first.token)
        stored = await one.load(key, LoadQuery())
        assert (texts(stored), stored.state) == (["zero", "a"], '"a"')


async def test_appends_that_waited_are_numbered_after_one_another(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        start = await one.commit(new_commit(key, "zero"))
        commits = [new_commit(key, *texts, expect=Expect.ANY, seen=start.token) for texts in (("a", "b"), ("c",))]
        first, second = await outcomes_of(schema, one.commit(commits[0]), other.commit(commits[1]))
        assert (first.contiguous, second.contiguous) == (True, False)
        assert (first.first_seq, first.last_seq, second.first_seq, second.message_count) == (2, 3, 4, 4)
        assert second.time > first.time, "the clock stands still, the time of commits rises"


async def test_a_commit_that_waited_for_a_delete_brings_nothing_back(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        start = await one.commit(new_commit(key, "zero"))
        for expects_any in (False, True):
            expect = Expect.ANY if expects_any else start.token
            deleted, late = await outcomes_of(
                schema, one.delete(key), other.commit(new_commit(key, "late", expect=expect))
            )
            assert deleted is True
            assert isinstance(late, SessionNotFound)
            assert count_rows(server_url(), schema, key) == 0
            start = await one.commit(new_commit(key, "zero"))


async def test_a_delete_that_waited_for_a_commit_removes_its_messages_too(schema, clock):
    """They were not there when the DELETE began: only the cascade of the foreign key can see them."""
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        done, deleted = await outcomes_of(
            schema, one.commit(new_commit(key, "one", "two", expect=Expect.ANY)), other.delete(key)
        )
        assert isinstance(done, Committed)
        assert deleted is True
        assert count_rows(server_url(), schema, key) == 0


async def test_a_delete_at_a_token_that_waited_for_a_commit_removes_nothing(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        start = await one.commit(new_commit(key, "zero"))
        done, refused = await outcomes_of(
            schema, one.commit(new_commit(key, "one", expect=Expect.ANY)), other.delete(key, expect=start.token)
        )
        assert isinstance(refused, SessionConflict)
        assert refused.actual == done.token
        assert texts(await one.load(key, LoadQuery())) == ["zero", "one"]


async def test_a_create_over_an_expired_session_that_was_renewed_meanwhile_is_refused(schema, clock):
    """The renewal began while the session lived; the create began after its time, and waited."""
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "old", ttl=timedelta(hours=1)))
        renewal = one.commit(new_commit(key, "renewed", expect=Expect.ANY, ttl=timedelta(days=9)))

        async def create_later():
            clock.advance(timedelta(hours=2))
            return await other.commit(new_commit(key, "new"))

        renewed, refused = await outcomes_of(schema, renewal, create_later())
        assert isinstance(renewed, Committed)
        assert isinstance(refused, SessionExists)
        assert texts(await one.load(key, LoadQuery())) == ["old", "renewed"]


async def test_of_two_creates_over_an_expired_session_one_wins(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "old", user_id="ana", ttl=timedelta(hours=1)))
        clock.advance(timedelta(hours=2))
        first, second = await outcomes_of(
            schema, one.commit(new_commit(key, "a", user_id="bob")), other.commit(new_commit(key, "b"))
        )
        assert isinstance(first, Committed)
        assert isinstance(second, SessionExists)
        stored = await one.load(key, LoadQuery())
        assert (texts(stored), stored.head.user_id, stored.head.token.version) == (["a"], "bob", 1)
        assert count_rows(server_url(), schema, key) == 3, "nothing of the former life"


async def test_a_claim_that_waited_for_another_finds_nothing(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        unowned = new_key(key.scope.__class__(key.scope.namespace, None), key.session_id)
        claims = [new_commit(unowned, expect=Expect.ANY, claim=user) for user in ("ana", "bob")]
        first, second = await outcomes_of(schema, one.commit(claims[0]), other.commit(claims[1]))
        assert isinstance(first, Committed)
        assert isinstance(second, SessionNotFound)
        assert (await one.load(key, LoadQuery())).head.user_id == "ana"


async def test_what_was_appended_while_a_history_was_dropped_is_swept(schema, clock):
    """The statement that drops cannot see messages that came while it waited; they are hidden, and then erased."""
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        _, dropped = await outcomes_of(
            schema,
            one.commit(new_commit(key, "unseen", expect=Expect.ANY)),
            other.commit(new_commit(key, "new", expect=Expect.ANY, drop_history=True)),
        )
        assert (dropped.first_seq, dropped.message_count) == (3, 1)
        assert texts(await one.load(key, LoadQuery())) == ["new"]
        await one.sweep(10)
        assert texts(await one.load(key, LoadQuery())) == ["new"]
        left = run_sql(server_url(), f"SELECT content FROM {schema}.turnkeep_messages ORDER BY seq")
        assert left == [("new",)]
        assert await one.sweep(10) == type(await one.sweep(10))(0, 0, more=False)


async def test_a_status_change_that_waited_keeps_what_came_before(schema, clock):
    async with two(schema, clock) as (one, other):
        key = new_key()
        await one.commit(new_commit(key, "zero"))
        await outcomes_of(
            schema,
            one.commit(new_commit(key, "one", expect=Expect.ANY, head=HeadChange(agent_name="Front desk"))),
            other.commit(new_commit(key, expect=Expect.ANY, head=HeadChange(status="completed"))),
        )
        head = (await one.load(key, LoadQuery())).head
        assert (head.agent_name, head.status, head.last_seq, head.token.version) == ("Front desk", "completed", 2, 3)
