"""How the guided provider leads a conversation along its routes."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from turnkeep import (
    Agent,
    Route,
    SessionManager,
    Step,
)
from turnkeep.providers import GuidedProvider

from .kit import Booking, booking, place, texts


@pytest.fixture
async def store(memory):
    """Memory alone, as for routes: what is asked next is decided before any database."""
    return memory


def guided(persistence, fields, *, routes=None, session_id="g", **options):
    """An agent that asks for these fields of a schema, one step each."""
    model = type(
        "Model",
        (BaseModel,),
        {
            "__annotations__": {name: kind for name, (kind, _) in fields.items()},
            **{name: default for name, (_, default) in fields.items() if default is not ...},
        },
    )
    routes = routes or [
        Route(
            "Form", required_fields=list(fields), steps=[Step(f"Ask for the {name}", collect=[name]) for name in fields]
        )
    ]
    return Agent(
        name="a",
        provider=GuidedProvider(today=lambda: date(2027, 3, 1)),
        persistence=persistence,
        session_id=session_id,
        schema=model,
        routes=routes,
        **options,
    )


async def ask(agent, *texts):
    reply = None
    for text in texts:
        reply = await agent.respond(text)
    return reply


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Seat(BaseModel):
    size: Size


KINDS = [
    (str, "Ana", "Ana"),
    (str, "  Ana  ", "Ana"),
    (int, "4", 4),
    (int, "four of us", 4),
    (int, "we are 12 people", 12),
    (int, "-3", -3),
    (float, "1.5", 1.5),
    (float, "about 2,5 kilos", 2.5),
    (float, "3", 3.0),
    (Decimal, "12.10", Decimal("12.1")),
    (bool, "yes", True),
    (bool, "Yes, please!", True),
    (bool, "no", False),
    (bool, "No, thanks", False),
    (Size, "large", "large"),
    (Size, "the SMALL one", "small"),
    (Literal["red", "green"], "Green please", "green"),
    (Literal[1, 2], "2", 2),
    (Literal["only"], "only", "only"),
    (date, "2027-03-05", date(2027, 3, 5)),
    (date, "on 5.3.2027", date(2027, 3, 5)),
    (date, "tomorrow", date(2027, 3, 2)),
    (date, "Today!", date(2027, 3, 1)),
    (datetime, "2027-03-05T18:00:00Z", None),
    (list[str], "tea, coffee and milk", ["tea", "coffee", "milk"]),
    (list[int], "1; 2; 3", [1, 2, 3]),
    (list[Size], "small, large", ["small", "large"]),
    (int | None, "4", 4),
    (Size | None, "large", "large"),
    (date | None, "2027-03-05", date(2027, 3, 5)),
    (list[int] | None, "1, 2", [1, 2]),
]


@pytest.mark.parametrize(("kind", "text", "expected"), KINDS, ids=lambda value: str(value)[:30])
async def test_guided_reads_every_kind(memory, kind, text, expected):
    agent = guided(await memory.connect(), {"value": (kind, ...)})
    first = await agent.respond("the form, please")
    assert first.message.endswith("?")
    reply = await agent.respond(text)
    assert reply.is_route_complete, reply.message
    value = agent.session.data["value"]
    if expected is not None:
        assert value == expected
        assert type(value) is type(expected)


UNREADABLE = [
    (int, "many"),
    (int, "1.5"),
    (float, "lots"),
    (bool, "perhaps"),
    (Size, "huge"),
    (date, "soon"),
    (date, "2027-02-30"),
    (list[int], "a, b"),
    (datetime, "next week"),
    (float, "12,000 or so"),
    (float, "1.000,50"),
]


@pytest.mark.parametrize(("kind", "text"), UNREADABLE, ids=lambda value: str(value)[:30])
async def test_guided_asks_again_what_it_cannot_read(memory, kind, text):
    agent = guided(await memory.connect(), {"value": (kind, ...)})
    first = await agent.respond("the form")
    reply = await agent.respond(text)
    assert not reply.is_route_complete
    assert reply.message != first.message
    assert reply.message.endswith("?")
    assert agent.session.data == {}
    assert place(agent) == ("form", "value")


async def test_guided_asks_again_what_the_schema_refuses(persistence):
    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", schema=Booking, routes=[booking()]
    )
    await ask(agent, "a table", "Ana")
    reply = await agent.respond("99")
    assert "How many guests?" in reply.message
    assert agent.session.data == {"name": "Ana"}
    assert (await agent.respond("9")).is_route_complete


async def test_guided_goes_on_in_another_process(store):
    for text in ("A table, please", "Ana", "4"):
        persistence = await store.other()
        agent = Agent(
            name="Front desk",
            provider=GuidedProvider(),
            persistence=persistence,
            session_id="t1",
            schema=Booking,
            routes=[booking()],
        )
        reply = await agent.respond(text)
    assert reply.is_route_complete
    assert await store.data("t1") == {"name": "Ana", "guests": 4}
    assert await store.texts("t1") == [
        ("user", "A table, please"),
        ("assistant", "Who the table is for?"),
        ("user", "Ana"),
        ("assistant", "How many guests?"),
        ("user", "4"),
        ("assistant", "Thank you, that is all I need: name Ana, guests 4."),
    ]


async def test_guided_without_routes_says_what_it_can_and_cannot(persistence):
    agent = Agent(name="a", provider=GuidedProvider(), persistence=persistence, session_id="g")
    reply = await agent.respond("hello")
    assert "routes" in reply.message
    assert len(agent.session.get_history()) == 2


async def test_guided_chooses_by_words_or_asks(persistence):
    feedback = Route(
        "Give feedback", when="the user wants to complain or praise", steps=[Step("Ask", collect=["text"])]
    )
    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", routes=[booking(), feedback]
    )
    reply = await agent.respond("hm")
    assert "Book a table" in reply.message
    assert "Give feedback" in reply.message
    assert place(agent) == (None, None)
    await agent.respond("I want to complain")
    assert place(agent) == ("give-feedback", "text")


async def test_guided_takes_the_only_route(persistence):
    agent = Agent(name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", routes=[booking()])
    await agent.respond("hello")
    assert place(agent) == ("book-a-table", "name")


async def test_guided_uses_a_question_in_the_description(memory):
    class Form(BaseModel):
        size: Size = Field(description="Small or large?")

    agent = Agent(
        name="a",
        provider=GuidedProvider(),
        persistence=await memory.connect(),
        session_id="g",
        schema=Form,
        routes=[Route("Form", steps=[Step("Ask the size", collect=["size"])])],
    )
    assert (await agent.respond("hello")).message == "Small or large?"
    assert (await agent.respond("large")).is_route_complete
    assert agent.session.get_data(Form).size is Size.LARGE


async def test_guided_asks_each_field_of_a_step(persistence):
    route = Route("R", steps=[Step("Ask name and guests", collect=["name", "guests"])])
    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", schema=Booking, routes=[route]
    )
    assert (await agent.respond("hello")).message == "Name?"
    assert (await agent.respond("Ana")).message == "Guests?"
    assert (await agent.respond("4")).is_route_complete


async def test_guided_takes_a_union_by_what_fits(memory):
    agent = guided(await memory.connect(), {"value": (int | str, ...)})
    await agent.respond("the form")
    reply = await agent.respond("somewhere")
    assert reply.is_route_complete, reply.message
    assert agent.session.data == {"value": "somewhere"}


async def test_guided_does_not_ask_what_is_skipped(persistence):
    """What it asks for and the step the answer is read for must be the same."""
    route = Route(
        "R",
        required_fields=["name", "day"],
        steps=[
            Step("Ask the name", collect=["name"]),
            Step("Ask the partner's name", collect=["partner"], skip_if=lambda context: context["alone"]),
            Step("Ask the day", collect=["day"]),
        ],
    )
    agent = Agent(
        name="a",
        provider=GuidedProvider(),
        persistence=persistence,
        session_id="g",
        routes=[route],
        context={"alone": True},
    )
    await agent.respond("hello")
    reply = await agent.respond("Ana")
    assert place(agent) == ("r", "day")
    assert reply.message == "The day?"
    assert (await agent.respond("Monday")).is_route_complete
    assert agent.session.data == {"name": "Ana", "day": "Monday"}


async def test_guided_does_not_ask_what_the_answer_makes_skipped(persistence):
    route = Route(
        "R",
        required_fields=["guests", "day"],
        steps=[
            Step("Ask how many guests", collect=["guests"]),
            Step("Ask the partner's name", collect=["partner"], skip_if=lambda data: data["guests"] == 1),
            Step("Ask the day", collect=["day"]),
        ],
    )

    class Form(BaseModel):
        guests: int
        partner: str
        day: str

    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", routes=[route], schema=Form
    )
    await agent.respond("hello")
    reply = await agent.respond("1")
    assert place(agent) == ("r", "day")
    assert reply.message == "The day?"
    await agent.respond("Monday")
    assert agent.session.data == {"guests": 1, "day": "Monday"}


async def test_guided_asks_the_first_question_of_a_route_that_follows(persistence):
    """What the user says before the question was put is no answer to it."""
    feedback = Route("Give feedback", steps=[Step("Ask how it was", collect=["opinion"])])
    agent = Agent(
        name="a",
        provider=GuidedProvider(),
        persistence=persistence,
        session_id="g",
        routes=[booking(on_complete="give-feedback"), feedback],
    )
    await ask(agent, "book a table", "Ana", "4")
    assert place(agent) == ("give-feedback", "opinion")
    if "how it was?" not in agent.session.get_history()[-1].content.lower():
        reply = await agent.respond("thanks")
        assert "how it was?" in reply.message.lower()
        assert "opinion" not in agent.session.data
    assert (await agent.respond("good")).is_route_complete
    assert agent.session.data["opinion"] == "good"


async def test_guided_books_again(persistence):
    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", schema=Booking, routes=[booking()]
    )
    await ask(agent, "a table", "Ana", "4")
    reply = await agent.respond("book another table")
    assert (reply.message, place(agent)) == ("Who the table is for?", ("book-a-table", "name"))
    assert (await ask(agent, "Bea", "2")).is_route_complete
    assert agent.session.data == {"name": "Bea", "guests": 2}


async def test_what_is_set_beside_the_conversation_is_not_asked(persistence):
    agent = Agent(
        name="a", provider=GuidedProvider(), persistence=persistence, session_id="g", schema=Booking, routes=[booking()]
    )
    await agent.session.set_data({"name": "Ana"})
    assert (await agent.respond("a table")).message == "How many guests?"
    assert (await agent.respond("4")).is_route_complete


async def test_other_sessions_progress_is_untouched(persistence):
    agent = Agent(name="a", provider=GuidedProvider(), persistence=persistence, schema=Booking, routes=[booking()])
    for session_id in ("one", "two"):
        await agent.respond("a table", session_id=session_id)
    await agent.respond("Ana", session_id="one")
    assert (await persistence.find_session_by_id("one")).current_step == "guests"
    assert (await persistence.find_session_by_id("two")).current_step == "name"
    session = SessionManager(persistence, session_id="two")
    assert texts((await session.get_or_create()).history)[-1] == ("assistant", "Who the table is for?")
