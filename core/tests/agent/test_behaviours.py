# ruff: noqa: E501 - each line of the table is a behaviour and its test
"""What the original's own tests hold, as far as it is worth holding (research/falai.md §4, marks P and V), in that order.

``BEHAVIOURS`` says for each which test of ours holds it. Marks V of its second version speak of directives and signals:
state that a framework keeps untouched beside the data; here that is what the state document and ``custom`` metadata are.
"""

from __future__ import annotations

import asyncio
import importlib
from datetime import UTC, datetime

import pytest

from turnkeep import (
    Agent,
    Hooks,
    InvalidData,
    NotSerializable,
    ProviderError,
    SessionConflict,
    SessionManager,
    SessionMetadata,
    SessionNotLoaded,
    StorageUnavailable,
    connect,
    create_session,
)
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import last_text, texts

BEHAVIOURS = {
    "P create, then find by id: same id, data, metadata; unknown id: none; after delete: none": "test_created_found_deleted",
    "P nested data, lists and numbers survive; 1000-item lists and 1000-key dicts too": "test_deep_and_large_data_survive",
    "P route id and step id read back; metadata with tags, nested dicts and a date": "test_route_step_and_metadata_survive",
    "P an update is visible in the next read; 50 rapid create/read cycles": "test_rapid_cycles_read_their_own_value",
    "P parallel creates and reads keep payloads apart; 100 sessions coexist": "test_parallel_sessions_are_kept_apart",
    "P null stays null, date stays date; what cannot be stored is a clear error": "test_data.test_without_a_schema_any_storable_value_goes",
    "P a minimal session stores {} and no route; ids with dash, underscore, dot, digits, case, length": "test_minimal_sessions_and_ids",
    "P with a persistence the manager exposes its adapter; without one there is memory": "test_the_manager_exposes_its_persistence",
    "P data set before the first turn is in the stored session after it": "test_lessons.test_d4b_data_set_before_the_first_turn_is_kept",
    "P updates between turns merge, last wins, nested replaced, agent view equals stored view": "test_updates_between_turns_merge",
    "P respond works without naming a session; an unknown field fails validation": "test_an_unknown_field_fails_validation",
    "P a fresh adapter sees nothing of another": "test_adapters_are_stores_of_their_own",
    "V only text is an id, on every call; a legal unknown id gives nothing": "test_lessons.test_d43_ids_are_text_on_every_call",
    "P get_or_create() makes an id, an empty session, created = updated now": "test_get_or_create_makes_a_session",
    "P get_or_create(id): that id; none: the current; same twice: same; other: other, empty": "test_get_or_create_by_id",
    "P a second manager loads data, history and route; unknown id: new session": "test_a_second_manager_sees_it_all",
    "P add_message keeps role, content, name, order, creates the session, moves updated_at": "test_add_message",
    "P history is empty for a new session; set, clear, add after set": "test_set_and_clear_history",
    "P add_message alone is enough for a second manager to see it": "test_a_second_manager_sees_it_all",
    "P set_data merges, creates, moves updated_at; partial updates add keys": "test_set_data_merges",
    "P typed data with lists and a date readable back; set_data(None) ignored": "test_data.test_set_data_merges_and_unset_removes",
    "P save persists; save and delete with nothing there do not raise; delete clears": "test_save_and_delete",
    "P reset(True): new id, same history, no data; reset(False): nothing": "test_reset",
    "P a save that fails raises and keeps session and data in memory": "test_a_failed_save_keeps_memory",
    "P a delete that fails raises and keeps the current session": "test_a_failed_delete_keeps_the_session",
    "P set_data, add_message and save together all succeed": "test_calls_started_together_all_succeed",
    "P id and current are unset before and set after": "test_id_and_current_before_and_after",
    "P managers never see each other's data; three users' metadata survive": "test_managers_are_kept_apart",
    "P metadata takes extra keys; a clone is independent": "test_metadata_is_a_copy",
    "P respond twice: same session id; data accumulates over turns": "test_data_accumulates_over_turns",
    "P two turns: four messages in order": "test_two_turns_are_four_messages",
    "P after turn, data and save a new agent with the id sees all": "test_a_new_agent_sees_the_session",
    "P session.set_data is visible to the agent": "test_updates_between_turns_merge",
    "P a history shown to the model once leaves the stored one unchanged": "test_respond.test_what_the_model_is_shown_can_be_changed_and_is_not_stored",
    "P when a route completes its route and step are empty": "test_routes.test_a_route_from_beginning_to_end",
    "P one shared pool completes several routes": "test_routes.test_shared_data_completes_two_routes",
    "P completion by required fields only; missing list": "test_routes.test_a_route_from_beginning_to_end",
    "P optional fields do not change completion; empty counts as missing": "test_routes.test_optional_fields_do_not_hold_a_route_open",
    "P empty, null, undefined count as missing": "test_routes.test_none_and_empty_count_as_missing",
    "P data collected for one route counts for others": "test_routes.test_on_complete_enters_the_next_route_with_the_data",
    "P an unknown field in required_fields fails at creation": "test_routes.test_fields_the_schema_lacks_are_refused",
    "P shared data stays consistent across transitions": "test_routes.test_switching_routes_leaves_the_first_unfinished",
    "V pending work survives state, row, state": "test_lessons.test_d16_the_next_route_survives_the_process",
    "V signals survive unchanged; absent ones make no key": "test_notes_survive_unchanged",
    "V what is for one turn only is not kept": "test_respond.test_an_overlay_is_for_one_turn",
    "V absent is absent, never null; the input is not changed": "test_what_is_absent_makes_no_key",
    "V two loaded copies: the second save conflicts, the first write stays": "test_a_stale_state_conflicts",
    "V a record without a version takes a guarded update": "test_every_stored_session_has_a_version",
    "V five saves of one object give versions in order": "test_versions_rise_by_one",
    "V no version before the first save, 1 after, 2 after update": "test_versions_rise_by_one",
    "V the upgrader is called with the old version and its result used": "test_the_upgrader",
    "V a provider error mid-turn restores data, route, step (here: history too)": "test_a_provider_error_restores_everything",
    "V data staged before a session exists seeds it": "test_data_staged_before_the_session_exists",
}


