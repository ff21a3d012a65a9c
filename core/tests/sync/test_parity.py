"""The blocking door has the names, arguments and errors of the asynchronous API, and no others."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import turnkeep
from turnkeep import agent, connecting, paging, persistence, session, session_turn, sync
from turnkeep.providers import GuidedProvider

PAIRS = {
    "Agent": (turnkeep.Agent, sync.Agent),
    "Persistence": (persistence.Persistence, sync.Persistence),
    "SessionManager": (session.SessionManager, sync.SessionManager),
    "ReplyStream": (agent.ReplyStream, sync.ReplyStream),
    "SessionTurn": (session_turn.SessionTurn, sync.SessionTurn),
    "Page": (paging.Page, sync.Page),
}
RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__"}
WITHOUT_TWIN = {
    "ReplyStream": {"next_chunk", "begin", "give", "all_read"},  # what `for chunk in stream` is made of
    "SessionTurn": {"start", "finish", "abandon"},  # what `with session.turn()` is made of
}
ATTRIBUTES = {"Agent": {"name", "provider", "instructions", "tool_timeout"}, "SessionManager": {"auto_save"}}
"""What ``__init__`` sets and has no underscore is public, too."""


def public(kind: type) -> dict[str, Any]:
    """What a class offers, but for what makes it a Python object."""
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        if base.__module__ != "typing":
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_") or name in RENAMED}
            found |= {name: value for name, value in vars(base).items() if name in RENAMED.values()}
    return found


def members() -> list[Any]:
    return [
        pytest.param(there, here, name, id=f"{title}.{name}")
        for title, (there, here) in PAIRS.items()
        for name in public(there)
        if name not in WITHOUT_TWIN.get(title, ())
    ]


@pytest.mark.parametrize(("there", "here", "name"), members())
def test_every_member_has_its_twin(there: type, here: type, name: str) -> None:
    ours = RENAMED.get(name, name)
    assert ours in public(here), f"turnkeep.sync.{here.__name__} has no {ours}"
    one, other = public(there)[name], public(here)[ours]
    assert isinstance(one, property) == isinstance(other, property)
    if isinstance(one, property):
        assert annotation(one.fget) == annotation(other.fget)
        assert (one.fset is None) == (other.fset is None)
    elif callable(one):
        assert not inspect.iscoroutinefunction(other)
        assert not inspect.isasyncgenfunction(other)
        if name not in RENAMED:
            assert_same_signature(one, other)


@pytest.mark.parametrize("title", PAIRS)
def test_the_door_has_no_names_of_its_own(title: str) -> None:
    there, here = PAIRS[title]
    known = {RENAMED.get(name, name) for name in public(there)} | ATTRIBUTES.get(title, set())
    assert public(here).keys() - known == set()


@pytest.mark.parametrize("title", ["Agent", "SessionManager"])
def test_the_constructors_take_the_same(title: str) -> None:
    there, here = PAIRS[title]
    assert_same_signature(there.__init__, here.__init__, but={"persistence"})


def test_connect_takes_the_same() -> None:
    assert_same_signature(connecting.connect, sync.connect, but={"url_or_adapter", "return"})


def test_page_has_the_same_attributes() -> None:
    assert {name for name in sync.Page.__slots__ if not name.startswith("_")} == {"items", "next_cursor"}
    assert {name for name in paging.Page.__slots__ if not name.startswith("_")} == {"items", "next_cursor"}


async def test_objects_have_the_same_attributes() -> None:
    async with turnkeep.connect("memory://") as store:
        there = [
            turnkeep.Agent(name="a", provider=GuidedProvider(), persistence=store, session_id="s"),
            turnkeep.SessionManager(store, session_id="s"),
        ]
    with sync.connect("memory://") as blocking:
        here = [
            sync.Agent(name="a", provider=GuidedProvider(), persistence=blocking, session_id="s"),
            sync.SessionManager(blocking, session_id="s"),
        ]
        missing = []
        for one, other in zip(there, here, strict=True):
            title = type(one).__name__
            assert {name for name in vars(one) if not name.startswith("_")} == ATTRIBUTES[title]
            missing += [f"{title}.{name}" for name in sorted(ATTRIBUTES[title]) if not hasattr(other, name)]
    assert missing == []


def test_auto_save_can_be_changed() -> None:
    with sync.connect("memory://") as store:
        session = sync.SessionManager(store, session_id="s")
        session.auto_save = False
        session.set_data({"a": 1})
        assert store.find_session_by_id("s") is None
        session.save()
        assert store.find_session_by_id("s") is not None


def test_the_package_exports_what_blocks_and_nothing_else() -> None:
    assert sorted(sync.__all__) == sorted([*PAIRS, "connect"])
    assert [name for name in sync.__all__ if name != "SessionTurn" and not hasattr(turnkeep, name)] == []


def annotation(function: Any) -> str:
    found = function.__annotations__.get("return", "")
    return found if isinstance(found, str) else inspect.formatannotation(found)


def assert_same_signature(one: Any, other: Any, *, but: set[str] = frozenset()) -> None:
    there, here = inspect.signature(one), inspect.signature(other)
    assert list(there.parameters) == list(here.parameters)
    for name, parameter in there.parameters.items():
        twin = here.parameters[name]
        assert parameter.kind == twin.kind, name
        assert parameter.default is twin.default or parameter.default == twin.default, name
        if name not in but:
            assert parameter.annotation == twin.annotation, name
    if "return" not in but:
        assert there.return_annotation == here.return_annotation
