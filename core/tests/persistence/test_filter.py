"""The seam for encryption: everything a user wrote passes one filter."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

import turnkeep
from turnkeep import DecryptionError, PluginLoadError, SessionMetadata, SessionState, create_session

kit = sys.modules["turnkeep_core_test_kit"]
SECRET = "S3CR3T"


@pytest.fixture
async def sealed(adapter, connect):
    persistence = await connect(adapter, plugins=[kit.ToyCipher()])
    now = datetime.now(UTC)
    await persistence.save_session_state(
        "s",
        SessionState(
            "s", user_id="ana", data={f"{SECRET} key": SECRET}, metadata=SessionMetadata(now, now, {"n": SECRET})
        ),
    )
    await persistence.save_message(
        "s",
        "assistant",
        f"{SECRET} \ud800 \0",
        event={"e": SECRET},
        metadata={"m": SECRET},
        tool_calls=[{"id": "c", "name": "pay", "arguments": {"card": SECRET}}],
    )
    await persistence.save_message("s", "user", SECRET)
    return persistence


async def test_it_comes_back_exactly(sealed):
    state = await sealed.load_session_state("s")
    assert state.data == {f"{SECRET} key": SECRET}
    assert state.metadata.custom == {"n": SECRET}
    first, second = state.history
    assert (first.content, second.content) == (f"{SECRET} \ud800 \0", SECRET)
    assert (first.event, first.metadata) == ({"e": SECRET}, {"m": SECRET})
    assert first.tool_calls[0].arguments == {"card": SECRET}
    assert await sealed.load_session_history("s") == state.history
    assert (await sealed.find_messages_by_session_id("s")).items == state.history
    await sealed.update_collected_data("s", {"more": 1})
    await sealed.update_route_step("s", route="booking")
    assert (await sealed.find_session_by_id("s")).data == {f"{SECRET} key": SECRET, "more": 1}
    session = turnkeep.SessionManager(sealed, session_id="s", user_id="ana")
    async with session.turn() as turn:
        turn.add_message("user", SECRET)
    assert [m.content for m in session.get_history()][-1] == SECRET


async def test_nothing_is_readable_in_the_store(sealed, adapter, tmp_path):
    if isinstance(adapter.inner, turnkeep.MemoryAdapter):
        text = json.dumps(adapter.inner.snapshot(), default=str)
    else:
        await sealed.aclose()
        text = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    assert SECRET not in text
    assert "ana" in text


async def test_another_key_is_a_decryption_error_and_changes_nothing(sealed, adapter, connect):
    other = await connect(adapter, plugins=[kit.ToyCipher(b"other")])
    session = turnkeep.SessionManager(other, session_id="s", user_id="ana")
    before = adapter.count("commit")
    for call in (
        lambda: other.load_session_state("s"),
        lambda: other.find_session_by_id("s"),
        lambda: other.load_session_history("s"),
        lambda: other.find_messages_by_session_id("s"),
        lambda: other.update_collected_data("s", {"x": 1}),
        session.get_or_create,
        lambda: session.add_message("user", "x"),
    ):
        with pytest.raises(DecryptionError) as caught:
            await call()
        assert SECRET not in str(caught.value)
    assert adapter.count("commit") == before
    assert len((await other.find_sessions()).items) == 1
    assert (await sealed.load_session_state("s")).data == {f"{SECRET} key": SECRET}


async def test_a_sealed_store_without_a_filter_is_a_decryption_error(sealed, adapter, connect):
    plain = await connect(adapter)
    for call in (
        plain.load_session_state("s"),
        plain.find_session_by_id("s"),
        plain.load_session_history("s"),
        plain.find_messages_by_session_id("s"),
        plain.update_collected_data("s", {"x": 1}),
    ):
        with pytest.raises(DecryptionError):
            await call


async def test_plaintext_in_a_sealed_store_is_a_decryption_error(adapter, connect, sealed):
    plain = await connect(adapter)
    await plain.save_session_state("p", create_session("p", data={"a": 1}))
    await plain.save_message("s", "user", "forged")
    with pytest.raises(DecryptionError):
        await sealed.load_session_state("p")
    with pytest.raises(DecryptionError):
        await sealed.load_session_history("s")
    with pytest.raises(DecryptionError):
        await sealed.find_messages_by_session_id("s")


async def test_sealed_bytes_do_not_open_in_another_place(memory, connect):
    persistence = await connect(memory, plugins=[kit.ToyCipher()])
    for name in "ab":
        await persistence.save_session_state(
            name, create_session(name, data={"of": name}, history=[{"role": "user", "content": name, "id": name}])
        )
    records = memory.inner._records
    a, b = records["default", "a"], records["default", "b"]
    a.data, b.data = b.data, a.data
    with pytest.raises(DecryptionError):
        await persistence.load_session_state("a")
    a.data, b.data = b.data, a.data
    a.data, a.state = a.state, a.data
    with pytest.raises(DecryptionError):
        await persistence.load_session_state("a")
    b.messages[0] = b.messages[0]._replace(content=a.messages[0].content)
    with pytest.raises(DecryptionError):
        await persistence.load_session_history("b")


@pytest.mark.parametrize("text", ['{"$sealed":"', '{"$sealed":"!!"}', '{"$sealed":""}', '{"$sealed":"AAAA"}', "x", ""])
async def test_sealed_text_that_was_changed_is_a_decryption_error(memory, connect, text):
    persistence = await connect(memory, plugins=[kit.ToyCipher()])
    await persistence.save_session_state("s", create_session("s"))
    memory.inner._records["default", "s"].data = text
    with pytest.raises(DecryptionError):
        await persistence.load_session_state("s")


async def test_two_filters_are_refused(memory):
    one, two = kit.ToyCipher(), kit.ToyCipher()
    two.name = "other"
    with pytest.raises(PluginLoadError):
        turnkeep.connect(memory, plugins=[one, two])


async def test_a_filter_that_raises_fails_the_commit_and_nothing_is_written(memory, connect):
    cipher = kit.ToyCipher()
    persistence = await connect(memory, plugins=[cipher])
    await persistence.save_session_state("s", create_session("s"))
    before = memory.inner.snapshot()

    def broken(kind, aad, payload):
        raise RuntimeError("no key")

    cipher.seal = broken
    session = turnkeep.SessionManager(persistence, session_id="s")
    await session.get_or_create()
    for call in (
        lambda: persistence.save_message("s", "user", "x"),
        lambda: persistence.update_collected_data("s", {"a": 1}),
        lambda: session.add_message("user", "x"),
        lambda: session.set_data({"a": 1}),
    ):
        with pytest.raises(RuntimeError):
            await call()
    assert memory.inner.snapshot() == before
    assert (session.get_history(), session.data) == ((), {})


async def test_documents_that_do_not_change_are_not_sealed_again(memory, connect):
    cipher = kit.ToyCipher()
    persistence = await connect(memory, plugins=[cipher])
    await persistence.save_session_state("s", create_session("s", data={"a": 1}))
    cipher.sealed.clear()
    await persistence.save_message("s", "user", "x")
    assert [kind for kind, _ in cipher.sealed] == ["content"]
    cipher.sealed.clear()
    await persistence.update_collected_data("s", {"b": 1})
    assert [kind for kind, _ in cipher.sealed] == ["data"]