def test_every_behaviour_is_held_by_a_test():
    for behaviour, place in BEHAVIOURS.items():
        module, _, name = place.rpartition(".")
        found = globals() if not module else vars(importlib.import_module(f"{__package__}.{module}"))
        assert callable(found.get(name)), f"{behaviour}: there is no {place}"


def echo(request):
    return f"echo {last_text(request)}"


def make(persistence, *script, **options):
    return Agent(
        name="a",
        provider=ScriptedProvider(*script, always=echo),
        persistence=persistence,
        session_id=options.pop("session_id", "s"),
        **options,
    )


async def test_created_found_deleted(persistence):
    state = create_session("s", data={"a": 1}, user_id="ana", metadata={"tags": ["x"]})
    await persistence.save_session_state("s", state)
    found = await persistence.load_session_state("s")
    assert (found.id, found.data, found.user_id, found.metadata.custom) == ("s", {"a": 1}, "ana", {"tags": ["x"]})
    assert await persistence.find_session_by_id("unknown") is None
    assert await persistence.delete_session("s") is True
    assert await persistence.find_session_by_id("s") is None
    assert await persistence.delete_session("s") is False


async def test_deep_and_large_data_survive(store, persistence):
    deep = current = {}
    for level in range(90):
        current["in"] = {"n": level}
        current = current["in"]
    data = {
        "deep": deep,
        "list": list(range(1000)),
        "dict": {f"k{n}": [n, n / 2, None, True] for n in range(1000)},
        "text": "ü" * 1000,
    }
    await SessionManager(persistence, session_id="s").set_data(data)
    assert await store.data("s") == data


