"""A reply as it comes. The turn runs in a task of its own and feeds a bounded queue.

A context variable that an async generator sets leaks into its consumer, and a generator that is dropped is cleaned up
whenever the garbage collector gets to it; a task has a context of its own and is ended by leaving the block.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from turnkeep.agent.reply import StreamChunk
from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from turnkeep.agent.reply import Reply

_QUEUE_SIZE = 16


class ReplyStream:
    """What ``agent.stream`` returns: ``async with agent.stream(text) as stream: async for chunk in stream``.

    The turn is durable before the last chunk (``done``, with the ``reply``) comes. Leaving the block earlier cancels
    the turn and waits for it to end: nothing is stored. What the turn raises is raised by the iteration.
    """

    def __init__(self, respond: Callable[[ReplyStream], Awaitable[Reply]]) -> None:
        """Use ``agent.stream``."""
        self._respond = respond
        self._queue: asyncio.Queue[StreamChunk | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_QUEUE_SIZE)  # holds the provider back; the end never waits for a reader
        self._task: asyncio.Task[Reply] | None = None
        self._accumulated = ""
        self._ended = False
        self._hungry = asyncio.Event()  # the reader waits and nothing is left in the queue

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise InvalidArgument("a stream is entered once; call agent.stream() again")
        self._task = asyncio.create_task(self._run(), name="turnkeep-stream")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        task = self._task
        assert task is not None
        cancelled: asyncio.CancelledError | None = None
        task.cancel()
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error  # the turn is settled first: it may be committing
        if not task.cancelled():
            task.exception()  # was raised by the iteration, or nobody is left who wants it
        if cancelled is not None:
            raise cancelled

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        while (chunk := await self.next_chunk()) is not None:
            yield chunk

    async def next_chunk(self) -> StreamChunk | None:
        """The next piece; None when there is no more. Raises what the turn raises."""
        if self._task is None:
            raise InvalidArgument("a stream is entered before it is read: async with agent.stream(…) as stream")
        if self._ended:
            return None
        if self._queue.empty():
            self._hungry.set()
        chunk = await self._queue.get()
        self._hungry.clear()
        self._room.release()
        if chunk is None or chunk.done:
            self._ended = True
            await self._task  # raises what the turn raised
        return chunk

    async def _begin(self) -> None:
        """Another assistant message begins."""
        self._accumulated = ""

    async def _give(self, piece: str) -> None:
        """Hands a piece of text to the reader; waits while too many are not read."""
        if piece:
            self._accumulated += piece
            await self._room.acquire()
            self._queue.put_nowait(StreamChunk(piece, self._accumulated))

    async def _all_read(self) -> None:
        """Waits until the reader has every piece and asks for more: one that leaves before must leave nothing."""
        while not self._queue.empty() or not self._hungry.is_set():
            await self._hungry.wait()
            await asyncio.sleep(0)

    async def _run(self) -> Reply:
        try:
            reply = await self._respond(self)
            if not self._accumulated:
                await self._give(reply.message)  # a replayed reply was not streamed
        except BaseException:
            self._queue.put_nowait(None)
            raise
        self._queue.put_nowait(StreamChunk("", self._accumulated, done=True, reply=reply))
        return reply
