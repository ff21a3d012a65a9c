"""States, data, routes and status, written by session id."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from turnkeep import (
    UNSET,
    ConfigurationError,
    InvalidArgument,
    Message,
    NotSerializable,
    RouteRef,
    RouteVisit,
    SessionConflict,
    SessionExists,
    SessionMetadata,
    SessionNotFound,
    SessionState,
    StepRef,
    create_session,
)

kit = sys.modules["turnkeep_core_test_kit"]
WHEN = datetime(2024, 5, 6, 7, 8, 9, 10, UTC)


@pytest.fixture
async def s(persistence):
    await persistence.save_session_state("s", create_session("s", user_id="ana", data={"a": 1, "b": {"c": [1]}}))
    return "s"


# -- save_session_state ----------------------------------------------------------------------------------------------


async def test_a_whole_state_comes_back(persistence):
    state = SessionState(
        "s",
        user_id="ana",
        agent_name="Front desk",
        data={"deep": {"list": [1, {"x": None}], "when": WHEN}},
        collected_by={"deep": "booking"},
        route_history=[RouteVisit("booking", WHEN), RouteVisit("help", WHEN, WHEN, completed=True)],
        current_route=RouteRef("booking", "Book a table", WHEN),
        current_step=StepRef("name", "Ask the name", WHEN),
        history=[{"role": "user", "content": "hi"}, Message("assistant", "yes", event={"e": 1})],
        metadata=SessionMetadata(WHEN, WHEN, {"tags": ["x"], "at": WHEN}),
    )
    saved = await persistence.save_session_state("s", state)
    found = await persistence.load_session_state("s")
    assert found == saved
    for name in ("id", "user_id", "agent_name", "status", "data", "collected_by", "route_history", "current_route",
                 "current_step", "data_by_route"):  # fmt: skip
        assert getattr(found, name) == getattr(state, name), name
    assert [(m.seq, m.role, m.content, m.event) for m in found.history] == [
        (1, "user", "hi", None),
        (2, "assistant", "yes", {"e": 1}),
    ]
    assert found.metadata.custom == {"tags": ["x"], "at": WHEN}
    assert found.metadata.updated_at > WHEN
    record = await persistence.find_session_by_id("s")
    assert (record.current_route, record.current_step, record.agent_name, record.message_count) == (
        "booking", "name", "Front desk", 2,
    )  # fmt: skip


async def test_a_state_without_a_token_creates_and_a_taken_id_is_session_exists(persistence, s):
    with pytest.raises(SessionExists) as caught:
        await persistence.save_session_state("s", create_session("s", data={"mine": 1}))
    assert caught.value.session_id == "s"
    assert (await persistence.find_session_by_id("s")).data == {"a": 1, "b": {"c": [1]}}


async def test_a_loaded_state_is_compare_and_swap(persistence, s):
    one, two = await persistence.load_session_state(s), await persistence.load_session_state(s)
    saved = await persistence.save_session_state(s, one.replace(data={"one": 1}))
    with pytest.raises(SessionConflict) as caught:
        await persistence.save_session_state(s, two.replace(data={"two": 2}))
    assert caught.value.expected == two._token
    assert caught.value.actual == saved._token
    assert (await persistence.find_session_by_id(s)).data == {"one": 1}
    again = await persistence.save_session_state(s, saved.replace(data={"one": 2}))
    assert again.data == {"one": 2}
    assert again._token.version == saved._token.version + 1


async def test_a_commit_between_the_check_and_the_write_is_a_conflict_too(persistence, s, adapter):
    state = await persistence.load_session_state(s)
    adapter.faults["commit"] = [kit.cut(lambda: adapter.inner.commit(_append(adapter)))]
    with pytest.raises(SessionConflict):
        await persistence.save_session_state(s, state.replace(data={"x": 1}))
    assert (await persistence.find_session_by_id(s)).data == {"a": 1, "b": {"c": [1]}}


def _append(adapter):
    from turnkeep.contract import Expect, Scope, SessionKey
    from turnkeep_testkit import new_commit

    return new_commit(SessionKey(Scope("default"), "s"), "in between", expect=Expect.ANY)


async def test_one_of_many_saves_of_one_state_wins(persistence, s):
    state = await persistence.load_session_state(s)
    results = await asyncio.gather(
        *(persistence.save_session_state(s, state.replace(data={"n": n})) for n in range(8)), return_exceptions=True
    )
    won = [r for r in results if isinstance(r, SessionState)]
    assert len(won) == 1
    assert all(isinstance(r, SessionConflict) for r in results if r is not won[0])
    assert (await persistence.find_session_by_id(s)).data == won[0].data


async def test_the_token_of_a_session_deleted_and_made_again_is_stale(persistence, s):
    state = await persistence.load_session_state(s)
    await persistence.delete_session(s)
    with pytest.raises(SessionNotFound):
        await persistence.save_session_state(s, state)
    await persistence.save_session_state(s, create_session(s, data={"new": 1}))
    with pytest.raises(SessionConflict):
        await persistence.save_session_state(s, state)
    assert (await persistence.find_session_by_id(s)).data == {"new": 1}


async def test_history_without_seq_is_appended_and_the_rest_must_be_the_stored_suffix(persistence, s, adapter):
    await persistence.save_messages(s, [{"role": "user", "content": c} for c in "abc"])
    state = await persistence.load_session_state(s)
    more = await persistence.save_session_state(s, state.replace(history=[*state.history, Message("user", "d")]))
    assert [m.content for m in more.history] == ["a", "b", "c", "d"]
    tail = await persistence.save_session_state(
        s, more.replace(history=[*more.history[2:], {"role": "user", "content": "e"}])
    )
    assert [(m.seq, m.content) for m in tail.history][-1] == (5, "e")
    none = await persistence.save_session_state(s, tail.replace(history=[]))
    assert none.data == state.data
    assert [m.content for m in await persistence.load_session_history(s)] == ["a", "b", "c", "d", "e"]
    whole = await persistence.load_session_state(s)
    h = whole.history
    for wrong in (h[:-1], h[1:3], (h[1], h[0], *h[2:]), (*h[:2], *h[3:]), (*h[:-1], Message("user", "x"), h[-1])):
        before = adapter.count("commit")
        with pytest.raises(InvalidArgument):
            await persistence.save_session_state(s, whole.replace(history=wrong))
        assert adapter.count("commit") == before


async def test_a_changed_stored_message_is_refused(persistence, s):
    await persistence.save_message(s, "user", "a")
    state = await persistence.load_session_state(s)
    forged = Message._stored(state.history[0]._row._replace(content="forged"))
    with pytest.raises(InvalidArgument):
        await persistence.save_session_state(s, state.replace(history=[forged]))


async def test_the_state_of_another_session_is_refused(persistence, s, adapter):
    before = len(adapter.calls)
    with pytest.raises(InvalidArgument):
        await persistence.save_session_state(s, create_session("other"))
    assert len(adapter.calls) == before


@pytest.mark.parametrize("state", [None, {"id": "s"}, "s", 7])
async def test_what_is_no_state_is_refused_with_our_error(persistence, adapter, state):
    before = len(adapter.calls)
    with pytest.raises(InvalidArgument):
        await persistence.save_session_state("s", state)
    assert len(adapter.calls) == before


async def test_the_status_of_a_state_is_saved_and_completed_at_follows(persistence, s):
    state = await persistence.load_session_state(s)
    done = await persistence.save_session_state(s, state.replace(status="completed"))
    record = await persistence.find_session_by_id(s)
    assert record.status == done.status == "completed"
    assert record.completed_at is not None
    await persistence.save_session_state(s, done.replace(status="active"))
    assert (await persistence.find_session_by_id(s)).completed_at is None


async def test_saving_a_completed_state_again_keeps_when_it_was_completed(persistence, s):
    await persistence.update_session_status(s, "completed", WHEN)
    state = await persistence.load_session_state(s)
    await persistence.save_session_state(s, state.replace(data={"note": 1}))
    record = await persistence.find_session_by_id(s)
    assert (record.status, record.completed_at) == ("completed", WHEN)


async def test_a_state_can_be_created_completed(persistence):
    saved = await persistence.save_session_state("s", SessionState("s", status="completed", data={"a": 1}))
    record = await persistence.find_session_by_id("s")
    assert (saved.status, record.status, record.data) == ("completed", "completed", {"a": 1})
    assert record.completed_at is not None


async def test_saving_a_state_is_a_load_without_more_messages_than_it_has_and_a_commit(persistence, s, adapter):
    await persistence.save_messages(s, [{"role": "user", "content": "x"}] * 30)
    state = await persistence.load_session_state(s)
    before = len(adapter.calls)
    await persistence.save_session_state(s, state.replace(history=state.history[-2:]))
    assert adapter.calls[before:] == ["load", "commit"]


# -- update_collected_data ------------------------------------------------------------------------------------------


async def test_updating_merges_and_never_erases_the_rest(persistence, s):
    """The seed's context-synchronisation example; the original's call replaced the whole blob (D12)."""
    await persistence.save_messages(s, [{"role": "user", "content": "hello"}])
    await persistence.update_route_step(s, route="booking", step="name")
    previous = {"session_id": s, "preferences": {}}
    session = await persistence.load_session_state(previous["session_id"])
    context = {**previous, "preferences": (session.data if session else {}).get("preferences", {})}
    new_context = {**context, "preferences": {"theme": "dark"}}
    if new_context["preferences"] != previous["preferences"]:
        await persistence.update_collected_data(new_context["session_id"], {"preferences": new_context["preferences"]})
    after = await persistence.load_session_state(s)
    assert after.data == {"a": 1, "b": {"c": [1]}, "preferences": {"theme": "dark"}}
    assert [m.content for m in after.history] == ["hello"]
    assert (after.current_route.id, after.current_step.id) == ("booking", "name")
    assert after.route_history == session.route_history


async def test_the_merge_is_shallow_none_is_a_value_and_unset_removes(persistence, s):
    state = await persistence.update_collected_data(s, {"a": None, "b": {"d": 2}, "new": 0})
    assert state.data == {"a": None, "b": {"d": 2}, "new": 0}
    state = await persistence.update_collected_data(s, {"a": UNSET, "never": UNSET})
    assert state.data == (await persistence.find_session_by_id(s)).data == {"b": {"d": 2}, "new": 0}


@pytest.mark.parametrize("changes", [None, [], "x", 1, [("a", 1)]])
async def test_changes_that_are_no_dict_are_refused(persistence, s, changes, adapter):
    before = len(adapter.calls)
    with pytest.raises(InvalidArgument):
        await persistence.update_collected_data(s, changes)
    assert len(adapter.calls) == before, "refused before any call of the adapter"


@pytest.mark.parametrize("value", [object(), {1: 2}, datetime(2020, 1, 1), {"x": UNSET}])  # noqa: DTZ001 - naive on purpose
async def test_a_value_that_cannot_be_kept_is_refused_and_nothing_is_written(persistence, s, value, adapter):
    before = adapter.count("commit")
    with pytest.raises(NotSerializable):
        await persistence.update_collected_data(s, {"x": value})
    assert adapter.count("commit") == before


async def test_updates_at_once_all_land(persistence, s):
    await asyncio.gather(*(persistence.update_collected_data(s, {f"k{n}": n}) for n in range(6)))
    data = (await persistence.find_session_by_id(s)).data
    assert {f"k{n}": n for n in range(6)}.items() <= data.items()
    assert data["a"] == 1


async def test_an_update_that_loses_every_time_is_a_conflict_and_writes_nothing(persistence, s, adapter):
    adapter.faults["commit"] = [kit.cut(lambda: adapter.inner.commit(_append(adapter)))] * 1000
    with pytest.raises(SessionConflict):
        await persistence.update_collected_data(s, {"x": 1})
    assert "x" not in (await persistence.find_session_by_id(s)).data


async def test_an_update_is_a_load_without_messages_and_a_commit(persistence, s, adapter):
    await persistence.save_messages(s, [{"role": "user", "content": "x"}] * 30)
    before = len(adapter.calls)
    state = await persistence.update_collected_data(s, {"x": 1})
    assert adapter.calls[before:] == ["load", "commit"]
    assert adapter.requests[before][1].window == 0
    assert adapter.requests[before + 1].messages == ()
    assert state.history == ()


async def test_writing_to_an_absent_session_is_session_not_found(persistence):
    for call in (
        persistence.update_collected_data("nobody", {"a": 1}),
        persistence.update_route_step("nobody", route="x"),
        persistence.update_session_status("nobody", "completed"),
        persistence.complete_session("nobody"),
        persistence.abandon_session("nobody"),
        persistence.claim_session("nobody", "ana"),
    ):
        with pytest.raises(SessionNotFound) as caught:
            await call
        assert caught.value.session_id == "nobody"
    assert await persistence.delete_session("nobody") is False
    assert (await persistence.stats()).sessions == 0


# -- routes ----------------------------------------------------------------------------------------------------------


async def test_route_and_step_move_clear_and_stay(persistence, s):
    state = await persistence.update_route_step(s, route="booking", step="name")
    assert (state.current_route.id, state.current_step.id) == ("booking", "name")
    state = await persistence.update_route_step(s, step="guests")
    assert (state.current_route.id, state.current_step.id) == ("booking", "guests")
    state = await persistence.update_route_step(s, step=None)
    assert (state.current_route.id, state.current_step) == ("booking", None)
    state = await persistence.update_route_step(s, step="guests")
    state = await persistence.update_route_step(s, route="help")
    assert (state.current_route.id, state.current_step) == ("help", None)
    assert [(v.route, v.exited_at is None, v.completed) for v in state.route_history] == [
        ("booking", False, False),
        ("help", True, False),
    ]
    state = await persistence.update_route_step(s, route=None)
    assert (state.current_route, state.current_step) == (None, None)
    record = await persistence.find_session_by_id(s)
    assert (record.current_route, record.current_step) == (None, None)
    assert state.data == {"a": 1, "b": {"c": [1]}}


async def test_a_step_without_a_route_is_refused(persistence, s, adapter):
    before = adapter.count("commit")
    with pytest.raises(InvalidArgument):
        await persistence.update_route_step(s, step="name")
    with pytest.raises(InvalidArgument):
        await persistence.update_route_step(s, route=None, step="name")
    assert adapter.count("commit") == before


# -- status ----------------------------------------------------------------------------------------------------------


async def test_completing_notes_the_instant_given_or_the_servers(persistence, s):
    await persistence.update_session_status(s, "completed", WHEN)
    record = await persistence.find_session_by_id(s)
    assert (record.status, record.completed_at) == ("completed", WHEN)
    await persistence.update_session_status(s, "abandoned")
    record = await persistence.find_session_by_id(s)
    assert (record.status, record.completed_at) == ("abandoned", None)
    before = datetime.now(UTC)
    await persistence.complete_session(s)
    record = await persistence.find_session_by_id(s)
    assert before - timedelta(seconds=1) < record.completed_at < before + timedelta(seconds=5)
    assert record.completed_at == record.updated_at
    await persistence.update_session_status(s, "active")
    record = await persistence.find_session_by_id(s)
    assert (record.status, record.completed_at) == ("active", None)


async def test_an_instant_in_another_zone_is_the_same_instant(persistence, s):
    there = WHEN.astimezone(timezone(timedelta(hours=-5)))
    await persistence.update_session_status(s, "completed", there)
    assert (await persistence.find_session_by_id(s)).completed_at == WHEN


@pytest.mark.parametrize(
    "bad",
    [datetime(2024, 1, 1), "2024-01-01", 0, True, datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))],  # noqa: DTZ001 - naive on purpose
)
async def test_a_completed_at_that_is_none_is_refused(persistence, s, adapter, bad):
    before = len(adapter.calls)
    with pytest.raises(InvalidArgument):
        await persistence.update_session_status(s, "completed", bad)
    assert len(adapter.calls) == before
    with pytest.raises(InvalidArgument):
        await persistence.update_session_status(s, "active", WHEN)


@pytest.mark.parametrize("ended", ["completed", "abandoned"])
@pytest.mark.parametrize("write", ["message", "data", "route", "state"])
async def test_a_write_makes_an_ended_session_active_in_the_same_commit(persistence, s, adapter, ended, write):
    await persistence.update_session_status(s, ended)
    before = adapter.count("commit")
    match write:
        case "message":
            await persistence.save_message(s, "user", "again")
        case "data":
            assert (await persistence.update_collected_data(s, {"x": 1})).status == "active"
        case "route":
            assert (await persistence.update_route_step(s, route="r")).status == "active"
        case "state":
            state = await persistence.load_session_state(s)
            await persistence.save_session_state(s, state.replace(status="active", data={}))
    assert adapter.count("commit") == before + 1
    record = await persistence.find_session_by_id(s)
    assert (record.status, record.completed_at) == ("active", None)


async def test_status_changes_at_once_all_land(persistence, s):
    await asyncio.gather(*(persistence.update_session_status(s, x) for x in ("completed", "abandoned", "active") * 5))
    state = await persistence.load_session_state(s)
    assert state._token.version == 16


# -- claiming --------------------------------------------------------------------------------------------------------


async def test_a_session_without_an_owner_is_claimed_once(persistence):
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    await persistence.claim_session("s", "ana")
    assert (await persistence.find_session_by_id("s")).user_id == "ana"
    await persistence.claim_session("s", "ana")
    with pytest.raises(SessionNotFound):
        await persistence.claim_session("s", "bob")
    record = await persistence.find_session_by_id("s")
    assert (record.user_id, record.data) == ("ana", {"a": 1})
    assert [r.id async for r in await persistence.find_sessions_by_user_id("ana")] == ["s"]


async def test_of_many_claims_one_wins(persistence):
    await persistence.save_session_state("s", create_session("s"))
    results = await asyncio.gather(
        *(persistence.claim_session("s", f"user{n}") for n in range(5)), return_exceptions=True
    )
    assert [type(r) for r in results].count(type(None)) == 1
    assert all(r is None or isinstance(r, SessionNotFound) for r in results)
    owner = (await persistence.find_session_by_id("s")).user_id
    assert results[int(owner[-1])] is None


async def test_a_claim_leaves_a_completed_session_completed(persistence):
    await persistence.save_session_state("s", create_session("s"))
    await persistence.update_session_status("s", "completed", WHEN)
    await persistence.claim_session("s", "ana")
    record = await persistence.find_session_by_id("s")
    assert (record.user_id, record.status, record.completed_at) == ("ana", "completed", WHEN)


async def test_a_bound_persistence_claims_for_its_owner_only(adapter, connect, persistence):
    await persistence.save_session_state("s", create_session("s"))
    ana = await connect(adapter, user_id="ana")
    with pytest.raises(ConfigurationError):
        await ana.claim_session("s", "bob")
    await ana.claim_session("s", "ana")
    assert (await ana.find_session_by_id("s")).user_id == "ana"


# -- copies ----------------------------------------------------------------------------------------------------------


async def test_what_is_given_and_got_is_a_copy(persistence):
    data = {"list": [1]}
    await persistence.save_session_state("s", create_session("s", data=data))
    data["list"].append(2)
    state = await persistence.load_session_state("s")
    state.data["list"].append(3)
    (await persistence.find_session_by_id("s")).data["x"] = 1
    assert (await persistence.load_session_state("s")).data == {"list": [1]}
    assert state.data == {"list": [1]}


async def test_10000_items_and_deep_data_survive(persistence):
    data = {"list": list(range(1000)), "keys": {f"k{n}": n for n in range(10_000)}, "deep": {}}
    inner = data["deep"]
    for _ in range(50):
        inner["d"] = {}
        inner = inner["d"]
    await persistence.save_session_state("s", create_session("s", data=data))
    assert (await persistence.find_session_by_id("s")).data == data


async def test_a_key_that_looks_like_ours_is_data(persistence):
    for key in ("$sealed", "$tk", "v", "__proto__", "$set", "a.b", ""):
        data = {key: "x"}
        await persistence.save_session_state(f"s{key}", create_session(f"s{key}", data=data))
        assert (await persistence.find_session_by_id(f"s{key}")).data == data
        assert (await persistence.load_session_state(f"s{key}")).data == data
    custom = SessionMetadata(WHEN, WHEN, {"$sealed": "x", "v": 7})
    await persistence.save_session_state("m", SessionState("m", metadata=custom))
    assert (await persistence.load_session_state("m")).metadata.custom == {"$sealed": "x", "v": 7}