async def test_route_step_and_metadata_survive(store, persistence):
    now = datetime.now(UTC)
    custom = {"tags": ["a"], "nested": {"deep": {"er": 1}}, "since": datetime(2027, 1, 1, tzinfo=UTC)}
    await persistence.save_session_state("s", create_session("s", metadata=custom))
    await persistence.update_route_step("s", route="r", step="x")
    state = (await store.dump())["s"][1]
    assert (state.current_route.id, state.current_step.id) == ("r", "x")
    assert state.metadata.custom == custom
    assert state.metadata.updated_at.tzinfo is not None
    assert abs((state.metadata.updated_at - now).total_seconds()) < 60


async def test_rapid_cycles_read_their_own_value(persistence):
    for number in range(50):
        await persistence.save_session_state(f"s{number}", create_session(f"s{number}", data={"n": number}))
        await persistence.update_collected_data(f"s{number}", {"m": number})
        assert (await persistence.find_session_by_id(f"s{number}")).data == {"n": number, "m": number}


async def test_parallel_sessions_are_kept_apart(store, persistence):
    await asyncio.gather(
        *(
            persistence.save_session_state(f"s{n}", create_session(f"s{n}", data={"n": n, "x": "y" * n}))
            for n in range(100)
        )
    )
    states = await asyncio.gather(*(persistence.load_session_state(f"s{n}") for n in range(100)))
    assert [state.data for state in states] == [{"n": n, "x": "y" * n} for n in range(100)]


@pytest.mark.parametrize(
    "session_id",
    ["a-b", "a_b", "a.b", "123", "aBc", "x" * 95, "ümlaut", "a b", "a/b", "🎉", "'; DROP TABLE x; --", "%", "../x"],
)
async def test_minimal_sessions_and_ids(persistence, session_id):
    await SessionManager(persistence, session_id=session_id).get_or_create()
    state = await persistence.load_session_state(session_id)
    assert (state.id, state.data, state.current_route, state.current_step, state.history) == (
        session_id,
        {},
        None,
        None,
        (),
    )


async def test_the_manager_exposes_its_persistence(store, persistence):
    agent = make(persistence)
    assert agent.session.persistence is agent.persistence is persistence
    assert persistence.adapter is store.adapter
    without = Agent(name="a", provider=ScriptedProvider(always=echo), session_id="s")
    await without.respond("one")
    assert without.session.persistence.adapter.name == "memory"
    await without.aclose()


async def test_updates_between_turns_merge(store, persistence):
    agent = make(persistence)
    await agent.session.set_data({"a": 1, "nested": {"x": 1, "y": 2}})
    await agent.respond("one")
    await agent.session.set_data({"a": 2, "b": 1})
    await agent.session.set_data({"nested": {"x": 3}})
    await agent.respond("two")
    assert (
        agent.session.data == await store.data("s") == agent.provider.last.data == {"a": 2, "b": 1, "nested": {"x": 3}}
    )


async def test_an_unknown_field_fails_validation(persistence):
    from pydantic import BaseModel

    class Model(BaseModel):
        name: str

    agent = make(persistence, session_id=None, schema=Model)
    reply = await agent.respond("one")
    assert reply.session_id == agent.session.id
    with pytest.raises(InvalidData, match="other"):
        await agent.session.set_data({"other": 1})


async def test_adapters_are_stores_of_their_own():
    async with connect("memory://") as one, connect("memory://") as two:
        await make(one).respond("one")
        assert await two.find_session_by_id("s") is None


async def test_get_or_create_makes_a_session(persistence):
    before = datetime.now(UTC)
    session = SessionManager(persistence)
    state = await session.get_or_create()
    after = datetime.now(UTC)
    assert state.id.startswith("session_")
    assert (state.data, state.history, state.route_history, state.data_by_route) == ({}, (), (), {})
    assert (state.current_route, state.current_step, state.status) == (None, None, "active")
    assert before <= state.metadata.created_at == state.metadata.updated_at <= after


