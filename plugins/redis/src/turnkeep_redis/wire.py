"""How calls reach a server and their answers come back: one connection at a time, or the nodes of a cluster.

Calls are written to a connection of the client's own pool and read from it here, not by the client: only so is it known
whether a call was sent at all when something fails, and only so does an ASKING travel with the call it is for.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

from turnkeep_redis._errors import is_lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.asyncio.cluster import ClusterNode, RedisCluster
    from redis.asyncio.connection import AbstractConnection

    from turnkeep_redis.scripts import Call

    Command = tuple[bytes, ...]

_REDIRECTIONS: Final = 40
_PAUSE: Final = 0.025
_ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError)


@dataclass(slots=True)
class Attempt:
    """What is known of a call that may fail.

    Attributes:
        began: it was sent, or is about to be.
        unanswered: it was, and no answer came yet: it may have taken effect.
    """

    began: bool = False
    unanswered: bool = False


class Wire(ABC):
    """A way to a Redis. It opens connections when they are needed, and closes none that it did not use up.

    Args:
        limit: how many connections may be in use at once; whoever needs one more waits. None: as many as the client
            has.
    """

    is_cluster: ClassVar[bool]

    def __init__(self, limit: int | None) -> None:
        self._places = nullcontext() if limit is None else asyncio.Semaphore(limit)

    async def ask(self, call: Call, *more: Command, attempt: Attempt | None = None) -> Any:
        """The answer to one call; ``more`` commands follow it on the same connection, and errors of theirs are raised.

        A call whose connection was lost is sent once more: every script of ours recognises that.

        Raises:
            RedisError: what the server answered, or why it cannot be reached.
        """
        attempt = attempt or Attempt()
        answer, *others = await self._deliver((call,), more, attempt)
        if isinstance(answer, BaseException):
            raise answer
        for other in others:
            if isinstance(other, BaseException):
                attempt.unanswered = True  # what was asked for beside the call itself is not known to hold
                raise other
        return answer

    @abstractmethod
    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to calls that do not depend on each other, in their order.

        Raises:
            RedisError: one of them failed.
        """

    @abstractmethod
    async def ask_nodes(self, *command: bytes) -> dict[str, Any]:
        """The answer of every server that takes writes to a command about itself, by the server's name."""

    @abstractmethod
    async def _deliver(self, calls: Sequence[Call], more: Sequence[Command], attempt: Attempt) -> list[Any]:
        """The answers to calls that go the same way, errors of the server among them, then those to ``more``."""


class Server(Wire):
    """One server, or the master that Sentinel names."""

    is_cluster = False

    def __init__(self, client: Redis, limit: int | None = None) -> None:
        super().__init__(limit)
        self._pool = client.connection_pool

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """All of them in one round trip."""
        return _expect_answers(await self._deliver(calls, (), Attempt())) if calls else []

    async def ask_nodes(self, *command: bytes) -> dict[str, Any]:
        """Of the one server."""
        return {"server": _expect_answers(await self._exchange([command], Attempt()))[0]}

    async def _deliver(self, calls: Sequence[Call], more: Sequence[Command], attempt: Attempt) -> list[Any]:
        try:
            answers = await self._exchange([*(call.command for call in calls), *more], attempt)
        except Exception as error:
            if not is_lost(error):
                raise
            answers = await self._exchange([*(call.command for call in calls), *more], attempt)
        unknown = [number for number, call in enumerate(calls) if _is_unknown(call, answers[number])]
        if unknown:
            full = [calls[number].in_full() for number in unknown]
            again = await self._deliver(full, more, attempt)
            for number, answer in zip(unknown, again, strict=False):
                answers[number] = answer
            answers[len(calls) :] = again[len(full) :]
        return answers

    async def _exchange(self, commands: Sequence[Command], attempt: Attempt) -> list[Any]:
        async with self._places:
            connection = await self._pool.get_connection()
            try:
                return await exchange(connection, commands, attempt)
            finally:
                await self._pool.release(connection)


