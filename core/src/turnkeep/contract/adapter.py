"""The code for one database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Self

from turnkeep.contract.capabilities import Capability, Level, Support
from turnkeep.contract.removals import Swept
from turnkeep.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from turnkeep.contract.commits import Commit, Committed
    from turnkeep.contract.health import HealthReport
    from turnkeep.contract.identity import Scope, SessionKey, Token
    from turnkeep.contract.lists import SearchPage, SearchQuery, SessionPage, SessionQuery, Stats, StatsQuery
    from turnkeep.contract.loads import LoadQuery, MessagePage, MessageQuery, StoredSession
    from turnkeep.contract.removals import Erased
    from turnkeep.urls import StorageURL

CONTRACT_VERSION: Final = 1

YOURS: Final = "yours to run: "
"""How a step of ``migrate`` begins that was not taken, because it would alter what is the user's."""


_ELSEWHERE: Final = {
    Capability.SEARCH: "; turnkeep-opensearch, -postgres, -sqlite, -sqlalchemy and -mongodb can, and the memory adapter"
}
"""Where something can be had that an adapter lacks."""


class StorageAdapter(ABC):
    """The code for one database.

    One instance serves a whole application: its methods are called concurrently from one event loop. Beside what each
    method says:

    - Foreign is absent: a session outside the key's scope is treated exactly as one that does not exist. Only creating
      an id that is taken tells.
    - Expired is absent, to the instant, whether or not it was purged yet.
    - A read is linearizable per session: it shows every commit acknowledged before it began, and never a mix of two.
    - Driver errors leave as ``StorageError`` with the driver's error as cause; none carries a secret.
    - The caller sets deadlines by cancelling. A cancelled read lets go. A cancelled ``commit`` or ``delete`` *settles*:
      it raises ``CancelledError`` if it took no effect, returns its result if it did, and raises
      ``CommitOutcomeUnknown`` if it cannot know. A connection whose reply was not read is not used again.
    - ``open`` and ``aclose`` may be called twice. After ``aclose`` the adapter can be opened again, unless it was built
      around a client that was handed in and closed by its owner. A client that was handed in is never closed here.
    - Before ``open`` and after ``aclose`` every call but ``open``, ``aclose``, ``check`` and ``migrate`` raises
      ``ConfigurationError``; or works, where there is nothing to open.
    - Several adapters, in one process or many, may use one store at the same time.
    """

    contract_version: ClassVar[int] = CONTRACT_VERSION
    """The version of this contract that the adapter was made for: that of the Turnkeep it is installed with."""

    session_ttl: timedelta | None = None
    """The adapter's own default for ``session_ttl`` of ``connect``, from an option of its own; None: for ever."""
    message_ttl: timedelta | None = None
    """The adapter's own default for ``message_ttl`` of ``connect``, from an option of its own; None: for ever."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: StorageURL) -> Self:
        """An adapter that opens its own client, and closes it.

        It takes the options that it knows; ``connect`` calls ``url.finish()``, which refuses what nobody took. Whoever
        hands the options that are left to a driver takes them by ``url.rest()``. Nothing is opened here.

        Raises:
            ConfigurationError: the URL or an option of it makes no sense.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """The short name, for example ``"sqlite"``: in errors, hooks and logs."""

    @property
    @abstractmethod
    def capabilities(self) -> Mapping[Capability, Support]:
        """What this adapter can do; whatever is not FULL has a reason.

        One that is not listed is FULL for ``ATOMIC_TURN``, ``DURABLE`` and ``IMMEDIATE_LISTS``, and NONE otherwise.
        """

    @abstractmethod
    async def open(self, *, auto_create: bool = True) -> None:
        """Connects, makes the schema where there is nothing (unless told not to), checks it where there is something.

        Never upgrades.

        Raises:
            SchemaMissing, SchemaOutdated: as they say, and the message names the command ``turnkeep migrate``; nothing
                was changed.
            SchemaTooNew, ForeignTable: as they say; nothing was changed.
            StorageUnavailable, StorageRefused: the database cannot be opened.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Lets pending work end and closes what this adapter opened.

        A read that was cancelled may still be going on in its thread: what it uses is closed once it has ended.
        """

    @abstractmethod
    async def check(self) -> HealthReport:
        """Looks at connection, schema, settings and versions. Needs no prior ``open`` and changes nothing.

        A database that cannot be reached is a line of the report, not an error.
        """

    @abstractmethod
    async def migrate(self, *, dry_run: bool = False) -> list[str]:
        """Brings the schema to this version and returns the steps taken, or with ``dry_run`` the steps it would take.

        Needs no prior ``open``. Holds a lock; killed at any point it leaves a database that the next call completes;
        called twice it does nothing the second time (an empty list). What would alter tables of the user's is never
        done: such a step begins with ``YOURS``, each time, until somebody has taken it.

        Raises:
            SchemaTooNew, ForeignTable: nothing was changed.
        """

    @abstractmethod
    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, or None where there is none. One sequential round trip; creates and renews nothing.

        Raises:
            CorruptRecord: something is there that cannot be read, or history that the head counts is missing.
        """

    @abstractmethod
    async def commit(self, commit: Commit) -> Committed:
        """Makes a turn durable: all of it, or nothing. One sequential round trip.

        Decided in this order, atomically (``judge`` is the reference):

        1. The session is there and within the scope, and knows the commit id: with the same digest the first result is
           returned (``replayed``), whatever else the commit carries; with another, ``CommitIdReused``.
        2. ``Expect.NEW``: a session with this id, anybody's, raises ``SessionExists``; an expired one is removed and a
           new incarnation begins.
        3. Otherwise a session that is absent or out of scope raises ``SessionNotFound``.
        4. A token that is not the session's raises ``SessionConflict`` with the actual one.

        Every commit that takes effect raises the version by exactly one, becomes the last commit id, sets
        ``updated_at`` to the server's time and renews or clears the expiry. Messages are numbered in order from
        last seq + 1; the numbers never restart within an incarnation.
        """

    @abstractmethod
    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history in order of seq.

        Raises:
            SessionNotFound: there is no such session.
        """

    @abstractmethod
    async def find_sessions(self, query: SessionQuery) -> SessionPage:
        """A page of sessions.

        By activity, a session that is not touched during the walk appears exactly once, a touched one at most once.
        By creation, everything that existed throughout the walk appears exactly once.

        Raises:
            InvalidArgument: the cursor is not one of this order.
        """

    @abstractmethod
    async def delete(self, key: SessionKey, *, expect: Token | None = None) -> bool:
        """Removes the session and everything of it; False where there was none.

        With ``expect``, only if it is still at that token, decided in the same atomic step. Once acknowledged nothing
        remains. A crash leaves it whole, or invisible and removed by the next sweep; a commit that arrives later cannot
        bring it back.

        Raises:
            SessionConflict: it is at another token; nothing was removed.
            CommitOutcomeUnknown: it may have been removed or not, with ``commit_id=""``: a delete has none. Calling
                again is safe; with ``expect`` it removes no later life of the id.
        """

    @abstractmethod
    async def delete_owner(self, scope: Scope) -> Erased:
        """Removes every session of one owner, as ``delete`` does. ``scope.owner`` is a str.

        Each session goes whole, one after the other: one that is created meanwhile may stay. Those that had expired are
        removed too, and not counted.

        Raises:
            CommitOutcomeUnknown: some may have been removed; ``commit_id`` is "". Erasing again is safe.
        """

    async def sweep(self, limit: int) -> Swept:
        """Purges what is expired or below a floor, and counts it: at most ``limit`` sessions.

        Default: there is nothing to purge.

        Raises:
            CommitOutcomeUnknown: some may have been purged; ``commit_id`` is "". Sweeping again is safe.
        """
        return Swept(0, 0, more=False)

    async def stats(self, query: StatsQuery) -> Stats:
        """Counts. Default: ``NotSupported``."""
        raise self._lacks(Capability.STATS, "stats")

    async def search_messages(self, query: SearchQuery) -> SearchPage:
        """Messages whose content has what the terms want, best first; ties by session id and seq.

        What is not in a history any more is never found: deleted and expired sessions, messages below a floor or past
        their age. Only content that is stored as plain text is searched. While nothing is written, walking the pages
        shows every message that matches exactly once; what is written meanwhile may move others between pages. Who
        declares SEARCH PARTIAL says how far its answers go: how late, over how much, or by what other rules.

        Default: ``NotSupported``.

        Raises:
            InvalidArgument: the cursor is not one of a search.
        """
        raise self._lacks(Capability.SEARCH, "search_messages")

    def supports(self, capability: Capability) -> Support:
        """How far a capability goes here."""
        declared = self.capabilities.get(capability)
        if declared is not None:
            return declared
        assumed = {Capability.ATOMIC_TURN, Capability.DURABLE, Capability.IMMEDIATE_LISTS}
        return Support(Level.FULL) if capability in assumed else Support(Level.NONE, "it is not declared")

    def _lacks(self, capability: Capability, operation: str) -> NotSupported:
        reason = self.supports(capability).reason
        return NotSupported(
            f"{self.name} cannot {operation}: {reason}{_ELSEWHERE.get(capability, '')}",
            capability=capability,
            reason=reason,
            adapter=self.name,
            operation=operation,
        )
