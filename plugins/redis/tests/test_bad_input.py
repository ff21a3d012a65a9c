"""What people and servers hand us that could do harm: it means nothing within keys, or is refused with the fix."""

import pytest

import turnkeep
from turnkeep.contract import Expect, LoadQuery, Scope, SessionKey, SessionQuery
from turnkeep.errors import CorruptRecord, InvalidArgument
from turnkeep_testkit import new_commit, new_message

from .kit import address, connected, find_keys, from_url, new_prefix, opened
from .servers import PrivateRedis

IDS = [
    "{",
    "}{",
    "{shop:s1}",
    "a\r\nFLUSHALL\r\n",
    "*",
    "a*b?[c-d]\\",
    '{"$ne": null}',
    "$where",
    "s1:head",
    "%7Bshop%3As1%7D",
    " ",
    "\0",
    "é",
    "e\u0301",
    "😀" * 128,
    "x" * 512,
]


@pytest.mark.parametrize("server", ["redis", "old", "cluster"])
async def test_ids_are_texts_whatever_they_hold(server):
    url, prefix = address(server), new_prefix()
    async with connected(url) as client, opened(from_url(f"{url}?key_prefix={prefix}")) as adapter:
        keys = [SessionKey(Scope("shop", text), text) for text in IDS]
        for key in keys:
            message = new_message(key.scope.namespace, id=key.session_id)
            await adapter.commit(new_commit(key, message, user_id=key.scope.owner, commit_id="c"))
        for key in keys:
            await adapter.commit(new_commit(key, "again", expect=Expect.ANY))
        for key in keys:
            stored = await adapter.load(key, LoadQuery(commit_id="c"))
            assert [message.content for message in stored.messages] == ["shop", "again"]
            assert stored.messages[0].id == key.session_id
            assert (stored.head.session_id, stored.head.user_id) == (key.session_id, key.session_id)
            assert stored.replay is not None
            page = await adapter.find_sessions(SessionQuery(key.scope, 10))
            assert [head.session_id for head in page.items] == [key.session_id]
        for order in ("activity", "created"):
            page = await adapter.find_sessions(SessionQuery(Scope("shop"), 100, order=order))
            assert sorted(head.session_id for head in page.items) == sorted(IDS)
        for number, key in enumerate(keys):
            assert await adapter.delete(key) if number % 2 else (await adapter.delete_owner(key.scope)).sessions == 1
        assert await find_keys(client, f"{prefix}*") == [f"{prefix}schema"]


@pytest.mark.parametrize("text", ["x" * 513, "€" * 171, "a\ud800", "", {"$ne": None}, b"s1"])
async def test_what_is_no_id_reaches_no_server(text):
    url, prefix = address("redis"), new_prefix()
    async with connected(url) as client, turnkeep.connect(f"{url}?key_prefix={prefix}") as persistence:
        for call in (
            persistence.load_session_state(text),
            persistence.save_session_state(text, turnkeep.create_session("s1")),
            persistence.delete_session(text),
            persistence.erase_user(text),
        ):
            with pytest.raises(InvalidArgument):
                await call
        assert await find_keys(client, f"{prefix}*") == [f"{prefix}schema"]
    with pytest.raises(InvalidArgument):
        turnkeep.connect(f"{url}?key_prefix={prefix}", user_id=text)


async def test_a_server_that_throws_things_away(tmp_path):
    """It can be used, for its other settings may be nobody's to change; the check names the line, and loss is told."""
    with PrivateRedis(tmp_path, "--save", "", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as private:
        async with connected(private.url) as client, opened(from_url(private.url)) as adapter:
            report = await adapter.check()
            (line,) = [check for check in report.checks if check.name == "maxmemory-policy"]
            assert (report.ok, line.ok, line.warning) == (False, False, False)
            assert line.fix == "CONFIG SET maxmemory-policy noeviction"
            key = SessionKey(Scope("shop"), "s1")
            await adapter.commit(new_commit(key, "one"))
            (messages,) = await find_keys(client, "turnkeep:*:messages")
            await client.unlink(messages)  # as the server would, some day
            with pytest.raises(CorruptRecord, match="noeviction"):
                await adapter.load(key, LoadQuery())
