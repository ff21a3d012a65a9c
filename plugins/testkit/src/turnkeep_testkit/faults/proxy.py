"""A TCP proxy between an adapter and its server that does what networks do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from turnkeep_testkit.faults.cuts import Strike
from turnkeep_testkit.faults.link import Link
from turnkeep_testkit.faults.traffic import Traffic
from turnkeep_testkit.faults.weather import Weather

if TYPE_CHECKING:
    from types import TracebackType

    from turnkeep_testkit.faults.cuts import Cut
    from turnkeep_testkit.faults.weather import Way


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to a server, until it is told to do otherwise.

    It knows no protocol, only who speaks: it works for anything on TCP without TLS whose client asks and whose server
    answers (PostgreSQL, MySQL, Redis, MongoDB, HTTP). It runs on the test's own event loop:

        async with FaultProxy("127.0.0.1", 6379) as proxy:
            client = Redis(host=proxy.host, port=proxy.port)
            proxy.cut(Cut.BEFORE_REPLY)
            ...

    A driver must not learn the server's own address and go around it: connect to MongoDB with
    ``directConnection=true``, switch sniffing off for OpenSearch; a Redis Cluster cannot be proxied.

    Faults last until ``heal``. A connection that has lost bytes stays silent for good, as a half-open one does: it
    passes nothing on any more, whatever the weather, until the client closes it.

    Attributes:
        host: where to connect to.
        port: where to connect to.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.weather = Weather()
        self._target = (host, port)
        self._links: set[Link] = set()
        self._strikes: list[Strike] = []
        self._flowing = {"requests": asyncio.Event(), "replies": asyncio.Event()}
        self._holding = asyncio.Event()
        self._past = Traffic()

    async def __aenter__(self) -> Self:
        for event in self._flowing.values():
            event.set()
        self._server = await asyncio.start_server(self._connected, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        # Who is on the way in is let in, to be closed like the others; asyncio itself would drop the socket.
        await asyncio.gather(*(task for task in asyncio.all_tasks() if _lets_in(task)))
        while self._links:
            await asyncio.gather(*(link.aclose() for link in self._links))
        await self._server.wait_closed()

    # What it saw

    @property
    def traffic(self) -> Traffic:
        """Everything counted since the proxy was made; take the difference of two of them."""
        return self._past

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    @property
    def silent(self) -> int:
        """How many of them have lost bytes, so that their client waits in vain."""
        return sum(link.lost for link in self._links)

    # What it does

    def heal(self) -> None:
        """Passes everything on from now on, what was held first. A cut that has not struck is forgotten."""
        self._strikes.clear()
        self._change(Weather())

    def cut(self, place: Cut, *, nth: int = 1) -> Strike:
        """Cuts the connection of the ``nth`` request from now on, once. Requests of all connections count."""
        strike = Strike(place, nth)
        self._strikes.append(strike)
        return strike

    def cut_all(self) -> None:
        """Cuts every connection that is open now."""
        for link in self._links:
            link.cut()

    def refuse(self) -> None:
        """Cuts every connection, and every new one at once: the server is down."""
        self._change(replace(self.weather, refusing=True))
        self.cut_all()

    def swallow(self, *ways: Way) -> None:
        """Passes nothing on: half-open connections. Only one way, if it is named: ``"replies"`` lets requests act."""
        self._change(replace(self.weather, swallowed=ways or ("requests", "replies")))

    def hold(self, way: Way = "replies") -> None:
        """Keeps bytes back until ``heal``; nothing is lost. ``held`` waits until there are some."""
        self._holding.clear()
        self._change(replace(self.weather, held=(way,)))

    async def held(self) -> None:
        """Returns once ``hold`` keeps something back."""
        await self._holding.wait()

    def delay(self, seconds: float) -> None:
        """Makes every piece that arrives wait so long, each way: a slow network."""
        self._change(replace(self.weather, latency=seconds))

    def trickle(self, size: int = 1, *, pause: float = 0.0) -> None:
        """Passes on so many bytes at a time, with a pause in between."""
        self._change(replace(self.weather, piece=size, pause=pause))

    def _change(self, weather: Weather) -> None:
        self.weather = weather
        for way, event in self._flowing.items():
            if way in weather.held:
                event.clear()
            else:
                event.set()

    # What its links ask

    async def flow(self, way: Way) -> None:
        """Returns when bytes may go this way."""
        if not self._flowing[way].is_set():
            self._holding.set()
            await self._flowing[way].wait()

    def count(self, **amounts: int) -> None:
        """Adds to the traffic."""
        self._past = replace(self._past, **{name: getattr(self._past, name) + more for name, more in amounts.items()})

    def strike(self) -> Strike | None:
        """The cut that is due at the request that begins now, if one is."""
        due = [strike for strike in self._strikes if strike.meets()]
        self._strikes = [strike for strike in self._strikes if strike not in due]
        return due[0] if due else None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count(connections=1)
        if self.weather.refusing:
            writer.transport.abort()
            return
        link = Link(self, reader, writer)
        self._links.add(link)
        link.start(*self._target).add_done_callback(lambda _: self._links.discard(link))


def _lets_in(task: asyncio.Task[object]) -> bool:
    return "_accept_connection" in getattr(task.get_coro(), "__qualname__", "")
