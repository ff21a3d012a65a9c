"""How a conversation moves along its routes."""

from __future__ import annotations

import contextlib
import logging

import pytest

from turnkeep import (
    Agent,
    ExecutedStep,
    Hooks,
    InvalidArgument,
    InvalidData,
    ProviderError,
    Route,
    Step,
    tool,
)
from turnkeep.providers import ProviderReply
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import Booking, booking, call, place


@pytest.fixture
async def store(memory):
    """Memory alone: routes are decided before any database; test_lessons asks them all (D13 to D21)."""
    return memory


def make(persistence, *script, **options):
    return Agent(
        name="a",
        provider=ScriptedProvider(*script, always=options.pop("always", None)),
        persistence=persistence,
        session_id="s",
        **options,
    )


def say(text="ok", **fields):
    return ProviderReply(text=text, **fields)


async def walk(agent, *turns):
    """Takes turns with these provider replies; returns the last Reply."""
    reply = None
    for turn in turns:
        agent.provider.add(turn)
        reply = await agent.respond("…")
    return reply


# Ids, and what is refused at once


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Book a table", "book-a-table"),
        ("  Hello,  World! ", "hello-world"),
        ("Забронировать стол", "забронировать-стол"),
        ("予約する", "予約する"),
        ("Réservation Éclair", "réservation-éclair"),
        ("A_b", "a_b"),
        ("50% off", "50-off"),
    ],
)
def test_route_ids_are_slugs_of_every_script(title, expected):
    assert Route(title).id == expected
    assert Step(title).id == expected


def test_a_steps_id_is_its_first_field():
    assert Step("Ask for the name", collect=["name", "age"]).id == "name"
    assert Step("Ask for the name", collect=["name"], id="who").id == "who"


@pytest.mark.parametrize("title", ["", "   ", None, 5, "!!!", "🎉"])
def test_titles_that_make_no_id_are_refused(title):
    with pytest.raises(InvalidArgument):
        Route(title)


def test_such_a_title_may_have_an_id_of_its_own():
    assert Route("🎉", id="party").id == "party"


def test_duplicate_ids_are_refused_naming_the_way_out(persistence):
    with pytest.raises(InvalidArgument, match="id="):
        Route("R", steps=[Step("Ask", collect=["name"]), Step("Again", collect=["name"])])
    with pytest.raises(InvalidArgument, match="id="):
        make(persistence, routes=[Route("Book"), Route("book!")])
    Route("R", steps=[Step("Ask", collect=["name"]), Step("Again", collect=["name"], id="again")])


@pytest.mark.parametrize(
    "route",
    [
        Route("R", required_fields=["phone"]),
        Route("R", steps=[Step("Ask", collect=["phone"])]),
        Route("R", steps=[Step("Ask", collect=["name"], requires=["phone"])]),
    ],
)
def test_fields_the_schema_lacks_are_refused(persistence, route):
    with pytest.raises(InvalidArgument, match="phone"):
        make(persistence, routes=[route], schema=Booking)


def test_on_complete_must_name_a_route(persistence):
    with pytest.raises(InvalidArgument, match="nowhere"):
        make(persistence, routes=[booking(on_complete="nowhere")])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Step("x", collect="name"),
        lambda: Route("x", required_fields="name"),
        lambda: Step("x", skip_if="no"),
        lambda: Step("x", prepare=lambda kontext: None),
        lambda: Step("x", finalize=5),
        lambda: Route("x", when=5),
        lambda: Route("x", on_complete=5),
        lambda: Step("x", collect=[""]),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(build):
    with pytest.raises(InvalidArgument):
        build()


def test_required_fields_default_to_what_the_steps_collect():
    assert Route("R", steps=[Step("a", collect=["x"]), Step("b", collect=["y", "x"])]).required_fields == ("x", "y")
    assert Route("R").required_fields == ()


# Entering, walking, completing


