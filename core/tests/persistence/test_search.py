"""Searching through a persistence: what is asked for is checked, what is found is shown with what matched."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

import turnkeep
from turnkeep import Capability, Level, MemoryAdapter, NotSupported, StorageAdapter, Support, create_session

kit = sys.modules["turnkeep_core_test_kit"]

MORNING = datetime(2026, 3, 14, 9, tzinfo=UTC)


async def fill(persistence):
    said = [
        {"role": "user", "content": "I want a Refund for my order", "created_at": MORNING},
        {"role": "assistant", "content": "Your refund is on its way.", "created_at": MORNING + timedelta(hours=1)},
    ]
    await persistence.save_session_state("a", create_session("a", user_id="ana", history=said))
    await persistence.save_session_state("b", create_session("b", user_id="bob", history=said[:1]))


def places(page):
    return sorted((found.session_id, found.message.seq) for found in page.items)


async def test_what_was_found_is_shown(persistence):
    await fill(persistence)
    page = await persistence.search_messages("refund order", user_id="ana", limit=20)
    (found,) = page.items
    assert (found.session_id, found.message) == ("a", (await persistence.load_session_history("a"))[0])
    assert found.highlight == "I want a **Refund** for my **order**"
    assert found.score > 0
    assert page.next_cursor is None


async def test_conditions(persistence):
    await fill(persistence)
    assert places(await persistence.search_messages("refund")) == [("a", 1), ("a", 2), ("b", 1)]
    assert places(await persistence.search_messages("refund", session_id="b")) == [("b", 1)]
    assert places(await persistence.search_messages("refund", role="assistant")) == [("a", 2)]
    assert places(await persistence.search_messages("refund", since=MORNING + timedelta(hours=1))) == [("a", 2)]
    assert places(await persistence.search_messages("refund", until=MORNING)) == []
    assert places(await persistence.search_messages("refund -order")) == [("a", 2)]


async def test_a_bound_persistence_finds_its_owner_only(connect, adapter):
    await fill(await connect(adapter))
    ana = await connect(adapter, user_id="ana")
    assert places(await ana.search_messages("refund")) == [("a", 1), ("a", 2)]
    with pytest.raises(turnkeep.ConfigurationError):
        await ana.search_messages("refund", user_id="bob")


async def test_pages_are_walked_to_the_end(persistence):
    said = [{"role": "user", "content": f"refund {number}"} for number in range(7)]
    await persistence.save_session_state("s", create_session("s", history=said))
    page = await persistence.search_messages("refund", limit=2)
    assert len(page.items) == 2
    assert sorted([found.message.seq async for found in page]) == [1, 2, 3, 4, 5, 6, 7]
    following = await persistence.search_messages("refund", limit=2, after=page.next_cursor)
    assert not {found.message.seq for found in page.items} & {found.message.seq for found in following.items}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name at least one"),
        (" ** ", "name at least one"),
        ("-refund", "name at least one"),
        ("refund " * 65, "at most 64 words"),
        (None, "must be a str, not NoneType"),
        (b"refund", "must be a str, not bytes"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused(persistence, text, says):
    with pytest.raises(turnkeep.InvalidArgument, match=says):
        await persistence.search_messages(text)


async def test_inside_a_turn_what_is_staged_is_not_found(connect, adapter):
    persistence = await connect(adapter)
    session = turnkeep.SessionManager(persistence, session_id="s")
    async with session.turn() as turn:
        turn.add_message("user", "a refund")
        assert places(await persistence.search_messages("refund")) == []
    assert places(await persistence.search_messages("refund")) == [("s", 1)]


async def test_what_a_filter_seals_is_not_searched(connect, adapter):
    persistence = await connect(adapter, plugins=[kit.ToyCipher()])
    await persistence.save_session_state("s", create_session("s", history=[{"role": "user", "content": "refund"}]))
    with pytest.raises(NotSupported, match="seals what is stored") as caught:
        await persistence.search_messages("refund")
    assert caught.value.capability is Capability.SEARCH


class Searchless(MemoryAdapter):
    """A store that cannot search."""

    capabilities: ClassVar = {Capability.SEARCH: Support(Level.NONE, "it has no words")}
    search_messages = StorageAdapter.search_messages


async def test_a_store_without_search_says_which_can(connect):
    persistence = await connect(Searchless())
    with pytest.raises(NotSupported, match="cannot search_messages: it has no words; turnkeep-opensearch") as caught:
        await persistence.search_messages("refund")
    assert caught.value.capability is Capability.SEARCH
    assert caught.value.reason == "it has no words"