class Cluster(Wire):
    """The nodes of a cluster. Redirections are followed, and the map of slots is renewed when it proves old."""

    is_cluster = True

    def __init__(self, client: RedisCluster, limit: int | None = None) -> None:
        super().__init__(limit)
        self._client = client
        self._renewing: asyncio.Task[None] | None = None

    async def ask_all(self, calls: Sequence[Call]) -> list[Any]:
        """Those of one node in one round trip, the nodes beside each other."""
        await self._client.initialize()
        nodes: defaultdict[str, list[int]] = defaultdict(list)
        for number, call in enumerate(calls):
            nodes[self._find_node(call).name].append(number)
        answers: list[Any] = [None] * len(calls)

        async def ask_node(numbers: list[int]) -> None:
            found = await self._deliver([calls[number] for number in numbers], (), Attempt())
            for number, answer in zip(numbers, _expect_answers(found), strict=True):
                answers[number] = answer

        await asyncio.gather(*map(ask_node, nodes.values()))
        return answers

    async def ask_nodes(self, *command: bytes) -> dict[str, Any]:
        """Of every master."""
        await self._client.initialize()
        nodes = sorted(self._client.get_primaries(), key=lambda node: node.name)
        answers = await asyncio.gather(*(self._exchange(node, [command], Attempt()) for node in nodes))
        return {node.name: _expect_answers(answer)[0] for node, answer in zip(nodes, answers, strict=True)}

    async def _deliver(self, calls: Sequence[Call], more: Sequence[Command], attempt: Attempt) -> list[Any]:
        await self._client.initialize()
        commands = [*(call.command for call in calls), *more]
        try:
            answers = await self._exchange(self._find_node(calls[0]), commands, attempt)
        except Exception as error:
            if not is_lost(error) and not isinstance(error, SlotNotCoveredError):
                raise
            await self._renew_map()
            answers = await self._exchange(self._find_node(calls[0]), commands, attempt)
        for number, call in enumerate(calls):
            if isinstance(answers[number], _ELSEWHERE) or _is_unknown(call, answers[number]):
                found = await self._pursue(call, answers[number], more, attempt)
                answers[number] = found[0]
                answers[len(calls) :] = found[1:]
        return answers

    async def _pursue(self, call: Call, answer: Any, more: Sequence[Command], attempt: Attempt) -> list[Any]:
        """The answers to a call that was sent to the wrong place, or not understood there."""
        node, answers = self._find_node(call), [answer]
        for number in range(_REDIRECTIONS):
            before: list[Command] = []
            if isinstance(answer, MovedError):
                await self._renew_map()
                node = self._find_node(call)
            elif isinstance(answer, AskError):
                host, port = cast("tuple[str, int]", (answer.host, answer.port))  # pyright: ignore[reportUnknownMemberType] - the driver's
                node = self._client.get_node(host=host, port=port)
                before = [(b"ASKING",)]
                if node is None:
                    await self._renew_map()
                    node = self._find_node(call)
            elif _is_unknown(call, answer):
                call = call.in_full()
            elif isinstance(answer, _ELSEWHERE):
                await asyncio.sleep(_PAUSE * min(number, 4))
                await self._renew_map()
                node = self._find_node(call)
            else:
                break
            answers = (await self._exchange(node, [*before, call.command, *more], attempt))[len(before) :]
            answer = answers[0]
        return answers

    async def _exchange(self, node: ClusterNode, commands: Sequence[Command], attempt: Attempt) -> list[Any]:
        async with self._places:
            connection = node.acquire_connection()
            try:
                await connection.connect()
                return await exchange(connection, commands, attempt)
            finally:
                node.release(connection)

    def _find_node(self, call: Call) -> ClusterNode:
        node = self._client.get_node_from_key(call.slot)
        if node is None:
            raise SlotNotCoveredError(f"no node serves the slot of {call.slot!r:.80}")
        return node

    async def _renew_map(self) -> None:
        """Once for all who find at the same time that the map is old."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._client.nodes_manager.initialize())
        await asyncio.shield(self._renewing)


async def exchange(connection: AbstractConnection, commands: Sequence[Command], attempt: Attempt) -> list[Any]:
    """The answers to commands that are sent together, errors of the server among them.

    A connection on which this does not end is not used again: the next one to read from it would read our answer.
    """
    before, attempt.began, attempt.unanswered = attempt.unanswered, True, True
    answers: list[Any] = []
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                answers.append(await connection.read_response(disable_decoding=True))
            except ResponseError as error:
                answers.append(error)
    finally:
        if len(answers) < len(commands):
            await connection.disconnect(nowait=True)
    attempt.unanswered = before
    return answers


def _is_unknown(call: Call, answer: Any) -> bool:
    return call.source is not None and isinstance(answer, NoScriptError)


def _expect_answers(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
