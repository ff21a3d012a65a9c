"""Hostile arguments (reliability.md §3.1): kept exactly, or refused before the adapter is called."""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime, timedelta

import pytest

import turnkeep
from turnkeep import ConfigurationError, InvalidArgument, TurnkeepError, create_session
from turnkeep_testkit.hostile import NEAR_IDS, Place, SomeStr, cases

kit = sys.modules["turnkeep_core_test_kit"]

BAD_IDS = cases(Place.ID, expect="refuse")
GOOD_IDS = cases(Place.ID, expect="exact")
NO_IDS = [None, *(case.value for case in BAD_IDS)]

WITH_SESSION_ID = {
    "find_session_by_id": lambda p, x: p.find_session_by_id(x),
    "load_session_state": lambda p, x: p.load_session_state(x),
    "save_session_state": lambda p, x: p.save_session_state(x, create_session("s")),
    "update_collected_data": lambda p, x: p.update_collected_data(x, {"a": 1}),
    "update_route_step": lambda p, x: p.update_route_step(x, route="r"),
    "update_session_status": lambda p, x: p.update_session_status(x, "completed"),
    "complete_session": lambda p, x: p.complete_session(x),
    "abandon_session": lambda p, x: p.abandon_session(x),
    "claim_session": lambda p, x: p.claim_session(x, "ana"),
    "delete_session": lambda p, x: p.delete_session(x),
    "save_message": lambda p, x: p.save_message(x, "user", "x"),
    "save_messages": lambda p, x: p.save_messages(x, [{"role": "user", "content": "x"}]),
    "save no messages": lambda p, x: p.save_messages(x, []),
    "find_messages_by_session_id": lambda p, x: p.find_messages_by_session_id(x),
    "load_session_history": lambda p, x: p.load_session_history(x),
}
WITH_USER_ID = {
    "find_active_session_by_user_id": lambda p, x: p.find_active_session_by_user_id(x),
    "find_sessions_by_user_id": lambda p, x: p.find_sessions_by_user_id(x),
    "claim_session": lambda p, x: p.claim_session("s", x),
    "erase_user": lambda p, x: p.erase_user(x),
}
OPTIONAL_ID = {
    "update_route_step route": lambda p, x: p.update_route_step("s", route=x),
    "update_route_step step": lambda p, x: p.update_route_step("s", route="r", step=x),
    "find agent_name": lambda p, x: p.find_sessions(agent_name=x),
    "find route": lambda p, x: p.find_sessions(route=x),
    "find by user agent_name": lambda p, x: p.find_sessions_by_user_id("ana", agent_name=x),
    "find by user route": lambda p, x: p.find_sessions_by_user_id("ana", route=x),
    "delete user_id": lambda p, x: p.delete_sessions(user_id=x, status="completed"),
    "delete agent_name": lambda p, x: p.delete_sessions(agent_name=x, status="completed"),
    "delete route": lambda p, x: p.delete_sessions(route=x, status="completed"),
    "message id": lambda p, x: p.save_message("s", "user", "x", id=x),
    "message name": lambda p, x: p.save_message("s", "user", "x", name=x),
    "message route": lambda p, x: p.save_message("s", "user", "x", route=x),
    "message step": lambda p, x: p.save_message("s", "user", "x", step=x),
    "message tool_call_id": lambda p, x: p.save_message("s", "user", "x", tool_call_id=x),
    "search user_id": lambda p, x: p.search_messages("refund", user_id=x),
    "search session_id": lambda p, x: p.search_messages("refund", session_id=x),
}


async def refused(memory, call, value, error=InvalidArgument):
    async with turnkeep.connect(memory) as persistence:
        before = memory.inner.snapshot()
        with pytest.raises(error) as caught:
            await call(persistence, value)
    assert memory.calls == [], "refused before any call of the adapter"
    assert memory.inner.snapshot() == before
    assert isinstance(caught.value, TurnkeepError)
    assert len(str(caught.value)) < 1000
    return caught.value


async def all_refused(memory, call, values):
    """One connection for all values: making one looks for plugins, which takes longer than the calls."""
    wrong = []
    async with turnkeep.connect(memory) as persistence:
        for value in values:
            try:
                await call(persistence, value)
            except InvalidArgument as error:
                wrong += [f"{value!r:.30}: a message of {len(str(error))}"] if len(str(error)) > 1000 else []
            except Exception as error:  # noqa: BLE001 - the test names it
                wrong.append(f"{value!r:.30}: {error!r:.80}")
            else:
                wrong.append(f"{value!r:.30}: taken")
    assert wrong == []
    assert memory.calls == [], "refused before any call of the adapter"
    assert memory.inner.snapshot() == {"sessions": [], "messages": []}


