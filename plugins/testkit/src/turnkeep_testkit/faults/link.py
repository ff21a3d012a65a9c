"""One connection through the proxy: two pumps, and what is done to the bytes between them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from turnkeep_testkit.faults.cuts import Cut

if TYPE_CHECKING:
    from turnkeep_testkit.faults.cuts import Strike
    from turnkeep_testkit.faults.proxy import FaultProxy
    from turnkeep_testkit.faults.weather import Way

_CHUNK = 64 * 1024


class Link:
    """A client's connection and the one made to the server for it.

    Attributes:
        lost: bytes of it were swallowed, so it passes nothing on any more.
    """

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._tasks: list[asyncio.Task[Any]] = []
        self._ended = asyncio.Event()
        self._asking = False  # the client spoke last
        self._strike: Strike | None = None

    def start(self, host: str, port: int) -> asyncio.Task[None]:
        """Begins to pass bytes on, until one side closes or the link is cut; the task ends with everything closed."""
        self._running = asyncio.create_task(self._run(host, port))
        self._running.add_done_callback(self._end)
        return self._running

    async def _run(self, host: str, port: int) -> None:
        try:
            await self._connect_and_pump(host, port)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
                with suppress(OSError):  # what the other side saw is what counts
                    await writer.wait_closed()

    def _end(self, _: object) -> None:
        for writer in self._writers:  # a task can be cancelled while it closes them, and before it began
            writer.transport.abort()
        self._ended.set()

    async def _connect_and_pump(self, host: str, port: int) -> None:
        connecting = asyncio.create_task(self._connect(host, port))
        self._tasks = [connecting]
        await asyncio.wait({connecting})
        if connecting.cancelled() or connecting.exception() is not None:
            return  # the client sees a connection that closes
        reader, writer = connecting.result()
        asks = asyncio.create_task(self._pump("requests", self._client[0], writer))
        answers = asyncio.create_task(self._pump("replies", reader, self._client[1]))
        self._tasks = [asks, answers]
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        if self.lost:  # the server may be gone: the client does not hear of it
            await asyncio.wait({asks})

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        self._writers.append(writer)
        return reader, writer

    def cut(self) -> None:
        """Closes both connections at once."""
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Cuts, and waits for the end."""
        self.cut()
        await self._ended.wait()

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                self._note(way, data)
                # Held first: while it waits, a cut or a swallow may be decided.
                await self._proxy.flow(way)
                if self.lost or way in self._proxy.weather.swallowed:
                    self.lost = True
                    continue
                if await self._struck(way, data, writer):
                    return
                await self._pass(data, writer)

    def _note(self, way: Way, data: bytes) -> None:
        count = self._proxy.count
        if way == "requests":
            begins, self._asking = not self._asking, True
            count(sent=len(data), requests=int(begins))
            if begins:
                self._strike = self._proxy.strike() or self._strike
        else:
            answers, self._asking = self._asking, False
            count(received=len(data), round_trips=int(answers))

    async def _struck(self, way: Way, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Cuts if this is the place; whether it did."""
        if self._strike is None:
            return False
        place = self._strike.place
        if way != ("replies" if place in {Cut.BEFORE_REPLY, Cut.IN_REPLY} else "requests"):
            return False
        if place in {Cut.IN_REQUEST, Cut.IN_REPLY}:
            await self._pass(data[: len(data) // 2], writer)
        elif place is Cut.AFTER_REQUEST:
            await self._pass(data, writer)
        self._strike.struck = True
        return True

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        weather = self._proxy.weather
        if weather.latency:
            await asyncio.sleep(weather.latency)
        if weather.piece is None:
            writer.write(data)
            await writer.drain()
            return
        for start in range(0, len(data), weather.piece):
            writer.write(data[start : start + weather.piece])
            await writer.drain()
            await asyncio.sleep(weather.pause)