async def test_a_route_from_beginning_to_end(store, persistence):
    entered, completed = [], []
    hooks = Hooks(
        on_route_entered=lambda route: entered.append(route.id),
        on_route_completed=lambda route: completed.append(route.id),
    )
    agent = make(persistence, routes=[booking()], schema=Booking, hooks=hooks)
    reply = await walk(agent, say(route="book-a-table"))
    assert (place(agent), reply.stopped_reason, reply.executed_steps) == (("book-a-table", "name"), "needs_input", ())
    reply = await walk(agent, say(data={"name": "Ana"}))
    assert (place(agent), reply.executed_steps) == (("book-a-table", "guests"), (ExecutedStep("book-a-table", "name"),))
    assert not reply.is_route_complete
    reply = await walk(agent, say(data={"guests": 4}))
    assert place(agent) == (None, None)
    assert (reply.is_route_complete, reply.stopped_reason) == (True, "route_complete")
    assert (entered, completed) == (["book-a-table"], ["book-a-table"])
    state = (await store.dump())["s"][1]
    assert (state.current_route, state.current_step, state.status) == (None, None, "active")
    assert [(visit.route, visit.completed, visit.exited_at is not None) for visit in state.route_history] == [
        ("book-a-table", True, True)
    ]
    assert state.data == {"name": "Ana", "guests": 4}
    assert state.data_by_route == {"book-a-table": {"name": "Ana", "guests": 4}}


async def test_completion_is_told_for_its_turn_only(persistence):
    agent = make(persistence, routes=[booking()])
    assert (await walk(agent, say(route="book-a-table", data={"name": "A", "guests": 1}))).is_route_complete
    reply = await walk(agent, say())
    assert (reply.is_route_complete, reply.stopped_reason) == (False, "needs_input")


async def test_all_in_one_answer(persistence):
    agent = make(persistence, routes=[booking()])
    reply = await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 2}))
    assert reply.is_route_complete
    assert [step.id for step in reply.executed_steps] == ["name", "guests"]


async def test_optional_fields_do_not_hold_a_route_open(persistence):
    route = Route(
        "R", required_fields=["name"], steps=[Step("Ask", collect=["name"]), Step("Anything else?", collect=["note"])]
    )
    agent = make(persistence, routes=[route])
    assert (await walk(agent, say(route="r", data={"name": "Ana"}))).is_route_complete


@pytest.mark.parametrize("nothing", [None, ""])
async def test_none_and_empty_count_as_missing(persistence, nothing):
    agent = make(persistence, routes=[booking()])
    assert not (await walk(agent, say(route="book-a-table", data={"name": nothing, "guests": 2}))).is_route_complete
    assert place(agent) == ("book-a-table", "name")
    assert (await walk(agent, say(data={"name": "Ana"}))).is_route_complete


@pytest.mark.parametrize("something", [0, False, [], 0.0])
async def test_zero_and_false_do_not(persistence, something):
    agent = make(persistence, routes=[Route("R", steps=[Step("Ask", collect=["x"])])])
    assert (await walk(agent, say(route="r", data={"x": something}))).is_route_complete


async def test_an_unknown_route_is_ignored_with_a_warning(persistence, caplog):
    agent = make(persistence, routes=[booking()])
    with caplog.at_level(logging.WARNING):
        reply = await walk(agent, say("hello", route="nowhere"))
    assert (reply.message, place(agent)) == ("hello", (None, None))
    assert "nowhere" in caplog.text


async def test_choosing_the_current_route_again_changes_nothing(persistence):
    agent = make(persistence, routes=[booking()])
    await walk(agent, say(route="book-a-table", data={"name": "Ana"}), say(route="book-a-table"))
    assert place(agent) == ("book-a-table", "guests")
    assert len(agent.session.current.route_history) == 1


async def test_switching_routes_leaves_the_first_unfinished(persistence):
    other = Route("Give feedback", steps=[Step("Ask", collect=["rating"])])
    agent = make(persistence, routes=[booking(), other])
    await walk(agent, say(route="book-a-table", data={"name": "Ana"}), say(route="give-feedback"))
    assert place(agent) == ("give-feedback", "rating")
    await walk(agent, say(data={"rating": 5}))
    history = agent.session.current.route_history
    assert [(visit.route, visit.completed) for visit in history] == [("book-a-table", False), ("give-feedback", True)]
    reply = await walk(agent, say(route="book-a-table"))
    assert place(agent) == ("book-a-table", "guests")
    assert agent.session.data["name"] == "Ana"
    assert not reply.is_route_complete


