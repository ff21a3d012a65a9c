"""What the network suites share: an adapter that reaches its server through a proxy, and one that does not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from turnkeep_testkit.faults.addresses import address_of, redirected
from turnkeep_testkit.faults.proxy import FaultProxy
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from turnkeep.contract import StorageAdapter

    MakeAdapterAt = Callable[[str], StorageAdapter | AbstractAsyncContextManager[StorageAdapter]]

_HOW = """Override two fixtures in your test class: `server_url`, the URL of a real server with host and port, and
`make_adapter_at`, a function that builds an adapter, not open yet, for such a URL. The kit calls it with the URL of a
proxy in front of your server, and once with your own:

    class TestNetwork(NetworkFaultSuite):
        @pytest.fixture
        def server_url(self):
            return os.environ["TURNKEEP_TEST_MYDB_URL"]

        @pytest.fixture
        def make_adapter_at(self, prefix):
            return lambda url: MyAdapter.from_url(StorageURL(f"{url}?prefix={prefix}"))

The function may also return an async context manager that yields an open adapter."""


class ThroughProxy(Suite):
    """Base of the network suites.

    Within a test: ``adapter`` is open and reaches the server through ``proxy``; ``direct`` is another adapter over the
    same store that does not, to see what really happened.
    """

    patience: ClassVar[float] = 5.0
    """Seconds after its deadline at which a call that does not end is taken to hang. The plan asks for 0.5; a loaded
    machine may take longer, so that the test does not fail by it, and the campaign reports what it took."""

    proxy: FaultProxy
    direct: StorageAdapter
    _server_url: str
    _make_at: MakeAdapterAt

    @pytest.fixture
    def server_url(self) -> str:
        """The adapter's author says here where a server is."""
        raise NotImplementedError(_HOW)

    @pytest.fixture
    def make_adapter_at(self) -> MakeAdapterAt:
        """The adapter's author says here how one is built for a URL."""
        raise NotImplementedError(_HOW)

    @pytest.fixture
    def make_adapter(  # pyright: ignore[reportIncompatibleMethodOverride] - fixtures ask for what they need
        self, server_url: str, make_adapter_at: MakeAdapterAt
    ) -> Callable[[], StorageAdapter | AbstractAsyncContextManager[StorageAdapter]]:
        """Builds adapters that go through the proxy."""
        return self.lead_through(server_url, make_adapter_at)

    def lead_through(
        self, server_url: str, make_adapter_at: MakeAdapterAt
    ) -> Callable[[], StorageAdapter | AbstractAsyncContextManager[StorageAdapter]]:
        """A function for ``prepare``: builds adapters that go through the proxy."""
        self._server_url, self._make_at = server_url, make_adapter_at
        return lambda: make_adapter_at(redirected(server_url, self.proxy.host, self.proxy.port))

    @asynccontextmanager
    async def around(self, test: Callable[..., object]) -> AsyncGenerator[None]:
        """Starts the proxy and opens ``adapter`` and ``direct``."""
        async with FaultProxy(*address_of(self._server_url)) as self.proxy, super().around(test):
            self.direct = await self.opened(self._make_at(self._server_url))
            try:
                yield
            except BaseException:
                # What the test was waiting for must not keep the adapters from closing.
                self.proxy.cut_all()
                raise
            finally:
                self.proxy.heal()
