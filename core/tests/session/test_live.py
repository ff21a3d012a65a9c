"""The live session, alone."""

from __future__ import annotations

import asyncio
import sys

import pytest
from pydantic import BaseModel

import turnkeep
from turnkeep import (
    UNSET,
    ConfigurationError,
    DataIncomplete,
    InvalidArgument,
    InvalidData,
    Message,
    NotSerializable,
    SessionConflict,
    SessionNotFound,
    SessionNotLoaded,
    StorageUnavailable,
    create_session,
    create_session_id,
)

kit = sys.modules["turnkeep_core_test_kit"]


class Booking(BaseModel):
    name: str
    guests: int
    note: str | None = None


def contents(session):
    return [message.content for message in session.get_history()]


async def stored(persistence, session_id="s"):
    return await persistence.load_session_state(session_id)


# -- loading ---------------------------------------------------------------------------------------------------------


async def test_a_session_that_was_never_loaded_says_so(live, adapter):
    session = live(session_id="s")
    assert session.id == "s"
    for read in (
        lambda: session.current,
        lambda: session.data,
        session.get_data,
        session.get_history,
        session.validate,
        lambda: session.has_more,
        lambda: session.get_data(Booking),
    ):
        with pytest.raises(SessionNotLoaded, match="get_or_create"):
            read()
    assert live().id is None
    assert adapter.calls == []


async def test_get_or_create_makes_the_session_in_the_store(live, persistence):
    session = live()
    state = await session.get_or_create("user-123")
    assert state == session.current
    assert (state.id, state.user_id, state.status, state.data, state.history) == ("user-123", None, "active", {}, ())
    assert (state.route_history, state.current_route, state.current_step) == ((), None, None)
    assert state.metadata.created_at == state.metadata.updated_at
    assert await persistence.find_session_by_id("user-123")
    assert (await session.get_or_create()).id == "user-123"
    assert await session.get_or_create("user-123") == state


async def test_get_or_create_without_an_id_makes_one(live, persistence):
    session = live()
    state = await session.get_or_create()
    assert state.id.startswith("session_")
    assert len(state.id) == len("session_") + 32
    assert session.id == state.id
    assert (await session.get_or_create()).id == state.id
    assert await persistence.find_session_by_id(state.id)
    assert create_session_id("chat").startswith("chat_")
    assert create_session_id() != create_session_id()


async def test_another_id_is_another_session_and_writes_go_there(live, persistence):
    """D7: the original's next message went to the configured session."""
    session = live(session_id="one")
    await session.add_message("user", "a")
    await session.get_or_create("two")
    await session.add_message("user", "b")
    await session.set_data({"x": 2})
    assert (session.id, contents(session)) == ("two", ["b"])
    assert [m.content for m in await persistence.load_session_history("one")] == ["a"]
    assert (await persistence.find_session_by_id("one")).data == {}


async def test_loading_an_existing_session_costs_one_call_and_creating_two(live, adapter):
    await live().get_or_create("s")
    assert adapter.calls == ["load", "commit"]
    adapter.calls.clear()
    await live(session_id="s").get_or_create()
    assert adapter.calls == ["load"]


async def test_it_reads_the_store_anew(live, persistence):
    session = live(session_id="s")
    await session.get_or_create()
    await persistence.save_message("s", "user", "x")
    await persistence.update_collected_data("s", {"a": 1})
    assert session.get_history() == ()
    await session.get_or_create()
    assert (contents(session), session.data) == (["x"], {"a": 1})


async def test_a_failed_load_leaves_what_was_there(live, adapter):
    session = live(session_id="s")
    await session.add_message("user", "x")
    for fault in (kit.down,):
        adapter.faults["load"] = [fault, fault]
        with pytest.raises(StorageUnavailable):
            await session.get_or_create()
        with pytest.raises(StorageUnavailable):
            await session.get_or_create("other")
    assert (session.id, contents(session)) == ("s", ["x"])


async def test_of_two_creators_at_once_both_get_the_one_session(live, persistence, adapter):
    adapter.pauses = 2
    sessions = [live(session_id="s") for _ in range(6)]
    states = await asyncio.gather(*(session.get_or_create() for session in sessions))
    assert len({state._token for state in states}) == 1
    assert (await stored(persistence))._token.version == 1
    await asyncio.gather(*(session.add_message("user", str(n)) for n, session in enumerate(sessions)))
    assert len(await persistence.load_session_history("s")) == 6


