"""One turn: a load, a commit, the hooks around them, and nothing at all when it fails."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from pydantic import BaseModel

from turnkeep import (
    Agent,
    ConfigurationError,
    HookError,
    Hooks,
    InvalidArgument,
    Message,
    NotSerializable,
    PersistenceClosed,
    ProviderError,
    Route,
    SessionExists,
    SessionManager,
    SessionNotLoaded,
    Step,
    TurnInProgress,
    hookimpl,
    tool,
)
from turnkeep.agent.run import Run
from turnkeep.hookspecs import HOOKS
from turnkeep.providers import ProviderReply
from turnkeep.turn import Draft, OpenTurn
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import booking, call, last_text, texts, visible


def make(persistence, *script, **options):
    """An agent whose provider follows a script."""
    provider = ScriptedProvider(*script, always=options.pop("always", None), pause=options.pop("pause", None))
    return Agent(name="Front desk", provider=provider, persistence=persistence, **options)


# One load, one commit


async def test_a_respond_is_one_load_and_one_commit(store, persistence):
    agent = make(persistence, "one", "two", session_id="s")
    for _ in range(2):
        store.adapter.reset()
        await agent.respond("hello")
        assert store.adapter.calls == ["load", "commit"]


async def test_also_with_tools_routes_data_and_joined_calls(store, persistence):
    @tool
    async def note(text: str, session):
        await persistence.save_message(session.id, "system", text)
        await persistence.update_collected_data(session.id, {"noted": True})
        assert (await persistence.load_session_state(session.id)).data["noted"]
        return "noted"

    answers = [
        ProviderReply(route="book-a-table", text="Who?"),
        ProviderReply(data={"name": "Ana"}, tool_calls=(call("note", text="x"),)),
        ProviderReply(data={"guests": 4}, text="Done"),
    ]
    agent = make(persistence, *answers, session_id="s", routes=[booking()], tools=[note])
    store.adapter.reset()
    await agent.respond("hello")
    assert store.adapter.calls == ["load", "commit"]
    store.adapter.reset()
    reply = await agent.respond("Ana, four of us")
    assert store.adapter.calls == ["load", "commit"]
    assert reply.is_route_complete
    assert await store.data("s") == {"noted": True, "name": "Ana", "guests": 4}
    assert [role for role, _ in await store.texts("s")] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "system",
        "tool",
        "assistant",
    ]


async def test_a_turn_adds_only_its_own_messages_to_the_commit(store, persistence):
    agent = make(persistence, always="ok", session_id="s")
    for number in range(5):
        await agent.respond(f"m{number}")
    assert [len(commit.messages) for commit in store.adapter.commits] == [2] * 5


async def test_a_new_session_is_created_by_its_first_turn_alone(store, persistence):
    agent = make(persistence, "hi", session_id="s")
    assert await persistence.find_session_by_id("s") is None
    await agent.respond("hello")
    record = await persistence.find_session_by_id("s")
    assert (record.message_count, record.agent_name, record.status) == (2, "Front desk", "active")


async def test_the_reply_says_what_happened(persistence):
    agent = make(persistence, ProviderReply(text="hi", usage={"input_tokens": 3}), session_id="s")
    reply = await agent.respond("hello", commit_id="c-1")
    assert (reply.message, reply.session_id, reply.commit_id) == ("hi", "s", "c-1")
    assert (reply.is_route_complete, reply.tool_calls, reply.executed_steps) == (False, (), ())
    assert (reply.stopped_reason, dict(reply.usage), reply.replayed) == ("needs_input", {"input_tokens": 3}, False)


async def test_metadata_is_kept_with_the_users_message(persistence):
    agent = make(persistence, "hi", session_id="s")
    await agent.respond("hello", metadata={"channel": "mail"})
    user, assistant = await persistence.load_session_history("s")
    assert user.metadata == {"channel": "mail"}
    assert assistant.metadata == {}


async def test_memory_equals_database_after_each_turn(store, persistence):
    agent = make(persistence, always=lambda request: f"echo {last_text(request)}", session_id="s", routes=[booking()])
    for number in range(3):
        await agent.respond(f"m{number}")
        assert (await store.dump())["s"][1] == agent.session.current


async def test_the_live_sessions_state_can_be_saved_with_changes(store, persistence):
    agent = make(persistence, "ok", session_id="s")
    await agent.respond("hello")
    await persistence.save_session_state("s", agent.session.current.replace(data={"a": 1}))
    assert await store.data("s") == {"a": 1}
    assert len(await store.texts("s")) == 2


# Whose session


async def test_a_respond_that_names_nothing_makes_the_own_session(persistence):
    agent = make(persistence, always="ok")
    with pytest.raises(SessionNotLoaded):
        _ = agent.session
    first = await agent.respond("a")
    second = await agent.respond("b")
    assert first.session_id == second.session_id == agent.session.id
    assert len(agent.session.get_history()) == 4


async def test_naming_a_session_or_a_user_never_touches_the_own_one(persistence):
    agent = make(persistence, always="ok", session_id="own")
    await agent.respond("a")
    before = agent.session.current
    await agent.respond("b", session_id="other")
    by_user = await agent.respond("c", user_id="ana")
    assert agent.session.current == before
    assert agent.session.id == "own"
    assert by_user.session_id not in ("own", "other")
    assert (await persistence.find_session_by_id(by_user.session_id)).user_id == "ana"


async def test_named_calls_make_no_own_session(persistence):
    agent = make(persistence, always="ok")
    await agent.respond("b", session_id="other")
    await agent.respond("c", user_id="ana")
    with pytest.raises(SessionNotLoaded):
        _ = agent.session


async def test_a_user_alone_begins_a_new_session_each_time(persistence):
    agent = make(persistence, always="ok")
    ids = {(await agent.respond("hi", user_id="ana")).session_id for _ in range(3)}
    assert len(ids) == 3
    assert {record.id for record in (await persistence.find_sessions_by_user_id("ana")).items} == ids


async def test_another_owners_session_behaves_as_absent_until_its_id_is_taken(store, persistence):
    agent = make(persistence, always="ok")
    await agent.respond("secret", session_id="s", user_id="ana")
    with pytest.raises(SessionExists):
        await agent.respond("let me see", session_id="s", user_id="bob")
    assert len(agent.provider.last.history) == 1  # bob's model saw nothing of ana's history
    assert await store.texts("s") == [("user", "secret"), ("assistant", "ok")]


async def test_no_user_means_anonymous_for_an_agent(store, persistence):
    agent = make(persistence, always="ok")
    await agent.respond("secret", session_id="s", user_id="ana")
    with pytest.raises(SessionExists):
        await agent.respond("hello", session_id="s")
    assert len(agent.provider.last.history) == 1
    assert len(await store.texts("s")) == 2


async def test_a_bound_persistence_refuses_other_users(store):
    agent = make(await store.connect(user_id="ana"), always="ok")
    with pytest.raises(ConfigurationError):
        await agent.respond("hello", user_id="bob")
    reply = await agent.respond("hello")
    assert (await agent.persistence.find_session_by_id(reply.session_id)).user_id == "ana"


@pytest.mark.parametrize(
    "bad", [{"session_id": ""}, {"user_id": ""}, {"session_id": {"$ne": None}}, {"commit_id": "a b"}]
)
async def test_ids_that_are_none_are_refused_before_anything_is_done(store, persistence, bad):
    agent = make(persistence, always="ok", session_id="s")
    store.adapter.reset()
    with pytest.raises(InvalidArgument):
        await agent.respond("hello", **bad)
    assert store.adapter.calls == []
    assert agent.provider.calls == 0


@pytest.mark.parametrize("bad", [None, 5, b"x", ["hello"], Message("user", "hello")])
async def test_text_is_a_str(persistence, bad):
    with pytest.raises(InvalidArgument, match="text"):
        await make(persistence, always="ok", session_id="s").respond(bad)


# The request


async def test_the_provider_is_given_instructions_history_and_data(persistence):
    class Booking(BaseModel):
        name: str
        guests: int

    agent = make(
        persistence,
        ProviderReply(route="book-a-table", text="Who?"),
        ProviderReply(data={"name": "Ana"}, text="How many?"),
        "?",
        session_id="s",
        instructions="Be brief.",
        schema=Booking,
        routes=[booking(when="the user wants to book")],
        context={"locale": "pt"},
    )
    await agent.respond("hello", commit_id="c1")
    first = agent.provider.requests[0]
    assert first.instructions == "Be brief."
    assert texts(first.history) == [("user", "hello")]
    assert (first.route, first.step, first.commit_id) == (None, None, "c1")
    assert [(route.id, route.title, route.when, route.missing) for route in first.routes] == [
        ("book-a-table", "Book a table", "the user wants to book", ("name", "guests"))
    ]
    assert list(first.fields["properties"]) == ["name", "guests"]
    assert first.fields["properties"]["guests"]["type"] == "integer"
    assert dict(first.context) == {"locale": "pt", "session_id": "s", "user_id": None}
    assert dict(first.data) == {}

    await agent.respond("Ana")
    second = agent.provider.requests[1]
    assert (second.route.id, second.step.id) == ("book-a-table", "name")
    assert texts(second.history) == [("user", "hello"), ("assistant", "Who?"), ("user", "Ana")]

    await agent.respond("hm")
    third = agent.provider.requests[2]
    assert (third.step.id, third.route.missing, dict(third.data)) == ("guests", ("guests",), {"name": "Ana"})
    assert list(third.fields["properties"]) == ["guests"]
    assert third.check({"guests": "many"}).keys() == {"guests"}
    assert third.check({"guests": 3}) == {}


async def test_what_the_provider_does_to_its_request_changes_nothing(persistence):
    def spoil(request):
        request.context["locale"] = "xx"
        request.data["name"] = "Eve"
        return "ok"

    agent = make(persistence, spoil, session_id="s", context={"locale": "pt"})
    await agent.respond("hello")
    assert agent.context["locale"] == "pt"
    assert agent.session.data == {}


async def test_the_agents_name_is_noted_on_the_session(store, persistence):
    await make(persistence, "ok", session_id="s").respond("a")
    other = Agent(name="Back office", provider=ScriptedProvider("ok"), persistence=persistence, session_id="s")
    await other.respond("b")
    assert (await persistence.find_session_by_id("s")).agent_name == "Back office"
    assert other.session.current.agent_name == "Back office"


async def test_messages_carry_route_and_step(persistence):
    agent = make(
        persistence,
        ProviderReply(route="book-a-table", text="Who?"),
        ProviderReply(data={"name": "Ana"}, text="How many?"),
        ProviderReply(data={"guests": 2}, text="Done"),
        session_id="s",
        routes=[booking()],
    )
    for text in ("hello", "Ana", "2"):
        await agent.respond(text)
    places = [(message.content, message.route, message.step) for message in agent.session.get_history()]
    assert places == [
        ("hello", None, None),
        ("Who?", "book-a-table", "name"),
        ("Ana", "book-a-table", "name"),
        ("How many?", "book-a-table", "guests"),
        ("2", "book-a-table", "guests"),
        ("Done", None, None),
    ]


async def test_a_window_limits_what_is_loaded_and_shown(store, persistence):
    agent = make(persistence, always="ok", session_id="s")
    for number in range(5):
        await agent.respond(f"m{number}")
    narrow = make(persistence, always="ok", session_id="s", window=2)
    await narrow.respond("m5")
    assert texts(narrow.provider.last.history) == [("user", "m4"), ("assistant", "ok"), ("user", "m5")]
    assert narrow.session.has_more
    blind = make(persistence, always="ok", session_id="s", window=0)
    await blind.respond("m6")
    assert texts(blind.provider.last.history) == [("user", "m6")]
    assert len(await store.texts("s")) == 14


async def test_a_result_whose_call_was_not_loaded_is_kept_but_not_shown(persistence):
    seed = SessionManager(persistence, session_id="s")
    await seed.add_message("assistant", "", tool_calls=[{"id": "c1", "name": "look", "arguments": {}}])
    await seed.add_message("tool", "found", tool_call_id="c1", name="look")
    await seed.add_message("user", "thanks")
    agent = make(persistence, "ok", session_id="s", window=2)
    await agent.respond("more")
    assert texts(agent.provider.last.history) == [("user", "thanks"), ("user", "more")]
    assert [message.role for message in agent.session.get_history()] == ["tool", "user", "user", "assistant"]


# Hooks


async def test_hooks_run_in_the_order_of_the_design(persistence):
    order = []

    def note(name):
        async def hook(**kwargs):
            await asyncio.sleep(0)
            order.append(name if name != "on_storage_operation" else f"{name}:{kwargs['operation']}")

        return hook

    names = [name for name in HOOKS if not name.startswith(("register_", "on_startup", "on_shutdown"))]
    agent = make(
        persistence,
        lambda _: order.append("provider") or ProviderReply(route="r", tool_calls=(call("look"),)),
        lambda _: order.append("provider") or ProviderReply(data={"name": "Ana"}, text="Thanks"),
        session_id="s",
        routes=[Route("R", steps=[Step("Ask", collect=["name"], finalize=lambda: order.append("finalize"))])],
        hooks=Hooks(**{name: note(name) for name in names}),
    )

    @tool
    async def look():
        order.append("tool")
        await agent.update_context({"seen": True})

    agent._tools["look"] = look
    await agent.respond("hello")
    assert order == [
        "on_storage_operation:load",
        "before_respond",
        "before_provider_call",
        "provider",
        "tool",
        "before_provider_call",
        "provider",
        "before_data_update",
        "finalize",
        "on_context_update",
        "before_message_save",  # user
        "before_message_save",  # assistant, calling
        "before_message_save",  # tool
        "before_message_save",  # assistant
        "before_commit",
        "on_storage_operation:commit",
        "on_session_created",
        "on_messages_appended",
        "on_session_committed",
        "on_route_entered",
        "on_route_completed",
        "after_respond",
    ]
    order.clear()
    agent.provider.add("again")
    await agent.respond("more")
    assert order[:3] == ["on_storage_operation:load", "on_session_loaded", "before_respond"]
    assert "on_context_update" not in order
    assert "before_data_update" not in order
    assert "on_session_created" not in order


async def test_the_users_message_is_staged_after_before_respond(persistence):
    seen = {}

    def before_respond(session):
        seen["before"] = len(session.state.history)

    def before_provider_call(history):
        seen["call"] = len(history)

    hooks = Hooks(before_respond=before_respond, before_provider_call=before_provider_call)
    await make(persistence, "ok", session_id="s", hooks=hooks).respond("hello")
    assert seen == {"before": 0, "call": 1}


async def test_hooks_after_the_commit_see_what_is_stored(store, persistence):
    seen = {}

    async def after_respond(reply, session):
        seen["reply"] = reply
        seen["stored"] = await store.texts(session.id)
        seen["seqs"] = [message.seq for message in session.state.history]

    async def on_messages_appended(messages):
        seen["appended"] = [(message.seq, message.commit_id) for message in messages]

    hooks = Hooks(after_respond=after_respond, on_messages_appended=on_messages_appended)
    reply = await make(persistence, "hi", session_id="s", hooks=hooks).respond("hello", commit_id="c")
    assert seen["reply"] == reply
    assert seen["stored"] == [("user", "hello"), ("assistant", "hi")]
    assert seen["seqs"] == [1, 2]
    assert seen["appended"] == [(1, "c"), (2, "c")]


async def test_what_the_model_is_shown_can_be_changed_and_is_not_stored(store, persistence):
    hooks = Hooks(before_provider_call=lambda history: [Message("system", "be kind"), *history])
    agent = make(persistence, "ok", session_id="s", hooks=hooks)
    await agent.respond("hello")
    assert texts(agent.provider.last.history) == [("system", "be kind"), ("user", "hello")]
    assert await store.texts("s") == [("user", "hello"), ("assistant", "ok")]


async def test_messages_can_be_redacted_before_they_are_stored(store, persistence):
    hooks = Hooks(before_message_save=lambda message: message.replace(content=message.content.replace("4111", "****")))
    agent = make(persistence, "got 4111", session_id="s", hooks=hooks)
    await agent.respond("card 4111")
    assert await store.texts("s") == [("user", "card ****"), ("assistant", "got ****")]
    assert texts(agent.session.get_history()) == await store.texts("s")
    assert "4111" in agent.provider.last.history[-1].content


@pytest.mark.parametrize(
    "hook",
    [
        "before_respond",
        "before_provider_call",
        "before_data_update",
        "before_message_save",
        "before_commit",
        "on_context_update",
    ],
)
async def test_a_hook_that_refuses_leaves_everything_as_it_was(store, persistence, hook):
    class Refused(Exception):
        pass

    armed = False

    async def refuse():
        if armed:
            raise Refused

    @tool
    async def touch():
        await agent.update_context({"touched": armed})
        return "ok"

    agent = make(
        persistence,
        "first",
        ProviderReply(data={"name": "Ana"}, tool_calls=(call("touch"),)),
        "bye",
        session_id="s",
        tools=[touch],
        hooks=Hooks(**{hook: refuse}),
    )
    await agent.respond("one")
    before, dump, context = agent.session.current, await store.dump(), agent.context
    armed = True
    with pytest.raises(Refused) as refused:
        await agent.respond("two")
    assert hook in refused.value.__notes__[0]
    assert agent.session.current == before
    assert agent.context == context
    assert await store.dump() == dump
    armed = False
    agent.provider._script.clear()
    agent.provider.add("third")
    assert (await agent.respond("three")).message == "third"


async def test_a_plugins_failure_after_the_commit_is_logged_the_applications_is_raised(store, persistence, caplog):
    class Noisy:
        @hookimpl
        def after_respond(self):
            raise RuntimeError("plugin")

    agent = make(persistence, always="ok", session_id="s", plugins=[Noisy()])
    with caplog.at_level(logging.ERROR):
        await agent.respond("one")
    assert "Noisy" in caplog.text or "after_respond" in caplog.text

    def after_respond():
        raise RuntimeError("application")

    agent = make(persistence, always="ok", session_id="s", hooks=Hooks(after_respond=after_respond))
    with pytest.raises(RuntimeError, match="application"):
        await agent.respond("two")
    assert len(await store.texts("s")) == 4
    assert len(agent.session.get_history()) == 4


def test_a_misspelt_hook_or_argument_is_refused_at_once():
    with pytest.raises(HookError, match="before_respond"):
        Hooks(before_respon=lambda: None)
    with pytest.raises(HookError, match="context"):
        Hooks(before_respond=lambda kontext: None)


async def test_hooks_of_the_persistence_and_of_the_agent_both_run_the_application_last(store):
    order = []

    class OfStore:
        @hookimpl
        def on_session_committed(self):
            order.append("store")

    class OfAgent:
        @hookimpl
        def on_session_committed(self):
            order.append("agent")

    persistence = await store.connect(plugins=[OfStore()])
    hooks = Hooks(on_session_committed=lambda: order.append("application"))
    await make(persistence, "ok", session_id="s", plugins=[OfAgent()], hooks=hooks).respond("hi")
    assert order == ["store", "agent", "application"]
    await SessionManager(persistence, session_id="s").add_message("user", "x")
    assert order == ["store", "agent", "application", "store"]


# A turn that fails


class Vendor(Exception):
    pass


@pytest.mark.parametrize(
    "failure", [Vendor("boom"), TimeoutError("slow"), ProviderError("down", retryable=True), 42, None]
)
async def test_a_provider_that_fails_leaves_memory_and_database_as_they_were(store, persistence, failure):
    script = [lambda _: failure] if failure is None else [failure]
    agent = make(persistence, "one", *script, "three", session_id="s")
    await agent.respond("one")
    before, dump = agent.session.current, await store.dump()
    with pytest.raises(ProviderError) as caught:
        await agent.respond("two")
    if isinstance(failure, ProviderError):
        assert caught.value is failure
        assert caught.value.retryable
    elif isinstance(failure, Exception):
        assert caught.value.__cause__ is failure
    assert agent.session.current == before
    assert await store.dump() == dump
    await agent.respond("three")
    assert await store.texts("s") == [("user", "one"), ("assistant", "one"), ("user", "three"), ("assistant", "three")]


async def test_a_first_turn_that_fails_creates_nothing(store, persistence):
    agent = make(persistence, Vendor("boom"), session_id="s")
    with pytest.raises(ProviderError):
        await agent.respond("one")
    assert await store.dump() == {}
    with pytest.raises(SessionNotLoaded):
        _ = agent.session.current


@pytest.mark.parametrize(
    "reply",
    [
        ProviderReply(text=None),
        ProviderReply(text="x", data=None),
        ProviderReply(text="x", tool_calls=None),
        ProviderReply(text="x", tool_calls=({"id": "1", "name": "look", "arguments": {}},)),
        ProviderReply(text="x", usage={"tokens": None}),
        ProviderReply(text="x", usage=None),
        ProviderReply(text="x", data={"when": object()}),
        ProviderReply(text="x", data={1: 2}),
    ],
    ids=["no text", "no data", "no calls", "call as dict", "usage of None", "no usage", "odd data", "odd key"],
)
async def test_a_reply_with_odd_parts_is_taken_for_empty_or_is_a_providers_error(store, persistence, reply):
    """Vendors send null for what is not there: never an AttributeError from within, never half a turn."""
    agent = make(persistence, reply, always="after the call", session_id="s")
    try:
        await agent.respond("hello")
    except (ProviderError, NotSerializable):
        assert await store.dump() == {}


async def test_what_must_survive_a_failed_turn_is_written_before_it(store, persistence):
    agent = make(persistence, "one", Vendor("boom"), session_id="s")
    await agent.respond("one")
    await persistence.save_message("s", "system", "attempt 2")
    with pytest.raises(ProviderError):
        await agent.respond("two")
    assert (await store.texts("s"))[-1] == ("system", "attempt 2")


async def test_a_turn_cancelled_at_any_point_leaves_memory_as_the_database(memory):
    """Cancelled at its k-th suspension, for every k: nothing stored, unless the commit itself was hit: then all."""
    outcomes = set()
    for k in range(1, 200):
        adapter = memory.new_adapter(suspend=True)
        from turnkeep import connect

        persistence = await connect(adapter)
        session_id = f"s{k}"

        @tool
        async def slow(session):
            await asyncio.sleep(0)
            await persistence.save_message(session.id, "system", "from the tool")  # noqa: B023 - called before the next round
            return "ok"

        async def pause():
            await asyncio.sleep(0)

        agent = make(
            persistence,
            "first",
            ProviderReply(route="book-a-table", data={"name": "Ana"}, tool_calls=(call("slow"),)),
            "done",
            pause=0,
            session_id=session_id,
            routes=[booking()],
            tools=[slow],
            hooks=Hooks(before_respond=pause, before_message_save=pause, on_session_committed=pause),
        )
        await agent.respond("first")
        before = agent.session.current
        dumped = (await memory.dump())[session_id]
        task = asyncio.create_task(agent.respond("second"))
        for _ in range(k):
            await asyncio.sleep(0)
        if task.done():
            await task
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stored = (await memory.dump())[session_id]
        if stored == dumped:
            outcomes.add("nothing")
            assert agent.session.current == before
        else:
            outcomes.add("all")
            assert visible(agent.session.current) == visible(stored[1])
            assert texts(stored[1].history)[2:] == [
                ("user", "second"),
                ("assistant", ""),
                ("system", "from the tool"),
                ("tool", "ok"),
                ("assistant", "done"),
            ]
            assert stored[1].data == {"name": "Ana"}
        assert persistence._gateway.gates._gates == {}
        agent.provider._script.clear()
        agent.provider.add("third")
        assert (await agent.respond("third")).message == "third"
        await persistence.aclose()
    else:
        raise AssertionError("the turn never ended")
    assert outcomes == {"nothing", "all"}
    assert k > 10


async def test_a_first_turn_cancelled_in_its_commit_is_whole(memory):
    adapter = memory.new_adapter()
    from turnkeep import connect

    persistence = await connect(adapter)
    agent = make(persistence, "hi", session_id="s")

    async def cancel(_):
        task.cancel()

    adapter.after["commit"] = cancel
    task = asyncio.create_task(agent.respond("hello"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await memory.texts("s") == [("user", "hello"), ("assistant", "hi")]
    assert texts(agent.session.get_history()) == await memory.texts("s")
    await persistence.aclose()


async def test_an_outer_timeout_ends_the_turn(store, persistence):
    async def hang(_):
        await asyncio.sleep(60)

    agent = make(persistence, hang, "ok", session_id="s")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await agent.respond("hello")
    assert await store.dump() == {}
    assert (await agent.respond("hello")).message == "ok"


# Context


async def test_each_turn_has_its_own_deep_copy_of_the_context(persistence):
    given = {"preferences": {"theme": "dark"}}

    @tool
    def spoil(context):
        context["preferences"]["theme"] = "light"
        context["extra"] = 1
        return "ok"

    agent = make(persistence, call("spoil"), "a", "b", session_id="s", tools=[spoil], context=given)
    given["preferences"]["theme"] = "changed by the caller"
    await agent.respond("one", session_id="x")
    await agent.respond("two", session_id="y")
    assert agent.provider.requests[0].context["preferences"] == {"theme": "dark"}
    assert agent.provider.requests[2].context["preferences"] == {"theme": "dark"}
    assert agent.context == {"preferences": {"theme": "dark"}}


async def test_an_overlay_is_for_one_turn(persistence):
    agent = make(persistence, "a", "b", session_id="s", context={"locale": "pt", "plan": "free"})
    await agent.respond("one", context={"locale": "en"})
    await agent.respond("two")
    assert [request.context["locale"] for request in agent.provider.requests] == ["en", "pt"]
    assert agent.context == {"locale": "pt", "plan": "free"}


async def test_session_and_user_are_put_in_where_absent(persistence):
    agent = make(persistence, "a", "b", context={})
    await agent.respond("one", session_id="s", user_id="ana")
    assert dict(agent.provider.last.context) == {"session_id": "s", "user_id": "ana"}
    await agent.respond("two", session_id="t", context={"user_id": "u-1"})
    assert dict(agent.provider.last.context) == {"session_id": "t", "user_id": "u-1"}


@pytest.mark.parametrize("bad", [[], "x", 5])
async def test_a_context_is_a_dict(store, persistence, bad):
    with pytest.raises(InvalidArgument):
        make(persistence, "a", context=bad)
    agent = make(persistence, "a", session_id="s")
    with pytest.raises(InvalidArgument):
        await agent.respond("hello", context=bad)
    with pytest.raises(InvalidArgument):
        await agent.update_context(bad)
    assert await store.dump() == {}


async def test_update_context_inside_a_turn_changes_that_turn(persistence):
    @tool
    async def login(context):
        await agent.update_context({"user": "Ana"})
        assert agent.context["user"] == "Ana"
        return "ok"

    agent = make(persistence, call("login"), "a", "b", tools=[login], context={"user": None})
    await agent.respond("one", session_id="x")
    assert [request.context["user"] for request in agent.provider.requests] == [None, "Ana"]
    assert agent.context == {"user": None}
    await agent.respond("two", session_id="x")
    assert agent.provider.last.context["user"] is None


async def test_update_context_outside_a_turn_is_the_own_sessions(persistence):
    agent = make(persistence, always="ok", session_id="s", context={"a": 1})
    assert await agent.update_context({"locale": "pt"}) == {"a": 1, "locale": "pt"}
    await agent.respond("one")
    assert agent.provider.last.context["locale"] == "pt"
    await agent.respond("two", session_id="other")
    assert "locale" not in agent.provider.last.context


async def test_a_failed_turn_takes_its_context_along(persistence):
    @tool
    async def login():
        await agent.update_context({"user": "Ana"})

    agent = make(persistence, call("login"), Vendor(), session_id="s", tools=[login], context={"user": None})
    with pytest.raises(ProviderError):
        await agent.respond("one")
    assert agent.context == {"user": None}


async def test_on_context_update_once_at_the_end_and_only_if_changed(persistence):
    told = []

    @tool
    async def touch():
        await agent.update_context({"n": 1})
        await agent.update_context({"n": 2})

    @tool
    async def back_and_forth():
        await agent.update_context({"n": 5})
        await agent.update_context({"n": 0})

    hooks = Hooks(
        before_respond=lambda context: {**context, "fresh": True},
        on_context_update=lambda context, previous: told.append((previous["n"], context["n"], previous["fresh"])),
    )
    agent = make(
        persistence,
        "a",
        call("touch"),
        "b",
        call("back_and_forth"),
        "c",
        tools=[touch, back_and_forth],
        hooks=hooks,
        context={"n": 0},
    )
    for number in range(3):
        await agent.respond("hello", session_id=f"s{number}")
    assert told == [(0, 2, True)]


async def test_on_context_update_outside_a_turn_runs_at_once(persistence):
    told = []
    hooks = Hooks(on_context_update=lambda context, previous: told.append((previous, context)))
    agent = make(persistence, "ok", session_id="s", context={"a": 1}, hooks=hooks)
    await agent.respond("hello")
    await agent.update_context({"locale": "pt"})
    await agent.update_context({"locale": "pt"})
    named = {"a": 1, "session_id": "s", "user_id": None}
    assert told == [(named, {**named, "locale": "pt"})]


async def test_update_context_works_before_anything_was_loaded(persistence):
    """api.md §5, literally: it is the second line of the example."""
    told = []
    hooks = Hooks(on_context_update=lambda context, previous: told.append(context))
    agent = make(persistence, "ok", session_id="s", hooks=hooks)
    await agent.update_context({"locale": "pt"})
    assert agent.context["locale"] == "pt"
    assert len(told) == 1


async def test_update_context_works_without_an_own_session(persistence):
    hooks = Hooks(on_context_update=lambda context: None)
    agent = make(persistence, "ok", hooks=hooks)
    try:
        await agent.update_context({"locale": "pt"})
    except SessionNotLoaded:
        assert agent.context == {}  # refused, so nothing was changed
    else:
        assert agent.context == {"locale": "pt"}


async def test_the_context_in_a_turn_of_another_agent_is_that_agents(persistence):
    inner = make(persistence, "inner", context={"who": "inner"})

    @tool
    async def ask():
        assert inner.context == {"who": "inner"}
        assert outer.context["who"] == "outer"
        reply = await inner.respond("hi", session_id="i")
        assert outer.context["who"] == "outer"
        return reply.message

    outer = make(persistence, call("ask"), "done", session_id="o", tools=[ask], context={"who": "outer"})
    await outer.respond("hello")
    assert outer.provider.last.history[-1].content == "inner"


async def test_the_seeds_context_synchronisation_keeps_data_and_history(store, persistence):
    """The seed's own example. In the original it erases data, history and route history (D12)."""

    async def before_respond(context):
        session = await persistence.load_session_state(context["session_id"])
        return {**context, "preferences": (session.data if session else {}).get("preferences", {})}

    async def on_context_update(context, previous):
        if context["preferences"] != previous["preferences"]:
            await persistence.update_collected_data(context["session_id"], {"preferences": context["preferences"]})

    @tool
    async def choose(theme: str):
        await agent.update_context({"preferences": {"theme": theme}})
        return "chosen"

    agent = make(
        persistence,
        ProviderReply(route="book-a-table", data={"name": "Ana"}, text="How many?"),
        call("choose", theme="dark"),
        "Dark it is",
        ProviderReply(data={"guests": 4}, text="Done"),
        session_id="s",
        user_id="123",
        routes=[booking()],
        tools=[choose],
        context={"preferences": {}},
        hooks=Hooks(before_respond=before_respond, on_context_update=on_context_update),
    )
    await agent.respond("a table for Ana")
    store.adapter.reset()
    await agent.respond("dark, please")
    assert store.adapter.calls == ["load", "commit"]
    assert await store.data("s") == {"name": "Ana", "preferences": {"theme": "dark"}}
    assert agent.session.data == {"name": "Ana", "preferences": {"theme": "dark"}}
    assert len(await store.texts("s")) == 6
    assert [visit.route for visit in agent.session.current.route_history] == ["book-a-table"]
    await agent.respond("four")
    assert await store.data("s") == {"name": "Ana", "guests": 4, "preferences": {"theme": "dark"}}
    assert agent.provider.last.context["preferences"] == {"theme": "dark"}
    assert agent.session.validate() == []
    assert visible((await store.dump())["s"][1]) == visible(agent.session.current)


