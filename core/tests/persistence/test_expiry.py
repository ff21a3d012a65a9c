"""session_ttl is idle time, renewed by each kind of commit for all parts; message_ttl is the age of messages."""

from __future__ import annotations

from datetime import timedelta

import pytest

import turnkeep
from turnkeep import SessionNotFound, create_session

HISTORY = [{"role": "user", "content": "x"}]


async def save_loaded(persistence):
    return await persistence.save_session_state("s", await persistence.load_session_state("s"))


COMMITS = {
    "save_message": lambda p: p.save_message("s", "user", "x"),
    "save_messages": lambda p: p.save_messages("s", HISTORY),
    "update_collected_data": lambda p: p.update_collected_data("s", {"x": 1}),
    "update_route_step": lambda p: p.update_route_step("s", route="r"),
    "update_session_status": lambda p: p.update_session_status("s", "completed"),
    "claim_session": lambda p: p.claim_session("s", "ana"),
    "save_session_state": save_loaded,
    "live add_message": lambda p: turnkeep.SessionManager(p, session_id="s").add_message("user", "x"),
    "live set_data": lambda p: turnkeep.SessionManager(p, session_id="s").set_data({"a": 1}),
    "live clear_history": lambda p: turnkeep.SessionManager(p, session_id="s").clear_history(),
}
READS = {
    "find_session_by_id": lambda p: p.find_session_by_id("s"),
    "load_session_state": lambda p: p.load_session_state("s"),
    "load_session_history": lambda p: p.load_session_history("s"),
    "find_messages_by_session_id": lambda p: p.find_messages_by_session_id("s"),
    "find_sessions": lambda p: p.find_sessions(),
    "get_or_create": lambda p: turnkeep.SessionManager(p, session_id="s").get_or_create(),
    "stats": lambda p: p.stats(),
}


@pytest.fixture
async def expiring(memory, connect):
    persistence = await connect(memory, session_ttl=60)
    await persistence.save_session_state("s", create_session("s", history=HISTORY))
    return persistence


@pytest.mark.parametrize("commit", COMMITS)
async def test_every_commit_renews(expiring, clock, commit):
    clock.advance(59)
    await COMMITS[commit](expiring)
    record = await expiring.find_session_by_id("s")
    assert record.expires_at == clock.now + timedelta(seconds=60)
    clock.advance(59)
    assert await expiring.find_session_by_id("s")
    clock.advance(1)
    assert await expiring.find_session_by_id("s") is None


@pytest.mark.parametrize("read", READS)
async def test_no_read_renews(expiring, clock, read):
    clock.advance(59)
    assert await READS[read](expiring)
    clock.advance(1)
    assert await expiring.find_session_by_id("s") is None


async def test_an_expired_session_is_absent_before_it_is_purged(expiring, clock, memory):
    clock.advance(60)
    assert (await expiring.find_sessions()).items == ()
    assert (await expiring.stats()).sessions == 0
    assert await expiring.delete_session("s") is False
    for commit in ("save_message", "update_collected_data", "update_session_status", "claim_session"):
        with pytest.raises(SessionNotFound):
            await COMMITS[commit](expiring)
    with pytest.raises(SessionNotFound):
        await expiring.load_session_history("s")
    await expiring.save_session_state("s", create_session("s"))
    state = await expiring.load_session_state("s")
    assert (state.history, state._token.version) == ((), 1)


async def test_a_token_of_an_expired_life_is_stale(expiring, clock):
    state = await expiring.load_session_state("s")
    clock.advance(60)
    with pytest.raises(SessionNotFound):
        await expiring.save_session_state("s", state)
    await expiring.save_session_state("s", create_session("s"))
    with pytest.raises(turnkeep.SessionConflict):
        await expiring.save_session_state("s", state)


async def test_a_live_session_that_expired_says_so_and_begins_anew(expiring, clock):
    session = turnkeep.SessionManager(expiring, session_id="s")
    await session.get_or_create()
    clock.advance(60)
    for call in (lambda: session.add_message("user", "y"), lambda: session.set_data({"a": 1})):
        with pytest.raises(SessionNotFound):
            await call()
    assert [m.content for m in session.get_history()] == ["x"]
    await session.get_or_create()
    assert session.get_history() == ()