async def test_shared_data_completes_two_routes(persistence):
    """One pool of data: what was collected for one route counts for others."""
    second = Route("Send a reminder", required_fields=["name"], steps=[Step("Ask", collect=["name"])])
    agent = make(persistence, routes=[booking(), second])
    await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 2}))
    reply = await walk(agent, say(route="send-a-reminder"))
    assert reply.is_route_complete
    assert [(visit.route, visit.completed) for visit in agent.session.current.route_history] == [
        ("book-a-table", True),
        ("send-a-reminder", True),
    ]
    assert agent.session.data == {"name": "Ana", "guests": 2}


async def test_data_by_route_names_the_route_that_collected_last(persistence):
    other = Route("Change name", steps=[Step("Ask", collect=["name"])])
    agent = make(persistence, routes=[booking(), other])
    await walk(agent, say(route="book-a-table", data={"name": "Ana"}))
    await agent.session.set_data({"source": "web"})
    await walk(agent, say(route="change-name", data={"name": "Bea"}))
    assert agent.session.current.data_by_route == {"change-name": {"name": "Bea"}}
    assert agent.session.data == {"name": "Bea", "source": "web"}


async def test_a_completed_route_entered_again_asks_anew(persistence):
    agent = make(persistence, routes=[booking()])
    await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 2}))
    await agent.session.set_data({"source": "web"})
    reply = await walk(agent, say(route="book-a-table"))
    assert not reply.is_route_complete
    assert agent.provider.last.routes[0].completed
    assert agent.session.data == {"source": "web"}
    assert place(agent) == ("book-a-table", "name")
    reply = await walk(agent, say(data={"name": "Bea", "guests": 3}))
    assert reply.is_route_complete
    assert agent.session.data == {"source": "web", "name": "Bea", "guests": 3}
    assert [visit.completed for visit in agent.session.current.route_history] == [True, True]


# Steps


async def test_requires_passes_a_step_over_until_its_fields_are_there(persistence):
    route = Route(
        "R",
        steps=[Step("Ask the room", collect=["room"], requires=["floor"]), Step("Ask the floor", collect=["floor"])],
    )
    agent = make(persistence, routes=[route])
    await walk(agent, say(route="r"))
    assert place(agent) == ("r", "floor")
    await walk(agent, say(data={"floor": 2}))
    assert place(agent) == ("r", "room")
    assert (await walk(agent, say(data={"room": 5}))).is_route_complete


@pytest.mark.parametrize("is_async", [False, True])
async def test_skip_if(persistence, is_async):
    def alone(data):
        return data.get("guests") == 1

    async def alone_async(data):
        return alone(data)

    route = Route(
        "R",
        required_fields=["guests"],
        steps=[
            Step("How many", collect=["guests"], id="guests"),
            Step("Who else", collect=["partner"], skip_if=alone_async if is_async else alone),
            Step("When", collect=["day"]),
        ],
    )
    route = Route("R", required_fields=["guests", "day"], steps=route.steps)
    agent = make(persistence, routes=[route])
    await walk(agent, say(route="r"), say(data={"guests": 1}))
    assert place(agent) == ("r", "day")
    assert (await walk(agent, say(data={"day": "Monday"}))).is_route_complete


async def test_when_as_a_callback_and_as_words(persistence):
    route = Route(
        "R",
        steps=[
            Step("Hidden", collect=["a"], when=lambda context: context["plan"] == "pro"),
            Step("Shown", collect=["b"], when="the user is in the mood"),
        ],
        required_fields=["b"],
    )
    agent = make(persistence, routes=[route], context={"plan": "free"})
    await walk(agent, say(route="r"))
    assert place(agent) == ("r", "b")
    await walk(agent, say())
    assert agent.provider.last.step.when == "the user is in the mood"
    pro = Agent(
        name="a",
        provider=ScriptedProvider(say(route="r")),
        persistence=persistence,
        session_id="t",
        routes=[route],
        context={"plan": "pro"},
    )
    await pro.respond("x")
    assert place(pro) == ("r", "a")


async def test_a_route_that_is_not_offered_is_not_listed_and_cannot_be_entered(persistence):
    hidden = Route("Refund", when=lambda context: context.get("admin", False), steps=[Step("Ask", collect=["amount"])])
    agent = make(persistence, routes=[booking(), hidden])
    await walk(agent, say(route="refund", data={}))
    assert [route.id for route in agent.provider.last.routes] == ["book-a-table"]
    assert place(agent) == (None, None)