@pytest.mark.parametrize("call", WITH_SESSION_ID)
async def test_a_session_id_that_is_none_is_refused(memory, call):
    await all_refused(memory, WITH_SESSION_ID[call], NO_IDS)


@pytest.mark.parametrize("call", WITH_USER_ID)
async def test_an_owner_that_is_none_is_refused(memory, call):
    await all_refused(memory, WITH_USER_ID[call], NO_IDS)


@pytest.mark.parametrize("call", OPTIONAL_ID)
async def test_another_id_that_is_none_is_refused(memory, call):
    await all_refused(memory, OPTIONAL_ID[call], NO_IDS[1:])


@pytest.mark.parametrize("case", BAD_IDS, ids=str)
async def test_an_id_inside_a_state_that_is_none_is_refused(memory, case):
    value, now = case.value, datetime.now(UTC)
    makes = {
        "id": lambda: create_session(value),
        "user_id": lambda: create_session("s", user_id=value),
        "agent_name": lambda: turnkeep.SessionState("s", agent_name=value),
        "agent_name, replaced": lambda: create_session("s").replace(agent_name=value),
        "route": lambda: turnkeep.SessionState("s", current_route=turnkeep.RouteRef(value, "t", now)),
        "route, replaced": lambda: create_session("s").replace(current_route=turnkeep.RouteRef(value, "t", now)),
        "step": lambda: turnkeep.SessionState(
            "s", current_route=turnkeep.RouteRef("r", "t", now), current_step=turnkeep.StepRef(value, "t", now)
        ),
    }
    wrong = []
    async with turnkeep.connect(memory) as persistence:
        for name, make in makes.items():
            try:
                await persistence.save_session_state("s", make())
            except InvalidArgument:
                pass
            except Exception as error:  # noqa: BLE001 - the test names it
                wrong.append(f"{name}: {error!r:.80}")
            else:
                wrong.append(f"{name}: stored")
                await persistence.delete_session("s")
    assert wrong == []
    assert memory.calls == []


@pytest.mark.parametrize(
    "fields",
    [
        {"current_route": "booking"},
        {"current_step": "name"},
        {"current_step": "OK"},
        {"route_history": ["booking"]},
        {"route_history": [{"route": "x"}]},
        {"metadata": {"custom": 1}},
        {"metadata": "x"},
        {"history": ["x"]},
        {"data": [1]},
        {"data": "x"},
        {"data_version": "1"},
        {"data_version": True},
        {"data_version": -1},
        {"collected_by": {"a": 1}},
        {"collected_by": ["a"]},
        {"status": "gone"},
        {"status": None},
    ],
    ids=lambda f: f"{f!r:.40}",
)
@pytest.mark.parametrize("how", ["made", "replaced"])
async def test_a_field_of_a_state_of_a_wrong_type_is_refused(memory, fields, how):
    async with turnkeep.connect(memory) as persistence:
        with pytest.raises(InvalidArgument):  # noqa: PT012 - either may refuse
            state = turnkeep.SessionState("s", **fields) if how == "made" else create_session("s").replace(**fields)
            await persistence.save_session_state("s", state)
        assert memory.calls == []


LIMITS = [case.value for case in cases(Place.LIMIT)] + [None, 1001, "10", [1], 2**31, float("nan")]


@pytest.mark.parametrize(
    "call",
    [
        lambda p, x: p.find_sessions(limit=x),
        lambda p, x: p.find_sessions_by_user_id("ana", limit=x),
        lambda p, x: p.find_messages_by_session_id("s", limit=x),
        lambda p, x: p.search_messages("refund", limit=x),
    ],
    ids=["sessions", "of user", "messages", "search"],
)
async def test_a_limit_that_is_none_is_refused(memory, call):
    await all_refused(memory, call, LIMITS)


CURSORS = ["", "x", "AAAA", "é", "\ud800", 7, True, b"x", {"$ne": None}, ["a"], "W10", "x" * 100_000, "' OR 1=1"]


