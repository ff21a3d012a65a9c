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

if TYPE_CHECKING:
    from turnkeep.contract import StorageAdapter

__all__ = ["Hanging", "ToyCipher", "Wrapped", "cut", "down", "hang", "hooked", "lost_reply", "run_cancelled", "unknown"]


class Wrapped(turnkeep.StorageAdapter):
    """Passes every call on to another adapter, notes it, and does to it what a test has put into ``faults`` first.

    Attributes:
        calls: the operations called, in order, except open and aclose.
        faults: operation to what is done in place of its next calls, one each; None: nothing.
        pauses: how often a call suspends before and after.
    """

    def __init__(self, inner: StorageAdapter) -> None:
        self.inner = inner
        self.calls = []
        self.requests = []
        self.faults = {}
        self.pauses = 0
        self.running = 0

    @classmethod
    def from_url(cls, url):
        raise NotImplementedError

    name = property(lambda self: self.inner.name)
    capabilities = property(lambda self: self.inner.capabilities)

    def count(self, operation):
        return self.calls.count(operation)

    async def _pass(self, operation, request, argument=None):
        self.calls.append(operation)
        self.requests.append(argument)
        self.running += 1
        try:
            return await self._answer(operation, request)
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

    async def open(self, *, auto_create=True):
        await self.inner.open(auto_create=auto_create)

    async def aclose(self):
        while self.running:  # noqa: ASYNC110 - a test's adapter
            await asyncio.sleep(0)
        await self.inner.aclose()

    async def check(self):
        return await self._pass("check", self.inner.check)

    async def migrate(self, *, dry_run=False):
        return await self.inner.migrate(dry_run=dry_run)

    async def load(self, key, query):
        return await self._pass("load", lambda: self.inner.load(key, query), (key, query))

    async def commit(self, commit):
        return await self._pass("commit", lambda: self.inner.commit(commit), commit)

    async def read_messages(self, key, query):
        return await self._pass("read_messages", lambda: self.inner.read_messages(key, query), (key, query))

    async def find_sessions(self, query):
        return await self._pass("find_sessions", lambda: self.inner.find_sessions(query), query)

    async def delete(self, key, *, expect=None):
        return await self._pass("delete", lambda: self.inner.delete(key, expect=expect), (key, expect))

    async def delete_owner(self, scope):
        return await self._pass("delete_owner", lambda: self.inner.delete_owner(scope), scope)

    async def sweep(self, limit):
        return await self._pass("sweep", lambda: self.inner.sweep(limit), limit)

    async def stats(self, query):
        return await self._pass("stats", lambda: self.inner.stats(query), query)

    async def search_messages(self, query):
        return await self._pass("search_messages", lambda: self.inner.search_messages(query), query)


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