async def test_a_route_already_entered_stays_offered(persistence):
    route = Route("R", when=lambda context: context.get("open", False), steps=[Step("Ask", collect=["x"])])
    agent = make(persistence, routes=[route])
    agent.provider.add(say(route="r"), say())
    await agent.respond("a", context={"open": True})
    await agent.respond("b")
    assert agent.provider.last.route.id == "r"


async def test_a_step_that_collects_nothing_is_done_once_it_was_spoken_for(persistence):
    done = []
    route = Route(
        "R",
        steps=[
            Step("Greet", finalize=lambda: done.append("greet")),
            Step("Explain", finalize=lambda: done.append("explain")),
        ],
    )
    agent = make(persistence, routes=[route])
    reply = await walk(agent, say("Hello!", route="r"))
    assert (place(agent), done, reply.is_route_complete) == (("r", "greet"), [], False)
    reply = await walk(agent, say("It works like this"))
    assert (place(agent), done) == (("r", "explain"), ["greet"])
    reply = await walk(agent, say("Bye"))
    assert (place(agent), done, reply.is_route_complete) == ((None, None), ["greet", "explain"], True)


async def test_a_route_without_steps_or_fields_never_completes_by_itself(persistence):
    agent = make(persistence, routes=[Route("Chat")])
    reply = await walk(agent, say(route="chat"), say(), say())
    assert place(agent) == ("chat", None)
    assert not reply.is_route_complete


async def test_prepare_runs_before_the_provider_in_each_turn_at_its_step(persistence):
    seen = []

    async def prepare(data, context, session, turn):
        seen.append((dict(data), session.id))
        context["prices"] = [1, 2]
        turn.set_data({"prepared": True})

    route = Route("R", steps=[Step("Ask", collect=["x"], prepare=prepare)])
    agent = make(persistence, routes=[route])
    await walk(agent, say(route="r"), say(), say(data={"x": 1}))
    assert seen == [({}, "s"), ({"prepared": True}, "s")]
    assert agent.provider.last.context["prices"] == [1, 2]
    assert agent.session.data == {"prepared": True, "x": 1}


async def test_finalize_runs_once_and_what_it_sets_is_saved(store, persistence):
    ran = []

    def finalize(data):
        ran.append(dict(data))
        return {"name": data["name"].title(), "checked": True}

    route = Route(
        "R",
        required_fields=["name", "guests"],
        steps=[Step("Ask", collect=["name"], finalize=finalize), Step("Ask", collect=["guests"])],
    )
    agent = make(persistence, routes=[route])
    await walk(agent, say(route="r"), say(data={"name": "ana"}), say(), say(data={"guests": 1}))
    assert ran == [{"name": "ana"}]
    assert await store.data("s") == {"name": "Ana", "checked": True, "guests": 1}
    assert agent.session.data == await store.data("s")


async def test_finalize_may_set_data_and_messages_through_the_turn(store, persistence):
    async def finalize(turn):
        turn.add_message("system", "checked")
        turn.set_data({"checked": True})

    agent = make(persistence, routes=[Route("R", steps=[Step("Ask", collect=["x"], finalize=finalize)])])
    await walk(agent, say("bye", route="r", data={"x": 1}))
    assert await store.data("s") == {"x": 1, "checked": True}
    assert sorted(await store.texts("s")) == [("assistant", "bye"), ("system", "checked"), ("user", "…")]


async def test_what_finalize_sets_is_held_against_the_schema(store, persistence):
    route = Route("R", steps=[Step("Ask", collect=["name"], finalize=lambda: {"guests": "many"})])
    agent = make(persistence, routes=[route], schema=Booking)
    with pytest.raises(InvalidData):
        await walk(agent, say(route="r", data={"name": "Ana"}))
    assert await store.dump() == {}


async def test_a_callback_that_raises_fails_the_turn(store, persistence):
    def finalize():
        raise ZeroDivisionError

    agent = make(persistence, routes=[Route("R", steps=[Step("Ask", collect=["x"], finalize=finalize)])])
    with pytest.raises(ZeroDivisionError):
        await walk(agent, say(route="r", data={"x": 1}))
    assert await store.dump() == {}