@pytest.mark.parametrize("value", CURSORS, ids=lambda v: f"{v!r:.20}")
@pytest.mark.parametrize("order", ["activity", "created"])
async def test_a_cursor_that_is_none_is_refused(persistence, value, order):
    for call in (
        persistence.find_sessions(cursor=value, order=order),
        persistence.find_sessions_by_user_id("ana", cursor=value, order=order),
    ):
        with pytest.raises(InvalidArgument):
            await call


@pytest.mark.parametrize("value", [7, True, b"x", {"$ne": None}, ["a"], SomeStr("x")], ids=lambda v: f"{v!r:.20}")
async def test_a_cursor_that_is_no_str_never_reaches_an_adapter(memory, value):
    await refused(memory, lambda p, x: p.find_sessions(cursor=x), value)
    await refused(memory, lambda p, x: p.search_messages("refund", after=x), value)


@pytest.mark.parametrize(
    "value", ["gone", "ACTIVE", "", None, 1, True, ["active"], {"$ne": "active"}, SomeStr("active")], ids=repr
)
async def test_a_status_that_is_none_is_refused(memory, value):
    await refused(memory, lambda p, x: p.update_session_status("s", x), value)
    if value is not None:
        await refused(memory, lambda p, x: p.find_sessions(status=x), value)
        await refused(memory, lambda p, x: p.find_sessions_by_user_id("ana", status=x), value)
        await refused(memory, lambda p, x: p.delete_sessions(status=x), value)


@pytest.mark.parametrize("value", ["newest", "", None, 1, ["created"], {"$ne": 1}, SomeStr("created")], ids=repr)
async def test_an_order_that_is_none_is_refused(memory, value):
    await refused(memory, lambda p, x: p.find_sessions(order=x), value)
    await refused(memory, lambda p, x: p.find_sessions_by_user_id("ana", order=x), value)


@pytest.mark.parametrize(
    "value",
    [datetime(2024, 1, 1), "2024-01-01", 7, True, 1.5, timedelta(-1), {"$lt": 1}],  # noqa: DTZ001 - naive on purpose
    ids=repr,
)
async def test_an_age_that_is_none_is_refused(memory, value):
    for call in (
        lambda p, x: p.find_sessions(older_than=x),
        lambda p, x: p.find_sessions_by_user_id("ana", older_than=x),
        lambda p, x: p.delete_sessions(older_than=x),
    ):
        await refused(memory, call, value)


@pytest.mark.parametrize("value", ["1", -1, True, 1.0, 2**63, {"$gt": 0}], ids=repr)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_sequence_number_that_is_none_is_refused(memory, side, value):
    await refused(memory, lambda p, x: p.find_messages_by_session_id("s", **{side: x}), value)


async def test_the_largest_sequence_number_is_answered(persistence):
    await persistence.save_session_state("s", create_session("s", history=[{"role": "user", "content": "x"}]))
    find = persistence.find_messages_by_session_id
    assert len((await find("s", before=2**63 - 1)).items) == 1
    assert len((await find("s", after=2**63 - 1)).items) == 0


@pytest.mark.parametrize(
    ("role", "content"),
    [("admin", "x"), (None, "x"), ("User", "x"), ({"$ne": 1}, "x"), (SomeStr("user"), "x"), ("user", None),
     ("user", 7), ("user", b"x"), ("user", ["x"]), ("user", SomeStr("x"))],
    ids=repr,
)  # fmt: skip
async def test_a_role_or_content_that_is_none_is_refused(memory, role, content):
    await refused(memory, lambda p, _: p.save_message("s", role, content), None)


@pytest.mark.parametrize("case", cases(Place.MESSAGE, expect="refuse"), ids=str)
async def test_a_message_that_is_none_is_refused(memory, case):
    await refused(memory, lambda p, x: p.save_messages("s", [x]), case.value)
    await refused(memory, lambda p, x: p.save_session_state("s", create_session("s", history=[x])), case.value)


@pytest.mark.parametrize("value", ["x", None, 7, {"role": "user", "content": "x"}, b"x"], ids=repr)
async def test_messages_that_are_no_list_of_messages_are_refused(memory, value):
    await refused(memory, lambda p, x: p.save_messages("s", x), value)


@pytest.mark.parametrize("value", [datetime(2024, 1, 1), "2024", 0, timedelta(1)], ids=repr)  # noqa: DTZ001 - naive on purpose
async def test_a_created_at_that_is_none_is_refused(memory, value):
    await refused(memory, lambda p, x: p.save_message("s", "user", "x", created_at=x), value)


