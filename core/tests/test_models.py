from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta, timezone

import pytest

from turnkeep import codec
from turnkeep.contract import StoredMessage, Token
from turnkeep.errors import InvalidArgument, NotSerializable, ValueTooLarge
from turnkeep.messages import ROLES, Message, ToolCall
from turnkeep.models import (
    STATUSES,
    UNSET,
    RouteRef,
    RouteVisit,
    SessionMetadata,
    SessionState,
    StepRef,
    create_session,
)
from turnkeep_testkit import hostile
from turnkeep_testkit.hostile import Place

AT = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
CALLS = [{"id": "c1", "name": "pay", "arguments": {"amount": 5, "to": ["ana"]}}]


def full_message():
    return Message(
        "assistant",
        "Hi!",
        id="m1",
        name="Ana",
        tool_calls=CALLS,
        tool_call_id="c0",
        route="booking",
        step="name",
        event={"a": [1]},
        metadata={"b": {"c": 2}},
        created_at=AT,
    )


def stored_message(seq):
    return Message._stored(full_message()._row._replace(seq=seq, turn_seq=seq, commit_id="commit"))


def test_a_message_has_its_fields():
    message = full_message()
    assert (message.role, message.content, message.id, message.name) == ("assistant", "Hi!", "m1", "Ana")
    assert message.tool_calls == (ToolCall("c1", "pay", {"amount": 5, "to": ["ana"]}),)
    assert (message.tool_call_id, message.route, message.step) == ("c0", "booking", "name")
    assert (message.event, message.metadata, message.created_at) == ({"a": [1]}, {"b": {"c": 2}}, AT)
    assert (message.seq, message.commit_id) == (None, None)


def test_a_message_needs_only_role_and_content():
    before = datetime.now(UTC)
    message = Message("user", "")
    assert before <= message.created_at <= datetime.now(UTC)
    assert len(message.id) == 32
    assert Message("user", "").id != message.id
    assert (message.tool_calls, message.event, message.metadata) == ((), None, {})
    assert (message.name, message.tool_call_id, message.route, message.step) == (None, None, None, None)


@pytest.mark.parametrize(
    "field", ["role", "content", "id", "seq", "commit_id", "created_at", "metadata", "_event", "new"]
)
def test_a_message_cannot_be_changed(field):
    message = full_message()
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(message, field, "x")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        delattr(message, field)
    assert message == full_message()


def test_what_a_message_gives_is_a_copy():
    message = full_message()
    message.event["a"].append(2)
    message.metadata["b"]["c"] = 3
    message.tool_calls[0].arguments["to"].append("eve")
    assert message == full_message()
    assert message.event == {"a": [1]}


def test_what_a_message_took_is_a_copy():
    event, metadata, arguments = {"a": [1]}, {"b": [1]}, {"c": [1]}
    message = Message("user", "x", event=event, metadata=metadata, tool_calls=[ToolCall("c", "f", arguments)])
    event["a"].append(2)
    metadata["b"].append(2)
    arguments["c"].append(2)
    assert (message.event, message.metadata) == ({"a": [1]}, {"b": [1]})
    assert message.tool_calls[0].arguments == {"c": [1]}


@pytest.mark.parametrize("value", [None, 0, "", [], False, {"$tk": "x"}, (1, 2), AT, 1.5, ["a", {"b": b"c"}]], ids=repr)
def test_an_event_is_kept_exactly(value):
    event = Message("user", "x", event=value).event
    assert event == value
    assert type(event) is type(value)


def test_messages_are_compared_by_value():
    assert full_message() == full_message()
    assert hash(full_message()) == hash(full_message())
    assert full_message() != full_message().replace(content="Bye")


def test_messages_travel():
    message = stored_message(3)
    for again in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert again == message
        assert again.event == {"a": [1]}
        assert (again.seq, again.commit_id) == (3, "commit")


def test_a_replaced_message_is_not_stored():
    stored = stored_message(3)
    assert (stored.seq, stored.commit_id) == (3, "commit")
    changed = stored.replace(content="Bye")
    assert (changed.content, changed.seq, changed.commit_id, changed.id) == ("Bye", None, None, "m1")
    assert (changed.event, changed.tool_calls, changed.created_at) == (stored.event, stored.tool_calls, AT)
    assert stored.content == "Hi!"
    assert stored.replace(id="m2").id == "m2"
    for field in ("seq", "commit_id", "_reply", "owner"):
        with pytest.raises(InvalidArgument, match=field):
            stored.replace(**{field: 1})


def test_a_message_of_itself_is_itself():
    message = full_message()
    assert Message.of(message) is message


