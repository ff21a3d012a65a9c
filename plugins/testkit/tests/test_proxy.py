"""The proxy does to bytes what it says, and counts them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from turnkeep_testkit.faults import Cut, FaultProxy, Traffic, address_of, redirected


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


class Server:
    """Answers each line with the same line in upper case, and remembers what reached it."""

    def __init__(self):
        self.heard = b""
        self.writers = []

    async def serve(self, reader, writer):
        self.writers.append(writer)
        unanswered = b""
        while data := await reader.read(100):
            self.heard += data
            unanswered += data
            if data.endswith(b"\n"):
                writer.write(unanswered.upper())
                unanswered = b""
        writer.close()

    async def hears(self, expected):
        await until(lambda: self.heard == expected)


@pytest.fixture
async def server():
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    for writer in server.writers:
        writer.close()


@pytest.fixture
async def proxy(server):
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def ask(self, line):
        self.writer.write(line)
        async with asyncio.timeout(5):
            return await self.reader.readline()


@asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_it_passes_on_and_counts(proxy):
    async with connected(proxy) as client, connected(proxy) as other:
        assert await client.ask(b"one\n") == b"ONE\n"
        before = proxy.traffic
        assert before == Traffic(connections=2, requests=1, round_trips=1, sent=4, received=4)
        assert await client.ask(b"three\n") == b"THREE\n"
        assert await other.ask(b"4\n") == b"4\n"
        assert proxy.traffic - before == Traffic(requests=2, round_trips=2, sent=8, received=8)
        assert (proxy.connections, proxy.silent) == (2, 0)


async def test_what_is_sent_without_waiting_is_one_round_trip(proxy):
    proxy.delay(0.02)
    async with connected(proxy) as client:
        client.writer.write(b"one\n")
        client.writer.write(b"two\n")
        assert await client.reader.readexactly(8) == b"ONE\nTWO\n"
    assert (proxy.traffic.requests, proxy.traffic.round_trips) == (1, 1)


REACHES = {
    Cut.BEFORE_REQUEST: (b"", b""),
    Cut.IN_REQUEST: (b"tw", b""),
    Cut.AFTER_REQUEST: (b"two\n", b""),
    Cut.BEFORE_REPLY: (b"two\n", b""),
    Cut.IN_REPLY: (b"two\n", b"TW"),
}


@pytest.mark.parametrize("place", Cut, ids=lambda place: place.name)
async def test_it_cuts_in_every_place(proxy, server, place):
    reaches, comes_back = REACHES[place]
    async with connected(proxy) as client, connected(proxy) as other:
        strike = proxy.cut(place, nth=2)
        assert await client.ask(b"one\n") == b"ONE\n"
        assert not strike.struck
        assert await client.ask(b"two\n") == comes_back
        assert strike.struck
        await server.hears(b"one\n" + reaches)
        assert await other.ask(b"three\n") == b"THREE\n"


async def test_a_cut_that_has_not_struck_is_forgotten(proxy):
    strike = proxy.cut(Cut.BEFORE_REQUEST, nth=2)
    async with connected(proxy) as client:
        await client.ask(b"one\n")
        proxy.heal()
        assert await client.ask(b"two\n") == b"TWO\n"
    assert not strike.struck


@pytest.mark.parametrize("way", ["requests", "replies"])
async def test_a_connection_that_lost_bytes_stays_silent(proxy, server, way):
    async with connected(proxy) as client:
        proxy.swallow(way)
        client.writer.write(b"one\n")
        await server.hears(b"one\n" if way == "replies" else b"")
        await until(lambda: proxy.silent == 1)
        proxy.heal()
        for writer in server.writers:
            writer.close()  # not even the end of the server is told
        client.writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)
        async with connected(proxy) as other:
            assert await other.ask(b"three\n") == b"THREE\n"
    await until(lambda: proxy.silent == 0)


async def test_it_holds_answers_until_it_heals(proxy, server):
    async with connected(proxy) as client:
        proxy.hold()
        answer = asyncio.create_task(client.ask(b"one\n"))
        await proxy.held()
        assert server.heard == b"one\n"
        assert not answer.done()
        proxy.heal()
        assert await answer == b"ONE\n"


async def test_it_trickles(proxy):
    async with connected(proxy) as client:
        proxy.trickle(1, pause=0.001)
        assert await client.ask(b"one by one\n") == b"ONE BY ONE\n"


async def test_it_refuses(proxy):
    async with connected(proxy) as client:
        await client.ask(b"one\n")
        proxy.refuse()
        assert await client.reader.read() == b""
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    proxy.heal()
    async with connected(proxy) as client:
        assert await client.ask(b"one\n") == b"ONE\n"


async def test_a_server_that_is_not_there_is_a_connection_that_closes(server):
    async with FaultProxy("127.0.0.1", 1) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        assert await reader.read() == b""
        writer.close()


async def test_leaving_it_leaves_nothing(server):
    before = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"one\n")
        await reader.readline()
        proxy.swallow()
        writer.write(b"two\n")
    writer.close()
    assert {task for task in asyncio.all_tasks() - before if "FaultProxy" in repr(task)} == set()


def test_urls():
    url = "redis://user:p%40ss@10.0.0.1:6379/0?a=b"
    assert address_of(url) == ("10.0.0.1", 6379)
    assert redirected(url, "127.0.0.1", 5) == "redis://user:p%40ss@127.0.0.1:5/0?a=b"
    for unfit in ("redis://10.0.0.1", "mongodb://a:1,b:2/", "sqlite:///x.db"):
        with pytest.raises(ValueError, match="one host and its port"):
            address_of(unfit)
