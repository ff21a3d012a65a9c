"""A foreign session is an absent one, on every call; only creating its id tells."""

from __future__ import annotations

import contextlib
import inspect

import pytest

import turnkeep
from turnkeep import ConfigurationError, Message, Persistence, SessionExists, SessionNotFound, create_session

ABSENT = {
    "find_session_by_id": (lambda p: p.find_session_by_id("s"), None),
    "load_session_state": (lambda p: p.load_session_state("s"), None),
    "delete_session": (lambda p: p.delete_session("s"), False),
    "update_collected_data": (lambda p: p.update_collected_data("s", {"x": 1}), SessionNotFound),
    "update_route_step": (lambda p: p.update_route_step("s", route="r"), SessionNotFound),
    "update_session_status": (lambda p: p.update_session_status("s", "completed"), SessionNotFound),
    "complete_session": (lambda p: p.complete_session("s"), SessionNotFound),
    "abandon_session": (lambda p: p.abandon_session("s"), SessionNotFound),
    "save_message": (lambda p: p.save_message("s", "user", "x"), SessionNotFound),
    "save_messages": (lambda p: p.save_messages("s", [Message("user", "x")]), SessionNotFound),
    "find_messages_by_session_id": (lambda p: p.find_messages_by_session_id("s"), SessionNotFound),
    "load_session_history": (lambda p: p.load_session_history("s"), SessionNotFound),
    "claim_session": (lambda p: p.claim_session("s", "bob"), SessionNotFound),
    "save_session_state": (lambda p: p.save_session_state("s", create_session("s")), SessionExists),
}
LISTS = {
    "find_sessions": lambda p: p.find_sessions(),
    "find_sessions_by_user_id": lambda p: p.find_sessions_by_user_id("bob"),
    "find_active_session_by_user_id": lambda p: p.find_active_session_by_user_id("bob"),
    "delete_sessions": lambda p: p.delete_sessions(status="active"),
    "erase_user": lambda p: p.erase_user("bob"),
    "stats": lambda p: p.stats(),
}
ELSEWHERE = {"aclose", "check", "sweep", "search_messages", "adapter", "namespace", "user_id"}


def test_every_public_method_is_in_the_matrix():
    public = {name for name, _ in inspect.getmembers(Persistence) if not name.startswith("_")}
    assert public == ABSENT.keys() | LISTS.keys() | ELSEWHERE


@pytest.fixture
async def anas(persistence, adapter, connect):
    """Ana's session, and how another sees it."""
    await persistence.save_session_state(
        "s", create_session("s", user_id="ana", data={"a": 1}, history=[{"role": "user", "content": "secret"}])
    )
    return await connect(adapter, user_id="bob"), await connect(adapter, user_id="ana"), persistence


async def everything(persistence):
    state = await persistence.load_session_state("s")
    return state, await persistence.find_session_by_id("s"), await persistence.stats()


@pytest.mark.parametrize("call", ABSENT)
async def test_anothers_session_is_absent_and_untouched(anas, call):
    bob, _, whole = anas
    before = await everything(whole)
    run, expected = ABSENT[call]
    if expected in (None, False):
        assert await run(bob) is expected
    else:
        with pytest.raises(expected) as caught:
            await run(bob)
        assert "ana" not in str(caught.value)
        assert "secret" not in str(caught.value)
    assert await everything(whole) == before


@pytest.mark.parametrize("call", ABSENT)
async def test_an_absent_session_says_the_same(anas, call):
    """Nobody can tell a foreign session from none by the error's type or text."""
    bob, _, whole = anas
    run, expected = ABSENT[call]

    async def outcome():
        try:
            return repr(await run(bob))
        except turnkeep.TurnkeepError as error:
            return f"{type(error).__name__}: {error}"

    foreign = await outcome()
    await whole.delete_session("s")
    absent = await outcome()
    if expected is not SessionExists:
        assert foreign == absent


@pytest.mark.parametrize("call", LISTS)
async def test_lists_and_counts_of_another_are_empty(anas, call):
    bob, _, whole = anas
    before = await everything(whole)
    found = await LISTS[call](bob)
    match call:
        case "find_sessions" | "find_sessions_by_user_id":
            assert found.items == ()
        case "stats":
            assert (found.sessions, found.messages, found.bytes, dict(found.by_status)) == (0, 0, 0, {})
        case "erase_user":
            assert (found.sessions, found.messages) == (0, 0)
        case _:
            assert not found
    assert await everything(whole) == before


