"""Asking the store, and writing to it by session id: what back offices, jobs, hooks and tools use."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnkeep.checks import take_instant
from turnkeep.contract import (
    ANYONE,
    Erased,
    HeadChange,
    MessageQuery,
    Scope,
    SearchQuery,
    SessionKey,
    SessionQuery,
    Stats,
    StatsQuery,
    Swept,
)
from turnkeep.errors import ConfigurationError, InvalidArgument, SessionConflict, SessionNotFound, TurnInProgress
from turnkeep.hooks import SessionView
from turnkeep.ids import check_id, check_optional_id
from turnkeep.judge import session_not_found
from turnkeep.messages import ROLES, Message, take_messages
from turnkeep.models import UNSET, FoundMessage, SessionRecord, SessionState, check_status
from turnkeep.paging import Page, check_page_limit, check_seq
from turnkeep.queries import Conditions, check_cursor, check_order
from turnkeep.records import cut, moved, new_state, numbered, record_of, stage_state, staged_record
from turnkeep.turn import Draft, OpenTurn, joined, merge, open_turns, refuse_in_turn
from turnkeep.words import Terms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from datetime import timedelta

    from turnkeep.contract import HealthReport, Order, SearchHit, SessionPage, Status, StorageAdapter, Token
    from turnkeep.gateway import Gateway
    from turnkeep.messages import Role
    from turnkeep.models import Unset
    from turnkeep.snapshot import Snapshot

DELETE_PAGE = 100
SWEEP_LIMIT = 1000


class Persistence:
    """One database, one namespace, and for a bound one, one owner. Made by ``turnkeep.connect``.

    Make one per application; it serves any number of tasks at once. Opened with ``user_id``, it sees that owner's
    sessions only; another's behave as if they did not exist. Opened without, it sees the whole namespace.

    Calls by session id made inside an open turn on that session join the turn: they read what it has staged, and what
    they write becomes durable with it or not at all. Lists, counts and search always show what is committed.
    """

    def __init__(self, gateway: Gateway) -> None:
        """Use ``turnkeep.connect``."""
        self._gateway = gateway
        self._policy = gateway.policy
        self._scope = Scope(self._policy.namespace, ANYONE if self._policy.user_id is None else self._policy.user_id)
        gateway.opened = self._on_opened

    def __repr__(self) -> str:
        return f"<Persistence {self.adapter.name} namespace={self.namespace!r} user_id={self.user_id!r:.200}>"

    async def __aenter__(self) -> Persistence:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @property
    def adapter(self) -> StorageAdapter:
        """The adapter behind it."""
        return self._gateway.adapter

    @property
    def namespace(self) -> str:
        """The namespace all its sessions are in."""
        return self._policy.namespace

    @property
    def user_id(self) -> str | None:
        """The owner it is bound to; None where it sees the whole namespace."""
        return self._policy.user_id

    async def aclose(self) -> None:
        """Closes for good, once; calls in flight end first. A client that was handed in stays open.

        Every later call raises ``PersistenceClosed``.
        """
        if self._gateway.is_open:
            await self._gateway.plugins.on_shutdown(self)
        await self._gateway.aclose()

    async def _on_opened(self) -> None:
        await self._gateway.plugins.on_startup(self)

    # -- one session -----------------------------------------------------------------------------------------------

    async def find_session_by_id(self, session_id: str) -> SessionRecord | None:
        """The session's record with its data, or None where there is none."""
        key = self._key(session_id)
        turn = self._joined(key)
        if turn is not None:
            return staged_record(turn.draft)
        snapshot = await self._gateway.load(key, window=0)
        return None if snapshot is None else record_of(snapshot.head, snapshot.state)

    async def find_active_session_by_user_id(self, user_id: str) -> SessionRecord | None:
        """The user's active session that was last committed to, with its data, or None."""
        async for listed in await self.find_sessions_by_user_id(user_id, status="active", limit=1):
            found = await self.find_session_by_id(listed.id)
            if found is not None and found.status == "active":
                return found
        return None

    async def load_session_state(self, session_id: str) -> SessionState | None:
        """The whole session, history included as far as the persistence's ``window`` goes; None where there is none.

        It carries its token: ``save_session_state`` of it, or of a ``replace``d copy, is compare-and-swap.
        """
        key = self._key(session_id)
        turn = self._joined(key)
        if turn is not None:
            return turn.draft.state
        snapshot = await self._gateway.load(key, window=self._policy.window)
        if snapshot is None:
            return None
        await self._gateway.plugins.on_session_loaded(SessionView.of(snapshot.state, self.namespace))
        return snapshot.state

    async def save_session_state(self, session_id: str, state: SessionState) -> SessionState:
        """Stores a state and returns it as it is stored now.

        A loaded state replaces what is stored if nobody committed in between; one without a token creates the session.
        In its history, messages that are not stored yet are appended; the others must be the end of what is stored.

        Raises:
            SessionConflict: somebody else committed since it was loaded; nothing was written.
            SessionExists: it has no token, and the id is taken.
            SessionNotFound: it has a token, and the session is gone.
            InvalidArgument: its history is not an extension of what is stored: use ``SessionManager.set_history``.
        """
        key = self._key(session_id)
        if not isinstance(state, SessionState):
            raise InvalidArgument(
                f"a state is a SessionState, not {type(state).__name__}: make one with create_session()"
            )
        if state.id != session_id:
            raise InvalidArgument(f"this is the state of session {state.id!r:.80}, not of {session_id!r:.80}")
        turn = self._joined(key)
        if turn is not None:
            stage_state(turn.draft, state)
            return turn.draft.state
        if state._token is None:
            owner = self._owner_of(state.user_id)
            draft = Draft(key, None, new_state(state, owner, self._policy.data_version))
            draft.append(state.history)
        else:
            stored = sum(message.seq is not None for message in state.history)
            snapshot = await self._gateway.load(key, window=stored)
            if snapshot is None:
                raise session_not_found(session_id, self.adapter.name, "save_session_state")
            draft = Draft.on(key, snapshot)
            stage_state(draft, state)
        if draft.base is None and state.status != "active":
            draft.set_status(state.status)
        return (await self._gateway.commit(draft)).state

    async def update_collected_data(self, session_id: str, changes: Mapping[str, Any]) -> SessionState:
        """Merges into the collected data (shallow; ``UNSET`` removes a key); the rest stays. Returns the session.

        Raises:
            SessionNotFound: there is no such session.
            SessionConflict: others kept committing in between; nothing was written.
        """
        merge({}, changes)  # refuses what is no dict before anything is read

        async def change(draft: Draft) -> None:
            draft.set_data(merge(draft.state.data, changes))

        return await self._change(session_id, "update_collected_data", change)

    async def update_route_step(
        self, session_id: str, *, route: str | Unset | None = UNSET, step: str | Unset | None = UNSET
    ) -> SessionState:
        """Moves the conversation to a route and step, by id; None clears, what is not given stays. Returns the session.

        Another route clears the step, unless one is given, and is noted in the route history.

        Raises:
            SessionNotFound: there is no such session.
            SessionConflict: others kept committing in between; nothing was written.
        """
        for value, what in ((route, "route"), (step, "step")):
            if value is not UNSET:
                check_optional_id(value, what)

        async def change(draft: Draft) -> None:
            draft.stage(moved(draft.state, route, step, datetime.now(UTC)))

        return await self._change(session_id, "update_route_step", change)

    async def update_session_status(
        self, session_id: str, status: Status, completed_at: datetime | None = None
    ) -> None:
        """Sets the status. ``"completed"`` without an instant notes the server's time; ``"active"`` clears it.

        Raises:
            SessionNotFound: there is no such session.
        """
        key = self._key(session_id)
        check_status(status)
        if completed_at is not None:
            completed_at = take_instant(completed_at, "completed_at")
            if status == "active":
                raise InvalidArgument("an active session has no completed_at")
        turn = self._joined(key)
        if turn is not None:
            turn.draft.set_status(status, completed_at)
            return
        await self._gateway.change_head(key, HeadChange(status=status, completed_at=completed_at))

    async def complete_session(self, session_id: str) -> None:
        """Sets the status to ``"completed"``, at the server's time. Raises as ``update_session_status``."""
        await self.update_session_status(session_id, "completed")

    async def abandon_session(self, session_id: str) -> None:
        """Sets the status to ``"abandoned"``. Raises as ``update_session_status``."""
        await self.update_session_status(session_id, "abandoned")

    async def claim_session(self, session_id: str, user_id: str) -> None:
        """Gives a session without an owner its owner, once. Claiming it again for the same owner changes nothing.

        Raises:
            SessionNotFound: there is no such session, or it has another owner.
            TurnInProgress: called inside a turn on the session.
        """
        key = self._key(session_id)
        check_id(user_id, "user_id")
        self._owner_of(user_id)
        anonymous = SessionKey(Scope(self.namespace, None), session_id)
        for scope in (key.scope, anonymous.scope):
            refuse_in_turn(self.adapter, scope, session_id, "claim_session")
        try:
            await self._gateway.change_head(anonymous, HeadChange(), claim=user_id)
        except SessionNotFound:
            mine = SessionKey(Scope(self.namespace, user_id), session_id)
            if await self._gateway.load(mine, window=0) is None:
                raise

    async def delete_session(self, session_id: str) -> bool:
        """Removes the session and its whole history; False where there was none.

        Raises:
            TurnInProgress: called inside a turn on the session.
        """
        key = self._key(session_id)
        refuse_in_turn(self.adapter, key.scope, session_id, "delete_session")
        return await self._delete(key, None)

    # -- messages --------------------------------------------------------------------------------------------------

    async def save_message(self, session_id: str, role: Role, content: str, **fields: Any) -> Message:
        """Appends a message and returns it numbered; ``fields`` are those of ``Message``: ``event`` and so on.

        Messages saved at the same time all land, each once, in one order. A session that had ended becomes active.
        Inside a turn on the session it comes back as it was given: the turn's commit numbers it.

        Raises:
            SessionNotFound: there is no such session.
            InvalidArgument, NotSerializable, ValueTooLarge: the message cannot be stored.
        """
        unknown = {"seq", "commit_id"} & fields.keys()
        if unknown:
            raise InvalidArgument(f"a message has no field {', '.join(sorted(unknown))}: the store gives it")
        message = Message.of({"role": role, "content": content, **fields})
        return (await self.save_messages(session_id, [message]))[0]

    async def save_messages(
        self, session_id: str, messages: Iterable[Message | Mapping[str, Any]]
    ) -> tuple[Message, ...]:
        """Appends messages in one commit, all or none, and returns them numbered. Raises as ``save_message``."""
        key = self._key(session_id)
        new = take_messages(messages)
        turn = self._joined(key)
        if turn is not None:
            turn.draft.append(new)
            return tuple(new)
        if not new:
            return ()
        return await self._gateway.append(key, new)

    async def find_messages_by_session_id(
        self, session_id: str, *, limit: int = 50, before: int | None = None, after: int | None = None
    ) -> Page[Message, int]:
        """A page of history, oldest first. ``limit`` alone: the newest; ``before``/``after``: next to that seq.

        Walking it with ``async for`` goes on in the direction of reading: to older pages, or with ``after`` to newer.

        Raises:
            SessionNotFound: there is no such session.
        """
        key = self._key(session_id)
        limit = check_page_limit(limit, self._policy.limits.page, default=50)
        check_seq(before, "before")
        check_seq(after, "after")
        if before is not None and after is not None:
            raise InvalidArgument("give before or after, not both")
        turn = self._joined(key)
        if turn is not None:
            items, more = cut(numbered(await self._staged_history(turn.draft)), limit, before, after)
        else:
            query = MessageQuery(limit, before, after)
            page = await self._gateway.call("read_messages", lambda: self.adapter.read_messages(key, query))
            items = tuple(self._gateway.documents.message(session_id, row) for row in page.items)
            more = page.more

        async def fetch(seq: int) -> Page[Message, int]:
            further = {"before": seq} if after is None else {"after": seq}
            return await self.find_messages_by_session_id(session_id, limit=limit, **further)

        edge = (items[0] if after is None else items[-1]).seq if items and more else None
        return Page(items, edge, fetch)

    async def load_session_history(self, session_id: str) -> tuple[Message, ...]:
        """The whole history, oldest first.

        Raises:
            SessionNotFound: there is no such session.
        """
        key = self._key(session_id)
        turn = self._joined(key)
        if turn is not None:
            return await self._staged_history(turn.draft)
        snapshot = await self._gateway.load(key, window=None)
        if snapshot is None:
            raise session_not_found(session_id, self.adapter.name, "load_session_history")
        return snapshot.state.history

    async def search_messages(
        self,
        text: str,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        role: Role | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        after: str | None = None,
    ) -> Page[FoundMessage, str]:
        """Messages that say all the words of ``text``, best first, each with an excerpt that marks them by ``**``.

        Case and accents do not count. ``"words in quotes"`` have to stand together, ``-word`` must not occur; nothing
        else has a meaning. A message whose text holds NUL or a lone surrogate is not found.

        Args:
            text: what a person typed.
            user_id: in this owner's sessions; None: in all that this persistence sees.
            session_id: in one session.
            role: in messages of this role.
            since: in messages whose ``created_at`` is not before this instant, aware.
            until: in messages whose ``created_at`` is before this instant, aware.
            limit: messages of a page.
            after: the ``next_cursor`` of the page before.

        Raises:
            NotSupported: this database cannot search, or a payload filter keeps it from reading what is stored.
            InvalidArgument: there is no word in ``text``, or another argument makes no sense.
        """
        if type(text) is not str:
            raise InvalidArgument(f"the text to search for must be a str, not {type(text).__name__}")
        terms = Terms.parse(text)
        limit = check_page_limit(limit, self._policy.limits.page, default=20)
        check_optional_id(session_id, "session_id")
        if role is not None and (type(role) is not str or role not in ROLES):
            raise InvalidArgument(f"role is one of user, assistant, system, tool, not {role!r:.80}")
        since = None if since is None else take_instant(since, "since")
        until = None if until is None else take_instant(until, "until")
        query = SearchQuery(self._scope_of(user_id), terms, limit, session_id, role, since, until, check_cursor(after))
        self._gateway.documents.require_readable(self.adapter.name)
        page = await self._gateway.call("search_messages", lambda: self.adapter.search_messages(query))
        items = tuple(self._found(hit, terms) for hit in page.items)

        async def fetch(further: str) -> Page[FoundMessage, str]:
            return await self.search_messages(
                text,
                user_id=user_id,
                session_id=session_id,
                role=role,
                since=since,
                until=until,
                limit=limit,
                after=further,
            )

        return Page(items, page.next_cursor, fetch)

    def _found(self, hit: SearchHit, terms: Terms) -> FoundMessage:
        message = self._gateway.documents.message(hit.session_id, hit.message)
        excerpt = terms.excerpt(message.content) if hit.highlight is None else hit.highlight
        return FoundMessage(hit.session_id, message, hit.score, excerpt)

    # -- many sessions ---------------------------------------------------------------------------------------------

    async def find_sessions_by_user_id(
        self,
        user_id: str,
        *,
        limit: int = 100,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        agent_name: str | None = None,
        route: str | None = None,
        order: Order = "activity",
        cursor: str | None = None,
    ) -> Page[SessionRecord, str]:
        """A page of one owner's sessions; the conditions are those of ``find_sessions``."""
        scope = self._scope_of(check_id(user_id, "user_id"))
        conditions = Conditions(status=status, older_than=older_than, agent_name=agent_name, route=route)
        return await self._page(self._query(scope, conditions, limit=limit, order=order, cursor=cursor))

    async def find_sessions(
        self,
        *,
        limit: int = 100,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        agent_name: str | None = None,
        route: str | None = None,
        order: Order = "activity",
        cursor: str | None = None,
    ) -> Page[SessionRecord, str]:
        """A page of sessions that meet every given condition; their records have ``data=None``.

        Args:
            limit: items of one page.
            status: active, completed or abandoned.
            older_than: last committed to before this instant, or longer ago than this.
            agent_name: of the agent that last took a turn.
            route: id of the route the conversation is on.
            order: ``"activity"``, last committed to first: a session that is not touched meanwhile appears exactly
                once, a touched one at most once. ``"created"``, oldest first: everything that exists throughout
                appears exactly once.
            cursor: ``next_cursor`` of the page before.
        """
        conditions = Conditions(status=status, older_than=older_than, agent_name=agent_name, route=route)
        return await self._page(self._query(self._scope, conditions, limit=limit, order=order, cursor=cursor))

    async def delete_sessions(
        self,
        *,
        status: Status | None = None,
        older_than: datetime | timedelta | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
        route: str | None = None,
    ) -> int:
        """Removes every session that meets the given conditions (at least one), and returns how many.

        One that is committed to meanwhile is left alone. Can be interrupted and repeated.

        Raises:
            InvalidArgument: no condition was given.
            TurnInProgress: called inside a turn; sessions are only removed outside.
        """
        conditions = Conditions(status=status, older_than=older_than, agent_name=agent_name, route=route)
        if user_id is None and conditions == Conditions():
            raise InvalidArgument(
                "delete_sessions needs a condition: status=, older_than=, user_id=, agent_name= or route="
            )
        self._refuse_in_any_turn("delete_sessions")
        scope = self._scope_of(user_id)
        query: SessionQuery | None = self._query(scope, conditions, limit=DELETE_PAGE, order="created", cursor=None)
        deleted = 0
        while query is not None:
            page = await self._heads(query)
            for head in page.items:
                deleted += await self._delete(SessionKey(scope, head.session_id), head.token)
            query = replace(query, cursor=page.next_cursor) if page.next_cursor is not None else None
        return deleted

    async def erase_user(self, user_id: str) -> Erased:
        """Removes every session of one owner, and returns how many sessions and messages that were.

        Raises:
            TurnInProgress: called inside a turn; sessions are only removed outside.
        """
        scope = self._scope_of(check_id(user_id, "user_id"))
        self._refuse_in_any_turn("erase_user")
        return await self._gateway.call("delete_owner", lambda: self.adapter.delete_owner(scope))

    # -- the store -------------------------------------------------------------------------------------------------

    async def sweep(self) -> Swept:
        """Purges what has expired, in bounded bites, until nothing is left; returns what was removed."""
        sessions = messages = 0
        while True:
            swept = await self._gateway.call("sweep", lambda: self.adapter.sweep(SWEEP_LIMIT))
            sessions += swept.sessions
            messages += swept.messages
            if not swept.more:
                return Swept(sessions, messages, more=False)

    async def stats(self) -> Stats:
        """Counts over the sessions this persistence sees.

        Raises:
            NotSupported: this database cannot count.
        """
        return await self._gateway.call("stats", lambda: self.adapter.stats(StatsQuery(self._scope)))

    async def check(self) -> HealthReport:
        """What was checked about the database, line by line, and what to do about it."""
        return await self._gateway.call("check", self.adapter.check)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _owner_of(self, user_id: str | None) -> str | None:
        """The owner a session made here gets.

        Raises:
            InvalidArgument: ``user_id`` cannot be one.
            ConfigurationError: ``user_id`` is not the one this persistence is bound to.
        """
        check_optional_id(user_id, "user_id", limit=self._policy.limits.id_bytes)
        if self.user_id is not None and user_id is not None and user_id != self.user_id:
            raise ConfigurationError(
                f"this persistence is bound to user {self.user_id!r:.80} and cannot act for {user_id!r:.80}; "
                "open one with that user_id, or one without"
            )
        return user_id if user_id is not None else self.user_id

    def _scope_of(self, user_id: str | None) -> Scope:
        if user_id is None:
            return self._scope
        check_id(user_id, "user_id", limit=self._policy.limits.id_bytes)
        return Scope(self.namespace, self._owner_of(user_id))

    def _key(self, session_id: object) -> SessionKey:
        return SessionKey(self._scope, check_id(session_id, "a session id", limit=self._policy.limits.id_bytes))

    def _joined(self, key: SessionKey) -> OpenTurn | None:
        return joined(self.adapter, key.scope, key.session_id)

    def _refuse_in_any_turn(self, operation: str) -> None:
        for turn in open_turns():
            if turn.store is self.adapter:
                raise TurnInProgress(f"{operation} is not possible inside a turn", session_id=turn.draft.key.session_id)

    async def _change(
        self, session_id: str, operation: str, change: Callable[[Draft], Awaitable[None]]
    ) -> SessionState:
        key = self._key(session_id)
        turn = self._joined(key)
        if turn is not None:
            await change(turn.draft)
            return turn.draft.state

        async def load() -> Snapshot:
            snapshot = await self._gateway.load(key, window=0)
            if snapshot is None:
                raise session_not_found(session_id, self.adapter.name, operation)
            return snapshot

        return (await self._gateway.amend(key, change, load)).state

    async def _staged_history(self, draft: Draft) -> tuple[Message, ...]:
        """The whole history as the turn has staged it; what was not loaded with the turn is read now."""
        if draft.base is None or draft.drop_history or not draft.base.has_more:
            return draft.state.history
        known = draft.base.state.history
        before = known[0].seq if known else draft.base.head.last_seq + 1
        older: list[Message] = []
        while before is not None:
            query = MessageQuery(self._policy.limits.page, before=before)
            page = await self._gateway.call("read_messages", lambda: self.adapter.read_messages(draft.key, query))  # noqa: B023 - awaited at once
            older = [self._gateway.documents.message(draft.key.session_id, row) for row in page.items] + older
            before = page.items[0].seq if page.more else None
        return (*older, *draft.state.history)

    def _query(
        self, scope: Scope, conditions: Conditions, *, limit: int, order: Order, cursor: str | None
    ) -> SessionQuery:
        limit = check_page_limit(limit, self._policy.limits.page, default=100)
        return SessionQuery(
            scope=scope,
            limit=limit,
            status=conditions.status,
            agent_name=conditions.agent_name,
            route=conditions.route,
            older_than=conditions.older_than,
            order=check_order(order),
            cursor=check_cursor(cursor),
        )

    async def _heads(self, query: SessionQuery) -> SessionPage:
        return await self._gateway.call("find_sessions", lambda: self.adapter.find_sessions(query))

    async def _page(self, query: SessionQuery) -> Page[SessionRecord, str]:
        page = await self._heads(query)

        async def fetch(cursor: str) -> Page[SessionRecord, str]:
            return await self._page(replace(query, cursor=cursor))

        return Page(tuple(record_of(head, None) for head in page.items), page.next_cursor, fetch)

    async def _delete(self, key: SessionKey, expect: Token | None) -> bool:
        """Deletes one session; False where it is gone or was committed to since ``expect``."""
        try:
            deleted = await self._gateway.call("delete", lambda: self.adapter.delete(key, expect=expect))
        except SessionConflict:
            return False
        if deleted:
            owner = key.scope.owner if isinstance(key.scope.owner, str) else None
            await self._gateway.plugins.on_session_deleted(SessionView(key.session_id, owner, self.namespace, None))
        return deleted