async def test_of_two_first_messages_at_once_both_land(live, persistence, adapter):
    """D4: the first message of every new session was rejected."""
    adapter.pauses = 2
    sessions = [live(session_id="s") for _ in range(5)]
    added = await asyncio.gather(*(session.add_message("user", str(n)) for n, session in enumerate(sessions)))
    history = await persistence.load_session_history("s")
    assert sorted(m.content for m in history) == list("01234")
    assert {m.id: m.seq for m in added} == {m.id: m.seq for m in history}


async def test_owners(adapter, connect, persistence):
    ana = await connect(adapter, user_id="ana")
    await turnkeep.SessionManager(ana, session_id="s").get_or_create()
    assert (await persistence.find_session_by_id("s")).user_id == "ana"
    same = turnkeep.SessionManager(persistence, session_id="s", user_id="ana")
    assert (await same.get_or_create()).user_id == "ana"
    with pytest.raises(ConfigurationError):
        turnkeep.SessionManager(ana, user_id="bob")
    with pytest.raises(turnkeep.SessionExists):
        await turnkeep.SessionManager(persistence, session_id="s", user_id="bob").get_or_create()


# -- history ---------------------------------------------------------------------------------------------------------


async def test_added_messages_are_stored_in_order_with_their_fields(live, persistence):
    session = live(session_id="s")
    first = await session.add_message("user", "Hello")
    second = await session.add_message("assistant", "Hi!", name="Ana", metadata={"m": 1}, event={"e": [1]})
    assert (first.seq, second.seq) == (1, 2)
    assert session.get_history() == (first, second)
    assert isinstance(session.get_history(), tuple)
    assert await persistence.load_session_history("s") == (first, second)
    assert (await stored(persistence)) == session.current


async def test_a_message_after_the_first_is_one_call_whatever_the_history(live, adapter):
    session = live(session_id="s")
    await session.add_message("user", "x")
    adapter.calls.clear()
    for _ in range(5):
        await session.add_message("user", "x")
    assert adapter.calls == ["commit"] * 5


@pytest.mark.parametrize("fields", [{"seq": 1}, {"commit_id": "x"}, {"extra": 1}, {"_reply": "x"}], ids=str)
async def test_what_the_store_gives_and_unknown_fields_are_refused(live, adapter, fields):
    session = live(session_id="s")
    with pytest.raises(InvalidArgument):
        await session.add_message("user", "x", **fields)
    with pytest.raises(InvalidArgument):
        await session.set_history([{"role": "user", "content": "x", **fields}])
    async with session.turn() as turn:
        with pytest.raises(InvalidArgument):
            turn.add_message("user", "x", **fields)
    assert (await session.get_or_create()).history == ()


async def test_set_history_replaces_is_stored_and_gets_new_numbers(live, persistence):
    session = live(session_id="s")
    for text in "ab":
        await session.add_message("user", text)
    old = session.get_history()
    await session.set_history([{"role": "user", "content": "Previous"}, Message("assistant", "yes"), old[1]])
    assert [(m.seq, m.content) for m in session.get_history()] == [(3, "Previous"), (4, "yes"), (5, "b")]
    assert session.get_history()[2].id != old[1].id
    assert (await stored(persistence)).history == session.get_history()
    assert (await persistence.find_session_by_id("s")).message_count == 3
    await session.add_message("user", "more")
    assert session.get_history()[-1].seq == 6
    assert not session.has_more
    assert session.validate() == []


async def test_clear_history_is_stored_and_numbers_go_on(live, persistence):
    session = live(session_id="s")
    await session.set_data({"a": 1})
    for text in "ab":
        await session.add_message("user", text)
    await session.clear_history()
    assert session.get_history() == (await stored(persistence)).history == ()
    assert (await session.add_message("user", "c")).seq == 3
    record = await persistence.find_session_by_id("s")
    assert (record.message_count, record.data) == (1, {"a": 1})


@pytest.mark.parametrize("bad", [None, 5, "abc", ["x"], [{"role": "user"}], [{"role": "x", "content": "y"}]], ids=repr)
async def test_a_history_that_is_none_is_refused(live, persistence, bad):
    session = live(session_id="s")
    await session.add_message("user", "x")
    with pytest.raises(InvalidArgument):
        await session.set_history(bad)
    assert contents(session) == [m.content for m in await persistence.load_session_history("s")] == ["x"]


