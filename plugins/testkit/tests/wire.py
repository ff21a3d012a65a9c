"""A server that keeps sessions in memory, and an adapter that speaks to it over TCP: the smallest of its kind."""

from __future__ import annotations

import asyncio
import pickle
import struct
import threading
from contextlib import contextmanager, suppress

from turnkeep.contract import Check, HealthReport, StorageAdapter
from turnkeep.errors import CommitOutcomeUnknown, StorageUnavailable, TurnkeepError
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit.addresses import address_of

_SIZE = struct.Struct("!I")
_MOMENT = 0.2


async def send(writer, value):
    payload = pickle.dumps(value)
    writer.write(_SIZE.pack(len(payload)) + payload)
    await writer.drain()


async def receive(reader):
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return pickle.loads(await reader.readexactly(size))


@contextmanager
def serving(store=None):
    """The URL of a server that runs in a thread of its own."""
    store = store or MemoryAdapter()

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            while True:
                operation, arguments, options = await receive(reader)
                try:
                    answer = True, await getattr(store, operation)(*arguments, **options)
                except TurnkeepError as error:
                    answer = False, error
                await send(writer, answer)

    def connected(reader, writer):
        # However the task ends, also before it began. Aborted: a close would wait for who does not read what was sent.
        task = loop.create_task(serve(reader, writer))
        task.add_done_callback(lambda _: writer.transport.abort())

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(connected, "127.0.0.1", 0), loop).result(10)
    try:
        yield f"wire://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:

        async def end():
            server.close()
            # A connection on its way in is let in first: cancelled there, asyncio would not close its socket.
            await asyncio.gather(*(task for task in asyncio.all_tasks() if "accept" in task.get_coro().__qualname__))
            serving = asyncio.all_tasks() - {asyncio.current_task()}
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await asyncio.sleep(0.01)  # transports close in the next rounds

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class WireAdapter(StorageAdapter):
    """One request and one answer per call, over pooled connections; what was not read to its end is closed."""

    def __init__(self, url):
        self._address = address_of(url)
        self._idle = []
        self._used = set()

    @classmethod
    def from_url(cls, url):
        raise NotImplementedError

    name = property(lambda self: "wire")
    capabilities = property(lambda self: MemoryAdapter().capabilities)

    async def open(self, *, auto_create=True):
        await self._read("check")

    async def aclose(self):
        for connection in [*self._idle, *self._used]:
            connection[1].close()
            with suppress(OSError):
                await connection[1].wait_closed()
        self._idle.clear()

    async def check(self):
        try:
            await self._read("check")
        except StorageUnavailable as error:
            return HealthReport(self.name, (Check("server", ok=False, detail=str(error)),))
        return HealthReport(self.name, (Check("server", ok=True, detail="answers"),))

    async def migrate(self, *, dry_run=False):
        return []

    async def load(self, key, query):
        return await self._read("load", key, query)

    async def read_messages(self, key, query):
        return await self._read("read_messages", key, query)

    async def find_sessions(self, query):
        return await self._read("find_sessions", query)

    async def stats(self, query):
        return await self._read("stats", query)

    async def sweep(self, limit):
        return await self._write("sweep", "", limit)

    async def commit(self, commit):
        return await self._write("commit", commit.commit_id, commit)

    async def delete(self, key, *, expect=None):
        return await self._write("delete", "", key, expect=expect)

    async def delete_owner(self, scope):
        return await self._write("delete_owner", "", scope)

    async def _read(self, operation, *arguments, **options):
        connection = await self._borrow()
        try:
            answer = await self._exchange(connection, operation, arguments, options)
        except (OSError, EOFError) as error:
            self._drop(connection)
            raise StorageUnavailable("connection lost", adapter=self.name, operation=operation) from error
        except BaseException:
            self._drop(connection)
            raise
        return self._settle(connection, answer)

    async def _write(self, operation, commit_id, *arguments, **options):
        connection = await self._borrow()
        exchange = asyncio.ensure_future(self._exchange(connection, operation, arguments, options))
        try:
            await self._wait(exchange)
            answer = exchange.result()
        except (OSError, EOFError, TimeoutError) as error:
            self._drop(connection)
            raise self._lost(commit_id, operation) from error
        return self._settle(connection, answer)

    async def _wait(self, exchange):
        """Cancelled, a write waits a moment for its answer, however often it is cancelled."""
        time, end = asyncio.get_running_loop().time, None
        while not exchange.done() and (end is None or time() < end):
            try:
                await asyncio.wait({exchange}, timeout=None if end is None else end - time())
            except asyncio.CancelledError:
                end = end or time() + _MOMENT
        if not exchange.done():
            exchange.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({exchange})
            raise TimeoutError

    def _lost(self, commit_id, operation):
        return CommitOutcomeUnknown("connection lost", commit_id=commit_id, adapter=self.name, operation=operation)

    async def _borrow(self):
        connection = self._idle.pop() if self._idle else None
        if connection is None:
            try:
                connection = await asyncio.open_connection(*self._address)
            except OSError as error:
                raise StorageUnavailable("cannot connect", adapter=self.name) from error
        self._used.add(connection)
        return connection

    def _drop(self, connection):
        self._used.discard(connection)
        connection[1].close()

    async def _exchange(self, connection, operation, arguments, options):
        await send(connection[1], (operation, arguments, options))
        return await receive(connection[0])

    def _settle(self, connection, answer):
        self._used.discard(connection)
        self._idle.append(connection)
        done, result = answer
        if not done:
            raise result
        return result
