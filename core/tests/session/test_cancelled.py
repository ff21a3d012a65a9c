"""Cancelled while suspended for the k-th time, for every k: all or nothing, and memory as the database."""

from __future__ import annotations

import asyncio
import sys

import pytest

import turnkeep
from turnkeep_testkit.suites.cancel import run_cancelled

kit = sys.modules["turnkeep_core_test_kit"]
MOST = 80


class Listener:
    """Suspends in every hook that a commit runs."""

    async def _pause(self):
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @turnkeep.hookimpl
    async def before_message_save(self):
        await self._pause()

    @turnkeep.hookimpl
    async def before_commit(self):
        await self._pause()

    @turnkeep.hookimpl
    async def on_session_committed(self):
        await self._pause()

    @turnkeep.hookimpl
    async def on_messages_appended(self):
        await self._pause()

    @turnkeep.hookimpl
    async def on_storage_operation(self):
        await self._pause()


async def in_turn(session):
    async with session.turn() as turn:
        await asyncio.sleep(0)
        turn.add_message("user", "1")
        turn.add_message("assistant", "2")
        turn.set_data({"n": 1})


WORK = {
    "add_message": lambda session: session.add_message("user", "1"),
    "set_data": lambda session: session.set_data({"n": 1}),
    "set_history": lambda session: session.set_history([{"role": "user", "content": "1"}]),
    "clear_history": lambda session: session.clear_history(),
    "turn": in_turn,
    "get_or_create": lambda session: session.get_or_create(),
}


@pytest.mark.parametrize("listening", [False, True], ids=["alone", "with listeners"])
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "not loaded"])
@pytest.mark.parametrize("work", WORK)
async def test_memory_is_the_database_and_all_or_nothing(adapter, work, loaded, listening):
    adapter.pauses = 2
    async with turnkeep.connect(adapter, plugins=[Listener()] if listening else []) as persistence:
        wrong, old_seen, new_seen = [], 0, 0
        for k in range(1, MOST):
            name = f"s{k}"
            first = turnkeep.SessionManager(persistence, session_id=name)
            if work != "get_or_create" or loaded:
                await first.add_message("user", "0")
            session = first if loaded else turnkeep.SessionManager(persistence, session_id=name)
            before = await persistence.load_session_state(name)
            reached, outcome = await run_cancelled(WORK[work](session), k)
            after = await persistence.load_session_state(name)
            if after == before:
                old_seen += 1
            else:
                new_seen += 1
                if before is not None and after._token.version != before._token.version + 1:
                    wrong.append(f"{k}: {after._token.version - before._token.version} commits")
            try:
                memory = session.current
            except turnkeep.SessionNotLoaded:
                memory = None
            if memory is not None and memory != after:
                wrong.append(f"{k}: memory {_short(memory)} is not the database {_short(after)}, was {_short(before)}")
            if memory is None and loaded:
                wrong.append(f"{k}: nothing in memory")
            # and it goes on
            await session.add_message("user", "next")
            await session.set_data({"next": 1})
            if session.current != await persistence.load_session_state(name):
                wrong.append(f"{k}: afterwards memory is not the database")
            if not reached:
                assert not isinstance(outcome, BaseException), outcome
                break
        else:
            pytest.fail("more suspensions than expected")
        assert persistence._gateway.gates._gates == {}
    assert wrong == []
    assert new_seen or (work == "get_or_create" and loaded)


def _short(state):
    if state is None:
        return None
    return [m.content for m in state.history], state.data, state._token.version


@pytest.mark.parametrize("work", ["add_message", "set_data"])
async def test_cancelled_while_an_unknown_outcome_is_found_out(adapter, work):
    """Whatever it was, the next commit of state does not overwrite what memory has not seen."""
    async with turnkeep.connect(adapter) as persistence:
        for k in range(1, 40):
            session = turnkeep.SessionManager(persistence, session_id=f"s{k}")
            await session.set_data({"a": 1})
            adapter.faults["commit"] = [kit.lost_reply]
            adapter.pauses = 1
            reached, _ = await run_cancelled(WORK[work](session), k)
            adapter.pauses = 0
            adapter.faults.clear()
            try:
                await session.set_data({"b": 2})
            except turnkeep.SessionConflict:
                await session.get_or_create()
                await session.set_data({"b": 2})
            assert session.current == await persistence.load_session_state(f"s{k}")
            history = await persistence.load_session_history(f"s{k}")
            assert len(history) <= 1
            if not reached:
                return


async def test_a_reset_cancelled_anywhere_loses_no_history(adapter):
    adapter.pauses = 1
    async with turnkeep.connect(adapter) as persistence:
        for k in range(1, MOST):
            session = turnkeep.SessionManager(persistence, session_id=f"s{k}")
            await session.add_message("user", "kept")
            reached, _ = await run_cancelled(session.reset(preserve_history=True), k)
            try:
                assert [m.content for m in session.get_history()] == ["kept"], k
                live = await persistence.load_session_history(session.id)
            except (turnkeep.SessionNotLoaded, turnkeep.SessionNotFound) as error:
                pytest.fail(f"{k}: {error!r}")
            assert [m.content for m in live] == ["kept"], k
            if not reached:
                break