async def test_a_write_from_before_respond_shares_the_turns_fate(store, persistence):
    async def before_respond(session):
        await persistence.update_collected_data(session.id, {"turns": session.data.get("turns", 0) + 1})

    agent = make(persistence, "one", Vendor(), "three", session_id="s", hooks=Hooks(before_respond=before_respond))
    await agent.respond("1")
    with pytest.raises(ProviderError):
        await agent.respond("2")
    assert await store.data("s") == {"turns": 1}
    await agent.respond("3")
    assert await store.data("s") == {"turns": 2}


# Joining and its limits


async def test_inside_a_turn_by_id_reads_see_it_and_lists_do_not(persistence):
    seen = {}

    @tool
    async def look(session):
        state = await persistence.load_session_state(session.id)
        record = await persistence.find_session_by_id(session.id)
        page = await persistence.find_messages_by_session_id(session.id, limit=1)
        history = await persistence.load_session_history(session.id)
        current = await SessionManager(persistence).get_or_create(session.id)
        seen["state"] = texts(state.history)
        seen["record"] = record.message_count
        seen["page"] = texts(page.items)
        seen["history"] = texts(history)
        seen["manager"] = texts(current.history)
        seen["list"] = [item.id for item in (await persistence.find_sessions()).items]

    agent = make(persistence, call("look"), "done", session_id="s", tools=[look])
    await agent.respond("hello")
    staged = [("user", "hello"), ("assistant", "")]
    assert seen == {
        "state": staged,
        "record": 2,
        "page": staged[1:],
        "history": staged,
        "manager": staged,
        "list": [],
    }


