"""What a database must do to keep conversations: the contract between Turnkeep and its adapters.

An adapter stores what it is handed, byte for byte, and decides one question atomically: does this commit take effect?
It knows no hooks, no agents, no tool calls, and never looks inside a document. Everything that travels through the
contract is immutable. ``judge`` and ``retention`` hold the decisions every adapter takes alike; an adapter that can run
Python inside its atomic step calls them, one that cannot (SQL in one statement, Lua) says the same in its own language
and is held to it by the conformance suite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple, Self

from turnkeep.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, timedelta

    from turnkeep.urls import StorageURL
    from turnkeep.words import Terms

CONTRACT_VERSION: Final = 1

WIDEN_LIMIT: Final = 200
"""A window is widened by at most this many messages to begin where a commit began."""

PAST_COMMITS: Final = 32
"""How many commits of a session every adapter can recognise at least."""

YOURS: Final = "yours to run: "
"""How a step of ``migrate`` begins that was not taken, because it would alter what is the user's."""

Status = Literal["active", "completed", "abandoned"]
Order = Literal["activity", "created"]
Encoding = Literal["plain", "json", "sealed"]


class Capability(Enum):
    """What an adapter may or may not be able to do. The list is closed; adapters declare, nobody sniffs."""

    ATOMIC_TURN = "atomic_turn"
    """Messages, data, state and head of one commit become visible together or not at all."""
    DURABLE = "durable"
    """An acknowledged commit survives a power cut, given the settings ``check()`` asks for."""
    IMMEDIATE_LISTS = "immediate_lists"
    """``find_sessions`` shows a commit as soon as it was acknowledged."""
    SEARCH = "search"
    """``search_messages`` works."""
    STATS = "stats"
    """``stats`` works."""
    IDEMPOTENT_FOREVER = "idempotent_forever"
    """A commit id is recognised as long as its session lives, not only for the last 32 commits."""
    LARGE_VALUES = "large_values"
    """Values up to the default ``Limits`` fit."""


class Level(Enum):
    """How far a capability goes."""

    FULL = "full"
    PARTIAL = "partial"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Support:
    """How far a capability goes, and why not further."""

    level: Level
    reason: str = ""


class Anyone(Enum):
    """The type of ``ANYONE``."""

    ANYONE = "anyone"


ANYONE: Final = Anyone.ANYONE
"""An owner that matches every session of the namespace. (None matches the sessions that have no owner.)"""

Owner = str | None | Anyone


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose sessions a call may see: those of one owner, those without one, or all of a namespace."""

    namespace: str
    owner: Owner = ANYONE

    def sees(self, user_id: str | None) -> bool:
        """Whether a session of this owner is within the scope."""
        return self.owner is ANYONE or self.owner == user_id


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One session, as seen from a scope. The owner is checked inside each statement; it is not part of the identity."""

    scope: Scope
    session_id: str


@dataclass(frozen=True, slots=True)
class Token:
    """What a loaded session was at. Opaque: compare it, hand it back, do not compute with it.

    A version alone would be met again after delete and re-create, or after a failover; the incarnation says which life
    of the session id this is, and the commit id which of two histories.
    """

    incarnation: str
    version: int
    commit_id: str


class Expect(Enum):
    """What a commit expects to find, where it does not expect a ``Token``."""

    NEW = "new"
    """No such session. An expired or deleted one counts as none: the commit begins a new incarnation."""
    ANY = "any"
    """A session, in whatever state. For appends and head fields only."""