async def test_windows_and_earlier(live, persistence):
    await persistence.save_session_state("s", create_session("s"))
    for start in range(0, 12, 2):
        await persistence.save_messages("s", [{"role": "user", "content": str(start + n)} for n in range(2)])
    session = live(session_id="s", window=3)
    await session.get_or_create()
    assert contents(session) == ["8", "9", "10", "11"], "widened to whole commits"
    assert session.has_more
    assert [m.content for m in await session.earlier(3)] == ["5", "6", "7"]
    assert contents(session) == [str(n) for n in range(5, 12)]
    await session.add_message("user", "12")
    assert [m.content for m in await session.earlier()] == [str(n) for n in range(5)]
    assert not session.has_more
    assert await session.earlier() == ()
    assert session.get_history() == await persistence.load_session_history("s")
    await session.set_data({"a": 1})
    assert len(session.get_history()) == 13


async def test_window_0_loads_none_and_earlier_fetches(live, persistence):
    await persistence.save_session_state("s", create_session("s", history=[{"role": "user", "content": "a"}]))
    session = live(session_id="s", window=0)
    await session.get_or_create()
    assert (session.get_history(), session.has_more) == ((), True)
    added = await session.add_message("user", "b")
    assert contents(session) == ["b"]
    assert added.seq == 2
    assert session.has_more
    assert [m.content for m in await session.earlier()] == ["a"]
    assert contents(session) == ["a", "b"]


@pytest.mark.parametrize("count", [0, -1, "5", True, None, 10**9])
async def test_a_count_that_is_none_is_refused_before_any_call(live, adapter, count):
    session = live(session_id="s", window=0)
    await session.add_message("user", "a")
    await session.get_or_create()
    adapter.calls.clear()
    with pytest.raises(InvalidArgument):
        await session.earlier(count)
    assert adapter.calls == []


async def test_the_window_of_the_persistence_is_the_default(adapter, connect):
    persistence = await connect(adapter, window=1)
    for _ in range(3):
        await turnkeep.SessionManager(persistence, session_id="s").add_message("user", "x")
    for given, expected in (({}, 1), ({"window": 2}, 2), ({"window": None}, 3)):
        session = turnkeep.SessionManager(persistence, session_id="s", **given)
        await session.get_or_create()
        assert len(session.get_history()) == expected
    assert len((await persistence.load_session_state("s")).history) == 1


# -- data ------------------------------------------------------------------------------------------------------------


async def test_data_merges_shallow_none_is_a_value_and_unset_removes(live, persistence):
    session = live(session_id="s")
    await session.set_data({"a": 1, "n": {"x": 1, "y": 2}})
    await session.set_data({"b": None, "n": {"z": 3}})
    assert session.data == session.get_data() == {"a": 1, "b": None, "n": {"z": 3}}
    await session.set_data({"a": UNSET, "never": UNSET})
    assert session.data == (await stored(persistence)).data == {"b": None, "n": {"z": 3}}
    await session.set_data(None)
    await session.clear_data()
    assert session.data == (await stored(persistence)).data == {}


@pytest.mark.parametrize("bad", ["x", 5, [("a", 1)], [], True])
async def test_changes_that_are_no_dict_are_refused(live, adapter, bad):
    session = live(session_id="s")
    await session.get_or_create()
    adapter.calls.clear()
    with pytest.raises(InvalidArgument):
        await session.set_data(bad)
    assert adapter.calls == []


async def test_data_is_a_copy(live):
    session = live(session_id="s")
    given = {"list": [1]}
    await session.set_data(given)
    given["list"].append(2)
    session.data["list"].append(3)
    session.get_data()["x"] = 1
    session.current.data["x"] = 1
    assert session.data == {"list": [1]}


async def test_data_as_a_model(live):
    session = live(session_id="s")
    await session.set_data({"name": "Ana", "other": 1, "note": None})
    with pytest.raises(DataIncomplete) as caught:
        session.get_data(Booking)
    assert caught.value.missing == ("guests",)
    await session.set_data({"guests": 4})
    assert session.get_data(Booking) == Booking(name="Ana", guests=4)
    await session.set_data({"guests": "many"})
    with pytest.raises(InvalidData) as invalid:
        session.get_data(Booking)
    assert set(invalid.value.problems) == {"guests"}