@pytest.mark.parametrize("value", ["", "  ", None, 7, {"$search": "x"}], ids=repr)
async def test_a_text_to_search_for_that_is_none_is_refused(memory, value):
    await refused(memory, lambda p, x: p.search_messages(x), value)


@pytest.mark.parametrize(
    "fields",
    [{"role": "admin"}, {"role": {"$ne": 1}}, {"since": "x"}, {"until": datetime(2024, 1, 1)}],  # noqa: DTZ001 - naive on purpose
    ids=repr,
)
async def test_a_condition_of_a_search_that_is_none_is_refused(memory, fields):
    await refused(memory, lambda p, _: p.search_messages("refund", **fields), None)


async def test_deleting_without_a_condition_is_refused(memory):
    await refused(memory, lambda p, _: p.delete_sessions(), None)


async def test_conditions_under_names_that_there_are_not_are_refused(memory):
    for case in cases(Place.CONDITION):
        await refused_by_python(memory, case.value)


async def refused_by_python(memory, name):
    async with turnkeep.connect(memory) as persistence:
        for method in (persistence.find_sessions, persistence.delete_sessions):
            with pytest.raises(TypeError):
                await method(**{name: 1})
    assert memory.calls == []


@pytest.mark.parametrize("case", GOOD_IDS, ids=str)
async def test_ids_are_kept_exactly_in_every_place(persistence, case):
    x = case.value
    state = turnkeep.SessionState(
        x,
        user_id=x,
        agent_name=x,
        current_route=turnkeep.RouteRef(x, x, datetime.now(UTC)),
        current_step=turnkeep.StepRef(x, x, datetime.now(UTC)),
        history=[turnkeep.Message("user", "x", id=x, name=x, route=x, step=x, tool_call_id=x)],
    )
    await persistence.save_session_state(x, state)
    record = await persistence.find_session_by_id(x)
    assert (record.id, record.user_id, record.agent_name, record.current_route, record.current_step) == (x,) * 5
    loaded = await persistence.load_session_state(x)
    assert (loaded.current_route, loaded.current_step) == (state.current_route, state.current_step)
    (message,) = await persistence.load_session_history(x)
    assert (message.id, message.name, message.route, message.step, message.tool_call_id) == (x,) * 5
    page = await persistence.find_sessions_by_user_id(x, agent_name=x, route=x, limit=1)
    assert [r.id for r in page.items] == [x]
    await persistence.save_session_state("other", create_session("other", user_id=x))
    for order in ("activity", "created"):
        walked = [r.id async for r in await persistence.find_sessions_by_user_id(x, limit=1, order=order)]
        assert sorted(walked) == sorted([x, "other"])
    assert await persistence.delete_session(x) is True
    assert await persistence.find_session_by_id("other")
    assert (await persistence.erase_user(x)).sessions == 1


@pytest.mark.parametrize(("one", "two"), NEAR_IDS)
async def test_ids_that_look_alike_are_two(persistence, one, two):
    for x in (one, two):
        await persistence.save_session_state(x, create_session(x, user_id=x, data={"id": x}))
    for x in (one, two):
        assert (await persistence.find_session_by_id(x)).data == {"id": x}
        assert [r.id async for r in await persistence.find_sessions_by_user_id(x)] == [x]
    assert (await persistence.erase_user(one)).sessions == 1
    assert await persistence.find_session_by_id(two)


@pytest.mark.parametrize("case", cases(Place.CONTENT, Place.VALUE, expect="exact"), ids=str)
async def test_contents_and_values_are_kept_exactly(persistence, case):
    x = case.value
    await persistence.save_session_state("s", create_session("s"))
    found = []
    if Place.CONTENT in case.places:
        await persistence.save_message("s", "user", x)
        found += [m.content for m in await persistence.load_session_history("s")]
    if Place.VALUE in case.places:
        fields = {"event": x, "metadata": {"x": x}, "tool_calls": [{"id": "c", "name": "n", "arguments": {"x": x}}]}
        await persistence.save_message("s", "user", "x", **fields)
        await persistence.update_collected_data("s", {"x": x})
        await persistence.save_session_state("t", create_session("t", metadata={"x": x}))
        *_, message = await persistence.load_session_history("s")
        found += [message.event, message.metadata["x"], message.tool_calls[0].arguments["x"]]
        found.append((await persistence.find_session_by_id("s")).data["x"])
        found.append((await persistence.load_session_state("t")).metadata.custom["x"])
    for value in found:
        assert type(value) is type(x)
        assert value == x if isinstance(x, set | frozenset) else repr(value) == repr(x)


