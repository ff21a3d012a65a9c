"""What all suites share: an open adapter, a fresh namespace, a way to let time pass."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from turnkeep.contract import (
    ANYONE,
    Capability,
    Expect,
    Level,
    LoadQuery,
    MessageQuery,
    Scope,
    SessionKey,
    SessionQuery,
    StorageAdapter,
)
from turnkeep_testkit.bridge import Synchronous
from turnkeep_testkit.excuses import require_reasons
from turnkeep_testkit.figures import Figure
from turnkeep_testkit.making import new_commit, new_key, new_namespace
from turnkeep_testkit.sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from turnkeep.contract import (
        Committed,
        Head,
        MessagePage,
        NewMessage,
        Owner,
        StoredMessage,
        StoredSession,
    )
    from turnkeep_testkit.making import FakeClock

    MakeAdapter = Callable[[], StorageAdapter | AbstractAsyncContextManager[StorageAdapter]]

F = TypeVar("F")

_CAMPAIGN = 30
"""How much more time a test has in the campaign."""

_HOW = """Override the fixture `make_adapter` in your test class. It returns a function that builds an adapter which is
not open yet; each call gives an adapter over the same, at first empty, store (other processes are other calls):

    class TestConformance(AdapterSuite):
        @pytest.fixture
        def make_adapter(self, tmp_path):
            return lambda: MyAdapter(tmp_path / "store")