def test_a_message_of_a_dict():
    fields = {
        "role": "assistant",
        "content": "Hi!",
        "id": "m1",
        "name": "Ana",
        "tool_calls": CALLS,
        "tool_call_id": "c0",
        "route": "booking",
        "step": "name",
        "event": {"a": [1]},
        "metadata": {"b": {"c": 2}},
        "created_at": AT,
    }
    before = copy.deepcopy(fields)
    assert Message.of(fields) == full_message()
    assert fields == before


@pytest.mark.parametrize("case", hostile.cases(Place.MESSAGE, expect="refuse"), ids=str)
def test_hostile_messages_are_refused(case):
    with pytest.raises(InvalidArgument) as caught:
        Message.of(case.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("case", hostile.cases(Place.MESSAGE, expect="exact"), ids=str)
def test_forged_records_are_data(case):
    message = Message.of(case.value)
    assert [call.name for call in message.tool_calls] == [call["name"] for call in case.value.get("tool_calls", ())]
    assert message.event == case.value.get("event")


@pytest.mark.parametrize("case", hostile.cases(Place.ID, expect="refuse"), ids=str)
@pytest.mark.parametrize("field", ["id", "name", "tool_call_id", "route", "step"])
def test_hostile_ids_are_refused(field, case):
    with pytest.raises(InvalidArgument):
        Message("user", "x", **{field: case.value})


@pytest.mark.parametrize("case", hostile.cases(Place.CONTENT, expect="exact"), ids=str)
def test_hostile_contents_are_kept(case):
    message = Message("user", case.value, event=case.value, metadata={"x": case.value})
    assert message.content == message.event == message.metadata["x"] == case.value


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "admin"},
        {"role": None},
        {"role": ["user"]},
        {"role": {"$ne": None}},
        {"content": None},
        {"content": b"x"},
        {"content": ["x"]},
        {"content": hostile.SomeStr("x")},
        {"created_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
        {"created_at": "2026-01-01"},
        {"created_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
        {"metadata": [1]},
        {"metadata": "x"},
        {"tool_calls": ["pay"]},
        {"tool_calls": [{"id": "c"}]},
        {"tool_calls": [{"name": "pay"}]},
        {"tool_calls": [{"id": 1, "name": "pay"}]},
        {"tool_calls": [{"id": "c", "name": "pay", "arguments": "{}"}]},
        {"tool_calls": [{"id": "c", "name": "pay", "approved": True}]},
    ],
    ids=repr,
)
def test_a_message_refuses(changes):
    with pytest.raises(InvalidArgument):
        Message(**({"role": "user", "content": "x"} | changes))
    with pytest.raises(InvalidArgument):
        Message.of({"role": "user", "content": "x"} | changes)


def test_documents_that_cannot_be_stored_are_refused_at_once():
    with pytest.raises(NotSerializable, match="event"):
        Message("user", "x", event=object())
    with pytest.raises(NotSerializable, match=r"metadata\.a"):
        Message("user", "x", metadata={"a": object()})
    with pytest.raises(NotSerializable, match="tool_calls"):
        Message("user", "x", tool_calls=[ToolCall("c", "pay", {"amount": object()})])
    deep = []
    for _ in range(101):
        deep = [deep]
    with pytest.raises(ValueTooLarge):
        Message("user", "x", event=deep)


def test_an_instant_is_kept_in_utc():
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    message = Message("user", "x", created_at=moment)
    assert message.created_at == moment
    assert message.created_at.utcoffset() == timedelta(0)


def test_a_tool_call_without_arguments():
    assert ToolCall.of({"id": "c", "name": "now"}) == ToolCall("c", "now", {})


@pytest.mark.parametrize("call", [ToolCall(5, "pay", {}), ToolCall("c", "", {}), ToolCall("c", "pay", "{}")], ids=repr)
def test_a_wrong_tool_call_is_refused(call):
    with pytest.raises(InvalidArgument):
        Message("assistant", "", tool_calls=[call])


def test_a_row_becomes_a_message_without_decoding():
    row = StoredMessage(
        "m1", "user", "x", "plain", "Ana", "[not json", "c0", "r", "s", "{no", "{no", "{no", AT, 7, 5, "commit"
    )
    message = Message._stored(row)
    assert (message.id, message.role, message.content, message.seq, message.commit_id) == (
        "m1",
        "user",
        "x",
        7,
        "commit",
    )
    assert (message.name, message.tool_call_id, message.route, message.step) == ("Ana", "c0", "r", "s")


def test_roles_and_statuses():
    assert {"user", "assistant", "system", "tool"} == ROLES
    assert {"active", "completed", "abandoned"} == STATUSES
    for role in ROLES:
        assert Message(role, "x").role == role
    assert repr(UNSET) == "UNSET"


# Sessions


def full_state():
    return SessionState(
        "s1",
        user_id="ana",
        agent_name="desk",
        status="completed",
        data={"guests": 4, "name": "Ana", "free": True},
        collected_by={"guests": "booking", "name": "contact", "gone": "booking"},
        route_history=[RouteVisit("booking", AT)],
        current_route=RouteRef("booking", "Book", AT),
        current_step=StepRef("name", "Ask", AT),
        history=[{"role": "user", "content": "x", "id": "m1", "created_at": AT}],
        metadata=SessionMetadata(AT, AT, {"source": "web"}),
        data_version=3,
    )