@pytest.mark.parametrize("call", set(ABSENT) - {"save_session_state", "claim_session"})
async def test_the_owner_and_the_whole_namespace_see_it(anas, call):
    _, ana, whole = anas
    run, _ = ABSENT[call]
    for seen_by in (ana, whole):
        result = await run(seen_by)
        if call == "delete_session":
            assert result is True
            return
        assert call in {"update_session_status", "complete_session", "abandon_session"} or result


async def test_a_bound_persistence_acts_for_nobody_else(anas, adapter):
    bob, _, _ = anas
    before = len(adapter.calls)
    for call in (
        lambda: bob.find_sessions_by_user_id("ana"),
        lambda: bob.find_active_session_by_user_id("ana"),
        lambda: bob.delete_sessions(user_id="ana"),
        lambda: bob.erase_user("ana"),
        lambda: bob.claim_session("s", "ana"),
        lambda: bob.save_session_state("t", create_session("t", user_id="ana")),
        lambda: bob.search_messages("x", user_id="ana"),
    ):
        with pytest.raises(ConfigurationError):
            await call()
    with pytest.raises(ConfigurationError):
        turnkeep.SessionManager(bob, user_id="ana")
    assert len(adapter.calls) == before


async def test_what_a_bound_persistence_makes_is_its_owners(adapter, connect, persistence):
    ana = await connect(adapter, user_id="ana")
    await ana.save_session_state("s", create_session("s"))
    assert (await persistence.find_session_by_id("s")).user_id == "ana"


async def test_a_bound_persistence_does_not_see_sessions_without_an_owner(adapter, connect, persistence):
    await persistence.save_session_state("s", create_session("s"))
    ana = await connect(adapter, user_id="ana")
    assert await ana.find_session_by_id("s") is None
    assert (await ana.find_sessions()).items == ()


async def test_the_owner_of_a_saved_state_cannot_be_changed(persistence):
    state = await persistence.save_session_state("s", create_session("s", user_id="ana"))
    with pytest.raises(turnkeep.InvalidArgument):
        state.replace(user_id="bob")
    object.__setattr__(state, "user_id", "bob")
    with contextlib.suppress(turnkeep.TurnkeepError):
        await persistence.save_session_state("s", state)
    assert (await persistence.find_session_by_id("s")).user_id == "ana"


async def test_a_live_session_without_an_owner_reaches_sessions_without_one_only(anas, adapter):
    _, _, whole = anas
    session = turnkeep.SessionManager(whole, session_id="s")
    before = await everything(whole)
    with pytest.raises(SessionExists):
        await session.get_or_create()
    with pytest.raises(SessionExists):
        await session.add_message("user", "x")
    with pytest.raises(SessionExists):
        await session.set_data({"x": 1})
    assert await session.delete() is False
    assert await everything(whole) == before
    await turnkeep.SessionManager(whole, session_id="t").get_or_create()
    assert (await whole.find_session_by_id("t")).user_id is None


async def test_earlier_history_is_the_owners_only(persistence):
    """The id was deleted and taken by somebody else while this live session had it loaded."""
    bob = turnkeep.SessionManager(persistence, session_id="shared", user_id="bob", window=1)
    await bob.get_or_create()
    for n in range(4):
        await bob.add_message("user", f"bob {n}")
    await bob.get_or_create()
    assert bob.has_more
    await persistence.delete_session("shared")
    history = [{"role": "user", "content": f"ana's secret {n}"} for n in range(4)]
    await persistence.save_session_state("shared", create_session("shared", user_id="ana", history=history))
    try:
        found = await bob.earlier()
    except SessionNotFound:
        found = ()
    assert [m.content for m in found] == []
    assert "ana's secret" not in str(bob.get_history())


async def test_a_load_answered_with_another_session_is_refused(memory, connect):
    """The last line against a driver that hands over somebody else's reply."""
    persistence = await connect(memory)
    await persistence.save_session_state("anas", create_session("anas", user_id="ana"))
    anas = await memory.inner.load(turnkeep.SessionKey(turnkeep.Scope("default"), "anas"), turnkeep.LoadQuery())

    async def mixed_up(request):
        return anas

    bob = await connect(memory, user_id="bob")
    for name in ("bobs", "anas"):
        memory.faults["load"] = [mixed_up]
        with pytest.raises(turnkeep.CorruptRecord):
            await bob.load_session_state(name)
