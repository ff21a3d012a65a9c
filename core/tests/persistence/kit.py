"""What the tests of persistence and session share: an adapter that counts and fails on demand, a clock, a cipher."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING

import turnkeep
from turnkeep.errors import CommitOutcomeUnknown, DecryptionError, StorageUnavailable
from turnkeep.persistence import Persistence
from turnkeep_testkit.suites.cancel import run_cancelled
from turnkeep_testkit.wrapping import WrappedAdapter

if TYPE_CHECKING:
    from turnkeep.contract import StorageAdapter

__all__ = ["Hanging", "ToyCipher", "Wrapped", "cut", "down", "hang", "hooked", "lost_reply", "run_cancelled", "unknown"]


class Wrapped(WrappedAdapter):
    """Passes every call on to another adapter, notes it, and does to it what a test has put into ``faults`` first.

    Attributes:
        calls: the operations called, in order, except open and aclose.
        faults: operation to what is done in place of its next calls, one each; None: nothing.
        pauses: how often a call suspends before and after.
    """

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self.calls = []
        self.requests = []
        self.faults = {}
        self.pauses = 0
        self.running = 0

    def count(self, operation):
        return self.calls.count(operation)

    async def pass_on(self, operation, call, *arguments):
        if operation in {"open", "migrate"}:
            return await call()
        if operation == "aclose":
            while self.running:  # noqa: ASYNC110 - a test's adapter
                await asyncio.sleep(0)
            return await call()
        self.calls.append(operation)
        self.requests.append(arguments[0] if len(arguments) == 1 else arguments)
        self.running += 1
        try:
            return await self._answer(operation, call)
        finally:
            self.running -= 1

    async def _answer(self, operation, request):
        waiting = self.faults.get(operation)
        fault = waiting.pop(0) if waiting else None
        for _ in range(self.pauses):
            await asyncio.sleep(0)
        result = await (request() if fault is None else fault(request))
        try:
            for _ in range(self.pauses):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            # As the contract asks: what took effect settles.
            if operation not in {"commit", "delete"}:
                raise
        return result


# What can be put into ``Wrapped.faults``


async def down(request):
    """The database cannot be reached; nothing is done."""
    raise StorageUnavailable("no route to host", adapter="toy", operation="x")


async def hang(request):
    """No answer, ever."""
    await asyncio.Event().wait()


async def unknown(request):
    """The commit is lost on its way."""
    raise CommitOutcomeUnknown("connection lost", commit_id="?", adapter="toy")


async def lost_reply(request):
    """The commit takes effect, its answer is lost."""
    await request()
    raise CommitOutcomeUnknown("connection lost", commit_id="?", adapter="toy")


def cut(first):
    """Something else happens just before."""

    async def fault(request):
        await first()
        return await request()

    return fault


class Hanging(turnkeep.MemoryAdapter):
    """One whose ``open`` never ends."""

    async def open(self, *, auto_create=True):
        await asyncio.Event().wait()


def hooked(persistence, *plugins, **hooks):
    """The same store with these listeners, as an agent would add its own."""
    given = turnkeep.Hooks(**hooks) if hooks else None
    return Persistence(persistence._gateway.heard_by(persistence._gateway.plugins.extended(plugins, hooks=given)))


class ToyCipher:
    """A payload filter that XORs and authenticates. Not a cipher to use."""

    def __init__(self, key=b"key"):
        self.key = key
        self.sealed = []
        self.name = "toy"

    @turnkeep.hookimpl
    def register_payload_filter(self, register):
        register(self)

    def _stream(self, aad, size):
        out, block = b"", aad
        while len(out) < size:
            block = hashlib.sha256(self.key + block).digest()
            out += block
        return out[:size]

    def seal(self, kind, aad, payload):
        self.sealed.append((kind, aad))
        body = bytes(a ^ b for a, b in zip(payload, self._stream(aad, len(payload)), strict=True))
        return hmac.new(self.key, aad + body, "sha256").digest() + body

    def open(self, kind, aad, sealed):
        tag, body = sealed[:32], sealed[32:]
        if not hmac.compare_digest(tag, hmac.new(self.key, aad + body, "sha256").digest()):
            raise DecryptionError("made with another key")
        return bytes(a ^ b for a, b in zip(body, self._stream(aad, len(body)), strict=True))