def test_a_state_has_its_fields():
    state = full_state()
    assert (state.id, state.user_id, state.agent_name, state.status) == ("s1", "ana", "desk", "completed")
    assert state.data == {"guests": 4, "name": "Ana", "free": True}
    assert state.data_by_route == {"booking": {"guests": 4}, "contact": {"name": "Ana"}}
    assert [message.content for message in state.history] == ["x"]
    assert (state.route_history, state.data_version) == ((RouteVisit("booking", AT),), 3)
    assert state.metadata.custom == {"source": "web"}
    assert state._token is None


@pytest.mark.parametrize("field", ["id", "user_id", "status", "data", "history", "_token", "new"])
def test_a_state_cannot_be_changed(field):
    state = full_state()
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(state, field, "x")
    assert state == full_state()


def test_what_a_state_gives_is_a_copy():
    state = full_state()
    state.data["guests"] = 5
    state.data_by_route["booking"]["guests"] = 6
    state.collected_by["x"] = "y"
    state.metadata.custom["source"] = "app"
    assert state == full_state()


def test_what_a_state_took_is_a_copy():
    data, collected, history = {"a": [1]}, {"a": "r"}, [{"role": "user", "content": "x"}]
    state = SessionState(data=data, collected_by=collected, history=history)
    data["a"].append(2)
    collected["b"] = "r"
    history.append({"role": "user", "content": "y"})
    assert state.data == {"a": [1]}
    assert state.collected_by == {"a": "r"}
    assert len(state.history) == 1


def test_a_replaced_state_keeps_the_rest():
    state = full_state()
    object.__setattr__(state, "_token", Token("i", 1, "c"))
    changed = state.replace(data={"guests": 5}, status="active", history=[], collected_by={"guests": "r"})
    assert (changed.data, changed.status, changed.history) == ({"guests": 5}, "active", ())
    assert changed.data_by_route == {"r": {"guests": 5}}
    assert (changed.id, changed.user_id, changed._token) == ("s1", "ana", state._token)
    assert changed.metadata == state.metadata
    assert state.data == full_state().data


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "s2"},
        {"user_id": "eve"},
        {"_token": None},
        {"token": None},
        {"status": "done"},
        {"status": ["active"]},
        {"data": None},
        {"data": [1]},
        {"history": [{"role": "user"}]},
        {"version": 1},
    ],
    ids=repr,
)
def test_a_state_refuses_to_be_replaced(changes):
    with pytest.raises(InvalidArgument):
        full_state().replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": 7},
        {"user_id": ""},
        {"user_id": {"$ne": None}},
        {"agent_name": 7},
        {"status": "done"},
        {"status": None},
        {"status": ["active"]},
        {"data": [1]},
        {"history": ["x"]},
    ],
    ids=repr,
)
def test_a_state_refuses(changes):
    with pytest.raises(InvalidArgument):
        SessionState(**changes)


def test_data_that_cannot_be_stored_is_refused_at_once():
    with pytest.raises(NotSerializable, match=r"data\.a"):
        SessionState(data={"a": object()})
    with pytest.raises(NotSerializable, match=r"custom metadata\.a"):
        SessionMetadata(AT, AT, {"a": object()})
    with pytest.raises(InvalidArgument, match="aware"):
        SessionMetadata(datetime(2026, 1, 1), AT)  # noqa: DTZ001 - that is the point


def test_states_travel():
    for again in (copy.deepcopy(full_state()), pickle.loads(pickle.dumps(full_state()))):
        assert again == full_state()
        assert again.data == full_state().data


def test_a_new_session():
    session = create_session(data={"a": 1}, history=[Message("user", "x")], user_id="ana", metadata={"m": 1})
    assert session.id.startswith("session_")
    assert (session.user_id, session.data, session.metadata.custom) == ("ana", {"a": 1}, {"m": 1})
    assert (session.status, session._token, session.data_version) == ("active", None, None)
    assert create_session().id != create_session().id
    assert create_session("mine").id == "mine"


def test_a_new_session_takes_stored_messages_as_new():
    stored = stored_message(9)
    fresh = full_message()
    session = create_session(history=[stored, fresh])
    assert [message.seq for message in session.history] == [None, None]
    assert session.history[0].id != stored.id
    assert session.history[0].content == stored.content
    assert session.history[1].id == fresh.id


def test_documents_are_decoded_at_each_access(monkeypatch):
    calls = []
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda text, **more: calls.append(text) or decode(text, **more))
    message = full_message()
    assert calls == []
    _ = message.event, message.event
    assert len(calls) == 2
