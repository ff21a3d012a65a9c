"""Each of the Limits, held before anything is sent."""

from __future__ import annotations

import pytest

import turnkeep
from turnkeep import InvalidArgument, Limits, Message, ValueTooLarge, create_session

BASE = {"role": "user", "content": "x"}


@pytest.fixture
def limited(memory, connect):
    async def limited(**limits):
        roomy = await connect(memory)
        await roomy.save_session_state("s", create_session("s"))
        memory.calls.clear()
        return await connect(memory, limits=Limits(**limits))

    return limited


async def refused(memory, *calls, error=ValueTooLarge):
    for call in calls:
        memory.calls.clear()
        with pytest.raises(error) as caught:
            await call()
        assert memory.count("commit") == 0
    return caught.value


async def test_message_bytes(memory, limited):
    p = await limited(message_bytes=100)
    await p.save_message("s", "user", "x" * 100)
    await p.save_message("s", "user", "é" * 50)
    session = turnkeep.SessionManager(p, session_id="s")
    error = await refused(
        memory,
        lambda: p.save_message("s", "user", "x" * 101),
        lambda: p.save_message("s", "user", "é" * 51),
        lambda: p.save_message("s", "user", "\ud800" * 34),
        lambda: p.save_message("s", "user", "", event="x" * 100),
        lambda: p.save_message("s", "user", "x" * 60, metadata={"k": "x" * 40}),
        lambda: p.save_message("s", "assistant", "x" * 60, tool_calls=[{"id": "c", "name": "x" * 40}]),
        lambda: session.add_message("user", "x" * 101),
        lambda: session.set_history([{"role": "user", "content": "x" * 101}]),
        lambda: p.save_session_state("t", create_session("t", history=[{"role": "user", "content": "x" * 101}])),
    )
    assert "message_bytes" in str(error)
    assert len(await p.load_session_history("s")) == 2


async def test_the_size_of_a_message_is_that_of_its_stored_form(limited):
    """Limits: sizes are bytes of the stored form. NUL goes as six characters of JSON."""
    p = await limited(message_bytes=1000)
    with pytest.raises(ValueTooLarge):
        await p.save_message("s", "user", "\0" * 900)


async def test_state_bytes(memory, limited):
    p = await limited(state_bytes=200)
    await p.update_collected_data("s", {"a": "x" * 150})
    session = turnkeep.SessionManager(p, session_id="s")
    error = await refused(
        memory,
        lambda: p.update_collected_data("s", {"b": "x" * 60}),
        lambda: session.set_data({"b": "x" * 60}),
        lambda: p.save_session_state("t", create_session("t", data={"a": "x" * 200})),
        lambda: p.save_session_state("t", create_session("t", metadata={"a": "x" * 200})),
        lambda: p.update_route_step("s", route="r" * 100),
    )
    assert "state_bytes" in str(error)
    assert session.data == {"a": "x" * 150}
    await p.update_collected_data("s", {"a": turnkeep.UNSET, "b": "y" * 150})


async def test_commit_messages(memory, limited):
    p = await limited(commit_messages=3)
    await p.save_messages("s", [BASE] * 3)
    session = turnkeep.SessionManager(p, session_id="s")
    await session.get_or_create()

    async def turn():
        async with session.turn() as turn:
            for _ in range(4):
                turn.add_message("user", "x")

    error = await refused(
        memory,
        lambda: p.save_messages("s", [BASE] * 4),
        lambda: session.set_history([BASE] * 4),
        lambda: p.save_session_state("t", create_session("t", history=[BASE] * 4)),
        turn,
    )
    assert "commit_messages" in str(error)
    assert len(session.get_history()) == len(await p.load_session_history("s")) == 3


async def test_commit_bytes(memory, limited):
    p = await limited(commit_bytes=300, message_bytes=200, state_bytes=250)
    await p.save_messages("s", [{"role": "user", "content": "x" * 150}] * 2)
    await refused(
        memory,
        lambda: p.save_messages("s", [{"role": "user", "content": "x" * 151}] * 2),
        lambda: p.save_session_state(
            "t", create_session("t", data={"a": "x" * 200}, history=[{"role": "user", "content": "x" * 100}])
        ),
    )


