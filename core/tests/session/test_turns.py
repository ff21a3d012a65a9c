"""session.turn(): one atomic commit, or nothing; what joins it."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

import turnkeep
from turnkeep import (
    CommitIdReused,
    InvalidArgument,
    SessionConflict,
    SessionExists,
    SessionNotFound,
    TurnInProgress,
    create_session,
)

kit = sys.modules["turnkeep_core_test_kit"]


def contents(messages):
    return [message.content for message in messages]


async def history(persistence, session_id="s"):
    return contents(await persistence.load_session_history(session_id))


@pytest.fixture
async def session(live):
    session = live(session_id="s")
    await session.add_message("user", "before")
    await session.set_data({"a": 1})
    return session


# -- one commit, or nothing ------------------------------------------------------------------------------------------


async def test_a_turn_is_one_load_and_one_commit(session, persistence, adapter):
    adapter.calls.clear()
    async with session.turn() as turn:
        turn.add_message("user", "q")
        turn.set_data({"b": 2})
        turn.add_message("assistant", "r")
        assert contents(turn.state.history) == contents(session.get_history()) == ["before", "q", "r"]
        assert session.data == {"a": 1, "b": 2}
        assert not turn.replayed
    assert adapter.calls == ["load", "commit"]
    assert await history(persistence) == ["before", "q", "r"]
    assert len({m.commit_id for m in session.get_history()[1:]}) == 1
    assert session.current == await persistence.load_session_state("s")


async def test_a_turn_on_an_absent_session_creates_it(live, persistence, adapter):
    session = live()
    async with session.turn() as turn:
        turn.add_message("user", "first")
        assert await persistence.find_session_by_id(session.id)
    assert adapter.calls == ["load", "commit"]
    assert await history(persistence, session.id) == ["first"]
    assert session.current == await persistence.load_session_state(session.id)


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, KeyboardInterrupt])
async def test_raising_leaves_nothing(session, persistence, adapter, error):
    before = session.current
    with pytest.raises(error):  # noqa: PT012 - raised in the block, or by leaving it
        async with session.turn() as turn:
            turn.add_message("user", "x")
            turn.set_data({"b": 1})
            await persistence.save_message("s", "user", "joined")
            await persistence.complete_session("s")
            await persistence.update_route_step("s", route="r")
            raise error
    assert session.current == before == await persistence.load_session_state("s")
    async with session.turn() as turn:
        turn.add_message("user", "next")
    assert await history(persistence) == ["before", "next"]


async def test_raising_on_an_absent_session_creates_nothing(live, persistence):
    session = live(session_id="s")
    with pytest.raises(RuntimeError):  # noqa: PT012 - raised in the block, or by leaving it
        async with session.turn() as turn:
            turn.add_message("user", "x")
            raise RuntimeError
    assert await persistence.find_session_by_id("s") is None
    with pytest.raises(turnkeep.SessionNotLoaded):
        _ = session.current


async def test_a_failed_commit_leaves_memory_as_it_was(session, persistence, adapter):
    before = session.current
    adapter.faults["commit"] = [kit.down]
    with pytest.raises(turnkeep.StorageUnavailable):
        async with session.turn() as turn:
            turn.add_message("user", "x")
    assert session.current == before == await persistence.load_session_state("s")


async def test_somebody_elses_commit_meanwhile_is_a_conflict_and_nothing_is_written(session, live):
    other = live(session_id="s")
    before = session.current
    with pytest.raises(SessionConflict):  # noqa: PT012 - raised in the block, or by leaving it
        async with session.turn() as turn:
            turn.add_message("user", "mine")
            await asyncio.create_task(other.add_message("user", "theirs"), context=__import__("contextvars").Context())
    assert session.current == before
    await session.get_or_create()
    assert contents(session.get_history()) == ["before", "theirs"]


async def test_an_ended_turn_takes_nothing_more(session, persistence):
    async with session.turn() as turn:
        turn.add_message("user", "x")
    for call in (lambda: turn.add_message("user", "late"), lambda: turn.set_data({"late": 1})):
        with pytest.raises(InvalidArgument):
            call()
    assert await history(persistence) == ["before", "x"]
    assert contents(turn.state.history) == ["before", "x"]


async def test_a_turn_reads_the_store_anew(session, persistence):
    await persistence.update_collected_data("s", {"theirs": 1})
    await persistence.save_message("s", "user", "theirs")
    async with session.turn() as turn:
        assert turn.state.data == {"a": 1, "theirs": 1}
        turn.add_message("user", "mine")
    assert contents(session.get_history()) == ["before", "theirs", "mine"]


# -- replay ----------------------------------------------------------------------------------------------------------


async def test_a_repeated_commit_id_is_replayed_and_stores_nothing(session, persistence):
    for attempt in range(2):
        async with session.turn(commit_id="once") as turn:
            assert turn.replayed is bool(attempt)
            turn.add_message("user", "x")
            turn.set_data({"x": 1})
    assert await history(persistence) == ["before", "x"]
    assert contents(session.get_history()) == ["before", "x"]
    assert session.current == await persistence.load_session_state("s")


async def test_replay_from_another_manager_after_others_wrote(session, live, persistence):
    async with session.turn(commit_id="once") as turn:
        turn.add_message("user", "x")
    await persistence.save_message("s", "user", "later")
    other = live(session_id="s")
    async with other.turn(commit_id="once") as turn:
        assert turn.replayed
        turn.add_message("user", "x")
    assert await history(persistence) == ["before", "x", "later"]
    assert other.current == await persistence.load_session_state("s")


async def test_replay_of_a_turn_that_created(live, persistence):
    for _ in range(2):
        session = live(session_id="s")
        async with session.turn(commit_id="once") as turn:
            turn.add_message("user", "x")
    assert await history(persistence) == ["x"]
    assert turn.replayed


async def test_a_commit_id_of_another_request_is_reused(session, persistence):
    agent = turnkeep.Agent(
        name="x", provider=turnkeep.providers.GuidedProvider(), persistence=persistence, session_id="s"
    )
    await agent.respond("hello", commit_id="once")
    with pytest.raises(CommitIdReused):
        async with session.turn(commit_id="once") as turn:
            turn.add_message("user", "x")
    async with session.turn() as turn:
        turn.add_message("user", "the gate is open")


async def test_the_commit_id_is_that_of_the_messages(session):
    async with session.turn(commit_id="mine") as turn:
        turn.add_message("user", "x")
    assert session.get_history()[-1].commit_id == "mine"


# -- gate ------------------------------------------------------------------------------------------------------------


async def test_a_nested_turn_is_refused(session, live):
    async with session.turn() as turn:
        turn.add_message("user", "outer")
        for other in (session, live(session_id="s")):
            with pytest.raises(TurnInProgress):
                async with other.turn():
                    pass
        elsewhere = live(session_id="elsewhere")
        async with elsewhere.turn() as inner:
            inner.add_message("user", "elsewhere")
    assert contents(session.get_history()) == ["before", "outer"]
    assert contents(elsewhere.get_history()) == ["elsewhere"]


async def outside(coroutine):
    """Runs it as code that is not part of the turn."""
    import contextvars

    return await asyncio.create_task(coroutine, context=contextvars.Context())


async def test_a_second_turn_of_another_task_is_refused_at_once(session, live, persistence):
    async def second():
        async with live(session_id="s").turn() as turn:
            turn.add_message("user", "second")

    async with session.turn() as turn:
        turn.add_message("user", "first")
        with pytest.raises(SessionConflict):
            await outside(second())
    await second()
    assert await history(persistence) == ["before", "first", "second"]


async def test_a_second_with_the_same_commit_id_waits_and_is_replayed(session, live, persistence):
    async def second():
        async with live(session_id="s").turn(commit_id="once") as turn:
            turn.add_message("user", "x")
        return turn.replayed

    async with session.turn(commit_id="once") as turn:
        turn.add_message("user", "x")
        waiting = asyncio.create_task(second(), context=__import__("contextvars").Context())
        await asyncio.sleep(0.005)
        assert not waiting.done()
    assert await waiting is True
    assert await history(persistence) == ["before", "x"]


async def test_a_waiting_turn_that_is_cancelled_leaves_the_gate_open(session, live):
    async def second():
        async with live(session_id="s").turn(commit_id="once"):
            pass

    async with session.turn(commit_id="once") as turn:
        turn.add_message("user", "x")
        waiting = asyncio.create_task(second(), context=__import__("contextvars").Context())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with session.turn() as turn:
        turn.add_message("user", "y")
    assert session.persistence._gateway.gates._gates == {}


async def test_a_turn_that_fails_to_begin_leaves_the_gate_open(session, adapter):
    adapter.faults["load"] = [kit.down]
    with pytest.raises(turnkeep.StorageUnavailable):
        async with session.turn():
            pass
    async with session.turn() as turn:
        turn.add_message("user", "x")
    assert session.persistence._gateway.gates._gates == {}


# -- joining ---------------------------------------------------------------------------------------------------------


async def test_calls_inside_see_what_is_staged_and_share_its_fate(session, live, persistence, adapter):
    other = live(session_id="s")
    async with session.turn() as turn:
        adapter.calls.clear()
        turn.add_message("user", "staged")
        await persistence.update_collected_data("s", {"b": 2})
        await persistence.save_message("s", "assistant", "from persistence")
        await other.add_message("system", "from another manager")
        await other.set_data({"c": 3})
        await session.set_data({"a": turnkeep.UNSET})
        await persistence.update_route_step("s", route="booking", step="name")
        await persistence.complete_session("s")
        record = await persistence.find_session_by_id("s")
        state = await persistence.load_session_state("s")
        assert record.data == state.data == other.data == session.data == turn.state.data == {"b": 2, "c": 3}
        assert (record.status, record.message_count, record.current_route) == ("completed", 4, "booking")
        seen = ["before", "staged", "from persistence", "from another manager"]
        assert contents(state.history) == contents(other.get_history()) == await history(persistence) == seen
        assert contents((await persistence.find_messages_by_session_id("s")).items) == seen
        assert (await other.get_or_create()).data == {"b": 2, "c": 3}
        assert adapter.calls == []
        assert (await persistence.find_sessions()).items[0].message_count == 1, "lists show what is committed"
        assert (await persistence.find_sessions(status="completed")).items == ()
        assert (await persistence.stats()).messages == 1
    assert await history(persistence) == seen
    record = await persistence.find_session_by_id("s")
    assert (record.status, record.data, record.current_step) == ("completed", {"b": 2, "c": 3}, "name")
    assert record.completed_at is not None
    assert adapter.count("commit") == 1


async def test_pages_inside_a_turn_are_whole(session, persistence):
    for n in range(3):
        await persistence.save_message("s", "user", str(n))
    find = persistence.find_messages_by_session_id
    async with session.turn() as turn:
        for text in ("staged 1", "staged 2", "staged 3"):
            turn.add_message("user", text)
        expected = ["before", "0", "1", "2", "staged 1", "staged 2", "staged 3"]
        for limit in (1, 2, 3, 5, 7, 50):
            assert sorted([m.content async for m in await find("s", limit=limit)]) == sorted(expected), limit
            assert [m.content async for m in await find("s", limit=limit, after=0)] == expected, limit


async def test_history_not_loaded_with_the_turn_is_read_inside_it(live, persistence):
    await persistence.save_session_state("s", create_session("s"))
    for n in range(5):
        await persistence.save_message("s", "user", str(n))
    session = live(session_id="s", window=1)
    async with session.turn() as turn:
        turn.add_message("user", "new")
        assert contents(session.get_history()) == ["4", "new"]
        assert await history(persistence) == ["0", "1", "2", "3", "4", "new"]
        assert (await persistence.find_session_by_id("s")).message_count == 6
        assert session.has_more
    assert session.has_more


async def test_the_seeds_context_synchronisation_inside_a_turn(session, persistence):
    async with session.turn() as turn:
        turn.add_message("user", "hello")
        loaded = await persistence.load_session_state("s")
        preferences = (loaded.data if loaded else {}).get("preferences", {})
        assert preferences == {}
        await persistence.update_collected_data("s", {"preferences": {"theme": "dark"}})
        turn.add_message("assistant", "hi")
    assert session.data == {"a": 1, "preferences": {"theme": "dark"}}
    assert await history(persistence) == ["before", "hello", "hi"]


async def test_saving_a_state_inside_a_turn(session, persistence):
    stale = await persistence.load_session_state("s")
    await persistence.update_collected_data("s", {"theirs": 1})
    async with session.turn() as turn:
        with pytest.raises(SessionConflict):
            await persistence.save_session_state("s", stale.replace(data={"mine": 1}))
        with pytest.raises(SessionExists):
            await persistence.save_session_state("s", create_session("s", data={"other": 1}))
        turn.add_message("user", "staged")
        state = await persistence.load_session_state("s")
        saved = await persistence.save_session_state(
            "s", state.replace(data={**state.data, "x": 1}, history=[*state.history, turnkeep.Message("user", "more")])
        )
        assert saved.data == {"a": 1, "theirs": 1, "x": 1}
    assert session.data == {"a": 1, "theirs": 1, "x": 1}
    assert await history(persistence) == ["before", "staged", "more"]


async def test_what_cannot_be_part_of_a_turn_is_refused(session, live, persistence, adapter):
    before = await persistence.load_session_state("s")
    async with session.turn() as turn:
        turn.add_message("user", "x")
        adapter.calls.clear()
        for call in (
            lambda: persistence.delete_session("s"),
            lambda: persistence.claim_session("s", "ana"),
            lambda: persistence.delete_sessions(status="active"),
            lambda: persistence.erase_user("ana"),
            session.delete,
            session.reset,
            session.clear_history,
            lambda: session.set_history([]),
            lambda: live(session_id="s").delete(),
            lambda: live(session_id="s").clear_history(),
        ):
            with pytest.raises(TurnInProgress):
                await call()
        assert adapter.calls == []
        await persistence.save_session_state("t", create_session("t"))
        assert await persistence.delete_session("t") is True
    assert await history(persistence) == [*contents(before.history), "x"]


async def test_another_owner_does_not_join(adapter, connect, persistence):
    ana = turnkeep.SessionManager(persistence, session_id="s", user_id="ana")
    bob = await connect(adapter, user_id="bob")
    async with ana.turn() as turn:
        turn.add_message("user", "secret")
        assert await bob.find_session_by_id("s") is None
        with pytest.raises(SessionNotFound):
            await bob.save_message("s", "user", "x")
        with pytest.raises(SessionNotFound):
            await bob.load_session_history("s")


async def test_another_namespace_does_not_join(adapter, connect, session):
    other = await connect(adapter, namespace="other")
    async with session.turn() as turn:
        turn.add_message("user", "x")
        assert await other.find_session_by_id("s") is None


async def test_another_persistence_on_the_same_adapter_joins(adapter, connect, session, persistence):
    other = await connect(adapter)
    async with session.turn() as turn:
        turn.add_message("user", "x")
        await other.save_message("s", "user", "y")
    assert await history(persistence) == ["before", "x", "y"]


async def test_tasks_made_inside_join_and_late_ones_write_for_themselves(session, persistence):
    done = asyncio.Event()

    async def early():
        await persistence.save_message("s", "user", "early")

    async def late():
        await done.wait()
        await persistence.save_message("s", "user", "late")
        await persistence.update_collected_data("s", {"late": 1})
        return await persistence.load_session_state("s")

    async with session.turn() as turn:
        turn.add_message("user", "x")
        task = asyncio.create_task(late())
        await asyncio.create_task(early())
    done.set()
    state = await task
    assert contents(state.history) == ["before", "x", "early", "late"]
    assert state.data == {"a": 1, "late": 1}
    assert await history(persistence) == ["before", "x", "early", "late"]


async def test_late_tasks_of_a_dropped_turn_write_for_themselves(session, persistence):
    done = asyncio.Event()

    async def late():
        await done.wait()
        await persistence.save_message("s", "user", "late")

    with pytest.raises(RuntimeError):  # noqa: PT012 - raised in the block, or by leaving it
        async with session.turn() as turn:
            turn.add_message("user", "x")
            task = asyncio.create_task(late())
            raise RuntimeError
    done.set()
    await task
    assert await history(persistence) == ["before", "late"]


async def test_a_turn_does_not_leak_into_the_caller(session, persistence):
    from turnkeep.turn import open_turns

    async with session.turn():
        assert len(open_turns()) == 1
    assert open_turns() == ()
    await persistence.save_message("s", "user", "x")
    assert await history(persistence) == ["before", "x"]


async def test_joined_writes_of_a_replayed_turn_are_not_stored(session, persistence):
    for _ in range(2):
        async with session.turn(commit_id="once") as turn:
            turn.add_message("user", "x")
            await persistence.save_message("s", "user", "y")
            await persistence.update_collected_data("s", {"n": 1})
    assert await history(persistence) == ["before", "x", "y"]


async def test_the_schema_of_an_agent_holds_in_a_turn_of_its_session(persistence):
    from pydantic import BaseModel

    class Booking(BaseModel):
        guests: int

    agent = turnkeep.Agent(
        name="x", provider=turnkeep.providers.GuidedProvider(), schema=Booking, persistence=persistence, session_id="s"
    )
    with pytest.raises(turnkeep.InvalidData):
        await agent.session.set_data({"guests": "many"})
    with pytest.raises(turnkeep.InvalidData):  # noqa: PT012 - raised in the block, or by leaving it
        async with agent.session.turn() as turn:
            turn.set_data({"guests": "many"})
            turn.set_data({"unknown": 1})
    assert await persistence.find_session_by_id("s") is None or (await persistence.find_session_by_id("s")).data == {}


async def test_a_turn_with_nothing_staged_writes_nothing(session, persistence, adapter):
    await persistence.complete_session("s")
    before = await persistence.load_session_state("s")
    async with session.turn():
        await persistence.find_session_by_id("s")
    assert await persistence.load_session_state("s") == before


async def test_a_turn_left_in_another_task_leaves_no_gate_closed(session):
    """An async fixture, or an exit stack that is closed elsewhere."""
    entering = session.turn()

    async def enter():
        turn = await entering.__aenter__()
        turn.add_message("user", "x")

    async def leave():
        await entering.__aexit__(None, None, None)

    await asyncio.create_task(enter())
    with contextlib.suppress(ValueError):
        await asyncio.create_task(leave())
    assert session.persistence._gateway.gates._gates == {}
