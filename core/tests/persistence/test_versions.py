"""data_version and upgrade_data: on every read of older data; reads never write."""

from __future__ import annotations

import asyncio
import sys

import pytest

import turnkeep
from turnkeep import DataTooNew, InvalidArgument, create_session

kit = sys.modules["turnkeep_core_test_kit"]


def rename(data, from_version):
    assert from_version < 2
    if "fullname" in data:
        data["name"] = data.pop("fullname")
    return {**data, "from": from_version}


@pytest.fixture
async def old(adapter, connect):
    """A session written by version 1 of the application."""
    first = await connect(adapter, data_version=1)
    await first.save_session_state(
        "s", create_session("s", data={"fullname": "Ana"}, history=[{"role": "user", "content": "hi"}])
    )
    assert (await first.load_session_state("s")).data_version == 1
    adapter.calls.clear()
    return adapter


async def raw(adapter):
    stored = await adapter.inner.load(turnkeep.SessionKey(turnkeep.Scope("default"), "s"), turnkeep.LoadQuery())
    return stored.data, stored.state, stored.head.token


async def test_older_data_is_upgraded_on_every_read_and_reads_never_write(old, connect):
    before = await raw(old)
    second = await connect(old, data_version=2, upgrade_data=rename)
    assert (await second.find_session_by_id("s")).data == {"name": "Ana", "from": 1}
    state = await second.load_session_state("s")
    assert (state.data, state.data_version) == ({"name": "Ana", "from": 1}, 2)
    session = turnkeep.SessionManager(second, session_id="s")
    await session.get_or_create()
    assert session.data == {"name": "Ana", "from": 1}
    assert old.count("commit") == 0
    assert await raw(old) == before


async def test_it_is_upgraded_before_any_merge_and_the_next_write_of_data_stores_it(old, connect):
    second = await connect(old, data_version=2, upgrade_data=rename)
    await second.update_collected_data("s", {"guests": 4})
    data, state, _ = await raw(old)
    assert data == '{"name":"Ana","from":1,"guests":4}'
    assert '"data_version":2' in state
    assert (await second.load_session_state("s")).data == {"name": "Ana", "from": 1, "guests": 4}


@pytest.mark.parametrize("write", ["route", "state", "set_data", "turn", "set_history"])
async def test_every_commit_with_the_state_at_hand_writes_data_and_version_together(old, connect, write):
    second = await connect(old, data_version=2, upgrade_data=rename)
    session = turnkeep.SessionManager(second, session_id="s")
    match write:
        case "route":
            await second.update_route_step("s", route="r")
        case "state":
            await second.save_session_state("s", await second.load_session_state("s"))
        case "set_data":
            await session.set_data({})
        case "turn":
            async with session.turn() as turn:
                turn.add_message("user", "x")
        case "set_history":
            await session.set_history([])
    data, state, _ = await raw(old)
    assert data == '{"name":"Ana","from":1}'
    assert '"data_version":2' in state


async def test_an_append_leaves_older_data_as_it_is(old, connect):
    data, state, _ = await raw(old)
    second = await connect(old, data_version=2, upgrade_data=rename)
    await second.save_message("s", "user", "x")
    session = turnkeep.SessionManager(second, session_id="s")
    await session.add_message("user", "y")
    await second.complete_session("s")
    assert (await raw(old))[:2] == (data, state)


async def test_an_async_upgrader(old, connect):
    async def later(data, from_version):
        await asyncio.sleep(0)
        return rename(data, from_version)

    second = await connect(old, data_version=2, upgrade_data=later)
    assert (await second.load_session_state("s")).data == {"name": "Ana", "from": 1}


async def test_data_without_a_version_is_upgraded_from_0(adapter, connect):
    plain = await connect(adapter)
    await plain.save_session_state("s", create_session("s", data={"fullname": "Ana"}))
    second = await connect(adapter, data_version=2, upgrade_data=rename)
    assert (await second.find_session_by_id("s")).data == {"name": "Ana", "from": 0}