async def test_what_cannot_be_part_of_a_turn_is_refused_in_it(store, persistence):
    refused = []

    async def before_respond(session):
        manager = SessionManager(persistence, session_id=session.id)
        for operation in (
            lambda: persistence.delete_session(session.id),
            lambda: persistence.delete_sessions(status="active"),
            lambda: persistence.erase_user("ana"),
            lambda: persistence.claim_session(session.id, "ana"),
            manager.delete,
            manager.reset,
            lambda: manager.set_history([]),
            manager.clear_history,
            lambda: agent.respond("nested"),
            lambda: agent.respond("nested", session_id=session.id),
            lambda: manager.turn().__aenter__(),
        ):
            with pytest.raises(TurnInProgress):
                await operation()
            refused.append(operation)

    agent = make(persistence, "ok", session_id="s", hooks=Hooks(before_respond=before_respond))
    async with asyncio.timeout(5):
        await agent.respond("hello")
    assert len(refused) == 11
    assert await store.texts("s") == [("user", "hello"), ("assistant", "ok")]


async def test_a_nested_respond_on_another_session_is_a_turn_of_its_own(store, persistence):
    @tool
    async def ask():
        return (await agent.respond("inner", session_id="b")).message

    agent = make(persistence, call("ask"), "from b", Vendor(), tools=[ask])
    with pytest.raises(ProviderError):
        await agent.respond("outer", session_id="a")
    assert await store.texts("a") is None
    assert await store.texts("b") == [("user", "inner"), ("assistant", "from b")]


