"""Tools: what a model is told of them, how they are called, and what is kept of it."""

from __future__ import annotations

import asyncio
import functools
import warnings
from datetime import date
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from turnkeep import Agent, InvalidArgument, SessionConflict, Tool, ToolCall, ToolInvocation, tool
from turnkeep.providers import ProviderReply
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import call, texts


def make(persistence, *script, **options):
    return Agent(
        name="a",
        provider=ScriptedProvider(*script, always=options.pop("always", None)),
        persistence=persistence,
        session_id="s",
        **options,
    )


def results(agent):
    return [
        (message.tool_call_id, message.content) for message in agent.session.get_history() if message.role == "tool"
    ]


async def run_tool(persistence, made, **arguments):
    """What the model is told of one call of a tool."""
    agent = make(persistence, call(made.name, "c1", **arguments), "done", tools=[made])
    await agent.respond("go")
    message = agent.session.get_history()[-2]
    return message.content, message.metadata.get("error", False)


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(BaseModel):
    city: str
    country: str = "PT"


# What a model is told


def test_name_description_and_parameters_come_from_the_function():
    @tool
    def weather(city: str, days: int = 3, unit: Unit = Unit.C, *, tags: list[str] | None = None) -> str:
        """The weather of a city.

        In words.
        """
        return city

    assert isinstance(weather, Tool)
    assert (weather.name, weather.description, weather.repeatable) == (
        "weather",
        "The weather of a city.\n\nIn words.",
        False,
    )
    schema = weather.parameters
    assert schema["type"] == "object"
    assert list(schema["properties"]) == ["city", "days", "unit", "tags"]
    assert schema["properties"]["city"] == {"type": "string"}
    assert (schema["properties"]["days"]["type"], schema["properties"]["days"]["default"]) == ("integer", 3)
    assert schema["required"] == ["city"]
    assert schema["$defs"]["Unit"]["enum"] == ["celsius", "fahrenheit"]
    assert schema["additionalProperties"] is False
    assert weather("Lisbon") == "Lisbon"


def test_name_and_description_can_be_given():
    @tool(name="get-weather", description="Weather.", repeatable=True)
    async def weather(): ...

    assert (weather.name, weather.description, weather.repeatable) == ("get-weather", "Weather.", True)
    assert weather.parameters["properties"] == {}


def test_what_is_filled_in_is_not_shown():
    @tool
    def pay(amount: int, call, context, session): ...

    assert list(pay.parameters["properties"]) == ["amount"]


def test_annotated_parameters_carry_description_and_bounds():
    @tool
    def pay(amount: Annotated[int, Field(ge=1, description="In cents.")]): ...

    assert pay.parameters["properties"]["amount"] == {"type": "integer", "minimum": 1, "description": "In cents."}


@pytest.mark.parametrize(
    "build",
    [
        lambda: tool(5),
        lambda: tool(name="two words")(lambda: None),
        lambda: tool(lambda: None),
        lambda: tool(name="x")(lambda *args: None),
        lambda: tool(name="x")(lambda **kwargs: None),
        lambda: tool(name="x")(lambda a, /: None),
        lambda: tool(name="")(lambda a: None),
    ],
)
def test_what_cannot_be_a_tool_is_refused(build):
    with pytest.raises(InvalidArgument):
        build()


def test_two_tools_of_one_name_are_refused(persistence):
    with pytest.raises(InvalidArgument, match="two tools"):
        make(persistence, tools=[tool(name="x")(lambda: 1), tool(name="x")(lambda: 2)])


async def test_plain_functions_are_made_tools(persistence):
    def look(where: str) -> str:
        """Looks."""
        return f"looked {where}"

    agent = make(persistence, call("look", where="up"), "done", tools=[look])
    await agent.respond("go")
    (spec,) = agent.provider.requests[0].tools
    assert (spec.name, spec.description, list(spec.parameters["properties"])) == ("look", "Looks.", ["where"])
    assert agent.session.get_history()[2].content == "looked up"


async def test_methods_and_callable_objects_are_tools_too(persistence):
    class Desk:
        def look(self, where: str) -> str:
            return f"desk {where}"

        async def __call__(self, where: str) -> str:
            return f"called {where}"

    desk = Desk()
    assert await run_tool(persistence, tool(desk.look), where="up") == ("desk up", False)
    assert await run_tool(persistence, tool(name="desk")(desk), where="up") == ("called up", False)


async def test_partial_functions_are_tools_too(persistence):
    def look(base: str, where: str) -> str:
        return f"{base} {where}"

    made = tool(name="look")(functools.partial(look, base="in"))
    assert await run_tool(persistence, made, where="up") == ("in up", False)


