"""auto_save=False: turns of the own session stay staged until save(), which is one commit."""

from __future__ import annotations

import asyncio

import pytest

from turnkeep import Agent, Hooks, SessionConflict, SessionManager, tool
from turnkeep.providers import ProviderReply
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import booking, call, last_text, settle, texts


def echo(request):
    return f"echo {last_text(request)}"


def make(persistence, *script, **options):
    provider = ScriptedProvider(*script, always=options.pop("always", echo))
    return Agent(name="a", provider=provider, persistence=persistence, session_id="s", auto_save=False, **options)


async def test_nothing_is_stored_until_save_and_then_all_in_one_commit(store, persistence):
    agent = make(persistence, routes=[booking()])
    store.adapter.reset()
    await agent.respond("one")
    await agent.respond("two")
    await agent.session.add_message("system", "between")
    await agent.session.set_data({"a": 1})
    assert "commit" not in store.adapter.calls
    assert await store.dump() == {}
    assert len(agent.session.get_history()) == 5
    assert agent.session.data == {"a": 1}
    await agent.session.save()
    assert store.adapter.count("commit") == 1
    assert await store.texts("s") == texts(agent.session.get_history())
    assert await store.data("s") == {"a": 1}
    assert [message.seq for message in agent.session.get_history()] == [1, 2, 3, 4, 5]
    store.adapter.reset()
    await agent.session.save()
    assert store.adapter.calls == []


async def test_a_staged_turn_loads_once(store, persistence):
    agent = make(persistence)
    store.adapter.reset()
    for text in ("one", "two", "three"):
        await agent.respond(text)
    assert store.adapter.calls == ["load"]
    assert texts(agent.provider.last.history)[:2] == [("user", "one"), ("assistant", "echo one")]


async def test_a_staged_turn_that_fails_keeps_what_was_staged_before(store, persistence):
    agent = make(persistence, "one", RuntimeError, "three")
    await agent.respond("1")
    staged = agent.session.current
    with pytest.raises(Exception, match="RuntimeError"):
        await agent.respond("2")
    assert agent.session.current == staged
    await agent.respond("3")
    await agent.session.save()
    assert [content for _, content in await store.texts("s")] == ["1", "one", "3", "three"]


async def test_a_conflict_at_save_keeps_what_is_staged(store, persistence):
    agent = make(persistence)
    await agent.respond("begin")
    await agent.session.save()
    await agent.respond("mine")
    await (await store.other()).save_message("s", "system", "theirs")
    with pytest.raises(SessionConflict):
        await agent.session.save()
    assert texts(agent.session.get_history())[-2:] == [("user", "mine"), ("assistant", "echo mine")]
    with pytest.raises(SessionConflict):
        await agent.session.save()
    await agent.session.get_or_create("s")
    assert texts(agent.session.get_history())[-1] == ("system", "theirs")
    await agent.respond("again")
    await agent.session.save()
    assert [content for _, content in await store.texts("s")] == [
        "begin",
        "echo begin",
        "theirs",
        "again",
        "echo again",
    ]


async def test_it_is_only_for_the_own_session(store, persistence):
    agent = make(persistence)
    await agent.respond("hello", session_id="other")
    await agent.respond("hello", user_id="ana")
    assert await store.texts("other") == [("user", "hello"), ("assistant", "echo hello")]
    assert len((await persistence.find_sessions_by_user_id("ana")).items) == 1


async def test_persistence_calls_always_write(store, persistence):
    agent = make(persistence)
    await SessionManager(persistence, session_id="s").add_message("user", "before")
    await agent.respond("hello")
    await persistence.save_message("s", "system", "at once")
    assert await store.texts("s") == [("user", "before"), ("system", "at once")]


async def test_closing_drops_what_is_staged(store, persistence):
    async with make(persistence) as agent:
        await agent.respond("hello")
    assert await store.dump() == {}