async def test_a_late_task_writes_for_itself(store, persistence):
    release = asyncio.Event()
    late = []

    @tool
    async def later(session):
        async def work():
            await release.wait()
            await persistence.save_message(session.id, "system", "late")

        late.append(asyncio.create_task(work()))
        return "started"

    agent = make(persistence, call("later"), "done", session_id="s", tools=[later])
    await agent.respond("go")
    assert len(await store.texts("s")) == 4
    release.set()
    await late[0]
    assert (await store.texts("s"))[-1] == ("system", "late")


async def test_status_set_inside_a_turn_is_committed_with_it(store, persistence):
    completed = []

    @tool
    async def finish(session):
        await persistence.complete_session(session.id)

    agent = make(
        persistence,
        call("finish"),
        "bye",
        "again",
        session_id="s",
        tools=[finish],
        hooks=Hooks(on_session_completed=lambda session: completed.append(session.id)),
    )
    await agent.respond("end it")
    assert (await persistence.find_session_by_id("s")).status == "completed"
    assert agent.session.current.status == "completed"
    assert completed == ["s"]
    await agent.respond("one more thing")
    record = await persistence.find_session_by_id("s")
    assert (record.status, record.completed_at) == ("active", None)


# Whose store


async def test_an_agent_closes_what_it_opened_and_only_that(tmp_path, store, persistence):
    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")
    url = f"sqlite:///{tmp_path}/own.db"
    async with Agent(name="a", provider=ScriptedProvider("ok"), persistence=url, session_id="s") as agent:
        await agent.respond("hello")
    with pytest.raises(PersistenceClosed):
        await agent.respond("again")
    async with Agent(name="a", provider=ScriptedProvider("ok"), persistence=url, session_id="s") as agent:
        await agent.respond("again")
        assert len(agent.session.get_history()) == 4
    async with make(persistence, "ok", session_id="s") as agent:
        await agent.respond("hello")
    assert await persistence.find_session_by_id("s") is not None


