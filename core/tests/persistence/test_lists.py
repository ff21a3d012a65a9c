"""Sessions, listed: pages, walks, conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from turnkeep import InvalidArgument, create_session
from turnkeep import connect as turnkeep_connect


async def fill(persistence, count, user="ana", prefix="s"):
    for n in range(count):
        await persistence.save_session_state(f"{prefix}{n}", create_session(f"{prefix}{n}", user_id=user))


async def ids(walk):
    return [record.id async for record in await walk]


async def test_a_walk_by_activity_is_newest_first_and_by_creation_oldest_first(persistence):
    await fill(persistence, 7)
    await persistence.save_message("s0", "user", "x")
    assert await ids(persistence.find_sessions(limit=2)) == ["s0", "s6", "s5", "s4", "s3", "s2", "s1"]
    assert await ids(persistence.find_sessions(limit=3, order="created")) == [f"s{n}" for n in range(7)]
    assert await ids(persistence.find_sessions_by_user_id("ana", limit=2)) == ["s0", "s6", "s5", "s4", "s3", "s2", "s1"]
    assert await ids(persistence.find_sessions_by_user_id("bob")) == []


async def test_cursors_by_hand_give_the_same_walk(persistence):
    await fill(persistence, 5)
    page, found = None, []
    while page is None or page.next_cursor is not None:
        page = await persistence.find_sessions(limit=2, cursor=page.next_cursor if page else None)
        assert len(page.items) <= 2
        found += [record.id for record in page.items]
    assert found == ["s4", "s3", "s2", "s1", "s0"]


@pytest.mark.parametrize("order", ["activity", "created"])
async def test_a_walk_during_inserts_touches_and_deletes_misses_and_repeats_nothing(persistence, order):
    await fill(persistence, 12)
    seen = []
    async for record in await persistence.find_sessions(limit=3, order=order):
        seen.append(record.id)
        if len(seen) == 1:
            await fill(persistence, 4, prefix="new")
            await persistence.delete_session("s5")
            await persistence.save_message("s6", "user", "touched")
    assert len(seen) == len(set(seen))
    assert "s5" not in seen
    untouched = {f"s{n}" for n in range(12)} - {"s5", "s6"}
    assert untouched <= set(seen)
    if order == "created":
        assert "s6" in seen


async def test_listed_records_have_the_columns_and_no_data(persistence):
    state = await persistence.save_session_state("s", create_session("s", user_id="ana", data={"a": 1}))
    await persistence.save_message("s", "user", "x")
    (listed,) = (await persistence.find_sessions()).items
    found = await persistence.find_session_by_id("s")
    assert listed.data is None
    assert found.data == {"a": 1}
    for name in ("id", "user_id", "agent_name", "status", "current_route", "current_step", "message_count",
                 "last_message_at", "completed_at", "created_at", "updated_at", "expires_at"):  # fmt: skip
        assert getattr(listed, name) == getattr(found, name)
    assert (listed.user_id, listed.status, listed.message_count) == ("ana", "active", 1)
    assert listed.created_at == state.metadata.created_at
    assert listed.created_at.utcoffset() == timedelta(0)
    assert listed.updated_at >= listed.last_message_at > listed.created_at - timedelta(seconds=1)


async def test_conditions(persistence):
    await fill(persistence, 4)
    await persistence.complete_session("s1")
    await persistence.abandon_session("s2")
    await persistence.update_route_step("s3", route="booking", step="name")
    state = await persistence.load_session_state("s0")
    await persistence.save_session_state("s0", state.replace(agent_name="Front desk"))
    assert await ids(persistence.find_sessions(status="completed")) == ["s1"]
    assert await ids(persistence.find_sessions(status="abandoned")) == ["s2"]
    assert await ids(persistence.find_sessions(status="active")) == ["s0", "s3"]
    assert await ids(persistence.find_sessions(route="booking")) == ["s3"]
    assert await ids(persistence.find_sessions(agent_name="Front desk")) == ["s0"]
    assert await ids(persistence.find_sessions(agent_name="Front desk", status="completed")) == []
    assert await ids(persistence.find_sessions_by_user_id("ana", status="completed", limit=10)) == ["s1"]


async def test_older_than_an_instant_and_a_duration_by_the_clock_of_the_store(memory, clock, connect):
    persistence = await connect(memory)
    start = clock.now
    await fill(persistence, 1, prefix="old")
    clock.advance(timedelta(days=40))
    await fill(persistence, 1, prefix="mid")
    clock.advance(timedelta(days=40))
    await fill(persistence, 1, prefix="new")
    find = persistence.find_sessions
    assert await ids(find(older_than=timedelta(days=30), order="created")) == ["old0", "mid0"]
    assert await ids(find(older_than=timedelta(days=60))) == ["old0"]
    assert await ids(find(older_than=start)) == []
    assert await ids(find(older_than=start + timedelta(microseconds=1))) == ["old0"]
    assert await ids(find(older_than=clock.now, order="created")) == ["old0", "mid0"]
    assert await ids(find(older_than=timedelta(0))) == ["mid0", "old0"]
    await persistence.save_message("old0", "user", "x")
    assert await ids(find(older_than=timedelta(days=60))) == []


@pytest.mark.parametrize(
    "age",
    [
        timedelta.max,
        timedelta(days=800_000),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
)
async def test_an_extreme_age_is_answered_or_refused_never_a_crash(persistence, age):
    await fill(persistence, 1)
    try:
        found = await ids(persistence.find_sessions(older_than=age))
    except InvalidArgument:
        return
    assert found == (["s0"] if age == datetime.max.replace(tzinfo=UTC) else [])


async def test_an_age_of_the_last_hour_of_time_in_another_zone(persistence):
    await fill(persistence, 1)
    for age, expected in (
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))), ["s0"]),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), []),
    ):
        try:
            found = await ids(persistence.find_sessions(older_than=age))
        except InvalidArgument:
            continue
        assert found == expected


async def test_the_cursor_of_another_order_is_refused(persistence):
    await fill(persistence, 3)
    cursor = (await persistence.find_sessions(limit=1)).next_cursor
    with pytest.raises(InvalidArgument):
        await persistence.find_sessions(limit=1, order="created", cursor=cursor)


async def test_the_active_session_of_a_user_is_the_one_last_committed_to(persistence):
    await fill(persistence, 4)
    assert (await persistence.find_active_session_by_user_id("ana")).id == "s3"
    await persistence.save_message("s1", "user", "x")
    found = await persistence.find_active_session_by_user_id("ana")
    assert (found.id, found.data, found.message_count) == ("s1", {}, 1)
    await persistence.complete_session("s1")
    assert (await persistence.find_active_session_by_user_id("ana")).id == "s3"
    await persistence.delete_sessions(user_id="ana")
    assert await persistence.find_active_session_by_user_id("ana") is None


async def test_one_with_50_finished_sessions_costs_a_page_and_not_a_call_each(persistence, adapter):
    await fill(persistence, 50)
    for n in range(50):
        await persistence.complete_session(f"s{n}")
    before = len(adapter.calls)
    assert await persistence.find_active_session_by_user_id("ana") is None
    assert len(adapter.calls) - before == 1


async def test_namespaces_are_apart(adapter, connect):
    one, two = await connect(adapter, namespace="one"), await connect(adapter, namespace="two")
    await fill(one, 2)
    assert await ids(two.find_sessions()) == []
    assert await two.find_session_by_id("s0") is None
    await two.save_session_state("s0", create_session("s0", data={"two": 2}))
    assert (await one.find_session_by_id("s0")).data == {}
    assert await two.delete_session("s1") is False
    assert (await two.erase_user("ana")).sessions == 0
    assert (await one.stats()).sessions == 2


@pytest.mark.parametrize("namespace", ["", "A", "a b", "a:b", "a\n", "n" * 65, None, 7, {"$ne": 1}])
async def test_a_namespace_that_is_none_is_refused(adapter, namespace):
    with pytest.raises(InvalidArgument):
        turnkeep_connect(adapter, namespace=namespace)