@pytest.mark.parametrize(
    "name", ["schema", "json", "copy", "dict", "model_name", "validate", "fields", "construct", "model_config"]
)
async def test_any_parameter_name_will_do(memory, name):
    """Names that pydantic's own classes have are names that tools have, too."""
    namespace = {}
    exec(f"def look({name}: str) -> str:\n    return {name}", namespace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = tool(namespace["look"])
        assert list(made.parameters["properties"]) == [name]
    assert await run_tool(await memory.connect(), made, **{name: "x"}) == ("x", False)


# Calls and their results


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("text", "text"),
        (None, "null"),
        (4, "4"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ("", ""),
        ([], "[]"),
        ("ü\x00", "ü\x00"),
    ],
)
async def test_results_are_told_as_text_or_json(persistence, is_async, result, told):
    def plain():
        return result

    async def coroutine():
        await asyncio.sleep(0)
        return result

    content, failed = await run_tool(persistence, tool(name="look")(coroutine if is_async else plain))
    assert (content.replace(" ", ""), failed) == (told, False)


async def test_arguments_are_converted_as_annotated(persistence):
    seen = {}

    @tool
    def book(day: date, unit: Unit, place: Place, count: int = 2, kind: Literal["a", "b"] = "a"):
        seen.update(day=day, unit=unit, place=place, count=count, kind=kind)

    await run_tool(persistence, book, day="2027-03-01", unit="celsius", place={"city": "Lisbon"}, count="3")
    assert seen == {"day": date(2027, 3, 1), "unit": Unit.C, "place": Place(city="Lisbon"), "count": 3, "kind": "a"}


async def test_call_context_and_session_are_filled_in(persistence):
    seen = {}

    @tool
    def look(where: str, call, context, session):
        seen.update(call=call, context=dict(context), session=session)
        return where

    agent = make(persistence, call("look", "c7", where="up"), "done", tools=[look], context={"locale": "pt"})
    await agent.respond("go", commit_id="commit-1")
    assert seen["call"] == ToolInvocation("c7", "commit-1:1")
    assert seen["context"]["locale"] == "pt"
    assert (seen["session"].id, texts(seen["session"].state.history)[0]) == ("s", ("user", "go"))


async def test_a_model_cannot_fill_them_in(persistence):
    @tool
    def look(session): ...

    content, failed = await run_tool(persistence, look, session="mine")
    assert failed
    assert "session" in content


async def test_idempotency_keys_count_through_the_turn_and_stay_on_every_attempt(store, persistence):
    keys = []

    @tool(repeatable=True)
    def look(call):
        keys.append(call.idempotency_key)

    agent = make(persistence, [call("look"), call("look")], call("look"), "done", tools=[look])
    await agent.respond("go", commit_id="c")
    assert keys == ["c:1", "c:2", "c:3"]
    keys.clear()
    agent = make(persistence, call("look"), "one", call("look"), "two", tools=[look], on_conflict="retry")
    other = await store.other()

    async def interfere(commit):
        store.adapter.before.clear()
        await other.save_message("s", "system", "x")

    store.adapter.before["commit"] = interfere
    await agent.respond("again", commit_id="d")
    assert keys == ["d:1", "d:1"]


async def test_calls_and_results_are_stored_in_order_with_their_ids(store, persistence):
    @tool
    def look(where: str) -> str:
        return f"seen {where}"

    first = ProviderReply(text="Looking", tool_calls=(call("look", "a", where="up"), call("look", "b", where="down")))
    agent = make(persistence, first, call("look", "c", where="left"), "done", tools=[look])
    reply = await agent.respond("go")
    history = (await store.dump())["s"][1].history
    assert [(m.role, m.content, [c.id for c in m.tool_calls], m.tool_call_id, m.name) for m in history] == [
        ("user", "go", [], None, None),
        ("assistant", "Looking", ["a", "b"], None, None),
        ("tool", "seen up", [], "a", "look"),
        ("tool", "seen down", [], "b", "look"),
        ("assistant", "", ["c"], None, None),
        ("tool", "seen left", [], "c", "look"),
        ("assistant", "done", [], None, None),
    ]
    assert [message.seq for message in history] == list(range(1, 8))
    assert len({message.commit_id for message in history}) == 1
    assert history[1].tool_calls[0] == ToolCall("a", "look", {"where": "up"})
    assert [c.id for c in reply.tool_calls] == ["a", "b", "c"]
    assert agent.session.validate() == []
    assert texts(agent.provider.last.history) == [(m.role, m.content) for m in history[:-1]]


async def test_usage_is_summed_over_the_rounds(persistence):
    @tool
    def look(): ...

    first = ProviderReply(tool_calls=(call("look"),), usage={"input_tokens": 5, "output_tokens": 1})
    agent = make(persistence, first, ProviderReply(text="done", usage={"input_tokens": 7}), tools=[look])
    assert dict((await agent.respond("go")).usage) == {"input_tokens": 12, "output_tokens": 1}