async def test_none_and_empty_count_as_missing(live):
    session = live(session_id="s")
    await session.set_data({"name": "", "guests": None})
    with pytest.raises(DataIncomplete) as caught:
        session.get_data(Booking)
    assert caught.value.missing == ("name", "guests")


# -- validate --------------------------------------------------------------------------------------------------------


async def test_validate_names_what_is_wrong(live, persistence):
    session = live(session_id="s")
    await session.add_message("assistant", "", tool_calls=[{"id": "c1", "name": "look"}])
    assert any("c1" in problem for problem in session.validate())
    await session.add_message("tool", "found", tool_call_id="c1")
    assert session.validate() == []
    await session.add_message("tool", "what", tool_call_id="c9")
    assert len(session.validate()) == 1
    await persistence.save_message("s", "user", "theirs")
    await session.add_message("user", "mine")
    assert len(session.validate()) == 2
    await session.get_or_create()
    assert len(session.validate()) == 1


async def test_validate_knows_the_agents_routes(persistence):
    route = turnkeep.Route("Help", steps=[turnkeep.Step("Ask", id="ask")])
    agent = turnkeep.Agent(
        name="x", provider=turnkeep.providers.GuidedProvider(), routes=[route], persistence=persistence, session_id="s"
    )
    await agent.session.get_or_create()
    await persistence.update_route_step("s", route=route.id, step="gone")
    await agent.session.get_or_create()
    assert len(agent.session.validate()) == 1
    await persistence.update_route_step("s", route="gone")
    await agent.session.get_or_create()
    assert len(agent.session.validate()) == 1


# -- delete, save failures -------------------------------------------------------------------------------------------


async def test_delete_removes_and_forgets(live, persistence):
    session = live(session_id="s")
    await session.add_message("user", "x")
    assert await session.delete() is True
    assert await persistence.find_session_by_id("s") is None
    with pytest.raises(SessionNotLoaded):
        _ = session.current
    assert await session.delete() is False
    await session.add_message("user", "new life")
    assert contents(session) == ["new life"]
    assert await live().delete() is False


@pytest.mark.parametrize(
    "operation", ["add_message", "set_data", "set_history", "clear_history", "clear_data", "delete"]
)
async def test_a_failure_raises_and_leaves_memory_and_store_as_they_were(live, persistence, adapter, operation):
    session = live(session_id="s")
    await session.add_message("user", "x")
    await session.set_data({"a": 1})
    before = session.current
    call = {
        "add_message": lambda: session.add_message("user", "y"),
        "set_data": lambda: session.set_data({"b": 1}),
        "set_history": lambda: session.set_history([{"role": "user", "content": "y"}]),
        "clear_history": session.clear_history,
        "clear_data": session.clear_data,
        "delete": session.delete,
    }[operation]
    adapter.faults |= {"commit": [kit.down], "delete": [kit.down]}
    with pytest.raises(StorageUnavailable):
        await call()
    assert session.current == before == await stored(persistence)
    await call()


async def test_an_unstorable_value_leaves_memory_as_it_was(live, persistence):
    session = live(session_id="s")
    await session.set_data({"a": 1})
    for call in (
        lambda: session.set_data({"b": object()}),
        lambda: session.add_message("user", "x", event=object()),
        lambda: session.set_history([{"role": "user", "content": "x", "event": object()}]),
    ):
        with pytest.raises(NotSerializable):
            await call()
    assert session.current == await stored(persistence)


async def test_writes_started_together_all_succeed(live, persistence):
    session = live(session_id="s")
    await asyncio.gather(
        session.set_data({"a": 1}),
        session.add_message("user", "x"),
        session.set_data({"a": 2, "b": 1}),
        session.save(),
        session.add_message("assistant", "y"),
        session.get_or_create(),
        session.set_data({"c": 3}),
        session.clear_data(),
        session.set_data({"last": 1}),
    )
    assert sorted(contents(session)) == ["x", "y"]
    assert session.data == {"last": 1}
    assert session.current == await stored(persistence)


async def test_a_write_makes_an_ended_session_active(live, persistence):
    session = live(session_id="s")
    await session.get_or_create()
    for write in (
        lambda: session.add_message("user", "x"),
        lambda: session.set_data({"a": 1}),
        session.clear_history,
    ):
        await persistence.complete_session("s")
        await session.get_or_create()
        assert session.current.status == "completed"
        await write()
        assert session.current.status == "active"
        assert session.current == await stored(persistence)


# -- two of them -----------------------------------------------------------------------------------------------------


