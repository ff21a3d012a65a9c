"""Which documents there are after each thing that can happen to a session, and that nothing else is touched."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

import turnkeep_opensearch
from turnkeep.contract import Expect, LoadQuery, Scope, StatsQuery
from turnkeep.errors import SessionNotFound
from turnkeep_opensearch.names import RECORD
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import ask, everything, opened

HOUR = timedelta(hours=1)


@pytest.fixture
def clock():
    return FakeClock()


async def counts(client, names):
    """How many heads and message documents a raw scan finds, and that there is nothing else."""
    found = await everything(client, names)
    assert found["sessions"].pop(RECORD).keys() == {"version", "after"}
    return len(found["sessions"]), len(found["messages"])


async def only_head(client, names):
    found = (await everything(client, names))["sessions"]
    del found[RECORD]
    (head,) = found.values()
    return head


async def talk(adapter, key, turns, **fields):
    for _ in range(turns):
        await adapter.commit(new_commit(key, "question", "answer", expect=Expect.ANY, **fields))


async def test_a_session_is_a_head_and_its_older_messages(cluster_url, names, client, clock):
    async with opened(cluster_url, names, clock=clock) as adapter:
        key = new_key()
        assert await counts(client, names) == (0, 0)
        await adapter.commit(new_commit(key))
        await talk(adapter, key, 8)
        assert await counts(client, names) == (1, 0)
        await talk(adapter, key, 1)
        assert await counts(client, names) == (1, 16)
        await talk(adapter, key, 40)
        assert await counts(client, names) == (1, 96)
        head = await only_head(client, names)
        assert (head["flushed"], head["waiting"]) == (96, 2)
        assert 50 <= len(head["tail"]) <= 52
        assert len(head["recent"]) == 32


async def test_after_clearing_a_sweep_leaves_what_is_new(cluster_url, names, client, clock):
    async with opened(cluster_url, names, clock=clock) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key))
        await talk(adapter, key, 20)
        await adapter.commit(new_commit(key, "new", expect=Expect.ANY, drop_history=True))
        swept = await adapter.sweep(10)
        assert (swept.sessions, swept.messages, swept.more) == (0, 32, False)
        assert await counts(client, names) == (1, 0)
        assert [message.content for message in (await adapter.load(key, LoadQuery())).messages] == ["new"]
        assert (await adapter.sweep(10)).messages == 0


async def test_messages_that_left_by_age_are_swept(cluster_url, names, client, clock):
    async with opened(cluster_url, names, clock=clock) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key))
        await talk(adapter, key, 20, message_ttl=HOUR)
        before = await adapter.stats(StatsQuery(key.scope))
        clock.advance(2 * HOUR)
        after = await adapter.stats(StatsQuery(key.scope))
        assert (before.messages, after.messages, before.bytes - after.bytes) == (40, 0, 20 * len("questionanswer"))
        await adapter.sweep(10)
        assert await counts(client, names) == (1, 0)
        head = await only_head(client, names)
        found = (head["tail"], head["message_count"], head["floor"], head["sweep_at"], head["waiting"])
        assert found == ([], 0, 40, None, 0)
        assert await adapter.stats(StatsQuery(key.scope)) == after
        await talk(adapter, key, 1)
        assert [m.seq for m in (await adapter.load(key, LoadQuery())).messages] == [41, 42]


@pytest.mark.parametrize("how", ["delete", "delete_owner", "expiry", "created over"])
async def test_nothing_remains_of_a_session_that_is_gone(cluster_url, names, client, clock, how):
    async with opened(cluster_url, names, clock=clock) as adapter:
        scope = Scope("kit")
        gone = [new_key(scope, f"gone {number}") for number in range(3)]
        other = new_key(scope, "other")
        for key in (*gone, other):
            await adapter.commit(new_commit(key, user_id="bob" if key == other else "ana"))
            await talk(adapter, key, 20, ttl=HOUR if how in {"expiry", "created over"} and key != other else None)
        assert await counts(client, names) == (4, 4 * 32)
        if how == "delete":
            assert all([await adapter.delete(key) for key in gone])
        elif how == "delete_owner":
            await talk(adapter, gone[0], 1)  # not refreshed: erasing must not miss what searches do not find yet
            erased = await adapter.delete_owner(Scope("kit", "ana"))
            assert (erased.sessions, erased.messages) == (3, 122)
        elif how == "expiry":
            clock.advance(2 * HOUR)
            assert (await adapter.sweep(2)).more
            assert not (await adapter.sweep(2)).more
        else:
            clock.advance(2 * HOUR)
            for key in gone:
                assert (await adapter.commit(new_commit(key))).token.version == 1
            assert await counts(client, names) == (4, 32)
            assert all([await adapter.delete(key) for key in gone])
        assert await counts(client, names) == (1, 32)
        assert (await adapter.load(other, LoadQuery())).head.message_count == 40


async def test_an_owner_is_erased_whole_though_nothing_was_ever_refreshed(cluster_url, names, client, clock):
    async with opened(cluster_url, names, clock=clock) as adapter:
        keys = [new_key(Scope("kit", "ana")) for _ in range(5)]
        for key in keys:
            await adapter.commit(new_commit(key, "x", user_id="ana"))
        assert (await adapter.delete_owner(Scope("kit", "ana"))).sessions == 5
        assert await counts(client, names) == (0, 0)


async def test_nothing_outside_our_indices_is_touched(cluster_url, names, client, clock):
    foreign = f"{names['sessions']}_customers"
    await ask(client, "PUT", f"/{foreign}/_doc/1", {"namespace": "kit", "user_id": "ana"}, refresh="true")
    async with opened(cluster_url, names, clock=clock) as adapter:
        key = new_key(Scope("kit"), "a")
        await adapter.commit(new_commit(key, ttl=HOUR, user_id="ana"))
        await talk(adapter, key, 10, ttl=HOUR)
        await adapter.commit(new_commit(key, expect=Expect.ANY, drop_history=True, ttl=HOUR))
        await adapter.sweep(10)
        clock.advance(2 * HOUR)
        await adapter.sweep(10)
        await adapter.delete_owner(Scope("kit", "ana"))
        await adapter.migrate()
        await adapter.check()
    assert (await ask(client, "GET", f"/{foreign}/_count"))["count"] == 1
    assert await counts(client, names) == (0, 0)


def test_nothing_here_removes_an_index():
    package = Path(turnkeep_opensearch.__file__).parent
    source = "".join(file.read_text() for file in package.rglob("*.py"))
    assert not re.search(r'"DELETE"|_by_query|indices\\.delete', source)


async def test_a_flush_that_comes_too_late_leaves_nothing(cluster_url, names, client, monkeypatch):
    """Its session is deleted between the writing of the documents and the commit."""
    async with opened(cluster_url, names) as adapter, opened(cluster_url, names) as other:
        for begin_anew in (False, True):
            key = new_key()
            await adapter.commit(new_commit(key))
            await talk(adapter, key, 8)
            insert = adapter._open.store._messages.insert

            async def late(head, items, key=key, insert=insert, begin_anew=begin_anew):
                assert await other.delete(key)
                if begin_anew:
                    await other.commit(new_commit(key, "new life"))
                await insert(head, items)

            monkeypatch.setattr(adapter._open.store._messages, "insert", late)
            if begin_anew:
                await adapter.commit(new_commit(key, "late", expect=Expect.ANY))
            else:
                with pytest.raises(SessionNotFound):
                    await adapter.commit(new_commit(key, "late", expect=Expect.ANY))
            monkeypatch.setattr(adapter._open.store._messages, "insert", insert)
            assert await counts(client, names) == (int(begin_anew), 0)


async def test_what_no_head_knows_of_is_swept(cluster_url, names, client, clock):
    """A writer that was killed after it flushed for a session deleted meanwhile; a head that somebody removed."""
    async with opened(cluster_url, names, clock=clock) as adapter:
        keys = [new_key(Scope("kit"), f"s{number}") for number in range(3)]
        for key in keys:
            await adapter.commit(new_commit(key))
            await talk(adapter, key, 20)
        await ask(client, "DELETE", f"/{names['sessions']}/_doc/kit%2Fs0")
        documents = (await everything(client, names))["messages"].values()
        stray = next(document for document in documents if document["session_id"] == "s1")
        for seq in range(40):
            path = f"/{names['messages']}/_doc/a-former-life%23{seq:010d}"
            await ask(client, "PUT", path, stray | {"incarnation": "a-former-life", "seq": seq})
        assert await counts(client, names) == (2, 96 + 40)
        for _ in range(10):  # a few documents at a time, on and on
            await adapter.sweep(1)
        assert await counts(client, names) == (2, 64)
        for key in keys[1:]:
            assert len((await adapter.load(key, LoadQuery())).messages) == 40


async def test_a_grave_is_no_session(cluster_url, names, client, clock, monkeypatch):
    """A deleter that was killed between the head and its messages."""
    async with opened(cluster_url, names, clock=clock) as adapter, opened(cluster_url, names, clock=clock) as killed:

        async def die(grave):
            raise asyncio.CancelledError

        monkeypatch.setattr(killed._open.store, "clear", die)

        async def leave_a_grave(key):
            await adapter.commit(new_commit(key, user_id=None))
            await talk(adapter, key, 20)
            with pytest.raises(BaseException):  # noqa: B017, PT011 - of whatever kind
                await killed.delete(key)
            assert await counts(client, names) == (1, 32)

        for owner in (None, "ana"):
            key = new_key(Scope("kit", owner), f"of {owner}")
            await leave_a_grave(new_key(Scope("kit"), key.session_id))
            assert await adapter.load(key, LoadQuery()) is None
            assert (await adapter.stats(StatsQuery(Scope("kit")))).sessions == 0
            with pytest.raises(SessionNotFound):
                await adapter.commit(new_commit(key, "late", expect=Expect.ANY))
            assert await counts(client, names) == (0, 0)  # who comes along completes it
        key = new_key(Scope("kit"), "deleted again")
        await leave_a_grave(key)
        assert await adapter.delete(key) is False
        assert await counts(client, names) == (0, 0)
        await leave_a_grave(key)
        assert (await adapter.sweep(10)).messages == 32
        assert await counts(client, names) == (0, 0)
        await leave_a_grave(key)
        assert (await adapter.commit(new_commit(key, "new"))).created
        assert await counts(client, names) == (1, 0)


async def test_sweeps_beside_commits_lose_nothing(cluster_url, names):
    async with opened(cluster_url, names) as adapter, opened(cluster_url, names) as other:
        key = new_key()
        await adapter.commit(new_commit(key))
        done = asyncio.Event()

        async def sweep():
            while not done.is_set():
                await other.sweep(10)

        sweeping = asyncio.create_task(sweep())
        for number in range(60):
            drop = number % 20 == 19
            await adapter.commit(new_commit(key, str(number), expect=Expect.ANY, drop_history=drop, message_ttl=HOUR))
        done.set()
        await sweeping
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages] == ["59"]
        assert stored.head.last_seq == 60