async def test_after_eight_rounds_the_turn_ends(store, persistence):
    ran = []

    @tool
    def again():
        ran.append(1)

    agent = make(
        persistence, tools=[again], always=lambda _: ProviderReply(text="once more", tool_calls=(call("again"),))
    )
    reply = await agent.respond("go")
    assert (reply.stopped_reason, reply.message) == ("tool_limit", "once more")
    assert (len(ran), agent.provider.calls, len(reply.tool_calls)) == (8, 9, 8)
    stored = await store.texts("s")
    assert len(stored) == 1 + 8 * 2 + 1
    assert agent.session.validate() == []
    replay = await agent.respond("go", commit_id=reply.commit_id)
    assert (replay.stopped_reason, replay.tool_calls) == ("tool_limit", reply.tool_calls)


# What goes wrong


async def test_a_tool_that_raises_gives_the_model_an_error_and_the_turn_goes_on(persistence):
    @tool
    def broken():
        raise ValueError("no such table")

    content, failed = await run_tool(persistence, broken)
    assert failed
    assert "ValueError" in content
    assert "no such table" in content


async def test_an_async_tool_that_raises_a_timeout_of_its_own(persistence):
    @tool
    async def broken():
        raise TimeoutError("upstream")

    content, failed = await run_tool(persistence, broken)
    assert failed
    assert "upstream" in content


async def test_a_result_that_cannot_be_stored_is_an_error_for_the_model(persistence):
    content, failed = await run_tool(persistence, tool(name="odd")(lambda: object()))  # noqa: PLW0108 - a class is no function
    assert failed
    assert "object" in content


async def test_a_hanging_tool_is_bounded(persistence):
    cancelled = []

    @tool
    async def hang():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    agent = make(persistence, call("hang"), "sorry", tools=[hang], tool_timeout=0.02)
    reply = await agent.respond("go")
    assert reply.message == "sorry"
    assert cancelled == [True]
    message = agent.session.get_history()[-2]
    assert "0.02 seconds" in message.content
    assert message.metadata == {"error": True}


async def test_cancelling_the_turn_cancels_the_tool(store, persistence):
    started = asyncio.Event()

    @tool
    async def hang():
        started.set()
        await asyncio.sleep(60)

    agent = make(persistence, call("hang"), "sorry", tools=[hang])
    task = asyncio.create_task(agent.respond("go"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.dump() == {}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"count": "many"}, {"count": 1, "extra": 2}, {"count": None}, {"count": [1]}],
)
async def test_invalid_arguments_are_an_error_for_the_model_and_the_tool_does_not_run(persistence, arguments):
    ran = []

    @tool
    def book(count: int):
        ran.append(count)

    content, failed = await run_tool(persistence, book, **arguments)
    assert failed
    assert ran == []
    assert "count" in content or "extra" in content


async def test_an_unknown_tool_is_an_error_for_the_model(persistence):
    agent = make(persistence, call("nothing", "c1"), "sorry")
    reply = await agent.respond("go")
    assert reply.message == "sorry"
    assert results(agent) == [("c1", "there is no tool 'nothing' here")]
    assert agent.session.get_history()[2].metadata == {"error": True}
    assert agent.session.validate() == []


# Tools and conflicts


async def conflicting(store, persistence, *tools, calls, times=1):
    """A turn that uses tools and whose first ``times`` commits meet another writer."""
    agent = make(
        persistence,
        tools=tools,
        on_conflict="retry",
        always=lambda request: "done" if request.history[-1].role == "tool" else list(calls),
    )
    await agent.session.add_message("system", "begin")
    other = await store.other()

    async def interfere(commit):
        nonlocal times
        if times:
            times -= 1
            await other.save_message("s", "system", "from elsewhere")

    store.adapter.before["commit"] = interfere
    return agent