@pytest.mark.parametrize("case", cases(Place.KEY, expect="exact"), ids=str)
async def test_keys_are_kept_exactly(persistence, case):
    x = case.value
    await persistence.save_session_state("s", create_session("s", data={x: 1}, metadata={x: 1}))
    await persistence.save_message("s", "user", "x", event={x: 1}, metadata={x: 1})
    await persistence.update_collected_data("s", {"more": {x: {x: 2}}})
    state = await persistence.load_session_state("s")
    assert state.data == {x: 1, "more": {x: {x: 2}}}
    assert state.metadata.custom == {x: 1}
    assert (state.history[0].event, state.history[0].metadata) == ({x: 1}, {x: 1})


@pytest.mark.parametrize("case", cases(Place.VALUE, expect="refuse"), ids=str)
async def test_values_that_cannot_be_kept_are_refused_and_nothing_is_written(persistence, adapter, case):
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    error, value = getattr(turnkeep, case.error), case.value
    before = adapter.count("commit")
    for call in (
        lambda x: persistence.update_collected_data("s", {"x": x}),
        lambda x: persistence.save_message("s", "user", "x", event=x),
        lambda x: persistence.save_message("s", "user", "x", metadata={"x": x}),
        lambda x: persistence.save_message(
            "s", "user", "x", tool_calls=[{"id": "c", "name": "n", "arguments": {"x": x}}]
        ),
        lambda x: persistence.save_session_state("t", create_session("t", data={"x": x})),
        lambda x: persistence.save_session_state("t", create_session("t", metadata={"x": x})),
    ):
        with pytest.raises(error):
            await call(value)
    assert adapter.count("commit") == before


@pytest.mark.parametrize("case", cases(Place.KEY, expect="refuse"), ids=str)
async def test_keys_that_cannot_be_kept_are_refused(persistence, adapter, case):
    await persistence.save_session_state("s", create_session("s", data={"z": 1}))
    before = adapter.count("commit")
    for call in (
        lambda x: persistence.update_collected_data("s", {x: 1}),
        lambda x: persistence.update_collected_data("s", {"x": {x: 1}}),
        lambda x: persistence.save_message("s", "user", "x", metadata={x: 1}),
    ):
        with pytest.raises(getattr(turnkeep, case.error)):
            await call(case.value)
    assert adapter.count("commit") == before


@pytest.mark.parametrize("case", cases(Place.NAMESPACE, expect="refuse"), ids=str)
def test_namespaces_that_are_none_are_refused(memory, case):
    with pytest.raises(InvalidArgument):
        turnkeep.connect(memory, namespace=case.value)


@pytest.mark.parametrize("case", cases(Place.NAMESPACE, expect="exact"), ids=str)
async def test_namespaces_are_kept_exactly(adapter, connect, case):
    one, two = (
        await connect(adapter, namespace=case.value),
        await connect(adapter, namespace=f"{case.value[:50]}.other"),
    )
    await one.save_session_state("s", create_session("s", data={"of": "one"}))
    assert await two.find_session_by_id("s") is None
    await two.save_session_state("s", create_session("s", data={"of": "two"}))
    assert (await one.find_session_by_id("s")).data == {"of": "one"}
    assert await two.delete_session("s") is True
    assert [record.id async for record in await one.find_sessions()] == ["s"]


@pytest.mark.parametrize("case", cases(Place.MESSAGE, Place.MESSAGES, expect="exact"), ids=str)
async def test_messages_that_only_look_dangerous_are_kept(persistence, case):
    given = case.value if isinstance(case.value, list) else [case.value]
    await persistence.save_session_state("s", create_session("s"))
    await persistence.save_messages("s", given)
    history = await persistence.load_session_history("s")
    assert [message.content for message in history] == [each["content"] for each in given]
    for message, each in zip(history, given, strict=True):
        if "event" in each:
            assert message.event == each["event"]
        if "tool_calls" in each:
            assert [call.arguments for call in message.tool_calls] == [call["arguments"] for call in each["tool_calls"]]


