"""The door used from within a turn: hooks, tools, callbacks of steps. Each in a process of its own: none may hang."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import turnkeep
from turnkeep import ConfigurationError, Hooks, ProviderError, Route, Step, ToolCall, TurnInProgress, tool
from turnkeep.providers import ProviderReply
from turnkeep.sync import Agent, SessionManager, connect
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import Echo, apart, in_time, raises, texts

SAY_HI = [("user", "hi"), ("assistant", "fine")]


@apart
def test_plain_hooks_see_what_is_staged_and_share_its_fate() -> None:
    store = connect("memory://")
    seen: list[Any] = []

    def note(session: Any) -> None:
        staged = store.load_session_state(session.id)
        assert staged is not None
        seen.append((texts(staged.history), agent.session.get_history() == staged.history, staged.data))
        store.save_message(session.id, "system", "noted")
        store.update_collected_data(session.id, {"noted": True})
        agent.session.set_data({"live": 1})

    hooks = Hooks(before_provider_call=note)
    provider = ScriptedProvider(OSError("the model is down"), "fine")
    agent = Agent(name="a", provider=provider, persistence=store, session_id="s", hooks=hooks)
    with raises(ProviderError):
        agent.respond("hi")
    assert store.find_session_by_id("s") is None
    agent.respond("hi")
    assert seen == [([("user", "hi")], True, {})] * 2
    found = store.load_session_state("s")
    assert found is not None
    assert texts(found.history) == [("user", "hi"), ("system", "noted"), ("assistant", "fine")]
    assert len({message.commit_id for message in found.history}) == 1
    assert found.data == {"noted": True, "live": 1}


@apart
def test_the_context_synchronisation_of_the_seed(url: str) -> None:
    """Loaded before the turn, stored when it changed: neither a conflict with the turn, nor anything erased."""

    def load_preferences(context: dict[str, Any], session: Any) -> dict[str, Any]:
        record = store.find_session_by_id(session.id)
        return {**context, "preferences": (record.data if record else {}).get("preferences", {})}

    def save_preferences(context: dict[str, Any], session: Any) -> None:
        store.update_collected_data(session.id, {"preferences": context["preferences"]})

    @tool
    def choose(colour: str) -> str:
        agent.update_context({"preferences": {"colour": colour}})
        return "chosen"

    store = connect(url)
    provider = ScriptedProvider(ToolCall("c", "choose", {"colour": "blue"}), "fine", always="again")
    hooks = Hooks(before_respond=load_preferences, on_context_update=save_preferences)
    agent = Agent(name="a", provider=provider, persistence=store, session_id="s", hooks=hooks, tools=[choose])
    store.save_session_state("s", turnkeep.create_session(id="s", data={"kept": 1}))
    agent.respond("hi")
    agent.respond("hi again")
    assert store.find_session_by_id("s").data == {"kept": 1, "preferences": {"colour": "blue"}}
    assert provider.last.context["preferences"] == {"colour": "blue"}
    store.close()


@apart
def test_every_hook_may_use_the_door() -> None:
    ran: set[str] = set()
    store = connect("memory://")

    def using(name: str) -> Any:
        def hook() -> None:
            ran.add(name)
            store.find_sessions()
            store.find_session_by_id("s")
            store.find_session_by_id("other")

        return hook

    names = [
        *("before_respond", "after_respond", "before_message_save", "before_provider_call", "before_data_update"),
        *("on_messages_appended", "on_session_created", "on_session_loaded", "on_session_committed"),
        *("before_commit", "on_context_update", "on_route_entered", "on_route_completed"),
    ]
    route = Route("Ask", required_fields=["name"], steps=[Step("Ask the name", collect=["name"])])
    provider = ScriptedProvider(
        ProviderReply(route="ask", text="Name?"), ProviderReply(text="fine", data={"name": "Ana"})
    )

    @tool
    def unused() -> None:
        """Never called."""

    def change() -> None:
        agent.update_context({"n": 1})

    hooks = Hooks(**{name: using(name) for name in names})
    both = Hooks(before_provider_call=change)
    agent = Agent(
        name="a", provider=provider, persistence=store, session_id="s", hooks=hooks, routes=[route], tools=[unused]
    )
    del both
    agent.respond("hi", context={"n": 0})
    agent.respond("Ana")
    agent.session.set_data({"name": "Eva"})
    agent.update_context({"n": 2})
    assert ran == set(names), set(names) - ran


@apart
def test_a_plugin_with_plain_hooks() -> None:
    class Audit:
        @turnkeep.hookimpl
        def before_commit(self, session: Any, turn: Any) -> None:
            if session.id == "s":
                log.save_message("log", "system", f"{len(turn.messages)} messages")

    log = connect("memory://")
    log.save_session_state("log", turnkeep.create_session(id="log"))
    with connect("memory://", plugins=[Audit()]) as store:
        Agent(name="a", provider=Echo(), persistence=store).respond("hi", session_id="s")
    assert texts(log.load_session_history("log")) == [("system", "2 messages")]


@apart
def test_callbacks_of_steps_and_routes() -> None:
    store = connect("memory://")
    ran: list[str] = []

    def using(name: str, result: Any = None) -> Any:
        def callback(session: Any) -> Any:
            ran.append(name)
            assert store.load_session_state(session.id).history[-1].content in {"hi", "Ana"}
            return result

        return callback

    steps = [
        Step("Never", id="never", collect=["never"], skip_if=using("skip_if", result=True)),
        Step(
            "Ask the name",
            collect=["name"],
            when=using("when", result=True),
            prepare=using("prepare"),
            finalize=using("finalize", {"checked": True}),
        ),
    ]
    route = Route("Ask", required_fields=["name"], steps=steps, on_complete=using("on_complete"))
    script = ProviderReply(route="ask", text="Name?"), ProviderReply(text="fine", data={"name": "Ana"})
    agent = Agent(name="a", provider=ScriptedProvider(*script), persistence=store, session_id="s", routes=[route])
    agent.respond("hi")
    assert agent.respond("Ana").is_route_complete
    assert set(ran) == {"skip_if", "when", "prepare", "finalize", "on_complete"}
    assert store.find_session_by_id("s").data == {"name": "Ana", "checked": True}


@apart
def test_a_plain_tool_joins_the_turn() -> None:
    @tool
    def look(session: Any) -> str:
        store.save_message(session.id, "system", "looked")
        agent.session.add_message("system", "looked again")
        return str(len(store.load_session_history(session.id)))

    store = connect("memory://")
    provider = ScriptedProvider(ToolCall("c", "look", {}), "fine", ToolCall("d", "look", {}), OSError("down"))
    agent = Agent(name="a", provider=provider, persistence=store, session_id="s", tools=[look])
    agent.respond("hi")
    expected = [("user", "hi"), ("assistant", ""), ("system", "looked"), ("system", "looked again"), ("tool", "4")]
    assert texts(store.load_session_history("s")) == [*expected, ("assistant", "fine")]
    with raises(ProviderError):
        agent.respond("more")
    assert len(store.load_session_history("s")) == 6


@apart
def test_a_plain_tool_asks_another_session_and_not_its_own() -> None:
    @tool
    def ask(session_id: str) -> str:
        return expert.respond("well?", session_id=session_id).message

    @tool
    def stream(session_id: str) -> str:
        with expert.stream("well?", session_id=session_id) as stream:
            return list(stream)[-1].accumulated

    @tool
    def turn(session_id: str) -> str:
        with SessionManager(store, session_id=session_id).turn() as turn:
            turn.add_message("user", "hi")
        return "done"

    for on_conflict in ("raise", "retry"):
        store = connect("memory://")
        calls = [ToolCall(f"{name}-{key}", name, {"session_id": key})
                 for name in ("ask", "stream", "turn") for key in ("other", "s")]  # fmt: skip
        provider = ScriptedProvider(*calls, "fine")
        options: Any = {"persistence": store, "tools": [ask, stream, turn], "on_conflict": on_conflict}
        agent = Agent(name="a", provider=provider, session_id="s", **options)
        expert = Agent(name="expert", provider=Echo(), persistence=store, on_conflict=on_conflict)
        in_time(lambda agent=agent: agent.respond("hi"), 8)
        results = {m.tool_call_id: m.content for m in store.load_session_history("s") if m.role == "tool"}
        assert results["ask-other"] == results["stream-other"] == "WELL?"
        assert results["turn-other"] == "done"
        for name in ("ask-s", "stream-s", "turn-s"):
            assert results[name].startswith(TurnInProgress.__name__), results
        assert len(store.load_session_history("other")) == 5
        store.close()


@apart
def test_turns_within_turns_within_turns() -> None:
    """A thread for each, not a pool that fills up with ones that wait for each other."""
    depth = 40

    @tool
    def deeper(level: int) -> str:
        return agent.respond("go on", session_id=f"s{level + 1}", context={"level": level + 1}).message

    def answer(request: Any) -> Any:
        if request.history[-1].role == "tool" or request.context["level"] == depth:
            return f"back from {request.context['level']}"
        return ToolCall(f"c{request.context['level']}", "deeper", {"level": request.context["level"]})

    store = connect("memory://")
    agent = Agent(name="a", provider=ScriptedProvider(always=answer), persistence=store, tools=[deeper])
    reply = in_time(lambda: agent.respond("go", session_id="s0", context={"level": 0}), 10)
    assert reply.message == "back from 0"
    assert len(list(store.find_sessions())) == depth + 1


@apart
def test_an_async_hook_is_told_to_await() -> None:
    async def wrong() -> None:
        store.find_sessions()

    store = connect("memory://")
    provider = Echo()
    for name in ("before_respond", "before_provider_call", "before_message_save", "before_commit"):
        agent = Agent(
            name="a", provider=provider, persistence=store, session_id="s", hooks=Hooks(**{name: wrong})
        )  # fmt: skip
        with raises(ConfigurationError, "await") as caught:
            in_time(lambda agent=agent: agent.respond("hi"))
        assert name in "".join(caught[0].__notes__)
        assert store.find_session_by_id("s") is None
    after = Agent(name="a", provider=provider, persistence=store, session_id="s", hooks=Hooks(after_respond=wrong))
    with raises(ConfigurationError, "await"):
        in_time(lambda: after.respond("hi"))
    assert len(store.load_session_history("s")) == 2  # the turn had been committed


@apart
def test_async_tools_steps_and_adapters_are_told_to_await() -> None:
    @tool
    async def ask() -> str:
        return agent.respond("hi", session_id="other").message

    async def prepare() -> None:
        store.find_sessions()

    async def adapter() -> Any:
        return connect("memory://").adapter

    store = connect("memory://")
    agent = Agent(name="a", provider=ScriptedProvider(ToolCall("c", "ask", {}), "fine"), persistence=store, tools=[ask])
    in_time(lambda: agent.respond("hi", session_id="s"))
    result = next(message for message in store.load_session_history("s") if message.role == "tool")
    assert result.content.startswith(ConfigurationError.__name__)
    assert store.find_session_by_id("other") is None
    route = Route("Ask", steps=[Step("Ask the name", collect=["name"], prepare=prepare)])
    stepping = Agent(name="a", provider=ScriptedProvider(ProviderReply(route="ask")), persistence=store, routes=[route])
    with raises(ConfigurationError, "await"):
        in_time(lambda: stepping.respond("hi", session_id="t"))
    assert store.find_session_by_id("t") is None
    with raises(ConfigurationError, "await"):
        in_time(lambda: connect(adapter))


@apart
def test_async_hooks_and_tools_await_the_asynchronous_api() -> None:
    @tool
    async def look(session: Any) -> str:
        return str(len(await there.load_session_history(session.id)))

    async def note(session: Any) -> None:
        await there.save_message(session.id, "system", "noted")

    @tool
    async def aside() -> str:
        return str(len(await asyncio.to_thread(store.load_session_history, "s")))

    store = connect("memory://")
    there = store._inner
    calls = [ToolCall("c", "look", {}), ToolCall("d", "aside", {})]
    hooks = Hooks(before_provider_call=note)
    agent = Agent(
        name="a", provider=ScriptedProvider(calls, "fine"), persistence=store, hooks=hooks, tools=[look, aside]
    )
    in_time(lambda: agent.respond("hi", session_id="s"))
    assert [m.content for m in store.load_session_history("s") if m.role == "tool"] == ["3", "4"]


@apart
def test_a_tool_that_takes_too_long_is_left_behind_and_writes_for_itself() -> None:
    @tool
    def slow() -> None:
        answered.wait(10)
        store.save_message("s", "system", "late")
        written.set()

    store = connect("memory://")
    answered, written = threading.Event(), threading.Event()
    provider = ScriptedProvider(ToolCall("c", "slow", {}), "fine")
    agent = Agent(name="a", provider=provider, persistence=store, tools=[slow], tool_timeout=0.1)
    in_time(lambda: agent.respond("hi", session_id="s"))
    history = store.load_session_history("s")
    assert "within 0.1 seconds" in history[2].content
    answered.set()
    assert written.wait(5)
    late = store.load_session_history("s")[-1]
    assert late.content == "late"
    assert late.commit_id != history[0].commit_id


@apart
def test_a_tool_or_hook_that_exits_ends_the_turn_and_not_the_door() -> None:
    """As in the asynchronous API the exit comes out of the call. It must not take the door's loop along."""

    @tool
    def leave() -> None:
        sys.exit("bye")

    @tool
    async def leave_later() -> None:
        sys.exit("bye")

    def interrupted() -> None:
        raise KeyboardInterrupt("bye")

    store = connect("memory://")
    cases: list[tuple[Any, type[BaseException]]] = [
        ({"provider": ScriptedProvider(ToolCall("c", "leave", {}))}, SystemExit),
        ({"provider": ScriptedProvider(ToolCall("c", "leave_later", {}))}, SystemExit),
        ({"provider": Echo(), "hooks": Hooks(before_respond=interrupted)}, KeyboardInterrupt),
        ({"provider": ScriptedProvider(SystemExit("bye"))}, SystemExit),
    ]
    for options, error in cases:
        agent = Agent(name="a", persistence=store, tools=[leave, leave_later], **options)
        with raises(error, "bye"):
            in_time(lambda agent=agent: agent.respond("hi", session_id="s"))
        assert store.find_session_by_id("s") is None
    assert Agent(name="a", provider=Echo(), persistence=store).respond("hi", session_id="s").message == "HI"