async def test_two_appending_see_one_order_and_neither_conflicts(live, persistence):
    one, two = live(session_id="s"), live(session_id="s")
    await one.get_or_create()
    await two.get_or_create()
    await one.add_message("user", "1")
    await two.add_message("user", "2")
    await one.add_message("user", "3")
    assert [m.content for m in await persistence.load_session_history("s")] == ["1", "2", "3"]
    assert contents(one) == ["1", "3"]
    assert [m.seq for m in one.get_history()] == [1, 3]


async def test_a_stale_one_loads_before_its_next_commit_of_state(live, persistence, adapter):
    one, two = live(session_id="s"), live(session_id="s")
    await one.get_or_create()
    await two.get_or_create()
    await two.set_data({"two": 2})
    await one.add_message("user", "x")
    adapter.calls.clear()
    await one.set_data({"one": 1})
    assert adapter.calls == ["load", "commit"]
    assert one.data == {"two": 2, "one": 1}
    assert one.current == await stored(persistence)
    adapter.calls.clear()
    await one.set_data({"one": 2})
    assert adapter.calls == ["commit"]


async def test_a_contiguous_one_does_not_load(live, adapter):
    session = live(session_id="s")
    await session.get_or_create()
    await session.add_message("user", "x")
    adapter.calls.clear()
    await session.set_data({"a": 1})
    assert adapter.calls == ["commit"]


async def test_appending_while_stale_stays_stale(live, persistence):
    one = live(session_id="s")
    await one.get_or_create()
    await persistence.update_collected_data("s", {"theirs": 1})
    await one.add_message("user", "x")
    await one.add_message("user", "y")
    await one.set_data({"mine": 1})
    assert one.data == {"theirs": 1, "mine": 1}


async def test_the_state_of_a_stale_one_cannot_be_saved_over_what_it_has_not_read(live, persistence):
    """Its token must not be one that it has not read (design.md §3)."""
    one = live(session_id="s")
    await one.get_or_create()
    await persistence.update_collected_data("s", {"theirs": 1})
    await one.add_message("user", "x")
    state = one.current
    with pytest.raises((SessionConflict, InvalidArgument)):
        await persistence.save_session_state("s", state.replace(data={**state.data, "mine": 1}))
    assert (await persistence.find_session_by_id("s")).data == {"theirs": 1}


async def test_a_conflict_leaves_memory_untouched_and_get_or_create_goes_on(live, persistence):
    one, two = live(session_id="s"), live(session_id="s")
    await one.add_message("user", "x")
    await two.get_or_create()
    await two.set_data({"two": 2})
    before = one.current
    for call in (
        lambda: one.set_data({"one": 1}),
        lambda: one.set_history([]),
        one.clear_data,
    ):
        with pytest.raises(SessionConflict) as caught:
            await call()
        assert caught.value.session_id == "s"
        assert one.current == before
    assert (await stored(persistence)).data == {"two": 2}
    await one.get_or_create()
    await one.set_data({"one": 1})
    assert one.data == {"two": 2, "one": 1}


async def test_a_session_deleted_by_another_is_session_not_found(live, persistence):
    session = live(session_id="s")
    await session.add_message("user", "x")
    await persistence.delete_session("s")
    for call in (lambda: session.add_message("user", "y"), lambda: session.set_data({"a": 1}), session.clear_history):
        with pytest.raises(SessionNotFound):
            await call()
    assert await persistence.find_session_by_id("s") is None
    assert contents(session) == ["x"]


async def test_a_session_deleted_and_made_again_is_not_mixed_with_the_old_one(live, persistence):
    """After an append to another life of the id, memory must not show the two as one history."""
    session = live(session_id="s")
    for text in ("old 1", "old 2"):
        await session.add_message("user", text)
    await persistence.delete_session("s")
    await persistence.save_session_state("s", create_session("s", history=[{"role": "user", "content": "new 1"}]))
    try:
        await session.add_message("user", "mine")
    except turnkeep.StorageError:
        return
    seqs = [m.seq for m in session.get_history()]
    assert seqs == sorted(set(seqs))
    assert not {"old 1", "old 2"} & set(contents(session)) or session.validate()