# What comes next


@pytest.mark.parametrize("following", ["feedback", "Give feedback", "callable", "async"])
async def test_on_complete_enters_the_next_route_with_the_data(store, persistence, following):
    async def choose(data):
        return "feedback" if data["guests"] > 1 else None

    on_complete = {"callable": lambda data: "Give feedback", "async": choose}.get(following, following)
    feedback = Route("Give feedback", id="feedback", steps=[Step("Ask", collect=["rating"])])
    agent = make(persistence, routes=[booking(on_complete=on_complete), feedback])
    reply = await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 2}))
    assert reply.is_route_complete
    assert place(agent) == ("feedback", "rating")
    assert (await store.data("s")) == {"name": "Ana", "guests": 2}
    again = Agent(
        name="a",
        provider=ScriptedProvider(say(data={"rating": 5})),
        persistence=persistence,
        session_id="s",
        routes=[booking(on_complete=on_complete), feedback],
    )
    assert (await again.respond("five")).is_route_complete
    assert [(visit.route, visit.completed) for visit in again.session.current.route_history] == [
        ("book-a-table", True),
        ("feedback", True),
    ]


async def test_on_complete_may_return_nothing(persistence):
    agent = make(persistence, routes=[booking(on_complete=lambda: None)])
    await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 2}))
    assert place(agent) == (None, None)


async def test_routes_that_follow_each_other_in_a_circle_end(persistence):
    a = Route("A", required_fields=["x"], steps=[Step("Ask", collect=["x"])], on_complete="b")
    b = Route("B", required_fields=["x"], steps=[Step("Ask", collect=["x"])], on_complete="a")
    agent = make(persistence, routes=[a, b])
    reply = await walk(agent, say(route="a", data={"x": 1}))
    assert reply.is_route_complete


async def test_a_step_entered_by_on_complete_was_not_spoken_for_yet(persistence):
    """The assistant knew nothing of the next route when it spoke: its first step must get its word."""
    goodbye = Route("Goodbye", steps=[Step("Say where we are")])
    agent = make(persistence, routes=[booking(on_complete="goodbye"), goodbye])
    await walk(agent, say("Done", route="book-a-table", data={"name": "Ana", "guests": 2}))
    assert place(agent) == ("goodbye", "say-where-we-are")
    reply = await walk(agent, say("We are at the harbour"))
    assert agent.provider.last.step is None  # not: "which the assistant has already spoken for"
    assert not reply.is_route_complete
    reply = await walk(agent, say("Bye"))
    assert reply.is_route_complete


async def test_only_a_route_chosen_asks_again_now_that_it_is_prepared(persistence):
    prepared = []
    route = Route("R", steps=[Step("Ask", collect=["x"], prepare=lambda: prepared.append(1))])
    agent = make(persistence, ProviderReply(route="r"), say("What x?"), routes=[route])
    reply = await agent.respond("hello")
    assert (reply.message, agent.provider.calls, prepared) == ("What x?", 2, [1])
    assert agent.provider.last.route.id == "r"


async def test_a_provider_that_only_ever_chooses_routes_is_stopped(store, persistence):
    asked = 0

    def toggle(request):
        nonlocal asked
        asked += 1
        if asked > 100:
            raise RuntimeError("asked for ever")
        return ProviderReply(route="a" if asked % 2 else "b")

    routes = [Route("A", steps=[Step("x", collect=["x"])]), Route("B", steps=[Step("y", collect=["y"])])]
    agent = make(persistence, routes=routes, always=toggle)
    with contextlib.suppress(ProviderError):
        await agent.respond("hello")
    assert asked <= 20


# What the agent no longer knows


async def test_an_unknown_route_is_cleared_with_one_warning_and_keeps_data(store, persistence, caplog):
    old = make(persistence, routes=[booking()])
    await walk(old, say(route="book-a-table", data={"name": "Ana"}))
    new = make(persistence, routes=[Route("Other", steps=[Step("Ask", collect=["x"])])])
    with caplog.at_level(logging.WARNING, logger="turnkeep.agent"):
        await walk(new, say(), say())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "book-a-table" in caplog.text
    assert place(new) == (None, None)
    assert await store.data("s") == {"name": "Ana"}
    visit = new.session.current.route_history[0]
    assert (visit.route, visit.completed, visit.exited_at is not None) == ("book-a-table", False, True)
    assert new.session.validate() == []