async def test_newer_data_is_refused_and_left_as_it_is(old, connect):
    third = await connect(old, data_version=3, upgrade_data=lambda data, _: data)
    await third.update_collected_data("s", {"v3": 1})
    before = await raw(old)
    second = await connect(old, data_version=2, upgrade_data=rename)
    session = turnkeep.SessionManager(second, session_id="s")
    for call in (
        lambda: second.find_session_by_id("s"),
        lambda: second.load_session_state("s"),
        lambda: second.update_collected_data("s", {"x": 1}),
        lambda: second.update_route_step("s", route="r"),
        session.get_or_create,
        lambda: session.set_data({"x": 1}),
    ):
        with pytest.raises(DataTooNew):
            await call()
    assert await raw(old) == before
    assert await second.delete_session("s") is True


@pytest.mark.parametrize("kind", ["raises", "none", "list", "unstorable", "mutates then raises"])
async def test_an_upgrader_that_fails_changes_nothing(old, connect, kind):
    def broken(data, from_version):
        if kind == "mutates then raises":
            data.clear()
        if "raises" in kind:
            raise RuntimeError("cannot")
        return {"none": None, "list": [], "unstorable": {"x": object()}}[kind]

    before = await raw(old)
    second = await connect(old, data_version=2, upgrade_data=broken)
    session = turnkeep.SessionManager(second, session_id="s")
    error = RuntimeError if "raises" in kind else turnkeep.NotSerializable if kind == "unstorable" else InvalidArgument
    for call in (
        lambda: second.load_session_state("s"),
        lambda: second.update_collected_data("s", {"x": 1}),
        session.get_or_create,
        lambda: session.add_message("user", "x"),
    ):
        with pytest.raises(error):
            await call()
    assert await raw(old) == before
    assert old.count("commit") == 0
    with pytest.raises(turnkeep.SessionNotLoaded):
        _ = session.current


async def test_without_an_upgrader_data_loads_as_it_is_and_keeps_its_version(old, connect):
    """falai §4 V sc: without migrator state loads as is and the stamp stays 1."""
    second = await connect(old, data_version=2)
    state = await second.load_session_state("s")
    assert (state.data, state.data_version) == ({"fullname": "Ana"}, 1)
    await second.update_collected_data("s", {"x": 1})
    assert '"data_version":1' in (await raw(old))[1]


async def test_an_application_without_versions_reads_and_keeps_them(old, connect):
    plain = await connect(old)
    await plain.update_collected_data("s", {"x": 1})
    assert (await plain.load_session_state("s")).data_version == 1


async def test_a_state_document_of_a_newer_turnkeep_is_refused(memory, connect):
    persistence = await connect(memory)
    await persistence.save_session_state("s", create_session("s"))
    memory.inner._records["default", "s"].state = '{"v":99}'
    for call in (persistence.load_session_state("s"), persistence.find_session_by_id("s")):
        with pytest.raises(DataTooNew):
            await call
    with pytest.raises(DataTooNew):
        await turnkeep.SessionManager(persistence, session_id="s").get_or_create()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "7", '"x"', '{"v":"1"}', '{"v":0}', '{"v":-1}', '{"route_history":5}', '{"route":5}',
             '{"route_history":[{}]}', '{"collected_by":5}', '{"v":1,"v":1}', '{"custom":5}', '{"data_version":"x"}',
             '{"collected_by":{"a":1}}', '{"route":{}}']
)  # fmt: skip
async def test_a_state_document_that_is_none_is_corrupt_never_absent(memory, connect, text):
    persistence = await connect(memory, data_version=1, upgrade_data=lambda data, _: data)
    await persistence.save_session_state("s", create_session("s"))
    await persistence.update_route_step("s", route="r")
    memory.inner._records["default", "s"].state = text
    session = turnkeep.SessionManager(persistence, session_id="s")
    for call in (lambda: persistence.load_session_state("s"), session.get_or_create):
        with pytest.raises(turnkeep.CorruptRecord):
            await call()
    assert memory.inner._records["default", "s"].state == text


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"x"', "{", '{"a":NaN}', '{"$tk":"set","v":[]}'])
async def test_data_that_is_no_document_is_corrupt_when_it_is_read(memory, connect, text):
    persistence = await connect(memory)
    await persistence.save_session_state("s", create_session("s"))
    memory.inner._records["default", "s"].data = text
    with pytest.raises(turnkeep.CorruptRecord):
        _ = (await persistence.find_session_by_id("s")).data
    with pytest.raises(turnkeep.CorruptRecord):
        _ = (await persistence.load_session_state("s")).data
    with pytest.raises(turnkeep.CorruptRecord):
        await persistence.update_collected_data("s", {"a": 1})
    assert memory.inner._records["default", "s"].data == text