# -- reset -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preserve", [True, False])
async def test_reset_begins_a_new_session_and_removes_the_old(live, persistence, preserve):
    session = live(session_id="s", user_id="ana", window=1)
    for n in range(5):
        await session.add_message("user", str(n), metadata={"n": n})
    await session.set_data({"a": 1})
    await session.get_or_create()
    state = await session.reset(preserve_history=preserve)
    assert state == session.current
    assert state.id == session.id != "s"
    assert session.id.startswith("session_")
    assert (state.data, state.user_id) == ({}, "ana")
    kept = await persistence.load_session_history(session.id)
    assert [m.content for m in kept] == ([str(n) for n in range(5)] if preserve else [])
    assert [m.seq for m in kept] == list(range(1, len(kept) + 1))
    assert await persistence.find_session_by_id("s") is None
    await session.add_message("user", "next")
    assert (await persistence.load_session_history(session.id))[-1].content == "next"
    assert await persistence.find_session_by_id("s") is None


async def test_reset_of_nothing_is_a_new_session(live, persistence):
    session = live()
    state = await session.reset(preserve_history=True)
    assert await persistence.find_session_by_id(state.id)
    other = live(session_id="never-stored")
    await other.reset(preserve_history=True)
    assert await persistence.find_session_by_id(other.id)


async def test_reset_whose_delete_fails_leaves_the_new_one_live_and_names_the_old(live, persistence, adapter):
    session = live(session_id="old-one")
    await session.add_message("user", "x")
    adapter.faults["delete"] = [kit.down]
    with pytest.raises(StorageUnavailable) as caught:
        await session.reset(preserve_history=True)
    assert any("old-one" in note for note in caught.value.__notes__)
    assert session.id != "old-one"
    assert contents(session) == ["x"]
    assert await persistence.find_session_by_id("old-one")
    assert await persistence.find_session_by_id(session.id)


@pytest.mark.parametrize("operation", ["commit", "load"])
async def test_reset_whose_new_session_cannot_be_written_leaves_the_old_one_live(live, persistence, adapter, operation):
    session = live(session_id="s")
    await session.add_message("user", "x")
    await session.set_data({"a": 1})
    before = session.current
    adapter.faults[operation] = [kit.down]
    with pytest.raises(StorageUnavailable):
        await session.reset(preserve_history=True)
    assert session.id == "s"
    assert session.current == before == await stored(persistence)
    assert (await persistence.stats()).sessions == 1


async def test_reset_of_a_history_over_the_limits_of_a_commit(adapter, connect):
    persistence = await connect(adapter, limits=turnkeep.Limits(commit_messages=10))
    session = turnkeep.SessionManager(persistence, session_id="s")
    for start in (0, 10, 20):
        await session.get_or_create()
        await persistence.save_messages("s", [{"role": "user", "content": str(start + n)} for n in range(10)])
    await session.add_message("user", "30")
    await session.reset(preserve_history=True)
    assert contents(session) == [str(n) for n in range(31)]
    assert session.get_history() == await persistence.load_session_history(session.id)
    session = turnkeep.SessionManager(persistence, session_id=session.id)
    await session.get_or_create()
    old = session.id
    adapter.faults["commit"] = [None, kit.down]
    with pytest.raises(StorageUnavailable):
        await session.reset(preserve_history=True)
    assert session.id == old
    assert len(session.get_history()) == 31
    assert (await persistence.stats()).sessions == 1, "no half of a new session is left"


# -- auto_save=False -------------------------------------------------------------------------------------------------


async def test_staged_changes_are_one_commit_at_save(live, persistence, adapter):
    session = live(session_id="s", auto_save=False)
    await session.get_or_create()
    await session.add_message("user", "x")
    await session.set_data({"a": 1})
    await session.add_message("user", "y")
    async with session.turn() as turn:
        turn.add_message("assistant", "z")
        turn.set_data({"b": 2})
    assert adapter.count("commit") == 0
    assert await persistence.find_session_by_id("s") is None
    assert (contents(session), session.data) == (["x", "y", "z"], {"a": 1, "b": 2})
    assert all(m.seq is None for m in session.get_history())
    await session.save()
    assert adapter.count("commit") == 1
    assert [m.seq for m in session.get_history()] == [1, 2, 3]
    assert session.current == await stored(persistence)
    adapter.calls.clear()
    await session.save()
    assert adapter.calls == []


async def test_staged_history_can_be_replaced_and_cleared(live, persistence):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    await session.save()
    await session.add_message("user", "b")
    await session.clear_history()
    await session.add_message("user", "c")
    assert contents(session) == ["c"]
    assert [m.content for m in await persistence.load_session_history("s")] == ["a"]
    await session.save()
    assert [(m.seq, m.content) for m in await persistence.load_session_history("s")] == [(2, "c")]
    assert session.current == await stored(persistence)