async def test_hooks_of_the_commit_run_at_save(persistence):
    order = []
    hooks = Hooks(
        before_respond=lambda: order.append("respond"),
        before_commit=lambda: order.append("commit"),
        on_session_created=lambda: order.append("created"),
        on_messages_appended=lambda messages: order.append(len(messages)),
    )
    agent = make(persistence, hooks=hooks)
    await agent.respond("one")
    await agent.respond("two")
    assert order == ["respond", "respond"]
    await agent.session.save()
    assert order == ["respond", "respond", "commit", "created", 4]


async def test_a_repeated_commit_id_before_save_gives_the_first_reply(store, persistence):
    agent = make(persistence)
    first = await agent.respond("hello", commit_id="c")
    again = await agent.respond("hello", commit_id="c")
    assert (again.message, agent.provider.calls) == (first.message, 1)
    await agent.session.save()
    assert len(await store.texts("s")) == 2


async def test_a_tool_has_a_key_of_its_own_in_each_staged_turn(persistence):
    keys = []

    @tool
    def pay(call):
        keys.append(call.idempotency_key)

    agent = make(persistence, call("pay"), "one", call("pay"), "two", tools=[pay])
    await agent.respond("1")
    await agent.respond("2")
    assert len(set(keys)) == 2


async def test_saving_while_a_turn_is_under_way_loses_neither(store, persistence):
    """An application that saves on a timer: the turn under way must not vanish, nor memory claim it was stored."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def held(request):
        asked.set()
        await go.wait()
        return "two"

    agent = make(persistence, "one", held)
    await agent.respond("1")
    task = asyncio.create_task(agent.respond("2"))
    await asked.wait()
    saving = asyncio.create_task(agent.session.save())
    await settle()
    go.set()
    await asyncio.gather(task, saving, return_exceptions=True)
    try:
        await agent.session.save()
    except SessionConflict:
        assert ("user", "2") in texts(agent.session.get_history())  # kept staged, and said so
        return
    assert await store.texts("s") == texts(agent.session.get_history())
    assert [content for _, content in await store.texts("s")] == ["1", "one", "2", "two"]


async def test_a_message_added_while_a_turn_is_under_way_is_not_lost(store, persistence):
    asked, go = asyncio.Event(), asyncio.Event()

    async def held(request):
        asked.set()
        await go.wait()
        return "two"

    agent = make(persistence, "one", held)
    await agent.respond("1")
    task = asyncio.create_task(agent.respond("2"))
    await asked.wait()
    adding = asyncio.create_task(agent.session.add_message("system", "meanwhile"))
    await settle()
    go.set()
    outcomes = await asyncio.gather(task, adding, return_exceptions=True)
    await agent.session.save()
    stored = [content for _, content in await store.texts("s")]
    if not isinstance(outcomes[1], Exception):
        assert "meanwhile" in stored
    if not isinstance(outcomes[0], Exception):
        assert "two" in stored
    assert await store.texts("s") == texts(agent.session.get_history())


async def test_saving_inside_a_turn_does_not_break_it(store, persistence):
    @tool
    async def save():
        await agent.session.save()

    agent = make(persistence, "one", call("save"), "two", tools=[save])
    await agent.respond("1")
    await agent.respond("2")
    try:
        await agent.session.save()
    except SessionConflict:
        return
    assert await store.texts("s") == texts(agent.session.get_history())
    assert ("assistant", "two") in await store.texts("s")


async def test_routes_and_data_go_on_over_staged_turns(store, persistence):
    agent = make(
        persistence,
        ProviderReply(route="book-a-table", text="Who?"),
        ProviderReply(data={"name": "Ana"}, text="?"),
        ProviderReply(data={"guests": 2}, text="Done"),
        routes=[booking()],
    )
    for text in ("a", "b"):
        await agent.respond(text)
    assert (await agent.respond("c")).is_route_complete
    await agent.session.save()
    assert await store.data("s") == {"name": "Ana", "guests": 2}
