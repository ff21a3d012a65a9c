"""Deleting, erasing, sweeping, counting, checking, closing."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest

import turnkeep
from turnkeep import PersistenceClosed, create_session

kit = sys.modules["turnkeep_core_test_kit"]


async def fill(persistence, count, user="ana", prefix="s"):
    history = [{"role": "user", "content": "x"}] * 2
    for n in range(count):
        await persistence.save_session_state(
            f"{prefix}{n}", create_session(f"{prefix}{n}", user_id=user, history=history)
        )


async def test_deleting_removes_the_session_and_its_messages(memory, connect):
    persistence = await connect(memory)
    await fill(persistence, 2)
    assert await persistence.delete_session("s0") is True
    assert await persistence.delete_session("s0") is False
    found = memory.inner.snapshot()
    assert [row["id"] for row in found["sessions"]] == ["s1"]
    assert {row["session_id"] for row in found["messages"]} == {"s1"}


async def test_an_id_that_was_deleted_begins_anew(persistence):
    await fill(persistence, 1)
    old = await persistence.load_session_state("s0")
    await persistence.delete_session("s0")
    await fill(persistence, 1)
    new = await persistence.load_session_state("s0")
    assert [m.seq for m in new.history] == [1, 2]
    assert new._token.incarnation != old._token.incarnation


async def test_delete_sessions_removes_what_meets_every_condition_and_counts(persistence):
    await fill(persistence, 250)
    for n in range(0, 250, 2):
        await persistence.complete_session(f"s{n}")
    assert await persistence.delete_sessions(status="completed", user_id="bob") == 0
    assert await persistence.delete_sessions(status="completed", older_than=timedelta(days=1)) == 0
    assert await persistence.delete_sessions(status="completed") == 125
    assert await persistence.delete_sessions(status="completed") == 0
    stats = await persistence.stats()
    assert (stats.sessions, stats.messages, dict(stats.by_status)) == (125, 250, {"active": 125})
    assert await persistence.delete_sessions(user_id="ana") == 125


async def test_the_seeds_loop_over_old_sessions(memory, clock, connect):
    persistence = await connect(memory)
    await fill(persistence, 3)
    await persistence.complete_session("s0")
    clock.advance(timedelta(days=31))
    await persistence.complete_session("s1")
    for record in (
        await persistence.find_sessions_by_user_id("ana", status="completed", older_than=timedelta(days=30))
    ).items:
        await persistence.delete_session(record.id)
    assert sorted([r.id async for r in await persistence.find_sessions()]) == ["s1", "s2"]
    assert await persistence.delete_sessions(status="active", older_than=timedelta(days=30)) == 1


async def test_one_that_is_committed_to_meanwhile_is_left_alone(persistence, adapter):
    await fill(persistence, 3)

    async def touch():
        await persistence.save_message("s1", "user", "still here")

    adapter.faults["delete"] = [kit.cut(touch)]
    assert await persistence.delete_sessions(user_id="ana") == 2
    assert [r.id async for r in await persistence.find_sessions()] == ["s1"]


async def test_erase_user_removes_all_of_one_owner(memory, connect):
    persistence = await connect(memory)
    await fill(persistence, 5)
    await fill(persistence, 2, user="bob", prefix="b")
    await persistence.save_session_state("anon", create_session("anon"))
    erased = await persistence.erase_user("ana")
    assert (erased.sessions, erased.messages) == (5, 10)
    assert (await persistence.erase_user("ana")).sessions == 0
    found = memory.inner.snapshot()
    assert sorted(row["id"] for row in found["sessions"]) == ["anon", "b0", "b1"]
    assert len(found["messages"]) == 4


async def test_sweeping_goes_on_until_nothing_is_left(memory, clock, connect):
    persistence = await connect(memory, session_ttl=60)
    await fill(persistence, 1005)
    clock.advance(61)
    assert (await persistence.stats()).sessions == 0
    swept = await persistence.sweep()
    assert (swept.sessions, swept.messages, swept.more) == (1005, 2010, False)
    assert memory.count("sweep") == 2
    assert memory.inner.snapshot() == {"sessions": [], "messages": []}
    assert (await persistence.sweep()).sessions == 0


async def test_stats(persistence):
    await fill(persistence, 3)
    await persistence.complete_session("s0")
    await persistence.update_route_step("s1", route="booking")
    stats = await persistence.stats()
    assert (stats.sessions, stats.messages) == (3, 6)
    assert dict(stats.by_status) == {"active": 2, "completed": 1}
    assert dict(stats.by_route) == {None: 2, "booking": 1}
    assert dict(stats.by_agent) == {None: 3}
    assert stats.oldest <= stats.newest
    assert stats.bytes > 0


async def test_stats_of_an_empty_store(persistence):
    stats = await persistence.stats()
    assert (stats.sessions, stats.messages, stats.oldest, stats.newest) == (0, 0, None, None)


async def test_check(persistence):
    report = await persistence.check()
    assert report.ok, str(report)
    assert report.checks
    assert report.adapter == persistence.adapter.name
    assert str(report)


CALLS = {
    "find_session_by_id": lambda p: p.find_session_by_id("s"),
    "find_active_session_by_user_id": lambda p: p.find_active_session_by_user_id("ana"),
    "find_sessions_by_user_id": lambda p: p.find_sessions_by_user_id("ana"),
    "find_sessions": lambda p: p.find_sessions(),
    "find_messages_by_session_id": lambda p: p.find_messages_by_session_id("s"),
    "load_session_history": lambda p: p.load_session_history("s"),
    "save_message": lambda p: p.save_message("s", "user", "x"),
    "save_messages": lambda p: p.save_messages("s", [{"role": "user", "content": "x"}]),
    "load_session_state": lambda p: p.load_session_state("s"),
    "save_session_state": lambda p: p.save_session_state("s", create_session("s")),
    "update_collected_data": lambda p: p.update_collected_data("s", {}),
    "update_session_status": lambda p: p.update_session_status("s", "completed"),
    "complete_session": lambda p: p.complete_session("s"),
    "abandon_session": lambda p: p.abandon_session("s"),
    "update_route_step": lambda p: p.update_route_step("s", route="r"),
    "claim_session": lambda p: p.claim_session("s", "ana"),
    "delete_session": lambda p: p.delete_session("s"),
    "delete_sessions": lambda p: p.delete_sessions(status="active"),
    "erase_user": lambda p: p.erase_user("ana"),
    "sweep": lambda p: p.sweep(),
    "stats": lambda p: p.stats(),
    "check": lambda p: p.check(),
    "search_messages": lambda p: p.search_messages("x"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_of_a_closed_persistence_says_so(memory, call):
    persistence = await turnkeep.connect(memory)
    await persistence.aclose()
    with pytest.raises(PersistenceClosed):
        await CALLS[call](persistence)
    assert memory.calls == []


async def test_closing_twice_and_at_once_closes_once(memory):
    closed = []

    class Told:
        @turnkeep.hookimpl
        async def on_shutdown(self, persistence):
            await asyncio.sleep(0)
            closed.append(await persistence.find_session_by_id("s"))

    persistence = await turnkeep.connect(memory, plugins=[Told()])
    await asyncio.gather(persistence.aclose(), persistence.aclose())
    await persistence.aclose()
    assert closed == [None], "told once, while it still worked"


async def test_startup_is_told_once_before_anything_else(memory):
    told = []

    class Told:
        @turnkeep.hookimpl
        async def on_startup(self, persistence):
            told.append(("startup", await persistence.find_session_by_id("s")))

        @turnkeep.hookimpl
        def on_storage_operation(self, operation):
            told.append(operation)

    async with turnkeep.connect(memory, plugins=[Told()]) as persistence:
        await persistence.find_session_by_id("s")
    assert [item for item in told if item != "load"] == [("startup", None)]


async def test_a_live_session_of_a_closed_persistence_says_so(memory):
    persistence = await turnkeep.connect(memory)
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.get_or_create()
    await persistence.aclose()
    with pytest.raises(PersistenceClosed):
        await session.add_message("user", "x")
    assert session.get_history() == ()


async def test_closing_one_of_two_on_one_adapter_leaves_the_other_working(adapter):
    """One adapter with a bound persistence for a user, beside the application's own."""
    async with turnkeep.connect(adapter) as whole:
        async with turnkeep.connect(adapter, user_id="ana") as ana:
            await ana.save_session_state("s", create_session("s"))
        assert (await whole.find_session_by_id("s")).user_id == "ana"


async def test_calls_in_flight_end_before_it_closes(adapter):
    adapter.pauses = 5
    persistence = await turnkeep.connect(adapter)
    writing = asyncio.ensure_future(persistence.save_session_state("s", create_session("s")))
    await asyncio.sleep(0)
    await persistence.aclose()
    await writing
    async with turnkeep.connect(adapter) as again:
        assert await again.find_session_by_id("s")


async def test_an_error_opening_is_raised_and_the_next_call_tries_again(memory):
    tries = []

    class Shy(turnkeep.MemoryAdapter):
        async def open(self, *, auto_create=True):
            tries.append(auto_create)
            if len(tries) == 1:
                raise turnkeep.StorageUnavailable("not yet")

    connecting = turnkeep.connect(Shy(), auto_create=False)
    with pytest.raises(turnkeep.StorageUnavailable):
        await connecting
    async with connecting as persistence:
        assert await persistence.find_session_by_id("s") is None
    assert tries == [False, False]