async def test_a_conflict_keeps_what_was_staged(live, persistence):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    await session.save()
    await session.set_data({"mine": 1})
    await session.add_message("user", "b")
    await persistence.update_collected_data("s", {"theirs": 1})
    staged = session.current
    with pytest.raises(SessionConflict):
        await session.save()
    assert session.current == staged
    assert session.data == {"mine": 1}
    assert contents(session) == ["a", "b"]
    assert (await stored(persistence)).data == {"theirs": 1}


async def test_a_failure_keeps_what_was_staged_and_save_can_be_repeated(live, persistence, adapter):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    adapter.faults["commit"] = [kit.down]
    with pytest.raises(StorageUnavailable):
        await session.save()
    assert contents(session) == ["a"]
    await session.add_message("user", "b")
    await session.save()
    assert contents(session) == [m.content for m in await persistence.load_session_history("s")] == ["a", "b"]


async def test_what_is_staged_after_an_unknown_outcome_is_not_lost(live, persistence, adapter):
    """The first commit took effect, but nobody could tell; more is staged on top, under what must be another id."""
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    adapter.faults["commit"] = [kit.lost_reply] * 3
    with pytest.raises(turnkeep.CommitOutcomeUnknown):
        await session.save()
    await session.add_message("user", "b")
    try:
        await session.save()
    except turnkeep.Conflict:
        return  # honest: what was staged is still staged
    assert [m.content for m in await persistence.load_session_history("s")] == ["a", "b"]
    assert contents(session) == ["a", "b"]


async def test_repeating_save_after_an_unknown_outcome_is_once(live, persistence, adapter):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    adapter.faults["commit"] = [kit.lost_reply] * 3
    with pytest.raises(turnkeep.CommitOutcomeUnknown):
        await session.save()
    await session.save()
    assert [m.content for m in await persistence.load_session_history("s")] == ["a"]
    assert session.current == await stored(persistence)


async def test_saving_inside_a_turn_loses_nothing(live, persistence):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    try:
        async with session.turn() as turn:
            turn.add_message("user", "b")
            await session.save()
        await session.save()
    except (turnkeep.TurnInProgress, turnkeep.Conflict):
        return
    assert [m.content for m in await persistence.load_session_history("s")] == ["a", "b"]


async def test_delete_and_reset_are_immediate(live, persistence):
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    await session.save()
    await session.add_message("user", "b")
    await session.reset(preserve_history=True)
    assert contents(session) == ["a", "b"]
    assert session.current == await stored(persistence, session.id)
    assert await persistence.find_session_by_id("s") is None
    await session.add_message("user", "c")
    assert await session.delete() is True
    assert await persistence.find_session_by_id(session.id) is None
    await session.save()
    assert (await persistence.stats()).sessions == 0


async def test_staged_messages_are_filtered_once_however_often_save_is_tried(memory, connect):
    class Redact:
        @turnkeep.hookimpl
        def before_message_save(self, message):
            return message.replace(content=f"[{message.content}]")

    persistence = await connect(memory, plugins=[Redact()])
    session = turnkeep.SessionManager(persistence, session_id="s", auto_save=False)
    await session.add_message("user", "a")
    memory.faults["commit"] = [kit.down]
    with pytest.raises(StorageUnavailable):
        await session.save()
    await session.save()
    assert [m.content for m in await persistence.load_session_history("s")] == ["[a]"]


async def test_get_or_create_does_not_drop_what_is_staged_unasked(live, persistence):
    """Calling it again without an id is harmless everywhere else."""
    session = live(session_id="s", auto_save=False)
    await session.add_message("user", "a")
    await session.get_or_create()
    await session.save()
    assert [m.content for m in await persistence.load_session_history("s")] == ["a"]


async def test_earlier_under_staged_changes(live, persistence):
    await persistence.save_session_state("s", create_session("s"))
    for text in "abc":
        await persistence.save_message("s", "user", text)
    session = live(session_id="s", auto_save=False, window=1)
    await session.add_message("user", "staged")
    assert contents(session) == ["c", "staged"]
    assert [m.content for m in await session.earlier()] == ["a", "b"]
    assert contents(session) == ["a", "b", "c", "staged"]
    await session.save()
    assert session.current == await stored(persistence)