The function may also return an async context manager that yields an open adapter."""


def starts_closed(test: F) -> F:
    """Marks a test before which no adapter is opened."""
    test.starts_closed = True  # pyright: ignore[reportAttributeAccessIssue] - our mark
    return test


def proves(*capabilities: Capability) -> Callable[[F], F]:
    """Marks a test, or each test of a suite, as one that looks at these capabilities; the report counts it there."""

    def mark(test: F) -> F:
        test.proves = capabilities  # pyright: ignore[reportAttributeAccessIssue] - our mark
        return test

    return mark


class Suite(Synchronous):
    """Base of all suites. A subclass that pytest collects overrides ``make_adapter``, and what else fits.

    Within a test: ``adapter`` is open, ``scope`` is a fresh namespace seen as a whole, ``clock`` the fake clock if the
    adapter was given one.
    """

    lists_delay: ClassVar[float] = 1.5
    """Seconds until lists show a commit, where ``IMMEDIATE_LISTS`` is not FULL."""

    adapter: StorageAdapter
    scope: Scope
    clock: FakeClock | None
    campaign: bool
    seen: StorageAdapter | None = None
    """The adapter that was made last, open or not; for the report."""
    figures: list[Figure]
    _make: MakeAdapter
    _stack: AsyncExitStack

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        require_reasons(cls)

    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        """The adapter's author says here how one is built."""
        raise NotImplementedError(_HOW)

    @pytest.fixture
    def fake_clock(self) -> FakeClock | None:
        """Override it, returning a ``FakeClock`` that ``make_adapter`` hands on, where an adapter can take a clock.

        Without one, tests about time wait in earnest.
        """
        return None

    @pytest.fixture(autouse=True)
    def _prepared(self, make_adapter: MakeAdapter, fake_clock: FakeClock | None, pytestconfig: pytest.Config) -> None:
        self.prepare(
            make_adapter, fake_clock, campaign=bool(pytestconfig.getoption("turnkeep_campaign", default=False))
        )

    async def remains(self, key: SessionKey) -> int | None:
        """Override it to look behind the contract: how many rows, keys or documents of this session there are.

        Everything that carries the session's id counts, whatever the contract shows. None: it is not looked at.
        """
        return None

    def prepare(self, make_adapter: MakeAdapter, clock: FakeClock | None = None, *, campaign: bool = False) -> None:
        """Makes the suite ready to run a test, as its fixtures do under pytest."""
        self._make = make_adapter
        self.clock = clock
        self.campaign = campaign
        self.figures = []
        if campaign:
            self.deadline = type(self).deadline * _CAMPAIGN
        self.scope = Scope(new_namespace())

    @asynccontextmanager
    async def around(self, test: Callable[..., object]) -> AsyncGenerator[None]:
        """Opens ``adapter``, and closes every adapter the test asked for."""
        async with AsyncExitStack() as self._stack:
            if not getattr(test, "starts_closed", False):
                self.adapter = await self.another()
            yield

    async def another(self) -> StorageAdapter:
        """Another open adapter over the same store: another process, or after a restart."""
        return await self.opened(self.make())

    async def opened(self, made: StorageAdapter | AbstractAsyncContextManager[StorageAdapter]) -> StorageAdapter:
        """The adapter, open until the test ends."""
        if not isinstance(made, StorageAdapter):
            self.seen = await self._stack.enter_async_context(made)
            return self.seen
        self.seen = made
        self._stack.push_async_callback(made.aclose)
        await made.open()
        return made

    async def unopened(self) -> StorageAdapter:
        """An adapter over the same store that is not open."""
        made = self.make()
        if isinstance(made, StorageAdapter):
            self._stack.push_async_callback(made.aclose)
            return made
        self.seen = adapter = await self._stack.enter_async_context(made)
        await adapter.aclose()
        return adapter

    def make(self) -> StorageAdapter | AbstractAsyncContextManager[StorageAdapter]:
        """What the author's function makes, as it is."""
        made = self._make()
        if isinstance(made, StorageAdapter):
            self.seen = made
        return made

    # Time

    @property
    def moment(self) -> timedelta:
        """A time to live that a test can wait for, and that no test outlives by accident."""
        # In earnest long enough for a loaded machine: what has to happen before it does.
        return timedelta(seconds=2) if self.clock is None else timedelta(hours=1)

    async def wait(self, time: timedelta) -> None:
        """Lets so much time pass, and a little more."""
        if self.clock is None:
            await asyncio.sleep(time.total_seconds() + 0.05)
        else:
            self.clock.advance(time + timedelta(milliseconds=1))

    async def tick(self) -> None:
        """Lets so little time pass that only the order of two commits tells."""
        await self.wait(timedelta(milliseconds=2)) if self.clock else await asyncio.sleep(0.005)

    async def lists_settle(self) -> None:
        """Waits until lists show what was committed, where they do not at once."""
        if self.level(Capability.IMMEDIATE_LISTS) is not Level.FULL:
            await self._waits_for_lists()

    async def _waits_for_lists(self) -> None:
        await asyncio.sleep(self.lists_delay)

    # Sizes and figures

    def size(self, plan: str) -> int:
        """How large this test of the plan is (`sizes.py`): every day, or in the campaign."""
        size = SIZES[plan]
        return size.campaign if self.campaign else size.everyday

    def figure(self, plan: str, what: str, value: float | str) -> None:
        """Keeps what was measured; the campaign shows it at the end of the run."""
        self.figures.append(Figure(plan, type(self).__name__, what, value))

    def examples(self, everyday: int, campaign: int, **more: Any) -> settings:
        """Settings for Hypothesis; a database may be slow, and a test's own deadline guards against hanging."""
        return settings(
            max_examples=campaign if self.campaign else everyday,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
            **more,
        )

    # Capabilities

    def level(self, capability: Capability) -> Level:
        """How far the adapter says it goes."""
        return self.adapter.supports(capability).level

    def needs(self, capability: Capability) -> None:
        """Skips the test unless the capability is FULL; the adapter's own reason is given."""
        support = self.adapter.supports(capability)
        if support.level is not Level.FULL:
            pytest.skip(f"{capability.name} is {support.level.name} here: {support.reason}")

    # Short cuts

    def new_key(self, owner: Owner = ANYONE, session_id: str | None = None) -> SessionKey:
        """The key of a session that is not there yet, in the test's namespace."""
        return new_key(self.owned(owner), session_id)

    def owned(self, owner: Owner) -> Scope:
        """The test's namespace as this owner sees it."""
        return Scope(self.scope.namespace, owner)

    async def create(
        self, *messages: str | NewMessage, key: SessionKey | None = None, **fields: Any
    ) -> tuple[SessionKey, Committed]:
        """Creates a session and gives its key, and what the commit returned."""
        key = key or self.new_key()
        return key, await self.adapter.commit(new_commit(key, *messages, **fields))

    async def append(self, key: SessionKey, *messages: str | NewMessage, **fields: Any) -> Committed:
        """Commits to whatever the session is at."""
        return await self.adapter.commit(new_commit(key, *messages, expect=Expect.ANY, **fields))

    async def load(
        self,
        key: SessionKey,
        *,
        window: int | None = None,
        commit_id: str | None = None,
        adapter: StorageAdapter | None = None,
    ) -> StoredSession:
        """The session, which has to be there; the whole of it unless a window is given."""
        stored = await (adapter or self.adapter).load(key, LoadQuery(window=window, commit_id=commit_id))
        assert stored is not None, f"there is no session {key.session_id!r}"
        return stored

    async def is_there(self, key: SessionKey) -> bool:
        """Whether a load finds the session."""
        return await self.adapter.load(key, LoadQuery(window=0)) is not None

    async def page(
        self, key: SessionKey, limit: int = 1000, *, before: int | None = None, after: int | None = None
    ) -> MessagePage:
        """A page of its history."""
        return await self.adapter.read_messages(key, MessageQuery(limit, before=before, after=after))

    async def heads(self, scope: Scope | None = None, *, limit: int = 100, **conditions: Any) -> list[Head]:
        """All pages of a list, walked to the end."""
        found: list[Head] = []
        cursor: str | None = None
        for _ in range(1000):
            query = SessionQuery(scope or self.scope, limit, cursor=cursor, **conditions)
            page = await self.adapter.find_sessions(query)
            assert len(page.items) <= limit, "a page has more items than its limit"
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise AssertionError("the list did not end within 1,000 pages")

    async def listed(self, scope: Scope | None = None, *, limit: int = 100, **conditions: Any) -> list[str]:
        """The ids of a list, walked to the end."""
        return [head.session_id for head in await self.heads(scope, limit=limit, **conditions)]


def texts(messages: Iterable[StoredMessage]) -> list[str]:
    """Their contents."""
    return [message.content for message in messages]


def seqs(messages: Iterable[StoredMessage]) -> list[int]:
    """Their places."""
    return [message.seq for message in messages]