async def test_a_turn_with_repeatable_tools_is_run_again(store, persistence):
    ran = []
    look = tool(name="look", repeatable=True)(lambda: ran.append(1))
    agent = await conflicting(store, persistence, look, calls=[call("look")])
    assert (await agent.respond("go")).message == "done"
    assert len(ran) == 2
    assert [role for role, _ in await store.texts("s")] == [
        "system",
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


async def test_a_turn_with_another_tool_is_not(store, persistence):
    ran = []
    look = tool(name="look", repeatable=True)(lambda: ran.append("look"))
    pay = tool(name="pay")(lambda: ran.append("pay"))
    agent = await conflicting(store, persistence, look, pay, calls=[call("look"), call("pay")])
    with pytest.raises(SessionConflict) as caught:
        await agent.respond("go")
    assert ran == ["look", "pay"]
    assert caught.value.reply.message == "done"
    assert [c.name for c in caught.value.reply.tool_calls] == ["look", "pay"]
    assert await store.texts("s") == [("system", "begin"), ("system", "from elsewhere")]


@pytest.mark.parametrize("calls", [[call("nothing")], [call("pay", amount="many")]], ids=["unknown", "invalid"])
async def test_a_tool_that_did_not_run_does_not_keep_a_turn_from_being_repeated(store, persistence, calls):
    ran = []

    @tool
    def pay(amount: int):
        ran.append(amount)

    agent = await conflicting(store, persistence, pay, calls=calls)
    assert (await agent.respond("go")).message == "done"
    assert ran == []


async def test_a_tool_that_failed_half_way_did_run(store, persistence):
    @tool
    def pay():
        raise ConnectionResetError

    agent = await conflicting(store, persistence, pay, calls=[call("pay")])
    with pytest.raises(SessionConflict):
        await agent.respond("go")


# Tools that write


async def test_a_tool_joins_its_turn(store, persistence):
    @tool
    async def note(session):
        state = await persistence.update_collected_data(session.id, {"noted": True})
        assert state.data == {"noted": True}
        await persistence.save_message(session.id, "system", "noted")
        await persistence.update_route_step(session.id, route="elsewhere")
        return "ok"

    agent = make(persistence, call("note"), lambda request: f"data: {dict(request.data)}", tools=[note])
    store.adapter.reset()
    reply = await agent.respond("go")
    assert store.adapter.calls == ["load", "commit"]
    assert reply.message == "data: {'noted': True}"
    assert await store.data("s") == {"noted": True}
    assert [role for role, _ in await store.texts("s")] == ["user", "assistant", "system", "tool", "assistant"]


async def test_what_a_tool_staged_goes_with_a_failed_turn(store, persistence):
    @tool
    async def note(session):
        await persistence.update_collected_data(session.id, {"noted": True})

    agent = make(persistence, call("note"), RuntimeError("down"), tools=[note])
    with pytest.raises(Exception, match="down"):
        await agent.respond("go")
    assert await store.dump() == {}


async def test_what_a_tool_that_fails_had_staged_is_still_of_the_turn(store, persistence):
    @tool
    async def note(session):
        await persistence.update_collected_data(session.id, {"noted": True})
        raise RuntimeError("after it wrote")

    agent = make(persistence, call("note"), "sorry", tools=[note])
    await agent.respond("go")
    assert await store.data("s") == {"noted": True}


async def test_tools_use_the_agents_own_session(store, persistence):
    @tool
    async def note():
        await agent.session.set_data({"noted": True})
        await agent.session.add_message("system", "noted")
        assert agent.session.data == {"noted": True}
        return len(agent.session.get_history())

    agent = make(persistence, call("note"), "done", tools=[note])
    await agent.respond("go")
    assert results(agent)[0][1] == "3"
    assert await store.data("s") == {"noted": True}


async def test_a_tool_that_writes_to_another_session_writes_at_once(store, persistence):
    @tool
    async def note():
        await persistence.save_message("other", "system", "noted")
        assert await store.texts("other") == [("user", "x"), ("system", "noted")]

    from turnkeep import SessionManager

    await SessionManager(persistence, session_id="other").add_message("user", "x")
    agent = make(persistence, call("note"), RuntimeError, tools=[note])
    with pytest.raises(Exception, match="RuntimeError"):
        await agent.respond("go")
    assert await store.texts("other") == [("user", "x"), ("system", "noted")]


async def test_concurrent_work_inside_a_tool_joins_too(store, persistence):
    @tool
    async def note(session):
        await asyncio.gather(*(persistence.save_message(session.id, "system", f"n{n}") for n in range(5)))

    agent = make(persistence, call("note"), "done", tools=[note])
    store.adapter.reset()
    await agent.respond("go")
    assert store.adapter.calls == ["load", "commit"]
    assert sum(role == "system" for role, _ in await store.texts("s")) == 5


async def test_a_nested_respond_in_a_tool_is_told_to_the_model(persistence):
    @tool
    async def nested():
        await agent.respond("inside")

    agent = make(persistence, call("nested"), "sorry", tools=[nested], on_conflict="retry")
    async with asyncio.timeout(5):
        await agent.respond("go")
    assert "TurnInProgress" in results(agent)[0][1]


async def test_a_provider_that_repeats_a_call_id_is_paired_all_the_same(persistence):
    @tool
    def look(): ...

    agent = make(persistence, call("look", "call_0"), call("look", "call_0"), "done", tools=[look])
    await agent.respond("go")
    assert [role for role, _ in texts(agent.provider.last.history)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert agent.session.validate() == []
