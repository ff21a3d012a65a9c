"""The live session: one conversation, as it was last read or written, and what is staged on top of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

from turnkeep.contract import Scope, SessionKey
from turnkeep.errors import InvalidArgument, SessionConflict, SessionExists, SessionNotLoaded, StorageError
from turnkeep.gates import Exclusive
from turnkeep.gateway import AlreadyCommitted
from turnkeep.hooks import SessionView
from turnkeep.ids import check_commit_id, check_optional_id, create_session_id, new_id
from turnkeep.inspection import find_problems
from turnkeep.messages import Message, take_messages, unstored
from turnkeep.models import UNSET, SessionState, Unset
from turnkeep.paging import check_page_limit
from turnkeep.persistence import Persistence
from turnkeep.policy import check_window
from turnkeep.session_turn import SessionTurn
from turnkeep.turn import Draft, Joinable, OpenTurn, joined, merge, refuse_in_turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from turnkeep._notices import Notices
    from turnkeep.agent.routes import Routes
    from turnkeep.agent.schema import Schema
    from turnkeep.contract import Committed
    from turnkeep.gateway import Gateway
    from turnkeep.messages import Role
    from turnkeep.snapshot import Snapshot

M = TypeVar("M")


class SessionManager:
    """One conversation of one store. Cheap: make one per request.

    What it holds in memory is what the store held when it last read or wrote; it changes only when a commit took
    effect. Calls made inside an open turn on this session join the turn. Its methods may be called concurrently.

    Args:
        persistence: the store.
        session_id: the session to work with; None: the first call that needs one makes an id.
        user_id: the owner. None: the persistence's own, or else anonymous: sessions without an owner only.
        auto_save: False keeps what this session stages until ``save()``; ``delete``, ``reset`` and ``earlier`` are
            immediate all the same.
        window: how many messages a load brings; not given: as the persistence does.
    """

    def __init__(
        self,
        persistence: Persistence,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        auto_save: bool = True,
        window: int | Unset | None = UNSET,
    ) -> None:
        if not isinstance(persistence, Persistence):
            raise InvalidArgument(f"a SessionManager needs a turnkeep.Persistence, not {persistence!r:.80}")
        self._persistence = persistence
        self._gateway = persistence._gateway
        owner = persistence._owner_of(user_id)
        self._scope = Scope(persistence.namespace, owner)
        self._id = self._check_id(session_id)
        self._window = persistence._policy.window if window is UNSET else check_window(window)
        self._snapshot: Snapshot | None = None
        self._draft: Draft | None = None
        self._stale = False
        self._lock = Exclusive()
        self.auto_save = auto_save
        self._schema: Schema | None = None
        self._routes: Routes | None = None

    def _told(self, gateway: Gateway, schema: Schema | None, routes: Routes) -> None:
        """What an agent adds to its own session: a gateway that its listeners hear, its schema, its routes."""
        self._gateway = gateway
        self._schema = schema
        self._routes = routes

    def __repr__(self) -> str:
        return f"<SessionManager {self._id!r:.200} of user {self._scope.owner!r:.200}>"

    # -- what is in memory -----------------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The session's id; None until one was given or made."""
        return self._id

    @property
    def current(self) -> SessionState:
        """The session, whole, with what is staged on top.

        Raises:
            SessionNotLoaded: nothing was loaded yet.
        """
        turn = self._joined()
        if turn is not None:
            return turn.draft.state
        if self._draft is not None:
            return self._draft.state
        if self._snapshot is None:
            raise SessionNotLoaded("this session was not loaded yet: await session.get_or_create() first")
        return self._snapshot.state

    @property
    def persistence(self) -> Persistence:
        """The store it is kept in."""
        return self._persistence

    @property
    def has_more(self) -> bool:
        """Whether there is history before what was loaded; ``earlier()`` fetches it."""
        _ = self.current
        turn = self._joined()
        base = self._snapshot if turn is None else turn.draft.base
        return base is not None and base.has_more

    def get_history(self) -> tuple[Message, ...]:
        """The messages that were loaded or added, oldest first.

        Raises:
            SessionNotLoaded: nothing was loaded yet.
        """
        return self.current.history

    @property
    def data(self) -> dict[str, Any]:
        """As ``get_data()``."""
        return self.current.data

    @overload
    def get_data(self) -> dict[str, Any]: ...
    @overload
    def get_data(self, model: type[M]) -> M: ...
    def get_data(self, model: type[Any] | None = None) -> Any:
        """What the conversation has collected: a copy, or with a pydantic model, a validated instance of it.

        Keys the model does not know are ignored.

        Raises:
            SessionNotLoaded: nothing was loaded yet.
            DataIncomplete: required fields are missing; they are named.
            InvalidData: a value does not fit the model.
        """
        data = self.current.data
        if model is None:
            return data
        from turnkeep.agent.schema import Schema

        return Schema(model).instance(data)

    def validate(self) -> list[str]:
        """What is wrong with the session, in words; empty when all is well.

        Looks for routes and steps the agent does not know, tool calls without results and results without calls, and
        gaps in the history.

        Raises:
            SessionNotLoaded: nothing was loaded yet.
        """
        return find_problems(self.current, self._routes)

    # -- loading ---------------------------------------------------------------------------------------------------

    async def get_or_create(self, session_id: str | None = None) -> SessionState:
        """Reads the session from the store, or creates it there, and makes it the current one.

        Without an id: the current session, with what is staged on it, or else a new one. With an id it is read anew,
        and what was staged and not saved is dropped: the way to go on after a ``SessionConflict``. If somebody else
        creates it at the same moment, theirs is returned. Inside a turn on it: the session as staged.

        Raises:
            SessionExists: the id is taken by a session of another owner.
        """
        wanted = self._check_id(session_id) or self._id or create_session_id()
        if session_id is None and self._draft is not None:
            return self.current
        turn = joined(self._gateway.adapter, self._scope, wanted)
        if turn is not None:
            return turn.draft.state
        async with self._lock as notices:
            snapshot = await self._load(wanted)
            draft = None
            if snapshot is None:
                draft = self._new_draft(wanted)
                if self.auto_save:
                    snapshot, draft = await self._create(draft, notices), None
            self._id, self._draft, self._stale = wanted, draft, False
            if snapshot is None or not snapshot.is_behind(self._snapshot):
                self._snapshot = snapshot  # a turn may have ended while this was being read
            return self.current

    async def earlier(self, count: int = 50) -> tuple[Message, ...]:
        """Fetches up to ``count`` messages before those that were loaded, adds them to the history and returns them."""
        async with self._lock:
            await self._begin_draft()
            snapshot = self._snapshot
            if snapshot is None or not snapshot.has_more or (self._draft is not None and self._draft.drop_history):
                return ()
            known = snapshot.state.history
            before = (known[0].seq if known else None) or snapshot.head.last_seq + 1
            limit = check_page_limit(count, self._gateway.policy.limits.page, default=50)
            found = await self._gateway.earlier(self._key(), before=before, limit=limit)
            self._snapshot = snapshot.with_history((*found, *known))
            if self._draft is not None:
                self._draft.rebase(self._snapshot)
            return found

    # -- writing ---------------------------------------------------------------------------------------------------

    async def add_message(self, role: Role, content: str, **fields: Any) -> Message:
        """Appends a message and returns it; takes the fields of ``Message``. Creates the session if there is none.

        Never conflicts: what others added at the same time stays, in one order for all.
        """
        message = Message.of({"role": role, "content": content, **fields})
        turn = self._joined()
        if turn is not None:
            turn.draft.append([message])
            return message
        async with self._lock as notices:
            staging = self._draft is not None or not self.auto_save
            if staging or self._snapshot is None:
                draft = await self._begin_draft()
                if staging or draft.base is None:
                    return await self._add_to(draft, message, notices)
            return await self._append(message, notices)

    async def set_history(self, messages: Iterable[Message | Mapping[str, Any]]) -> None:
        """Replaces the whole history, in one commit. The messages get new numbers; those of other sessions new ids.

        Raises:
            SessionConflict: somebody else committed since it was read; nothing was written.
            TurnInProgress: called inside a turn on this session.
        """
        self._refuse_in_turn("set_history")
        fresh = [unstored(message) for message in take_messages(messages)]
        await self._edit(lambda draft: draft.set_history(fresh))

    async def clear_history(self) -> None:
        """Empties the history. Raises as ``set_history``."""
        await self.set_history(())

    async def set_data(self, changes: Mapping[str, Any] | None) -> None:
        """Merges into the collected data: shallow; None is a value, ``UNSET`` removes a key.

        Raises:
            InvalidData: it does not fit the agent's schema; nothing was changed.
            SessionConflict: somebody else committed since it was read; nothing was written.
        """
        if changes is None:
            return

        async def change(draft: Draft) -> None:
            await self._gateway.set_data(draft, merge(draft.state.data, changes))

        await self._edit(change)

    async def clear_data(self) -> None:
        """Empties the collected data. Raises as ``set_data``."""

        async def change(draft: Draft) -> None:
            await self._gateway.set_data(draft, {})

        await self._edit(change)

    async def save(self) -> None:
        """Commits what is staged, as one commit; does nothing where nothing is, nor inside a turn, which saves itself.

        Raises:
            SessionConflict: somebody else committed meanwhile; what was staged stays staged.
        """
        if self._draft is None or self._joined() is not None:
            return
        # A turn under way is waited for: it stages on top of what is staged now, and is saved with it.
        async with self._gateway.gates.enter(self._key(), new_id(), wait=True), self._lock as notices:
            try:
                await self._save_staged(notices)
            except AlreadyCommitted:
                await self._read_again()  # an earlier try had taken effect, though nobody could tell

    async def delete(self) -> bool:
        """Removes the session from the store, with its history and what was staged; False where there was none.

        Raises:
            TurnInProgress: called inside a turn on this session.
        """
        self._refuse_in_turn("delete")
        async with self._lock:
            if self._id is None:
                return False
            deleted = await self._delete(self._id)
            self._forget()
            return deleted

    async def reset(self, preserve_history: bool = False) -> SessionState:
        """Begins a new session in place of this one, with the whole stored history if asked, and removes the old one.

        The new session has an id of its own and no data. It is complete before the old one is removed; if that fails
        the new one is live all the same and the error's note names the old id.

        Raises:
            TurnInProgress: called inside a turn on this session.
        """
        self._refuse_in_turn("reset")
        async with self._lock as notices:
            old = self._id
            history: tuple[Message, ...] = ()
            if preserve_history and old is not None:
                history = await self._whole_history(old, notices)
            fresh = create_session_id()
            snapshot = await self._write_new(fresh, history, notices)
            self._id = fresh
            self._adopt(snapshot)
            if old is not None:
                try:
                    await self._delete(old)
                except Exception as error:
                    error.add_note(f"the new session {fresh} is live; the old one, {old!r:.200}, is still there")
                    raise
            return self.current

    def turn(self, *, commit_id: str | None = None) -> SessionTurn:
        """``async with session.turn() as turn``: everything staged inside becomes one commit, or nothing.

        A commit id makes it safe to repeat: if it took effect before, ``turn.replayed`` is true and nothing is stored.

        Raises:
            SessionConflict: another turn is open on this session in this process, or somebody else committed meanwhile.
            TurnInProgress: opened inside a turn on this session.
        """
        return SessionTurn(self, None if commit_id is None else check_commit_id(commit_id))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_id(self, session_id: str | None) -> str | None:
        return check_optional_id(session_id, "a session id", limit=self._gateway.policy.limits.id_bytes)

    def _key(self, session_id: str | None = None) -> SessionKey:
        wanted = session_id if session_id is not None else self._id
        assert wanted is not None
        return SessionKey(self._scope, wanted)

    def _joined(self) -> OpenTurn | None:
        return None if self._id is None else joined(self._gateway.adapter, self._scope, self._id)

    def _refuse_in_turn(self, operation: str) -> None:
        if self._id is not None:
            refuse_in_turn(self._gateway.adapter, self._scope, self._id, operation)

    async def _load(self, session_id: str, commit_id: str | None = None) -> Snapshot | None:
        snapshot = await self._gateway.load(self._key(session_id), window=self._window, commit_id=commit_id)
        if snapshot is not None and self._gateway.plugins.listens("on_session_loaded"):
            await self._gateway.plugins.on_session_loaded(SessionView.of(snapshot.state, self._scope.namespace))
        return snapshot

    def _new_draft(self, session_id: str, commit_id: str | None = None) -> Draft:
        owner = self._scope.owner if isinstance(self._scope.owner, str) else None
        state = SessionState(session_id, user_id=owner, data_version=self._persistence._policy.data_version)
        return self._held(Draft(self._key(session_id), None, state, commit_id=commit_id))

    def _draft_on(self, snapshot: Snapshot, commit_id: str | None = None) -> Draft:
        return self._held(Draft.on(self._key(), snapshot, commit_id=commit_id))

    def _held(self, draft: Draft) -> Draft:
        """The draft, held against the schema of the agent whose session this is."""
        draft.schema = self._schema
        return draft

    async def _create(self, draft: Draft, notices: Notices) -> Snapshot:
        try:
            return await self._gateway.commit(draft, notices=notices)
        except SessionExists:
            # Somebody was faster; their session is as good as ours, unless it is somebody else's.
            theirs = await self._load(draft.key.session_id)
            if theirs is None:
                raise
            return theirs

    async def _begin_draft(self) -> Draft:
        """Something to stage on: what is staged already, what was read, or a new session."""
        if self._draft is not None:
            return self._draft.copy()
        if self._snapshot is None or self._stale:
            if self._id is None:
                self._id = create_session_id()
            self._snapshot, self._stale = await self._load(self._id), False
            if self._snapshot is None:
                return self._new_draft(self._id)
        return self._draft_on(self._snapshot)

    async def _add_to(self, draft: Draft, message: Message, notices: Notices) -> Message:
        """Adds a message to what is staged, or to a session that it creates."""
        with Joinable(OpenTurn(self._gateway.adapter, draft)):
            place = len(draft.appended)
            draft.append([message])
            try:
                await self._save(draft, notices)
            except SessionExists:
                # Created by somebody else in between: theirs is taken, unless it is another owner's.
                self._snapshot = await self._load(draft.key.session_id)
                if self._snapshot is None:
                    raise
                return await self._append(message, notices)
        return self.current.history[place - len(draft.appended)]

    async def _append(self, message: Message, notices: Notices) -> Message:
        """Adds a message behind whatever is there, and to what is in memory."""
        snapshot = self._snapshot
        assert snapshot is not None

        def adopt(result: Committed, stored: tuple[Message, ...]) -> None:
            self._snapshot = snapshot.appended(result, *stored)
            # A token that was not read must not be built on: what others wrote in between is not in memory.
            self._stale = not result.contiguous

        seen = None if self._stale else snapshot.head.token
        stored = await self._gateway.append(self._key(), [message], seen=seen, adopt=adopt, notices=notices)
        assert self._snapshot is not None
        if self._snapshot.head.token.incarnation != snapshot.head.token.incarnation:
            self._snapshot = await self._load(self._key().session_id)  # deleted and made anew: another conversation
        return stored[0]

    async def _edit(self, change: Callable[[Draft], Awaitable[None] | None]) -> None:
        turn = self._joined()
        if turn is not None:
            await _run(change, turn.draft)
            return
        async with self._lock as notices:
            draft = await self._begin_draft()
            with Joinable(OpenTurn(self._gateway.adapter, draft)):
                await _run(change, draft)
                await self._save(draft, notices)

    async def _save(self, draft: Draft, notices: Notices | None = None) -> None:
        """Commits a draft, or keeps it staged if this session does not save by itself."""
        if self.auto_save:
            await self._commit(draft, notices)
        elif draft.origin is not self._draft:
            raise SessionConflict(
                f"session {draft.key.session_id!r:.200}: something was staged or saved meanwhile; repeat on top of it",
                session_id=draft.key.session_id,
            )
        else:
            self._draft = draft

    async def _commit(self, draft: Draft, notices: Notices | None) -> None:
        await self._gateway.commit(draft, self._adopt, notices)

    def _adopt(self, snapshot: Snapshot) -> None:
        self._snapshot, self._draft, self._stale = snapshot, None, False

    async def _save_staged(self, notices: Notices) -> None:
        if self._draft is not None:
            await self._commit(self._draft, notices)

    async def _read_again(self) -> None:
        self._snapshot, self._draft, self._stale = await self._load(self._key().session_id), None, False

    def _forget(self) -> None:
        self._snapshot = self._draft = None
        self._stale = False

    async def _delete(self, session_id: str) -> bool:
        return await self._persistence._delete(self._key(session_id), None)

    async def _whole_history(self, session_id: str, notices: Notices) -> tuple[Message, ...]:
        if self._draft is not None:
            await self._commit(self._draft, notices)
        snapshot = await self._gateway.load(self._key(session_id), window=None)
        return () if snapshot is None else snapshot.state.history

    async def _write_new(self, session_id: str, history: tuple[Message, ...], notices: Notices) -> Snapshot:
        """Writes a session with this history, in as many commits as the limits ask for."""
        snapshot: Snapshot | None = None
        key = self._key(session_id)
        try:
            for portion in self._gateway.portions([message.replace() for message in history]) or [[]]:
                draft = self._new_draft(session_id) if snapshot is None else Draft.on(key, snapshot)
                draft.append(portion)
                snapshot = await self._gateway.commit(draft, notices=notices)
        except BaseException:
            if snapshot is not None:
                with suppress(StorageError):  # half a session must not stay; what is raised is why it is half
                    await asyncio.shield(self._delete(session_id))
            raise
        assert snapshot is not None
        return snapshot


async def _run(change: Callable[[Draft], Awaitable[None] | None], draft: Draft) -> None:
    waiting = change(draft)
    if waiting is not None:
        await waiting