async def test_a_url_is_opened_on_first_use(tmp_path):
    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")
    agent = Agent(
        name="a", provider=ScriptedProvider("ok"), persistence=f"sqlite:///{tmp_path}/lazy.db", session_id="s"
    )
    assert list(tmp_path.iterdir()) == []
    await agent.respond("hello")
    await agent.aclose()
    assert (tmp_path / "lazy.db").exists()


def test_an_empty_url_is_not_taken_for_memory():
    """A missing environment variable must not turn a database into nothing."""
    with pytest.raises(ConfigurationError):
        Agent(name="a", provider=ScriptedProvider(), persistence="")


@pytest.mark.parametrize(
    "options",
    [
        {"provider": object()},
        {"on_conflict": "ignore"},
        {"name": ""},
        {"schema": dict},
        {"window": -1, "session_id": "s"},
    ],
)
def test_an_agent_set_up_wrongly_is_refused(options):
    with pytest.raises(InvalidArgument):
        Agent(**{"name": "a", "provider": ScriptedProvider(), **options})


async def test_a_turn_leaves_nothing_to_the_garbage_collector(memory):
    """A turn that refers to itself keeps the history it has read until the collector runs, which costs every turn."""
    persistence = await memory.connect()
    agent = make(persistence, always="hello")
    refused = make(persistence, always=ValueError)

    async def take_turns():
        await agent.respond("hello", session_id="s")
        async with agent.stream("hello", session_id="s") as stream:
            assert [piece async for piece in stream]
        with pytest.raises(ProviderError):
            await refused.respond("hello", session_id="s")

    def turns_in_memory():
        return sum(type(thing) in {Run, Draft, OpenTurn} for thing in gc.get_objects())

    gc.collect()
    before = turns_in_memory()
    gc.disable()
    try:
        await take_turns()
        assert turns_in_memory() == before
    finally:
        gc.enable()