@pytest.mark.parametrize("ttl", [60, 60.0, timedelta(minutes=1)])
async def test_a_ttl_is_seconds_or_a_timedelta(memory, clock, connect, ttl):
    persistence = await connect(memory, session_ttl=ttl)
    await persistence.save_session_state("s", create_session("s"))
    assert (await persistence.find_session_by_id("s")).expires_at == clock.now + timedelta(seconds=60)


async def test_without_a_ttl_a_session_stays_and_a_commit_without_one_clears_it(expiring, memory, clock, connect):
    for_ever = await connect(memory)
    await for_ever.save_message("s", "user", "x")
    assert (await for_ever.find_session_by_id("s")).expires_at is None
    clock.advance(timedelta(days=10_000))
    assert await expiring.find_session_by_id("s")


async def test_the_adapters_own_default_and_the_arguments_that_win_over_it(clock, connect):
    adapter = turnkeep.MemoryAdapter(clock=clock)
    adapter.session_ttl = timedelta(seconds=10)
    by_default, own = await connect(adapter), await connect(adapter, session_ttl=20)
    for persistence, seconds in ((by_default, 10), (own, 20)):
        await persistence.save_session_state(f"s{seconds}", create_session(f"s{seconds}"))
        expires = (await persistence.find_session_by_id(f"s{seconds}")).expires_at
        assert expires == clock.now + timedelta(seconds=seconds)


async def test_ttl_of_the_url(clock):
    async with turnkeep.connect("memory://?session_ttl=60&message_ttl=30") as persistence:
        await persistence.save_session_state("s", create_session("s"))
        record = await persistence.find_session_by_id("s")
        assert record.expires_at - record.updated_at == timedelta(seconds=60)


async def test_messages_leave_at_their_age_by_whole_commits(memory, clock, connect):
    persistence = await connect(memory, message_ttl=60)
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    await persistence.save_messages("s", [{"role": "user", "content": c} for c in "ab"])
    clock.advance(30)
    await persistence.save_message("s", "user", "c")
    clock.advance(29)
    assert [m.content for m in await persistence.load_session_history("s")] == ["a", "b", "c"]
    clock.advance(1)
    assert [(m.seq, m.content) for m in await persistence.load_session_history("s")] == [(3, "c")]
    record = await persistence.find_session_by_id("s")
    assert (record.message_count, record.data) == (1, {"a": 1})
    assert (await persistence.find_messages_by_session_id("s", after=0)).items[0].seq == 3
    state = await persistence.load_session_state("s")
    assert [m.seq for m in state.history] == [3]
    clock.advance(30)
    assert await persistence.load_session_history("s") == ()
    saved = await persistence.save_message("s", "user", "d")
    assert saved.seq == 4
    assert (await persistence.find_session_by_id("s")).message_count == 1


async def test_a_state_whose_oldest_message_left_meanwhile_can_still_be_saved(memory, clock, connect):
    """Nobody committed in between: the token is the session's, so compare-and-swap must hold."""
    persistence = await connect(memory, message_ttl=60)
    await persistence.save_session_state("s", create_session("s", history=HISTORY))
    clock.advance(30)
    await persistence.save_message("s", "user", "y")
    state = await persistence.load_session_state("s")
    clock.advance(30)
    saved = await persistence.save_session_state("s", state.replace(data={"a": 1}))
    assert saved.data == {"a": 1}
    assert [m.content for m in await persistence.load_session_history("s")] == ["y"]


async def test_a_live_session_whose_messages_left_goes_on(memory, clock, connect):
    persistence = await connect(memory, message_ttl=60)
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.add_message("user", "a")
    clock.advance(60)
    await session.add_message("user", "b")
    await session.set_data({"x": 1})
    await session.add_message("user", "c")
    await session.get_or_create()
    assert [m.content for m in session.get_history()] == ["b", "c"]
    assert session.validate() == []
    assert not session.has_more
    assert await session.earlier() == ()
