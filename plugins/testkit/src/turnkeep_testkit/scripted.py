"""A provider that says what it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Self, cast

from turnkeep.messages import ToolCall
from turnkeep.providers import Provider, ProviderReply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from turnkeep.providers import ProviderRequest


class ScriptedProvider(Provider):
    """Answers the calls of an agent from a script, in order: for tests of agents, routes and tools.

    An item of the script is one of:

    - a ``str``: the text of a reply;
    - a ``ProviderReply``;
    - a ``ToolCall``, or a list of them: a reply that asks for these tools;
    - an exception, or a class of one: raised;
    - a function of the request, plain or async, that returns any of these.

    As a context manager it checks on the way out that the script was used up.

    Args:
        script: the items.
        always: what every call is answered with once the script is used up; None: a further call fails.
        pause: seconds to wait before each answer and, when streaming, before each piece. 0 lets other tasks run; None
            does not wait at all.

    Attributes:
        requests: what was asked, in order.
        finished: how many streams were run or closed to their end.
    """

    def __init__(self, *script: object, always: object = None, pause: float | None = None) -> None:
        self.requests: list[ProviderRequest] = []
        self.finished = 0
        self._script: deque[object] = deque(script)
        self._always = always
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.assert_used_up()

    @property
    def name(self) -> str:
        """``"scripted"``."""
        return "scripted"

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.requests)

    @property
    def last(self) -> ProviderRequest:
        """What it was asked last."""
        return self.requests[-1]

    def add(self, *items: object) -> None:
        """Puts items at the end of the script."""
        self._script.extend(items)

    def assert_used_up(self) -> None:
        """Fails if a part of the script was not asked for."""
        assert not self._script, f"{len(self._script)} answers were not asked for, the first: {self._script[0]!r:.200}"

    async def generate(self, request: ProviderRequest) -> ProviderReply:
        """The next reply of the script."""
        self.requests.append(request)
        await self._wait()
        item: object
        if self._script:
            item = self._script.popleft()
        elif self._always is not None:
            item = self._always
        else:
            raise AssertionError(f"the script is used up, and the provider was asked once more: {request!r:.500}")
        return await _reply(item, request)

    async def stream(self, request: ProviderRequest) -> AsyncIterator[str | ProviderReply]:
        """The scripted reply, its text word by word."""
        try:
            reply = await self.generate(request)
            for piece in re.findall(r"\s*\S+\s*", reply.text) or [reply.text][: len(reply.text)]:
                await self._wait()
                yield piece
            yield reply
        finally:
            self.finished += 1

    async def _wait(self) -> None:
        if self._pause is not None:
            await asyncio.sleep(self._pause)


async def _reply(item: object, request: ProviderRequest) -> ProviderReply:
    while True:
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, type):
            raise cast("type[BaseException]", item)
        if isinstance(item, str):
            return ProviderReply(text=item)
        if isinstance(item, ToolCall):
            return ProviderReply(tool_calls=(item,))
        if isinstance(item, list):
            return ProviderReply(tool_calls=tuple(cast("list[ToolCall]", item)))
        if not callable(item):
            return cast("ProviderReply", item)  # what is no reply at all is for the agent to refuse
        result: Any = item(request)
        item = await result if inspect.isawaitable(result) else result
