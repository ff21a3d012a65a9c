"""Collected data and the schema it is held against."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic.alias_generators import to_camel

from turnkeep import UNSET, Agent, DataIncomplete, InvalidArgument, InvalidData, NotSerializable, SessionManager
from turnkeep.providers import ProviderReply
from turnkeep_testkit.scripted import ScriptedProvider


@pytest.fixture
async def store(memory):
    """Memory alone: what a value becomes is decided before any database; test_lessons asks them all (D30)."""
    return memory


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    street: str
    since: date | None = None


class Booking(BaseModel):
    name: str
    guests: int = Field(ge=1)
    day: date | None = None
    at: datetime | None = None
    colour: Colour | None = None
    level: Level | None = None
    address: Address | None = None
    tags: list[str] = []
    price: Decimal | None = None
    ref: UUID | None = None
    seats: set[int] = set()
    note: str | None = None
    window: bool = False
    anything: Any = None

    @field_validator("name")
    @classmethod
    def _capital(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("must be somebody")
        return value.title()


def make(persistence, *script, schema=Booking, **options):
    return Agent(
        name="a", provider=ScriptedProvider(*script), persistence=persistence, session_id="s", schema=schema, **options
    )


STORED = [
    ("name", "ana maria", "Ana Maria"),
    ("guests", "4", 4),
    ("guests", 4.0, 4),
    ("day", "2027-03-01", date(2027, 3, 1)),
    ("day", date(2027, 3, 1), date(2027, 3, 1)),
    ("at", "2027-03-01T18:00:00Z", datetime(2027, 3, 1, 18, tzinfo=UTC)),
    ("colour", "red", "red"),
    ("colour", Colour.BLUE, "blue"),
    ("level", 2, 2),
    ("address", {"street": "Rua A", "since": "2020-01-01"}, {"street": "Rua A", "since": date(2020, 1, 1)}),
    ("address", Address(street="Rua B"), {"street": "Rua B", "since": None}),
    ("tags", ["a", "b"], ["a", "b"]),
    ("price", "12.10", Decimal("12.10")),
    ("ref", "12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
    ("seats", [1, 2, 2], {1, 2}),
    ("window", "yes", True),
    ("anything", {"deep": [1, {"er": None}]}, {"deep": [1, {"er": None}]}),
    ("note", "", ""),
    ("note", None, None),
    ("guests", None, None),
]


@pytest.mark.parametrize(("name", "given", "stored"), STORED, ids=lambda value: str(value)[:25])
async def test_values_are_converted_and_stored(store, persistence, name, given, stored):
    agent = make(persistence)
    await agent.session.set_data({name: given})
    assert agent.session.data == {name: stored}
    assert await store.data("s") == {name: stored}
    assert type((await store.data("s"))[name]) is type(stored)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("guests", "many"),
        ("guests", 0),
        ("guests", 1.5),
        ("guests", [1]),
        ("day", "soon"),
        ("colour", "green"),
        ("level", 7),
        ("address", {"since": "2020-01-01"}),
        ("address", "Rua A"),
        ("tags", "a"),
        ("tags", [1]),
        ("price", "x"),
        ("name", "nobody"),
        ("name", 5),
        ("unknown", 1),
        ("Name", "x"),
        ("window", "perhaps"),
    ],
)
@pytest.mark.parametrize("way", ["set_data", "turn"])
async def test_what_does_not_fit_is_refused_and_changes_nothing(store, persistence, name, given, way):
    agent = make(persistence, ProviderReply(text="ok", data={name: given}))
    await agent.session.set_data({"name": "ana", "guests": 2})
    before = await store.dump()
    if way == "set_data":
        with pytest.raises(InvalidData) as caught:
            await agent.session.set_data({name: given, "note": "kept out, too"})
        assert caught.value.problems.keys() == {name}
        assert await store.dump() == before
    else:
        assert (await agent.respond("…")).stopped_reason == "validation_error"
    assert agent.session.data == await store.data("s") == {"name": "Ana", "guests": 2}


async def test_the_error_names_fields_never_values(persistence):
    agent = make(persistence)
    with pytest.raises(InvalidData) as caught:
        await agent.session.set_data({"guests": "hunter2", "day": "hunter2", "unknown": "hunter2"})
    assert "hunter2" not in f"{caught.value} {caught.value.problems}"
    assert caught.value.problems.keys() == {"guests", "day", "unknown"}


async def test_set_data_merges_and_unset_removes(store, persistence):
    agent = make(persistence)
    await agent.session.set_data({"name": "Ana", "address": {"street": "A", "since": None}})
    await agent.session.set_data({"guests": 2, "address": {"street": "B"}})
    assert agent.session.data == {"name": "Ana", "guests": 2, "address": {"street": "B", "since": None}}
    await agent.session.set_data({"guests": UNSET, "never there": UNSET})
    await agent.session.set_data(None)
    assert await store.data("s") == {"name": "Ana", "address": {"street": "B", "since": None}}
    await agent.session.clear_data()
    assert await store.data("s") == {}


@pytest.mark.parametrize("bad", [[], "x", 5, [("a", 1)]])
async def test_changes_are_a_dict(persistence, bad):
    with pytest.raises(InvalidArgument):
        await make(persistence).session.set_data(bad)


async def test_an_instance_when_all_is_there_and_the_missing_named_when_not(persistence):
    agent = make(persistence)
    await agent.session.set_data({"name": "ana", "colour": "red", "day": "2027-03-01", "price": "1.50"})
    with pytest.raises(DataIncomplete) as caught:
        agent.session.get_data(Booking)
    assert caught.value.missing == ("guests",)
    await agent.session.set_data({"guests": 2})
    booking = agent.session.get_data(Booking)
    assert booking == Booking(name="Ana", guests=2, colour=Colour.RED, day=date(2027, 3, 1), price=Decimal("1.50"))
    assert booking.colour is Colour.RED


@pytest.mark.parametrize("nothing", [None, ""])
async def test_none_and_empty_are_missing_for_an_instance(persistence, nothing):
    session = SessionManager(persistence, session_id="s")
    await session.set_data({"name": nothing, "guests": 2})
    with pytest.raises(DataIncomplete) as caught:
        session.get_data(Booking)
    assert caught.value.missing == ("name",)


async def test_none_is_missing_for_a_field_with_a_default_too(persistence):
    """What set_data took must not make get_data fail: None means "not there"."""
    agent = make(persistence)
    await agent.session.set_data({"name": "ana", "guests": 2, "window": None, "tags": None})
    assert agent.session.get_data(Booking) == Booking(name="Ana", guests=2)


async def test_what_was_stored_otherwise_is_kept_and_ignored(store, persistence):
    plain = SessionManager(persistence, session_id="s")
    await plain.set_data({"name": "ana", "guests": 2, "legacy": [1], "day": "not a day"})
    agent = make(persistence)
    await agent.session.get_or_create()
    await agent.session.set_data({"note": "new"})
    assert await store.data("s") == {"name": "ana", "guests": 2, "legacy": [1], "day": "not a day", "note": "new"}
    with pytest.raises(InvalidData) as caught:
        agent.session.get_data(Booking)
    assert caught.value.problems.keys() == {"day"}
    await agent.session.set_data({"day": UNSET})
    assert agent.session.get_data(Booking).guests == 2
    with pytest.raises(InvalidData):
        await agent.session.set_data({"legacy": [2]})


async def test_get_data_gives_copies(persistence):
    agent = make(persistence)
    await agent.session.set_data({"tags": ["a"]})
    agent.session.get_data()["tags"].append("b")
    agent.session.data["tags"].append("c")
    assert agent.session.data == {"tags": ["a"]}


async def test_whole_model_validators_run_when_an_instance_is_asked_for(persistence):
    class Pair(BaseModel):
        low: int
        high: int

        @model_validator(mode="after")
        def _order(self):
            if self.low > self.high:
                raise ValueError("low is over high")
            return self

    agent = make(persistence, schema=Pair)
    await agent.session.set_data({"low": 5})
    await agent.session.set_data({"high": 1})
    with pytest.raises(InvalidData, match="low is over high"):
        agent.session.get_data(Pair)


@pytest.mark.parametrize(
    "config",
    [
        ConfigDict(alias_generator=to_camel),
        ConfigDict(alias_generator=to_camel, populate_by_name=True),
        ConfigDict(alias_generator=AliasGenerator(alias=to_camel)),
        ConfigDict(extra="allow"),
        ConfigDict(frozen=True),
        ConfigDict(validate_assignment=True),
        ConfigDict(str_strip_whitespace=True),
    ],
    ids=str,
)
async def test_models_of_every_configuration(persistence, config):
    class Person(BaseModel):
        model_config = config
        full_name: str
        phone_number: str = Field("", description="Which number?")

    agent = make(persistence, schema=Person)
    await agent.session.set_data({"full_name": "Ana", "phone_number": "1"})
    assert agent.session.data == {"full_name": "Ana", "phone_number": "1"}
    assert agent.session.get_data(Person).full_name == "Ana"
    with pytest.raises(InvalidData):
        await agent.session.set_data({"other": 1})


async def test_an_aliased_field_is_called_by_its_name(persistence):
    class Person(BaseModel):
        full_name: str = Field(alias="fullName")

    agent = make(persistence, schema=Person)
    await agent.session.set_data({"full_name": "Ana"})
    assert agent.session.get_data(Person).full_name == "Ana"


async def test_a_secret_is_kept_whole_or_refused(persistence):
    """Its form in JSON is ``**********``: stored like that it would be lost without a word."""

    class Login(BaseModel):
        password: SecretStr

    agent = make(persistence, schema=Login)
    try:
        await agent.session.set_data({"password": "hunter2"})
    except (InvalidData, NotSerializable):
        return
    assert agent.session.get_data(Login).password.get_secret_value() == "hunter2"


async def test_what_has_no_form_to_be_stored_in_is_refused_as_such(store, persistence):
    class Thing:
        pass

    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Thing | None = None

    agent = make(persistence, schema=Odd)
    with pytest.raises((InvalidData, NotSerializable)):
        await agent.session.set_data({"thing": Thing()})
    assert await store.dump() == {}


async def test_values_beside_an_enum_in_one_model_stay_exact(persistence):
    class Item(BaseModel):
        colour: Colour
        price: Decimal
        at: datetime
        blob: bytes

    class Order(BaseModel):
        item: Item

    item = Item(colour="red", price="0.10", at=datetime(2027, 3, 1, tzinfo=UTC), blob=b"\xff\x00")
    agent = make(persistence, schema=Order)
    await agent.session.set_data({"item": item})
    assert agent.session.get_data(Order).item == item


async def test_without_a_schema_any_storable_value_goes(store, persistence):
    session = SessionManager(persistence, session_id="s")
    data = {"a": {1, 2}, "b": (1,), "c": b"x", "d": datetime(2027, 1, 1, tzinfo=UTC), "e": None, "f": 2**70}
    await session.set_data(data)
    assert await store.data("s") == data
    for bad in (object(), lambda: 1, float, Colour.RED, datetime(2027, 1, 1)):  # noqa: DTZ001 - naive on purpose
        with pytest.raises(NotSerializable, match="x"):
            await session.set_data({"x": bad})
    assert await store.data("s") == data


@pytest.mark.parametrize("schema", [dict, 5, Booking(name="a", guests=1), "Booking", Literal["a"]])
def test_a_schema_is_a_model_class(persistence, schema):
    with pytest.raises(InvalidArgument, match="pydantic"):
        make(persistence, schema=schema)
