"""What a turn costs does not depend on how much was said before."""

import json

import pytest
from opensearchpy import AsyncTransport

from turnkeep.contract import Expect, LoadQuery, MessageQuery
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import everything, opened

TURN = {"state": '{"s":"' + "s" * 900 + '"}'}


@pytest.fixture
def sent(monkeypatch):
    """Every request, as it is sent: method, what for, bytes."""
    found = []
    perform = AsyncTransport.perform_request

    async def telling(self, method, url, params=None, body=None, **kwargs):
        size = len(body.encode()) if isinstance(body, str) else 0
        found.append((f"{method} {url.split('/')[2]}", size))
        return await perform(self, method, url, params=params, body=body, **kwargs)

    monkeypatch.setattr(AsyncTransport, "perform_request", telling)

    def take():
        taken = found[:]
        found.clear()
        return taken

    return take


@pytest.fixture
async def adapter(cluster_url, shared_names):
    async with opened(cluster_url, shared_names, clock=FakeClock()) as found:
        yield found


async def fill(adapter, key, count, size=200):
    """A session with so many messages."""
    last = await adapter.commit(new_commit(key))
    while last.message_count < count:
        texts = ["x" * size] * min(500, count - last.message_count)
        last = await adapter.commit(new_commit(key, *texts, expect=last.token))
    return last.token


async def turn(adapter, key):
    """A load and a commit, each with the requests it took."""
    stored = await adapter.load(key, LoadQuery(50))
    return await adapter.commit(new_commit(key, "q" * 200, "a" * 200, expect=stored.head.token, **TURN))


def kinds(requests):
    return [kind for kind, _ in requests]


async def head_size(client, names, key):
    found = (await everything(client, names))["sessions"]
    return len(json.dumps(found[f"{key.scope.namespace}/{key.session_id}"], ensure_ascii=False).encode())


async def test_a_turn_is_one_request_each_way_and_one_more_when_the_outbox_is_full(adapter, sent):
    key = new_key()
    sent()
    await adapter.commit(new_commit(key))
    assert kinds(sent()) == ["POST _create"]
    took = []
    for _ in range(48):
        await turn(adapter, key)
        took.append(kinds(sent()))
    usual, flushing = ["GET _doc", "POST _update"], ["GET _doc", "POST _bulk", "POST _update"]
    assert took == [usual] * 8 + ([flushing] + [usual] * 7) * 5
    await turn(adapter, key)
    sent()
    for _ in range(3):
        await adapter.commit(new_commit(key, "x", expect=Expect.ANY))
        assert kinds(sent()) == ["POST _update"]


async def test_what_a_turn_sends_does_not_grow_and_the_head_neither(adapter, sent, client, shared_names):
    largest = {}
    for length in (10, 1000, 10_000):
        key = new_key()
        await fill(adapter, key, length)
        for _ in range(40):  # until tail and ring are full
            await turn(adapter, key)
        sent()
        sizes = []
        for _ in range(8):
            await turn(adapter, key)
            requests = sent()
            assert set(kinds(requests)) <= {"GET _doc", "POST _bulk", "POST _update"}
            sizes += [size for kind, size in requests if kind == "POST _update"]
        largest[length] = max(sizes)
        assert await head_size(client, shared_names, key) < 64 * 1024
    payload = 400 + len(TURN["state"])
    assert largest[10_000] - largest[10] < 64  # a number takes a digit more
    assert largest[10_000] < 1.5 * payload + 4096


async def test_a_long_history_is_paged_by_computed_ids(adapter, sent):
    count = 5000
    key = new_key()
    token = await fill(adapter, key, count)
    await adapter.commit(new_commit(key, "last", expect=token))
    page = await adapter.read_messages(key, MessageQuery(100, before=count // 2))
    assert [message.seq for message in page.items] == list(range(count // 2 - 100, count // 2))
    assert len((await adapter.load(key, LoadQuery())).messages) == count + 1
    assert not any("_search" in kind for kind in kinds(sent()))


async def test_large_messages_do_not_stay_in_the_head(adapter, client, shared_names):
    key = new_key()
    await adapter.commit(new_commit(key, *["x" * (1 << 20)] * 10))
    for _ in range(2):
        await adapter.commit(new_commit(key, "y" * (4 << 20), expect=Expect.ANY))
    await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
    assert await head_size(client, shared_names, key) < 64 * 1024
    stored = await adapter.load(key, LoadQuery())
    assert [len(message.content) for message in stored.messages] == [1 << 20] * 10 + [4 << 20] * 2 + [1]


async def test_many_small_messages_of_one_turn_do_not_stay_in_the_head(adapter, client, shared_names):
    """A window begins where a turn began; but not at any price."""
    key = new_key()
    await adapter.commit(new_commit(key, *["x"] * 1000))
    for _ in range(3):
        await adapter.commit(new_commit(key, "y", expect=Expect.ANY))
    assert await head_size(client, shared_names, key) < 64 * 1024
    assert len((await adapter.load(key, LoadQuery(50))).messages) == 50 + 200


async def test_a_commit_of_the_largest_size_that_limits_allow(adapter):
    """16 MiB of messages, 1 MiB of data."""
    key = new_key()
    content, data = "x" * (4 * 2**20 - 1000), '"' + "ä" * (2**19 - 100) + '"'
    message = new_message(content, metadata='"' + "m" * 900 + '"')
    first = await adapter.commit(new_commit(key, message, message, message, message, data=data))
    await adapter.commit(new_commit(key, message, message, message, message, expect=first.token, data=data))
    await adapter.commit(new_commit(key, "next", expect=Expect.ANY))
    stored = await adapter.load(key, LoadQuery())
    assert [message.content for message in stored.messages] == [content] * 8 + ["next"]
    assert stored.data == data