async def test_get_or_create_by_id(persistence):
    session = SessionManager(persistence)
    state = await session.get_or_create("one")
    assert (state.id, session.id) == ("one", "one")
    await session.set_data({"a": 1})
    assert (await session.get_or_create()).data == {"a": 1}
    assert (await session.get_or_create("one")).data == {"a": 1}
    other = await session.get_or_create("two")
    assert (other.id, other.data, session.id) == ("two", {}, "two")


async def test_a_second_manager_sees_it_all(store, persistence):
    session = SessionManager(persistence, session_id="s")
    await session.add_message("user", "hello")
    await session.set_data({"a": 1})
    await persistence.update_route_step("s", route="r")
    state = await SessionManager(await store.other(), session_id="s").get_or_create()
    assert (texts(state.history), state.data, state.current_route.id) == ([("user", "hello")], {"a": 1}, "r")
    fresh = await SessionManager(await store.other(), session_id="t").get_or_create()
    assert (fresh.id, fresh.history) == ("t", ())


async def test_add_message(persistence):
    session = SessionManager(persistence)
    first = await session.add_message("user", "Hello", name="Ana")
    updated = session.current.metadata.updated_at
    second = await session.add_message("assistant", "Hi!")
    assert session.id is not None
    assert [(m.role, m.content, m.name, m.seq) for m in session.get_history()] == [
        ("user", "Hello", "Ana", 1),
        ("assistant", "Hi!", None, 2),
    ]
    assert session.get_history() == (first, second)
    assert session.current.metadata.updated_at > updated


