"""Deadlines, outcomes that are not known, read errors."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import pytest

import turnkeep
from turnkeep import (
    CommitOutcomeUnknown,
    SessionConflict,
    StorageTimeout,
    StorageUnavailable,
    create_session,
)

kit = sys.modules["turnkeep_core_test_kit"]

CALLS = {
    "load": lambda p: p.find_session_by_id("s"),
    "commit": lambda p: p.save_message("s", "user", "x"),
    "read_messages": lambda p: p.find_messages_by_session_id("s"),
    "find_sessions": lambda p: p.find_sessions(),
    "delete": lambda p: p.delete_session("s"),
    "delete_owner": lambda p: p.erase_user("ana"),
    "sweep": lambda p: p.sweep(),
    "stats": lambda p: p.stats(),
    "check": lambda p: p.check(),
}


@pytest.fixture
async def brief(adapter, connect):
    await adapter.open()  # without a limit: making the tables may take longer than one call may here
    persistence = await connect(adapter, timeout=0.5)
    await persistence.save_session_state("s", create_session("s", user_id="ana", data={"a": 1}))
    adapter.calls.clear()
    return persistence


@pytest.mark.parametrize("operation", CALLS)
async def test_an_adapter_that_hangs_is_left_at_the_deadline(brief, adapter, operation):
    adapter.faults[operation] = [kit.hang]
    started = time.perf_counter()
    with pytest.raises(StorageTimeout) as caught:
        await CALLS[operation](brief)
    assert time.perf_counter() - started < 5
    assert (caught.value.adapter, caught.value.operation, caught.value.retryable) == (
        brief.adapter.name,
        operation,
        True,
    )
    await CALLS[operation](brief)


async def test_opening_has_a_deadline_too():
    with pytest.raises(StorageTimeout):
        async with asyncio.timeout(2):
            await turnkeep.connect(kit.Hanging(), timeout=0.05)


async def test_the_callers_own_deadline_is_a_timeout_error_and_not_ours(brief, adapter):
    adapter.faults["load"] = [kit.hang]
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await brief.find_session_by_id("s")
    assert not isinstance(caught.value, StorageTimeout)


async def test_a_cancelled_call_is_cancelled(brief, adapter):
    adapter.faults["load"] = [kit.hang]
    task = asyncio.ensure_future(brief.find_session_by_id("s"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await brief.find_session_by_id("s")


async def test_a_slow_call_is_logged(memory, connect, caplog):
    persistence = await connect(memory, slow_threshold=0.001)

    async def slow(request):
        await asyncio.sleep(0.005)
        return await request()

    memory.faults["load"] = [slow]
    with caplog.at_level(logging.WARNING, "turnkeep.storage"):
        await persistence.find_session_by_id("s")
        await persistence.find_session_by_id("s")
    assert len(caplog.records) == 1
    assert "load" in caplog.text


@pytest.mark.parametrize("operation", CALLS)
async def test_a_read_error_is_an_error_never_no_such_session(brief, adapter, operation):
    adapter.faults[operation] = [kit.down]
    with pytest.raises(StorageUnavailable):
        await CALLS[operation](brief)
    assert (await brief.find_session_by_id("s")).data == {"a": 1}


async def test_an_outage_while_loading_does_not_blank_the_session(brief, adapter):
    """D2: the original caught the load error, created an empty session and saved it over the stored one."""
    ana = turnkeep.SessionManager(brief, session_id="s", user_id="ana")
    for call in (ana.get_or_create, lambda: ana.add_message("user", "x"), lambda: ana.set_data({"x": 1})):
        adapter.faults["load"] = [kit.down]
        with pytest.raises(StorageUnavailable):
            await call()
    assert adapter.count("commit") == 0
    await ana.get_or_create()
    assert ana.data == {"a": 1}


WRITES = {
    "save_message": (lambda p: p.save_message("s", "user", "x"), 1),
    "save_messages": (lambda p: p.save_messages("s", [{"role": "user", "content": "x"}]), 1),
    "update_collected_data": (lambda p: p.update_collected_data("s", {"n": 1}), 0),
    "update_route_step": (lambda p: p.update_route_step("s", route="r"), 0),
    "complete_session": (lambda p: p.complete_session("s"), 0),
    "save_session_state": (lambda p: p.save_session_state("t", create_session("t")), 0),
}


@pytest.mark.parametrize(
    "faults", [["lost_reply"], ["unknown"], ["lost_reply", "unknown"], ["unknown", "lost_reply"]], ids=str
)
@pytest.mark.parametrize("write", WRITES)
async def test_a_lost_outcome_is_found_out_and_takes_effect_exactly_once(brief, adapter, write, faults):
    call, messages = WRITES[write]
    version = (await brief.load_session_state("s"))._token.version
    adapter.faults["commit"] = [getattr(kit, name) for name in faults]
    await call(brief)
    assert adapter.count("commit") == len(faults) + 1
    sent = [c for c in adapter.requests if isinstance(c, turnkeep.Commit)][-len(faults) - 1 :]
    assert len({commit.commit_id for commit in sent}) == 1
    assert len(await brief.load_session_history("s")) == messages
    if write == "save_session_state":
        assert (await brief.load_session_state("t"))._token.version == 1
    else:
        assert (await brief.load_session_state("s"))._token.version == version + 1


@pytest.mark.parametrize("last", ["unknown", "down", "lost_reply"])
@pytest.mark.parametrize("write", WRITES)
async def test_an_outcome_that_cannot_be_found_out_is_said_so(brief, adapter, write, last):
    adapter.faults["commit"] = [kit.lost_reply, *[getattr(kit, last)] * 10]
    with pytest.raises(CommitOutcomeUnknown) as caught:
        await WRITES[write][0](brief)
    assert caught.value.retryable
    adapter.faults.clear()
    assert len(await brief.load_session_history("s")) == WRITES[write][1]


async def test_the_commit_id_of_an_unknown_outcome_is_the_one_that_was_sent(brief, adapter):
    session = turnkeep.SessionManager(brief, session_id="s", user_id="ana")
    adapter.faults["commit"] = [kit.lost_reply] * 3

    async def turn():
        async with session.turn(commit_id="mine") as turn:
            turn.add_message("user", "x")

    with pytest.raises(CommitOutcomeUnknown):
        await turn()
    adapter.faults.clear()
    async with session.turn(commit_id="mine") as turn:
        assert turn.replayed
    assert [m.content for m in session.get_history()] == ["x"]


async def test_a_commit_whose_answer_came_too_late_is_found_out(brief, adapter):
    """Cancelled by the deadline, the adapter settles: it cannot know."""

    async def settle(request):
        await request()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise CommitOutcomeUnknown("cut off", commit_id="?", adapter="toy") from None

    adapter.faults["commit"] = [settle]
    saved = await brief.save_message("s", "user", "x")
    assert saved.seq == 1
    assert len(await brief.load_session_history("s")) == 1


async def test_a_commit_that_settled_at_the_deadline_is_a_success(brief, adapter):
    async def settle(request):
        result = await request()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return result

    adapter.faults["commit"] = [settle]
    assert (await brief.save_message("s", "user", "x")).seq == 1
    adapter.faults["delete"] = [settle]
    assert await brief.delete_session("s") is True


async def test_a_conflict_after_a_lost_answer_is_a_conflict(brief, adapter):
    """The first try was lost before it arrived; somebody else wrote meanwhile."""
    state = await brief.load_session_state("s")

    async def lost_and_overtaken(request):
        async with turnkeep.connect(adapter.inner) as other:
            await other.save_message("s", "user", "theirs")
        await adapter.inner.open()
        raise CommitOutcomeUnknown("gone", commit_id="?", adapter="toy")

    adapter.faults["commit"] = [lost_and_overtaken]
    with pytest.raises(SessionConflict):
        await brief.save_session_state("s", state.replace(data={"x": 1}))
    assert (await brief.find_session_by_id("s")).data == {"a": 1}


async def test_losing_the_answer_of_a_create_is_not_session_exists(brief, adapter):
    adapter.faults["commit"] = [kit.lost_reply]
    saved = await brief.save_session_state("t", create_session("t", data={"mine": 1}))
    assert saved.data == {"mine": 1}
    session = turnkeep.SessionManager(brief, session_id="u")
    adapter.faults["commit"] = [kit.lost_reply]
    await session.add_message("user", "x")
    assert [m.content for m in await brief.load_session_history("u")] == ["x"]


async def test_errors_between_processes(brief, adapter):
    import pickle

    adapter.faults["load"] = [kit.hang]
    with pytest.raises(StorageTimeout) as caught:
        await brief.find_session_by_id("s")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.operation) == (StorageTimeout, str(caught.value), "load")


async def test_no_tasks_are_left_over(brief, adapter):
    adapter.faults["load"] = [kit.hang] * 5
    await asyncio.gather(*(brief.find_session_by_id("s") for _ in range(5)), return_exceptions=True)
    await asyncio.gather(*(brief.save_message("s", "user", "x") for _ in range(5)))
    assert {t for t in asyncio.all_tasks() if t is not asyncio.current_task()} == set()
