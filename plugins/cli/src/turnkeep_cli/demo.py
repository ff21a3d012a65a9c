"""The agent that ``turnkeep chat`` talks through: the front desk of a restaurant."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, field_validator
from pydantic_core import PydanticCustomError

from turnkeep import Agent, Route, Step

if TYPE_CHECKING:
    from turnkeep import Persistence
    from turnkeep.providers import Provider

_INSTRUCTIONS = """\
You are the front desk of a small restaurant. You book tables for up to 12 guests and plan parties for more.
Ask one question at a time, briefly and in the language of the guest."""


class Visit(BaseModel):
    """What the front desk finds out. Which of it is required, each route says."""

    name: Annotated[str | None, Field(description="Name of the guest", max_length=80)] = None
    guests: Annotated[int | None, Field(description="Number of guests at the table, 1 to 12")] = None
    day: Annotated[date | None, Field(description="Day of the party, not in the past, within a year")] = None
    people: Annotated[int | None, Field(description="Number of people at the party, 13 to 80")] = None

    # Written out because the guest reads what is raised here.
    @field_validator("name")
    @classmethod
    def _has_letters(cls, name: str | None) -> str | None:
        if name and not any(character.isalpha() for character in name):
            raise PydanticCustomError("name", "a name has letters")
        return name

    @field_validator("guests")
    @classmethod
    def _fits_at_a_table(cls, guests: int | None) -> int | None:
        if guests is not None and not 1 <= guests <= 12:
            raise PydanticCustomError("guests", "our tables seat 1 to 12")
        return guests

    @field_validator("day")
    @classmethod
    def _is_to_come(cls, day: date | None) -> date | None:
        today = date.today()  # noqa: DTZ011 - a day where the guest is
        if day is not None and day < today:
            raise PydanticCustomError("day", "that day is over")
        if day is not None and day > today + timedelta(days=365):
            raise PydanticCustomError("day", "we plan no more than a year ahead")
        return day

    @field_validator("people")
    @classmethod
    def _fits_in_the_house(cls, people: int | None) -> int | None:
        if people is not None and not 13 <= people <= 80:
            raise PydanticCustomError("people", "parties here are for 13 to 80 people")
        return people


ROUTES = (
    Route(
        "Book a table",
        when="the guest wants to come and eat",
        required_fields=["name", "guests"],
        steps=[
            Step("Under what name shall I book it?", collect=["name"]),
            Step("For how many guests?", collect=["guests"]),
        ],
    ),
    Route(
        "Plan a party",
        when="the guest wants to celebrate",
        required_fields=["name", "day", "people"],
        steps=[
            Step("Whose party is it?", collect=["name"]),
            Step("On which day?", collect=["day"]),
            Step("How many people will come?", collect=["people"]),
        ],
    ),
)


def make_agent(persistence: Persistence, provider: Provider, *, session_id: str, user_id: str | None) -> Agent:
    """The front desk, in one conversation."""
    return Agent(
        name="Front desk",
        instructions=_INSTRUCTIONS,
        provider=provider,
        schema=Visit,
        routes=ROUTES,
        persistence=persistence,
        session_id=session_id,
        user_id=user_id,
        window=100,
        # Somebody may be talking in the same session elsewhere; no tool runs twice here.
        on_conflict="retry",
    )