async def test_set_and_clear_history(persistence):
    session = SessionManager(persistence, session_id="s")
    await session.get_or_create()
    assert session.get_history() == ()
    await session.set_history([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    await session.add_message("user", "c")
    assert [content for _, content in texts(session.get_history())] == ["a", "b", "c"]
    await session.clear_history()
    assert session.get_history() == ()


async def test_set_data_merges(persistence):
    session = SessionManager(persistence)
    await session.set_data({"a": 1, "nested": {"x": [1, {"y": 2}]}})
    updated = session.current.metadata.updated_at
    await session.set_data({"b": 2})
    assert session.data == {"a": 1, "b": 2, "nested": {"x": [1, {"y": 2}]}}
    assert session.current.metadata.updated_at > updated


async def test_save_and_delete(store, persistence):
    empty = SessionManager(persistence)
    await empty.save()
    assert await empty.delete() is False
    session = SessionManager(persistence, session_id="s", auto_save=False)
    await session.set_data({"a": 1})
    await session.add_message("user", "x")
    await session.save()
    assert (await store.data("s"), await store.texts("s")) == ({"a": 1}, [("user", "x")])
    assert await session.delete() is True
    assert await store.dump() == {}
    with pytest.raises(SessionNotLoaded):
        _ = session.current


@pytest.mark.parametrize("preserve", [True, False])
async def test_reset(store, persistence, preserve):
    agent = make(persistence)
    await agent.respond("one")
    await agent.session.set_data({"a": 1})
    old = texts(agent.session.get_history())
    state = await agent.session.reset(preserve_history=preserve)
    assert state.id != "s"
    assert agent.session.id == state.id
    assert (texts(state.history), state.data) == (old if preserve else [], {})
    assert (await store.dump()).keys() == {state.id}
    assert await store.texts(state.id) == texts(state.history)


async def test_a_failed_save_keeps_memory(store, persistence):
    session = SessionManager(persistence, session_id="s")
    await session.set_data({"a": 1})
    before = session.current

    async def fail(*_):
        raise StorageUnavailable("down")

    store.adapter.before["commit"] = fail
    for attempt in (session.set_data({"a": 2}), session.add_message("user", "x"), session.clear_history()):
        with pytest.raises(StorageUnavailable):
            await attempt
        assert session.current == before
    store.adapter.before.clear()
    await session.set_data({"b": 2})
    assert await store.data("s") == {"a": 1, "b": 2}


async def test_a_failed_delete_keeps_the_session(store, persistence):
    session = SessionManager(persistence, session_id="s")
    await session.set_data({"a": 1})
    before = session.current

    async def fail(*_):
        raise StorageUnavailable("down")

    store.adapter.before["delete"] = fail
    with pytest.raises(StorageUnavailable):
        await session.delete()
    assert session.current == before
    with pytest.raises(StorageUnavailable) as caught:
        await session.reset()
    assert "'s'" in caught.value.__notes__[0]
    assert session.id != "s"
    assert (await store.dump()).keys() == {"s", session.id}


async def test_calls_started_together_all_succeed(store, persistence):
    session = SessionManager(persistence, session_id="s")
    await asyncio.gather(
        session.set_data({"a": 1}),
        session.add_message("user", "one"),
        session.set_data({"a": 2, "b": 1}),
        session.add_message("user", "two"),
        session.save(),
    )
    assert await store.data("s") == {"a": 2, "b": 1}
    assert await store.texts("s") == [("user", "one"), ("user", "two")]


async def test_id_and_current_before_and_after(persistence):
    session = SessionManager(persistence)
    assert session.id is None
    for read in (
        lambda: session.current,
        lambda: session.data,
        session.get_history,
        session.get_data,
        session.validate,
        lambda: session.has_more,
    ):
        with pytest.raises(SessionNotLoaded):
            read()
    state = await session.get_or_create()
    assert session.id == state.id
    assert session.current == state


async def test_managers_are_kept_apart(persistence):
    managers = [SessionManager(persistence, session_id=f"s{n}", user_id=f"u{n}") for n in range(3)]
    for number, manager in enumerate(managers):
        await manager.set_data({"mine": number})
    for number, manager in enumerate(managers):
        state = await manager.get_or_create()
        assert (state.data, state.user_id) == ({"mine": number}, f"u{number}")


def test_metadata_is_a_copy():
    given = {"tags": ["a"], "extra": {"deep": 1}}
    state = create_session("s", metadata=given)
    given["tags"].append("b")
    state.metadata.custom["tags"].append("c")
    assert state.metadata.custom == {"tags": ["a"], "extra": {"deep": 1}}
    with pytest.raises(NotSerializable):
        create_session("s", metadata={"x": object()})


async def test_data_accumulates_over_turns(store, persistence):
    from turnkeep.providers import ProviderReply

    agent = make(persistence, ProviderReply(text="x", data={"a": 1}), ProviderReply(text="x", data={"b": 2}))
    await agent.session.set_data({"before": True})
    assert (await agent.respond("one")).session_id == (await agent.respond("two")).session_id == "s"
    assert await store.data("s") == {"before": True, "a": 1, "b": 2}


async def test_two_turns_are_four_messages(store, persistence):
    agent = make(persistence)
    await agent.respond("one")
    await agent.respond("two")
    assert [role for role, _ in await store.texts("s")] == ["user", "assistant", "user", "assistant"]


async def test_a_new_agent_sees_the_session(store, persistence):
    first = make(persistence)
    await first.respond("one")
    await first.session.set_data({"a": 1})
    await first.session.save()
    second = make(await store.other())
    await second.session.get_or_create()
    assert texts(second.session.get_history())[0] == ("user", "one")
    assert second.session.data == {"a": 1}


async def test_notes_survive_unchanged(store, persistence):
    signals = {"greeted": {"first": datetime(2027, 1, 1, tzinfo=UTC), "count": 3, "reason": "ü", "phase": None}}
    await persistence.save_session_state("s", create_session("s", metadata={"signals": signals}))
    agent = make(persistence)
    await agent.respond("one")
    await agent.session.set_data({"a": 1})
    assert (await store.dump())["s"][1].metadata.custom == {"signals": signals}
    await make(persistence, session_id="t").respond("one")
    assert (await store.dump())["t"][1].metadata.custom == {}


async def test_what_is_absent_makes_no_key(memory):
    given = {"a": None, "list": [1]}
    state = create_session("s", data=given)
    persistence = await memory.connect()
    await persistence.save_session_state("s", state)
    assert given == {"a": None, "list": [1]}
    (row,) = memory.adapter.inner.snapshot()["sessions"]
    assert row["collected_data"].replace(" ", "") == '{"a":null,"list":[1]}'
    assert "null" not in row["state"]


async def test_a_stale_state_conflicts(store, persistence):
    await persistence.save_session_state("s", create_session("s"))
    one, two = await persistence.load_session_state("s"), await persistence.load_session_state("s")
    await persistence.save_session_state("s", one.replace(data={"one": 1}))
    with pytest.raises(SessionConflict) as caught:
        await persistence.save_session_state("s", two.replace(data={"two": 2}))
    assert (caught.value.session_id, caught.value.expected.version, caught.value.actual.version) == ("s", 1, 2)
    assert await store.data("s") == {"one": 1}


async def test_every_stored_session_has_a_version(store, persistence):
    await make(persistence).respond("one")
    assert (await persistence.load_session_state("s"))._token.version == 1


async def test_versions_rise_by_one(persistence):
    state = create_session("s")
    assert state._token is None
    state = await persistence.save_session_state("s", state)
    versions = [state._token.version]
    for number in range(5):
        state = await persistence.save_session_state("s", state.replace(data={"n": number}))
        versions.append(state._token.version)
    await persistence.save_message("s", "user", "x")
    await persistence.complete_session("s")
    await persistence.update_route_step("s", route="r")
    versions.append((await persistence.load_session_state("s"))._token.version)
    assert versions == [1, 2, 3, 4, 5, 6, 9]


async def test_the_upgrader(store):
    seen = []

    def upgrade(data, version):
        seen.append(version)
        return {**data, "upgraded": True}

    old = await store.other(data_version=1)
    await make(old).session.set_data({"a": 1})
    seen.clear()
    new = await store.other(data_version=2, upgrade_data=upgrade)
    agent = make(new)
    await agent.session.get_or_create()
    assert (seen, agent.session.data) == ([1], {"a": 1, "upgraded": True})
    assert await store.data("s") == {"a": 1}  # reads never write
    await agent.respond("one")
    assert await store.data("s") == {"a": 1, "upgraded": True}
    again = await SessionManager(
        await store.other(data_version=2, upgrade_data=upgrade), session_id="s"
    ).get_or_create()
    assert (again.data_version, seen) == (2, [1, 1])


async def test_a_provider_error_restores_everything(store, persistence):
    from turnkeep.providers import ProviderReply

    from .kit import booking, call

    agent = make(
        persistence,
        ProviderReply(text="x", route="book-a-table", data={"name": "Ana"}),
        ProviderReply(data={"guests": 2}, tool_calls=(call("nothing"),)),
        RuntimeError,
        routes=[booking()],
    )
    await agent.respond("one")
    before, stored = agent.session.current, await store.dump()
    with pytest.raises(ProviderError):
        await agent.respond("two")
    assert agent.session.current == before
    assert await store.dump() == stored


async def test_data_staged_before_the_session_exists(store, persistence):
    agent = make(persistence, auto_save=False)
    await agent.session.set_data({"a": 1})
    await agent.session.set_data({"b": 2})
    assert agent.session.data == {"a": 1, "b": 2}
    assert await store.dump() == {}
    await agent.respond("one")
    await agent.session.set_data({"b": 3})
    await agent.session.save()
    assert await store.data("s") == {"a": 1, "b": 3}


async def test_a_state_with_times_of_its_own_is_stored_with_the_stores(persistence):
    old = datetime(2001, 1, 1, tzinfo=UTC)
    state = create_session("s").replace(metadata=SessionMetadata(old, old, {"a": 1}))
    stored = await persistence.save_session_state("s", state)
    assert stored.metadata.custom == {"a": 1}
    assert stored.metadata.updated_at.year > 2001


async def test_hooks_see_the_data_of_the_session(persistence):
    seen = []
    agent = make(persistence, hooks=Hooks(before_respond=lambda session: seen.append(session.data)))
    await agent.session.set_data({"a": 1})
    await agent.respond("one")
    assert seen == [{"a": 1}]