async def test_page(memory, limited):
    p = await limited(page=5)
    await p.save_messages("s", [BASE] * 12)
    assert len((await p.find_messages_by_session_id("s", limit=5)).items) == 5
    await refused(
        memory,
        lambda: p.find_messages_by_session_id("s", limit=6),
        lambda: p.find_sessions(limit=6),
        lambda: p.find_sessions_by_user_id("ana", limit=6),
        error=InvalidArgument,
    )
    assert len(await p.load_session_history("s")) == 12


async def test_the_defaults_of_pages_keep_within_a_smaller_limit(limited):
    p = await limited(page=5)
    await p.save_messages("s", [BASE] * 12)
    assert (await p.find_sessions()).items
    assert (await p.find_messages_by_session_id("s")).items
    session = turnkeep.SessionManager(p, session_id="s", window=1)
    await session.get_or_create()
    await session.earlier()
    assert await p.delete_sessions(status="active") == 1


async def test_id_bytes(memory, limited, connect):
    p = await limited(id_bytes=20)
    long = "x" * 21
    session = turnkeep.SessionManager(p, session_id="s")
    wrong = []
    for name, call in {
        "find_session_by_id": lambda: p.find_session_by_id(long),
        "save_session_state": lambda: p.save_session_state(long, create_session(long)),
        "owner of a state": lambda: p.save_session_state("t", create_session("t", user_id=long)),
        "find_sessions_by_user_id": lambda: p.find_sessions_by_user_id(long),
        "erase_user": lambda: p.erase_user(long),
        "message id": lambda: p.save_message("s", "user", "x", id=long),
        "live message id": lambda: session.add_message("user", "x", id=long),
        "get_or_create": lambda: turnkeep.SessionManager(p).get_or_create(long),
        "session id of a manager": lambda: turnkeep.SessionManager(p, session_id=long).get_or_create(),
        "owner of a manager": lambda: turnkeep.SessionManager(p, user_id=long).get_or_create(),
        "claim_session": lambda: p.claim_session("s", long),
    }.items():
        memory.calls.clear()
        try:
            await call()
        except (InvalidArgument, ValueTooLarge):
            pass
        else:
            wrong.append(name)
        if memory.count("commit"):
            wrong.append(f"{name}: committed")
    assert wrong == []


async def test_ids_made_here_fit_a_smaller_limit(limited):
    """What Turnkeep makes itself: messages have 32 bytes, sessions 40."""
    p = await limited(id_bytes=40)
    await turnkeep.SessionManager(p).get_or_create()
    await p.save_message("s", "user", "x")


async def test_nesting(memory, limited):
    p = await limited(nesting=3)

    def nested(depth):
        value = "x"
        for _ in range(depth):
            value = [value]
        return value

    await p.update_collected_data("s", {"x": nested(2)})
    await p.save_message("s", "user", "x", event=nested(3))
    session = turnkeep.SessionManager(p, session_id="s")
    await refused(
        memory,
        lambda: p.update_collected_data("s", {"x": nested(3)}),
        lambda: p.save_message("s", "user", "x", event=nested(4)),
        lambda: p.save_message("s", "user", "x", metadata={"x": nested(3)}),
        lambda: session.set_data({"x": nested(3)}),
    )


@pytest.mark.parametrize(
    "limits",
    [{"id_bytes": 0}, {"id_bytes": 513}, {"page": "5"}, {"nesting": 101}, {"state_bytes": True}, {"commit_bytes": -1}],
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(InvalidArgument):
        Limits(**limits)


async def test_the_default_limits(memory, connect):
    p = await connect(memory)
    await p.save_session_state("s", create_session("s"))
    await p.save_message("s", "user", "x" * (4 * 1024 * 1024))
    await refused(
        memory,
        lambda: p.save_message("s", "user", "x" * (4 * 1024 * 1024 + 1)),
        lambda: p.update_collected_data("s", {"x": "x" * 1024 * 1024}),
        lambda: p.save_messages("s", [BASE] * 1001),
        lambda: p.save_messages("s", [Message("user", "x" * (4 * 1024 * 1024 - 1)) for _ in range(5)]),
    )
