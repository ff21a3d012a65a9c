"""Hooks around commits of Persistence and SessionManager: order, once-ness, failures, calls they make themselves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys

import pytest

import turnkeep
from turnkeep import HookError, Message, SessionConflict, create_session

kit = sys.modules["turnkeep_core_test_kit"]

WATCHED = [
    "before_message_save", "before_commit", "before_data_update", "on_storage_operation", "on_storage_error",
    "on_conflict", "on_session_created", "on_session_loaded", "on_session_completed", "on_session_deleted",
    "on_session_committed", "on_messages_appended",
]  # fmt: skip


def recorder(told, *names):
    """A plugin that notes every call of these hooks."""

    class Recorder:
        name = "recorder"

    for name in names or WATCHED:

        def make(name=name):
            async def hook(self, **arguments):
                told.append((name, arguments))

            return hook

        setattr(Recorder, name, turnkeep.hookimpl(make()))
    return Recorder()


def names(told):
    return [name for name, _ in told]


@pytest.fixture
async def heard(adapter, connect):
    told = []
    persistence = await connect(adapter, plugins=[recorder(told)])
    return persistence, told


async def test_the_order_around_a_creating_save(heard):
    persistence, told = heard
    await persistence.save_session_state("s", create_session("s", history=[{"role": "user", "content": "x"}]))
    assert names(told) == [
        "before_message_save", "before_commit", "on_storage_operation", "on_session_created", "on_messages_appended",
        "on_session_committed",
    ]  # fmt: skip
    created = dict(told)["on_session_created"]["session"]
    assert (created.id, created.namespace, created.user_id, created.data) == ("s", "default", None, {})
    (message,) = dict(told)["on_messages_appended"]["messages"]
    turn = dict(told)["on_session_committed"]["turn"]
    assert message.seq == 1
    assert turn.messages == (message,)
    assert (turn.created, turn.commit_id, turn.data) == (True, message.commit_id, {})


async def test_the_order_around_an_append_and_a_status(heard):
    persistence, told = heard
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    told.clear()
    saved = await persistence.save_message("s", "user", "x")
    assert names(told) == [
        "before_message_save", "before_commit", "on_storage_operation", "on_messages_appended", "on_session_committed",
    ]  # fmt: skip
    view = dict(told)["on_messages_appended"]["session"]
    assert (view.id, view.state, view.data) == ("s", None, {})
    assert dict(told)["on_messages_appended"]["messages"] == (saved,)
    told.clear()
    await persistence.complete_session("s")
    assert names(told) == ["before_commit", "on_storage_operation", "on_session_completed", "on_session_committed"]
    told.clear()
    await persistence.delete_session("s")
    assert names(told) == ["on_storage_operation", "on_session_deleted"]
    told.clear()
    await persistence.delete_session("s")
    assert names(told) == ["on_storage_operation"]


async def test_loads_are_told_once_each_and_never_for_an_absent_session(heard):
    persistence, told = heard
    assert await persistence.load_session_state("nobody") is None
    assert "on_session_loaded" not in names(told)
    await persistence.save_session_state("s", create_session("s"))
    told.clear()
    await persistence.load_session_state("s")
    await turnkeep.SessionManager(persistence, session_id="s").get_or_create()
    assert names(told).count("on_session_loaded") == 2


async def test_data_updates_are_told_whoever_makes_them(heard):
    """hookspecs: collected data is about to change."""
    persistence, told = heard
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    session = turnkeep.SessionManager(persistence, session_id="s")
    told.clear()
    await session.set_data({"b": 2})
    assert [args["data"] for name, args in told if name == "before_data_update"] == [{"a": 1, "b": 2}]
    told.clear()
    await persistence.update_collected_data("s", {"c": 3})
    assert [args["data"] for name, args in told if name == "before_data_update"] == [{"a": 1, "b": 2, "c": 3}]
    told.clear()
    async with session.turn() as turn:
        turn.set_data({"d": 4})
    assert [args["data"].get("d") for name, args in told if name == "before_data_update"] == [4]


async def test_a_commit_whose_answer_was_lost_is_told_once(heard, adapter):
    persistence, told = heard
    await persistence.save_session_state("s", create_session("s"))
    told.clear()
    adapter.faults["commit"] = [kit.lost_reply]
    await persistence.save_message("s", "user", "x")
    counts = {name: names(told).count(name) for name in set(names(told))}
    assert counts == {
        "before_message_save": 1, "before_commit": 1, "on_storage_operation": 2, "on_storage_error": 1,
        "on_messages_appended": 1, "on_session_committed": 1,
    }  # fmt: skip
    assert [a["outcome"] for n, a in told if n == "on_storage_operation"] == ["error", "ok"]


async def test_a_replayed_turn_tells_nobody_of_a_commit(heard):
    persistence, told = heard
    session = turnkeep.SessionManager(persistence, session_id="s")
    for _ in range(2):
        told.clear()
        async with session.turn(commit_id="once") as turn:
            turn.add_message("user", "x")
    assert not {"on_session_committed", "on_messages_appended", "on_session_created"} & set(names(told))


async def test_a_conflict_is_told_once_per_refused_attempt(heard, adapter):
    persistence, told = heard
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.get_or_create()
    await persistence.save_message("s", "user", "theirs")
    told.clear()
    with pytest.raises(SessionConflict) as caught:
        await session.set_data({"a": 1})
    conflicts = [args for name, args in told if name == "on_conflict"]
    assert len(conflicts) == 1
    assert (conflicts[0]["expected"], conflicts[0]["actual"]) == (caught.value.expected, caught.value.actual)
    assert "on_storage_error" not in names(told)


async def test_sizes_and_outcomes_of_storage_operations(heard, adapter):
    persistence, told = heard
    await persistence.save_session_state("s", create_session("s"))

    async def sent(call):
        told.clear()
        with contextlib.suppress(turnkeep.TurnkeepError):
            await call()
        return [
            (args["operation"], args["size"], args["outcome"]) for name, args in told if name == "on_storage_operation"
        ]

    assert await sent(lambda: persistence.save_message("s", "user", "é" * 100)) == [("commit", 200, "ok")]
    found = await sent(lambda: persistence.update_collected_data("s", {"k": "x" * 1000}))
    assert [item[0] for item in found] == ["load", "commit"]
    assert found[0][1:] == (0, "ok")
    assert 1000 < found[1][1] < 1300, "data is payload too"
    state = await persistence.load_session_state("s")
    await persistence.save_message("s", "user", "x")
    adapter.faults["load"] = [kit.down]
    assert await sent(lambda: persistence.find_session_by_id("s")) == [("load", 0, "error")]
    assert (await sent(lambda: persistence.save_session_state("t", state)))[-1:] != [("commit", 0, "ok")]
    assert (await sent(lambda: persistence.save_session_state("s", create_session("s"))))[0][2] == "conflict"


async def test_refusing_before_writes_nothing(adapter, connect):
    class Refuse:
        @turnkeep.hookimpl
        def before_message_save(self, message):
            if "card" in message.content:
                raise PermissionError("no card numbers")

        @turnkeep.hookimpl
        def before_commit(self, turn):
            if turn.data and "card" in turn.data:
                raise PermissionError("no card numbers")

    persistence = await connect(adapter, plugins=[Refuse()])
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.add_message("user", "x")
    before = session.current
    adapter.calls.clear()

    async def turn():
        async with session.turn() as turn:
            turn.add_message("user", "card")

    for call in (
        lambda: session.add_message("user", "card"),
        lambda: persistence.save_message("s", "user", "card"),
        lambda: persistence.save_messages("s", [Message("user", "a"), Message("user", "card")]),
        lambda: session.set_history([Message("user", "card")]),
        lambda: session.set_data({"card": 1}),
        lambda: persistence.update_collected_data("s", {"card": 1}),
        turn,
    ):
        with pytest.raises(PermissionError):
            await call()
    assert adapter.count("commit") == 0
    assert session.current == before == await persistence.load_session_state("s")


async def test_changing_before_is_what_is_stored_and_what_memory_shows(adapter, connect):
    class Redact:
        @turnkeep.hookimpl
        def before_message_save(self, message):
            return message.replace(content=message.content.replace("1234", "****"))

        @turnkeep.hookimpl
        def before_data_update(self, data):
            return {**data, "seen": True}

    persistence = await connect(adapter, plugins=[Redact()])
    session = turnkeep.SessionManager(persistence, session_id="s")
    returned = [await session.add_message("user", "pin 1234"), await session.add_message("user", "again 1234")]
    await session.set_data({"a": 1})
    async with session.turn() as turn:
        turn.add_message("user", "turn 1234")
    returned.append(await persistence.save_message("s", "user", "direct 1234"))
    assert [m.content for m in returned] == ["pin ****", "again ****", "direct ****"]
    state = await persistence.load_session_state("s")
    assert [m.content for m in state.history] == ["pin ****", "again ****", "turn ****", "direct ****"]
    assert [m.content for m in session.get_history()] == ["pin ****", "again ****", "turn ****"]
    assert state.data == {"a": 1, "seen": True} == session.data


@pytest.mark.parametrize("change", ["add", "exchange", "exchange and fewer"])
async def test_messages_of_before_commit_pass_before_message_save_too(adapter, connect, change):
    class Redact:
        @turnkeep.hookimpl
        def before_message_save(self, message):
            return message.replace(content=message.content.replace("1234", "****"))

    class Add:
        @turnkeep.hookimpl
        def before_commit(self, turn):
            extra = Message("system", "note 1234")
            kept = turn.messages if change == "add" else turn.messages[1:] if change == "exchange" else ()
            return dataclasses.replace(turn, messages=(*kept, extra))

    persistence = await connect(adapter, plugins=[Redact(), Add()])
    session = turnkeep.SessionManager(persistence, session_id="s")
    async with session.turn() as turn:
        turn.add_message("user", "a")
        turn.add_message("user", "b")
    stored = [m.content for m in await persistence.load_session_history("s")]
    assert stored[-1] == "note ****"
    assert [m.content for m in session.get_history()] == stored


async def test_before_commit_sees_what_the_session_will_be(heard):
    persistence, told = heard
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.get_or_create()
    await persistence.complete_session("s")
    await session.get_or_create()
    told.clear()
    await session.set_data({"a": 1})
    view = dict(told)["before_commit"]["session"]
    assert view.data == {"a": 1}
    assert view.state.status == "active"


async def test_a_changed_turn_where_the_state_was_not_loaded_is_a_hook_error(adapter, connect):
    class Change:
        @turnkeep.hookimpl
        def before_commit(self, turn, session):
            if session.state is None:
                return dataclasses.replace(turn, data={"x": 1})
            return None

    persistence = await connect(adapter, plugins=[Change()])
    await persistence.save_session_state("s", create_session("s"))
    before = adapter.count("commit")
    for call in (lambda: persistence.save_message("s", "user", "x"), lambda: persistence.complete_session("s")):
        with pytest.raises(HookError):
            await call()
    assert adapter.count("commit") == before


# -- failures after the commit ---------------------------------------------------------------------------------------


OBSERVED = ["on_session_created", "on_messages_appended", "on_session_committed", "on_storage_operation"]


async def _turn(session):
    async with session.turn() as turn:
        turn.add_message("user", "new")
        turn.set_data({"new": 1})


WRITES = {
    "add_message": lambda session: session.add_message("user", "new"),
    "set_data": lambda session: session.set_data({"new": 1}),
    "set_history": lambda session: session.set_history([{"role": "user", "content": "new"}]),
    "turn": _turn,
}


def with_hooks(persistence, *plugins, **hooks):
    """A live session with the application's own functions, as an agent's session has them."""
    heard = kit.hooked(persistence, *plugins, **hooks)
    return heard, lambda **kwargs: turnkeep.SessionManager(heard, **kwargs)


@pytest.mark.parametrize("hook", OBSERVED)
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fresh", [True, False], ids=["creating", "existing"])
async def test_an_observer_that_raises_leaves_commit_and_memory(persistence, write, hook, fresh):
    told = []
    armed = []

    def fail():
        if armed:
            raise ZeroDivisionError

    _heard, make = with_hooks(persistence, recorder(told, *OBSERVED), **{hook: fail})
    session = make(session_id="s")
    if not fresh:
        await session.add_message("user", "old")
    armed.append(1)
    told.clear()
    with contextlib.suppress(ZeroDivisionError):
        await WRITES[write](session)
    armed.clear()
    stored = await persistence.load_session_state("s")
    if stored is None:
        # it failed while loading; nothing was written
        assert hook == "on_storage_operation"
        return
    if "commit" in [args.get("operation") for name, args in told if name == "on_storage_operation"]:
        assert "on_session_committed" in names(told), "the others are told all the same"
        assert session.current == stored, "memory is what was committed"
    await session.set_data({"next": 1})
    assert session.current == await persistence.load_session_state("s")


async def test_a_plugins_observer_that_raises_is_logged_and_goes_no_further(adapter, connect, caplog):
    class Broken:
        name = "broken-one"

        @turnkeep.hookimpl
        def on_session_committed(self):
            raise ZeroDivisionError

        @turnkeep.hookimpl
        def on_messages_appended(self):
            raise ZeroDivisionError

    told = []
    persistence = await connect(adapter, plugins=[Broken(), recorder(told, "on_session_committed")])
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.add_message("user", "x")
    await session.add_message("user", "y")
    assert len(session.get_history()) == 2
    assert len(told) == 2
    assert "broken-one" in caplog.text


# -- calls that hooks make themselves --------------------------------------------------------------------------------


REENTRANT = {
    "add_message": lambda session, persistence: session.add_message("system", "from the hook"),
    "set_data": lambda session, persistence: session.set_data({"hook": 1}),
    "get_or_create": lambda session, persistence: session.get_or_create(),
    "save": lambda session, persistence: session.save(),
    "persistence.save_message": lambda session, persistence: persistence.save_message("s", "system", "from the hook"),
    "persistence.update_collected_data": lambda session, persistence: persistence.update_collected_data(
        "s", {"hook": 1}
    ),
}


@pytest.mark.parametrize(
    "hook", ["before_message_save", "before_commit", "on_messages_appended", "on_session_committed"]
)
@pytest.mark.parametrize("call", REENTRANT)
@pytest.mark.parametrize("write", ["add_message", "set_data", "turn"])
async def test_a_hook_may_use_the_session_it_is_called_for(memory, connect, hook, call, write):
    """At worst it is refused with an error of ours; it must not wait for itself."""
    persistence = await connect(memory)
    inside = []

    async def use(**arguments):
        if not inside:
            inside.append(1)
            await REENTRANT[call](holder[0], heard)

    heard, make = with_hooks(persistence, **{hook: use})
    session = make(session_id="s")
    holder = [session]
    inside.append(1)
    await session.add_message("user", "old")
    inside.clear()
    try:
        async with asyncio.timeout(0.2):
            await WRITES[write](session)
    except TimeoutError:
        pytest.fail("waits for itself")
    except (turnkeep.TurnInProgress, turnkeep.Conflict):
        pass
    await session.get_or_create()
    assert session.current == await persistence.load_session_state("s")
