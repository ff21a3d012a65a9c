"""Messages, saved and found by session id."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

import turnkeep
from turnkeep import InvalidArgument, Message, NotSerializable, SessionNotFound, create_session


@pytest.fixture
async def s(persistence):
    await persistence.save_session_state("s", create_session("s"))
    return "s"


def contents(messages):
    return [message.content for message in messages]


async def test_a_message_is_saved_with_every_field_and_found_again(persistence, s):
    when = datetime(2020, 2, 29, 1, 2, 3, 4, timezone(timedelta(hours=5, minutes=45)))
    saved = await persistence.save_message(
        session_id=s,
        role="assistant",
        content="Hello!",
        id="mine",
        name="Ana",
        route="booking",
        step="name",
        tool_calls=[{"id": "c1", "name": "look", "arguments": {"a": [1, None]}}],
        event={"kind": "x", "at": when, "b": b"\0"},
        metadata={"m": {1, 2}},
        created_at=when,
    )
    (found,) = (await persistence.find_messages_by_session_id(s)).items
    assert found == saved
    assert (found.id, found.seq, found.role, found.content, found.name) == ("mine", 1, "assistant", "Hello!", "Ana")
    assert (found.route, found.step, found.created_at) == ("booking", "name", when)
    assert found.tool_calls == (turnkeep.ToolCall("c1", "look", {"a": [1, None]}),)
    assert found.event == {"kind": "x", "at": when, "b": b"\0"}
    assert found.event["at"].utcoffset() == when.utcoffset()
    assert found.metadata == {"m": {1, 2}}
    assert found.commit_id
    (result,) = [await persistence.save_message(s, "tool", "found", tool_call_id="c1")]
    assert result.tool_call_id == "c1"
    assert result.commit_id != found.commit_id


@pytest.mark.parametrize("event", ["", 0, False, [], {}, "null", {"a": None}])
async def test_an_event_is_kept_exactly_even_if_it_is_false(persistence, s, event):
    await persistence.save_message(s, "user", "x", event=event)
    (found,) = await persistence.load_session_history(s)
    assert found.event == event
    assert type(found.event) is type(event)


async def test_a_message_to_an_unknown_session_is_session_not_found_and_creates_nothing(persistence, adapter):
    with pytest.raises(SessionNotFound) as caught:
        await persistence.save_message("nobody", "user", "x")
    assert caught.value.session_id == "nobody"
    assert isinstance(caught.value, LookupError)
    assert (await persistence.stats()).sessions == 0
    for call in (
        persistence.find_messages_by_session_id("nobody"),
        persistence.load_session_history("nobody"),
        persistence.save_messages("nobody", [{"role": "user", "content": "x"}]),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert await persistence.find_session_by_id("nobody") is None
    assert await persistence.load_session_state("nobody") is None


async def test_messages_saved_at_once_all_land_each_once_in_one_order(persistence, s, adapter):
    saved = await asyncio.gather(*(persistence.save_message(s, "user", str(n)) for n in range(60)))
    history = await persistence.load_session_history(s)
    assert [m.seq for m in history] == list(range(1, 61))
    assert sorted(contents(history), key=int) == [str(n) for n in range(60)]
    assert {m.id: m.seq for m in saved} == {m.id: m.seq for m in history}
    assert adapter.count("commit") == 61
    assert (await persistence.find_session_by_id(s)).message_count == 60


async def test_batches_saved_at_once_stay_together(persistence, s):
    await asyncio.gather(
        *(persistence.save_messages(s, [{"role": "user", "content": f"{n}.{i}"} for i in range(3)]) for n in range(12))
    )
    history = contents(await persistence.load_session_history(s))
    assert len(history) == 36
    for start in range(0, 36, 3):
        batch = history[start].partition(".")[0]
        assert history[start : start + 3] == [f"{batch}.0", f"{batch}.1", f"{batch}.2"]


async def test_save_messages_is_one_commit_and_all_or_none(persistence, s, adapter):
    saved = await persistence.save_messages(s, [Message("user", "a"), {"role": "assistant", "content": "b"}])
    assert [m.seq for m in saved] == [1, 2]
    assert len({m.commit_id for m in saved}) == 1
    before = adapter.count("commit")
    for bad in (
        [{"role": "user", "content": "x"}, {"role": "user", "content": 7}],
        [{"role": "user", "content": "x"}, {"role": "user", "content": "y", "extra": 1}],
        [{"role": "user", "content": "x"}, "y"],
    ):
        with pytest.raises(InvalidArgument):
            await persistence.save_messages(s, bad)
    with pytest.raises(NotSerializable):
        await persistence.save_messages(
            s, [{"role": "user", "content": "x"}, {"role": "user", "content": "y", "event": object()}]
        )
    assert adapter.count("commit") == before
    assert len(await persistence.load_session_history(s)) == 2
    assert await persistence.save_messages(s, []) == ()


async def test_the_same_message_id_twice_in_one_commit_is_refused_and_kept_across_commits(persistence, s):
    with pytest.raises(InvalidArgument):
        await persistence.save_messages(s, [Message("user", "a", id="x"), Message("user", "b", id="x")])
    await persistence.save_message(s, "user", "a", id="x")
    await persistence.save_message(s, "user", "b", id="x")
    assert [(m.id, m.content) for m in await persistence.load_session_history(s)] == [("x", "a"), ("x", "b")]


@pytest.mark.parametrize("field", ["seq", "commit_id", "extra", "session_id", "user_id", "_reply"])
async def test_what_the_store_gives_and_unknown_keys_are_refused(persistence, s, adapter, field):
    before = len(adapter.calls)
    with pytest.raises((InvalidArgument, TypeError)) as caught:
        await persistence.save_message(s, "user", "x", **{field: 1})
    assert field == "session_id" or isinstance(caught.value, InvalidArgument)
    with pytest.raises(InvalidArgument):
        await persistence.save_messages(s, [{"role": "user", "content": "x", field: 1}])
    assert len(adapter.calls) == before


async def test_a_message_that_is_stored_already_is_refused_not_stored_again(persistence, s):
    """It has a `seq` and a `commit_id`, which are refused wherever a message goes in."""
    saved = await persistence.save_message(s, "user", "x")
    with pytest.raises(InvalidArgument):
        await persistence.save_messages(s, [saved])
    await persistence.save_messages(s, [saved.replace()])
    assert contents(await persistence.load_session_history(s)) == ["x", "x"]


@pytest.mark.parametrize("calls", [None, 5, [5], [{"id": "a"}], [{"id": 1, "name": "n"}], "calls"])
async def test_tool_calls_that_are_none_are_refused_with_our_error(persistence, s, adapter, calls):
    before = len(adapter.calls)
    if calls is None:
        await persistence.save_message(s, "user", "x", tool_calls=None)
        return
    with pytest.raises(InvalidArgument):
        await persistence.save_message(s, "user", "x", tool_calls=calls)
    assert len(adapter.calls) == before


async def test_pages_of_messages_newest_before_and_after(persistence, s):
    await persistence.save_messages(s, [{"role": "user", "content": str(n)} for n in range(1, 11)])
    find = persistence.find_messages_by_session_id
    newest = await find(s, limit=3)
    assert [m.seq for m in newest.items] == [8, 9, 10]
    assert newest.next_cursor == 8
    assert [m.seq for m in (await find(s, limit=3, before=8)).items] == [5, 6, 7]
    assert [m.seq for m in (await find(s, limit=3, after=8)).items] == [9, 10]
    assert (await find(s, limit=3, after=8)).next_cursor is None
    assert [m.seq for m in (await find(s, limit=3, after=0)).items] == [1, 2, 3]
    assert (await find(s, limit=3, before=1)).items == ()
    assert (await find(s, limit=3, before=1)).next_cursor is None
    assert (await find(s, limit=10)).next_cursor is None
    assert [m.seq async for m in await find(s, limit=4)] == [7, 8, 9, 10, 3, 4, 5, 6, 1, 2]
    assert [m.seq async for m in await find(s, limit=4, after=0)] == list(range(1, 11))
    assert [m.seq async for m in await find(s, limit=5)] == [6, 7, 8, 9, 10, 1, 2, 3, 4, 5]
    with pytest.raises(InvalidArgument):
        await find(s, before=3, after=1)


async def test_a_walk_forward_sees_what_is_added_meanwhile_and_a_walk_backward_does_not(persistence, s):
    await persistence.save_messages(s, [{"role": "user", "content": str(n)} for n in range(1, 7)])
    back, forth = [], []
    async for message in await persistence.find_messages_by_session_id(s, limit=2):
        back.append(message.seq)
        if len(back) == 3:
            await persistence.save_message(s, "user", "late")
    assert sorted(back) == [1, 2, 3, 4, 5, 6]
    async for message in await persistence.find_messages_by_session_id(s, limit=2, after=0):
        forth.append(message.seq)
        if len(forth) == 1:
            await persistence.save_message(s, "user", "later")
    assert forth == list(range(1, 9))


async def test_a_walk_over_a_session_that_is_deleted_meanwhile_is_session_not_found(persistence, s):
    await persistence.save_messages(s, [{"role": "user", "content": str(n)} for n in range(1, 7)])
    walked = []
    with pytest.raises(SessionNotFound):  # noqa: PT012 - the walk is what raises
        async for message in await persistence.find_messages_by_session_id(s, limit=2):
            walked.append(message.seq)
            await persistence.delete_session(s)
    assert walked == [5, 6]


async def test_order_is_of_commits_never_of_clocks(persistence, s):
    late = datetime(2030, 1, 1, tzinfo=UTC)
    for day in (9, 3, 5, 3):
        await persistence.save_message(s, "user", str(day), created_at=late - timedelta(days=day))
    assert contents(await persistence.load_session_history(s)) == ["9", "3", "5", "3"]


async def test_history_over_1000_is_whole(persistence, s):
    for start in (0, 700):
        await persistence.save_messages(s, [{"role": "user", "content": str(start + n)} for n in range(700)])
    assert contents(await persistence.load_session_history(s)) == [str(n) for n in range(1400)]
    assert [
        int(m.content) async for m in await persistence.find_messages_by_session_id(s, limit=1000, after=0)
    ] == list(range(1400))


async def test_saving_a_message_is_one_call_of_the_adapter_whatever_the_history(persistence, s, adapter):
    await persistence.save_messages(s, [{"role": "user", "content": "x"}] * 500)
    before = len(adapter.calls)
    await persistence.save_message(s, "user", "y")
    assert adapter.calls[before:] == ["commit"]