@apart
def test_opening_and_closing_from_a_hook() -> None:
    def note(session: Any) -> None:
        with connect("memory://") as other:
            Agent(name="b", provider=Echo(), persistence=other).respond("hi", session_id=session.id)

    store = connect("memory://")
    agent = Agent(name="a", provider=Echo(), persistence=store, hooks=Hooks(before_respond=note))
    in_time(lambda: agent.respond("hi", session_id="s"))
    assert len(store.load_session_history("s")) == 2


@apart
def test_another_thread_is_not_part_of_the_turn() -> None:
    def note() -> None:
        thread = threading.Thread(target=lambda: seen.append(store.find_session_by_id("s")))
        thread.start()
        thread.join()

    seen: list[Any] = []
    store = connect("memory://")
    agent = Agent(name="a", provider=Echo(), persistence=store, hooks=Hooks(before_provider_call=note))
    in_time(lambda: agent.respond("hi", session_id="s"))
    assert seen == [None]


@apart
def test_what_upgrades_data_runs_on_the_loop_and_does_not_hang(url: str) -> None:
    def upgrade(data: dict[str, Any], from_version: int) -> dict[str, Any]:
        store.find_sessions()
        return data

    with connect(url, data_version=1) as store:
        store.save_session_state("s", turnkeep.create_session(id="s", data={"a": 1}))
    with connect(url, data_version=2, upgrade_data=upgrade) as store, raises(ConfigurationError, "await"):
        in_time(lambda: store.find_session_by_id("s"))