class Unchanged(Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Leaves a head field as it is."""


class NewMessage(NamedTuple):
    """A message on its way in: checked and encoded. Documents are texts an adapter never looks into.

    ``content`` is the plain text (``encoding="plain"``), or JSON text of it where a database could not hold it as text,
    or what a payload filter made of it.
    """

    id: str
    role: str
    content: str
    encoding: Encoding
    name: str | None
    tool_calls: str | None
    tool_call_id: str | None
    route: str | None
    step: str | None
    event: str | None
    metadata: str | None
    reply: str | None
    created_at: datetime
    """Aware, in UTC, to the microsecond; the application's clock. Data: nothing is ordered by it."""


class StoredMessage(NamedTuple):
    """A message as an adapter gives it back: the fields of ``NewMessage``, then where it stands."""

    id: str
    role: str
    content: str
    encoding: Encoding
    name: str | None
    tool_calls: str | None
    tool_call_id: str | None
    route: str | None
    step: str | None
    event: str | None
    metadata: str | None
    reply: str | None
    created_at: datetime
    seq: int
    turn_seq: int
    """The seq of the first message of the same commit."""
    commit_id: str


@dataclass(frozen=True, slots=True)
class HeadChange:
    """What a commit does to the head beside counting. ``UNCHANGED`` leaves a field; None clears it.

    Setting ``status`` decides ``completed_at`` too: for ``"completed"`` it becomes the given instant or else the
    server's time, for any other status the given instant or None.
    """

    status: Status | Unchanged = UNCHANGED
    completed_at: datetime | None = None
    agent_name: str | Unchanged | None = UNCHANGED
    current_route: str | Unchanged | None = UNCHANGED
    current_step: str | Unchanged | None = UNCHANGED


NO_CHANGE: Final = HeadChange()


@dataclass(frozen=True, slots=True)
class Commit:
    """A turn, ready to be made durable: all of it takes effect, or nothing.

    Attributes:
        key: the session, and the scope that must see it.
        commit_id: made once by the client, before the first try.
        digest: of the request; tells a repeated request from a re-used commit id.
        expect: ``Expect.NEW``, a ``Token``, or ``Expect.ANY`` (then ``data`` and ``state`` must be None).
        messages: appended in this order; the adapter numbers them from last seq + 1.
        data: the collected data's document, or None to leave it (a new session starts with ``{}``).
        state: the state's document, or None to leave it (a new session starts with ``{}``).
        head: changes of head fields.
        drop_history: everything before ``messages`` leaves the history (the floor moves to the last seq so far).
        user_id: the owner of the session if this commit creates it; ignored otherwise.
        claim: an owner for a session that has none; ``key.scope.owner`` must then be None.
        ttl: idle time after which the session expires, counted by the server's clock from this commit; None: never.
        message_ttl: age at which this commit's messages leave the history, with all before them; None: they leave with
            later ones that have an age, or never.
        seen: with ``Expect.ANY``, the token the writer had last read, for ``Committed.contiguous``.
    """

    key: SessionKey
    commit_id: str
    digest: str
    expect: Expect | Token
    messages: tuple[NewMessage, ...] = ()
    data: str | None = None
    state: str | None = None
    head: HeadChange = NO_CHANGE
    drop_history: bool = False
    user_id: str | None = None
    claim: str | None = None
    ttl: timedelta | None = None
    message_ttl: timedelta | None = None
    seen: Token | None = None

    def __post_init__(self) -> None:
        if self.expect is Expect.ANY and not (self.data is None and self.state is None):
            raise ValueError("a commit that expects ANY session cannot replace its data or state")
        if self.claim is not None and self.key.scope.owner is not None:
            raise ValueError("a commit that claims a session must look for one without an owner")


@dataclass(frozen=True, slots=True)
class Committed:
    """How a commit took effect.

    Attributes:
        token: what the session is at because of this commit.
        contiguous: it is known that nothing was committed between what the writer had read and this commit.
        replayed: the commit had taken effect before; this is its first result.
        created: the commit created the session.
        first_seq: seq of its first message; None where it had none.
        last_seq: seq of its last message; None where it had none.
        message_count: messages in the history after it.
        time: the server's time of the commit, aware; it never runs backwards within a session.
        expires_at: when the session expires unless it is touched; None: never.
    """

    token: Token
    contiguous: bool
    replayed: bool
    created: bool
    first_seq: int | None
    last_seq: int | None
    message_count: int
    time: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The small record of a session: what lists show, and what a commit is judged by."""

    namespace: str
    session_id: str
    user_id: str | None
    token: Token
    status: Status
    agent_name: str | None
    current_route: str | None
    current_step: str | None
    last_seq: int
    floor: int
    """History at or below this seq is gone."""
    last_message_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None

    @property
    def message_count(self) -> int:
        """Messages in the history."""
        return self.last_seq - self.floor


@dataclass(frozen=True, slots=True)
class LoadQuery:
    """What a load brings along.

    Attributes:
        window: the newest so many messages, widened backwards by at most ``WIDEN_LIMIT`` to begin where a commit began;
            None for all, 0 for none.
        commit_id: also bring what this commit did, if it took effect.
    """

    window: int | None = None
    commit_id: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """What an earlier commit did."""

    committed: Committed
    digest: str
    messages: tuple[StoredMessage, ...]
    """Its messages that are still in the history, in order."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as loaded: one version of everything, never a mix of two."""

    head: Head
    data: str
    state: str
    messages: tuple[StoredMessage, ...]
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """A page of history. ``limit`` alone: the newest. ``before``/``after`` are seqs, exclusive; not both."""

    limit: int
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages in order of seq, and whether there are more in the direction of reading."""

    items: tuple[StoredMessage, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A page of sessions; every given condition must hold.

    Attributes:
        scope: namespace and owner.
        older_than: last committed to before this instant, or longer ago than this duration by the server's clock.
        order: ``"activity"``: last committed to first; ``"created"``: oldest first. Ties are broken by session id.
        cursor: of the page before; None for the first.
    """

    scope: Scope
    limit: int
    status: Status | None = None
    agent_name: str | None = None
    route: str | None = None
    older_than: datetime | timedelta | None = None
    order: Order = "activity"
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Heads in order. May be short, even empty, while ``next_cursor`` is set; None: there is no more."""

    items: tuple[Head, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Erased:
    """What ``delete_owner`` removed, of all sessions that had not expired.

    Attributes:
        sessions: how many.
        messages: in their histories; not those that had left them before.
    """

    sessions: int
    messages: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What ``sweep`` removed.

    Attributes:
        sessions: expired ones.
        messages: those of these sessions, and those that had left a history. A database that lets some go by itself
            has fewer left to count.
        more: whether it stopped at its limit.
    """

    sessions: int
    messages: int
    more: bool


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """What to count."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class DayCount:
    """The sessions that were created on one day, with all that is in them now."""

    sessions: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the sessions of a scope that have not expired.

    Attributes:
        sessions: how many.
        messages: in their histories.
        bytes: of stored text in UTF-8, without indexes.
        by_status: sessions.
        by_agent: sessions.
        by_route: sessions, by their current route.
        oldest: when the first of them was created.
        newest: when one of them was last committed to.
        by_day: by the day, in UTC, on which sessions were created; days without any are left out.
    """

    sessions: int
    messages: int
    bytes: int
    by_status: Mapping[str, int]
    by_agent: Mapping[str | None, int]
    by_route: Mapping[str | None, int]
    oldest: datetime | None
    newest: datetime | None
    by_day: Mapping[date, DayCount]


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to search for; every given condition must hold.

    Attributes:
        scope: namespace and owner, of the session as it is now.
        terms: what a message's content has to say. ``Terms.match`` is the reference.
        limit: hits of a page, at most.
        session_id: of one session only.
        role: messages of this role only.
        since: messages whose ``created_at`` is this instant or later.
        until: messages whose ``created_at`` is earlier.
        cursor: of the page before; None for the first.
    """

    scope: Scope
    terms: Terms
    limit: int
    session_id: str | None = None
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One message found.

    Attributes:
        session_id: its session.
        message: the whole message.
        score: higher is better; comparable within one search only.
        highlight: an excerpt with what matches between ``**``, where the database makes a better one than
            ``Terms.excerpt``; None leaves it to that.
    """

    session_id: str
    message: StoredMessage
    score: float
    highlight: str | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Hits, best first. May be short, even empty, while ``next_cursor`` is set; None: there is no more."""

    items: tuple[SearchHit, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``fix`` says what to do about it; a ``warning`` leaves the report ok."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Whether the database can keep its promises, line by line."""

    adapter: str
    checks: tuple[Check, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong. Warnings do not count."""
        return all(check.ok or check.warning for check in self.checks)

    def __str__(self) -> str:
        marks = {(True, False): "ok", (True, True): "ok", (False, True): "warning", (False, False): "WRONG"}
        return "\n".join(
            f"{marks[check.ok, check.warning]:8}{check.name}: {check.detail}{f' → {check.fix}' if check.fix else ''}"
            for check in self.checks
        )


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