async def test_an_unknown_step_goes_on_at_the_first_that_is_not_done(store, persistence, caplog):
    old = make(persistence, routes=[Route("R", steps=[Step("a", collect=["a"]), Step("b", collect=["b"], id="old")])])
    await walk(old, say(route="r", data={"a": 1}))
    new = make(persistence, routes=[Route("R", steps=[Step("a", collect=["a"]), Step("b", collect=["b"], id="new")])])
    with caplog.at_level(logging.WARNING, logger="turnkeep.agent"):
        await walk(new, say(), say())
    assert len(caplog.records) == 1
    assert place(new) == ("r", "new")
    assert (await walk(new, say(data={"b": 2}))).is_route_complete


async def test_an_unknown_step_among_steps_that_only_speak_does_not_complete_the_route(persistence):
    old = make(persistence, routes=[Route("R", steps=[Step("One", id="old"), Step("Two")])])
    await walk(old, say(route="r"))
    new = make(persistence, routes=[Route("R", steps=[Step("One", id="new"), Step("Two")])])
    reply = await walk(new, say())
    assert not reply.is_route_complete


async def test_pointers_moved_by_persistence_are_followed(persistence):
    agent = make(persistence, routes=[booking()])
    await walk(agent, say())
    await persistence.update_route_step("s", route="book-a-table", step="guests")
    await walk(agent, say(data={"guests": 2}))
    assert agent.provider.last.step.id == "guests"
    assert place(agent) == ("book-a-table", "name")


# Data from the provider


async def test_values_that_do_not_fit_are_dropped_and_the_rest_kept(persistence, caplog):
    agent = make(persistence, routes=[booking()], schema=Booking)
    with caplog.at_level(logging.WARNING):
        reply = await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": 99, "colour": "red"}))
    assert agent.session.data == {"name": "Ana"}
    assert reply.stopped_reason == "validation_error"
    assert "guests" in caplog.text
    assert "99" not in caplog.text


async def test_values_are_converted_as_the_schema_says(persistence):
    agent = make(persistence, routes=[booking()], schema=Booking)
    await walk(agent, say(route="book-a-table", data={"name": "Ana", "guests": "4"}))
    assert agent.session.data == {"name": "Ana", "guests": 4}


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), (True, 1), (0, False)])
async def test_a_value_that_equals_the_old_one_but_is_of_another_type_is_kept(store, persistence, old, new):
    agent = make(persistence)
    await walk(agent, say(data={"x": old}), say(data={"x": new}))
    assert type((await store.data("s"))["x"]) is type(new)


async def test_before_data_update_may_change_and_refuse(persistence):
    def before(data, previous, session):
        assert session.data == previous
        if data.get("name") == "Eve":
            raise PermissionError
        return {**data, "name": data["name"].upper()}

    agent = make(persistence, hooks=Hooks(before_data_update=before))
    await walk(agent, say(data={"name": "ana"}))
    assert agent.session.data == {"name": "ANA"}
    with pytest.raises(PermissionError):
        await walk(agent, say(data={"name": "Eve"}))
    assert agent.session.data == {"name": "ANA"}


async def test_tools_of_routes_and_steps(persistence):
    @tool
    def everywhere(): ...

    @tool
    def on_route(): ...

    @tool
    def at_step(): ...

    route = Route("R", tools=[on_route], steps=[Step("a", collect=["a"], tools=[at_step]), Step("b", collect=["b"])])
    agent = make(persistence, routes=[route], tools=[everywhere])
    offered = []
    for turn in (say(route="r"), say(data={"a": 1}), say(data={"b": 1}), say()):
        await walk(agent, turn)
        offered.append([spec.name for spec in agent.provider.last.tools])
    assert offered == [
        ["everywhere"],
        ["everywhere", "on_route", "at_step"],
        ["everywhere", "on_route"],
        ["everywhere"],
    ]
    agent.provider.add(call("at_step"), say())
    await agent.respond("x")
    assert "no tool" in agent.provider.last.history[-1].content
