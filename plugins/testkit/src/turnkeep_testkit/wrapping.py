"""An adapter around another one, with one place through which every call goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from turnkeep.contract import StorageAdapter
from turnkeep.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta

    from turnkeep.contract import (
        Capability,
        Commit,
        Committed,
        Erased,
        HealthReport,
        LoadQuery,
        MessagePage,
        MessageQuery,
        Scope,
        SearchPage,
        SearchQuery,
        SessionKey,
        SessionPage,
        SessionQuery,
        Stats,
        StatsQuery,
        StoredSession,
        Support,
        Swept,
        Token,
    )
    from turnkeep.urls import StorageURL

T = TypeVar("T")


class WrappedAdapter(StorageAdapter):
    """Does what the adapter inside does. A subclass overrides ``pass_on`` to watch or to interfere.

    Attributes:
        inner: the adapter inside.
    """

    def __init__(self, inner: StorageAdapter) -> None:
        self.inner = inner

    async def pass_on(self, operation: str, call: Callable[[], Awaitable[T]], *arguments: Any) -> T:
        """Makes one call of the adapter inside; ``operation`` is the method's name, ``arguments`` are its own."""
        return await call()

    @classmethod
    def from_url(cls, url: StorageURL) -> Self:
        """There is no URL for it.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"{cls.__name__} is built by hand, around another adapter; {url.scheme}:// names none")

    @property
    def name(self) -> str:
        """The inner adapter's, which errors carry."""
        return self.inner.name

    @property
    def capabilities(self) -> Mapping[Capability, Support]:
        """The inner adapter's."""
        return self.inner.capabilities

    @property
    def session_ttl(self) -> timedelta | None:  # pyright: ignore[reportIncompatibleVariableOverride] - read only here
        """The inner adapter's."""
        return self.inner.session_ttl

    @property
    def message_ttl(self) -> timedelta | None:  # pyright: ignore[reportIncompatibleVariableOverride] - read only here
        """The inner adapter's."""
        return self.inner.message_ttl

    async def open(self, *, auto_create: bool = True) -> None:
        """Opens the adapter inside."""
        await self.pass_on("open", lambda: self.inner.open(auto_create=auto_create), auto_create)

    async def aclose(self) -> None:
        """Closes the adapter inside."""
        await self.pass_on("aclose", self.inner.aclose)

    async def check(self) -> HealthReport:
        """The inner adapter's report."""
        return await self.pass_on("check", self.inner.check)

    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        """Migrates the inner adapter's store."""
        return await self.pass_on("migrate", lambda: self.inner.migrate(dry_run=dry_run), dry_run)

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """As in the contract."""
        return await self.pass_on("load", lambda: self.inner.load(key, query), key, query)

    async def commit(self, commit: Commit) -> Committed:
        """As in the contract."""
        return await self.pass_on("commit", lambda: self.inner.commit(commit), commit)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        """As in the contract."""
        return await self.pass_on("read_messages", lambda: self.inner.read_messages(key, query), key, query)

    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        """As in the contract."""
        return await self.pass_on("find_sessions", lambda: self.inner.find_sessions(query), query)

    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        """As in the contract."""
        return await self.pass_on("delete", lambda: self.inner.delete(key, expect=expect), key, expect)

    async def delete_owner(self, scope: Scope) -> Erased:
        """As in the contract."""
        return await self.pass_on("delete_owner", lambda: self.inner.delete_owner(scope), scope)

    async def sweep(self, limit: int) -> Swept:
        """As in the contract."""
        return await self.pass_on("sweep", lambda: self.inner.sweep(limit), limit)

    async def stats(self, query: StatsQuery) -> Stats:
        """As in the contract."""
        return await self.pass_on("stats", lambda: self.inner.stats(query), query)

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """As in the contract."""
        return await self.pass_on("search_messages", lambda: self.inner.search_messages(query), query)