@pytest.mark.parametrize("case", cases(Place.MESSAGES, expect="refuse"), ids=str)
async def test_messages_that_cannot_be_one_turn_are_refused(persistence, adapter, case):
    await persistence.save_session_state("s", create_session("s"))
    before = adapter.count("commit")
    with pytest.raises(getattr(turnkeep, case.error)):
        await persistence.save_messages("s", case.value)
    assert adapter.count("commit") == before


@pytest.mark.parametrize("case", BAD_IDS, ids=str)
async def test_a_live_session_refuses_bad_ids_before_any_call(memory, case):
    async with turnkeep.connect(memory) as persistence:
        with pytest.raises(InvalidArgument):
            turnkeep.SessionManager(persistence, session_id=case.value)
        with pytest.raises(InvalidArgument):
            turnkeep.SessionManager(persistence, user_id=case.value)
        session = turnkeep.SessionManager(persistence)
        with pytest.raises(InvalidArgument):
            await session.get_or_create(case.value)
        with pytest.raises(InvalidArgument):
            turnkeep.connect(memory, user_id=case.value)
    assert memory.calls == []


@pytest.mark.parametrize("case", cases(Place.COMMIT_ID, expect="refuse"), ids=str)
async def test_a_turn_refuses_bad_commit_ids(memory, case):
    async with turnkeep.connect(memory) as persistence:
        session = turnkeep.SessionManager(persistence, session_id="s")
        with pytest.raises(InvalidArgument):
            async with session.turn(commit_id=case.value):
                pass
    assert memory.calls == []


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout": 0}, {"timeout": -1}, {"timeout": "5"}, {"timeout": True}, {"timeout": float("inf")},
        {"timeout": float("nan")}, {"slow_threshold": 0}, {"window": -1}, {"window": 1.0}, {"window": True},
        {"window": "50"}, {"window": 2**31}, {"session_ttl": 0}, {"session_ttl": -1}, {"session_ttl": "x"},
        {"session_ttl": float("nan")}, {"session_ttl": timedelta(0)}, {"message_ttl": 0},
        {"message_ttl": timedelta(-1)},
        {"data_version": 0}, {"data_version": True}, {"data_version": "1"}, {"upgrade_data": lambda d, v: d},
        {"limits": 7}, {"limits": {}}, {"plugins": "x"}, {"session_ttl": True}, {"session_ttl": 1e400},
        {"session_ttl": timedelta.max}, {"session_ttl": 10**30}, {"upgrade_data": 5, "data_version": 1},
    ],
    ids=lambda s: f"{s!r:.40}",
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused(memory, setting):
    with pytest.raises(InvalidArgument):
        turnkeep.connect(memory, **setting)


CANARY = "c4n4ry-s3cret"


@pytest.mark.parametrize(
    "url",
    [
        f"nosuch://user:{CANARY}@host/db",
        f"memory://user:{CANARY}@host",
        f"memory://?password={CANARY}",
        f"sqlite:///x.db?password={CANARY}",
        f"sqlite://user:{CANARY}@host/x.db",
        f"redis://u:{CANARY}@[::1/0",
        f"postgresql://u:{CANARY}@h:port/db",
        f"postgresql://u:p@h/db#{CANARY}",
        f"nosuch://user@host/db?token={CANARY}",
        f"//{CANARY}",
    ],
)
async def test_no_error_shows_a_secret_of_the_url(url, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        await turnkeep.connect(url)
    text = "".join(traceback.format_exception(caught.value))
    shown = "\n".join(line for line in text.splitlines() if "Traceback" not in line and not line.startswith("  "))
    assert CANARY not in shown
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert CANARY not in caplog.text
    assert list(tmp_path.iterdir()) == []


async def test_no_repr_shows_a_secret(memory, connect):
    persistence = await connect(memory, user_id="ana")
    assert "ana" in repr(persistence)
    url = turnkeep.StorageURL(f"redis://user:{CANARY}@host/0?auth={CANARY}")
    assert CANARY not in repr(url) + str(url)


async def test_hostile_text_is_escaped_in_errors_and_logs(persistence, caplog):
    evil = "x\r\nDEL *\x1b[31m"
    with pytest.raises(turnkeep.SessionNotFound) as caught:
        await persistence.save_message(evil, "user", "x")
    for character in "\r\n\x1b":
        assert character not in str(caught.value)
