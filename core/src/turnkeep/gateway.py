"""The one way to the adapter: every call is bounded, timed, reported, and its outcome made certain."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import random
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from turnkeep import codec
from turnkeep._deadlines import Deadlines
from turnkeep._notices import Notices, tell
from turnkeep.contract import Commit, Expect, HeadChange, LoadQuery, MessageQuery, StorageAdapter, Token
from turnkeep.documents import Documents
from turnkeep.errors import (
    CommitOutcomeUnknown,
    Conflict,
    CorruptRecord,
    DataTooNew,
    InvalidArgument,
    SessionConflict,
    StorageError,
    StorageTimeout,
    StorageUnavailable,
    ValueTooLarge,
)
from turnkeep.gates import Gates
from turnkeep.hooks import SessionView
from turnkeep.ids import check_id, new_id
from turnkeep.lifetime import Lifetime
from turnkeep.limits import ID_BYTES
from turnkeep.turn import Draft, TurnView, refuse_stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from turnkeep.contract import Committed, NewMessage, SessionKey
    from turnkeep.messages import Message
    from turnkeep.plugins import Plugins
    from turnkeep.policy import Policy
    from turnkeep.snapshot import Snapshot

T = TypeVar("T")

_log = logging.getLogger("turnkeep.storage")

RESENDS = 2
"""How often a commit of unknown outcome is sent again before the caller is told so."""

AMEND_ATTEMPTS = 40
"""How often a small change outside of a turn is tried on top of what others wrote meanwhile. Where 32 writers change
one session on a machine that is busy otherwise, ten are too few: one of them gets through at a time."""

_WATCHING = ("on_session_created", "on_messages_appended", "on_session_completed", "on_session_committed")


class AlreadyCommitted(Exception):
    """The commit id had taken effect before this commit was sent: somebody else was given the same one."""


class Gateway:
    """An adapter, opened once and closed once, with the policy that applies to everything it stores."""

    def __init__(self, adapter: StorageAdapter, policy: Policy, plugins: Plugins, *, auto_create: bool = True) -> None:
        self.adapter = adapter
        self.policy: Policy = replace(
            policy,
            session_ttl=policy.session_ttl or adapter.session_ttl,
            message_ttl=policy.message_ttl or adapter.message_ttl,
        )
        self.plugins = plugins
        self.documents: Documents = Documents(policy.namespace, policy.limits, plugins.payload_filter)
        self.gates: Gates = Gates()
        self.opened: Callable[[], Awaitable[None]] | None = None
        self._lifetime = Lifetime(adapter, auto_create=auto_create, timeout=policy.timeout)
        self._deadlines = Deadlines(policy.timeout)

    def heard_by(self, plugins: Plugins) -> Gateway:
        """The same store, with other listeners."""
        twin = object.__new__(Gateway)
        twin.__dict__ |= self.__dict__ | {"plugins": plugins}
        return twin

    async def open(self) -> None:
        """Opens the adapter, once.

        Raises:
            PersistenceClosed: it was closed for good.
        """
        if await self._lifetime.open() and self.opened is not None:
            await self.opened()

    async def aclose(self) -> None:
        """Closes the adapter, once and for good."""
        await self._lifetime.aclose()

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._lifetime.closed

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and not closed since."""
        return self._lifetime.is_open

    async def call(
        self,
        operation: str,
        request: Callable[[], Awaitable[T]],
        *,
        session: SessionView | None = None,
        size: int = 0,
        notices: Notices | None = None,
    ) -> T:
        """What the adapter answers, within the deadline.

        Observers of the call are told at once, or, with ``notices``, when the caller is done with what it brought.

        Raises:
            StorageTimeout: it did not answer in time.
            PersistenceClosed: it is closed.
            StorageError: whatever the adapter raises.
        """
        if not self._lifetime.is_open:
            await self.open()
        started = time.perf_counter()
        outcome = "ok"
        deadline = self._deadlines.begin()
        try:
            with deadline:
                return await request()
        except TimeoutError as error:
            outcome = "timeout"
            if not deadline.expired:
                raise
            raise await self._report(operation, self._timed_out(operation, error), session) from error
        except Conflict:
            outcome = "conflict"
            raise
        except StorageError as error:
            outcome = "error"
            await self._report(operation, error, session)
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            duration = time.perf_counter() - started
            if duration > self.policy.slow_threshold:
                _log.warning("%s: %s took %.3f s", self.adapter.name, operation, duration)
            if self.plugins.listens("on_storage_operation"):
                told = partial(self.plugins.on_storage_operation, operation, duration, size, outcome)
                if notices is None:
                    await told()
                else:
                    notices.append(told)

    async def _report(self, operation: str, error: StorageError, session: SessionView | None) -> StorageError:
        if self.plugins.listens("on_storage_error"):
            await self.plugins.on_storage_error(operation, error, session)
        return error

    def _timed_out(self, operation: str, error: TimeoutError) -> StorageTimeout:
        return StorageTimeout(
            f"{self.adapter.name} did not answer {operation} within {self.policy.timeout:g} s; nothing was written. "
            "Raise timeout= if the database is known to be slow",
            adapter=self.adapter.name,
            operation=operation,
        )

    async def load(self, key: SessionKey, *, window: int | None, commit_id: str | None = None) -> Snapshot | None:
        """The session, decoded and with its data at the application's version; None where there is none."""
        stored = await self.call("load", partial(self.adapter.load, key, LoadQuery(window, commit_id)))
        if stored is None:
            return None
        head = stored.head
        if head.session_id != key.session_id or not key.scope.sees(head.user_id):
            raise CorruptRecord(
                f"{self.adapter.name} answered a load of session {key.session_id!r:.200} with another session",
                adapter=self.adapter.name,
                operation="load",
            )
        return await self._upgrade(self.documents.snapshot(stored))

    async def earlier(self, key: SessionKey, *, before: int, limit: int) -> tuple[Message, ...]:
        """Up to ``limit`` messages of the history before ``before``, oldest first."""
        query = MessageQuery(limit, before=before)
        page = await self.call("read_messages", lambda: self.adapter.read_messages(key, query))
        return tuple(self.documents.message(key.session_id, row) for row in page.items)

    async def _upgrade(self, snapshot: Snapshot) -> Snapshot:
        wanted, found = self.policy.data_version, snapshot.state.data_version
        if wanted is None or found == wanted:
            return snapshot
        session_id = snapshot.state.id
        if found is not None and found > wanted:
            raise DataTooNew(
                f"the data of session {session_id!r:.200} is of version {found}, this application knows {wanted}; "
                "it was left as it is"
            )
        if self.policy.upgrade_data is None:
            return snapshot
        upgraded = self.policy.upgrade_data(snapshot.state.data, found or 0)
        data = await upgraded if inspect.isawaitable(upgraded) else upgraded
        if type(data) is not dict:
            raise InvalidArgument(f"upgrade_data must return a dict, not {type(data).__name__}")
        # Only what is read changes: the next commit that writes data writes the upgraded form.
        return replace(snapshot, state=snapshot.state.replace(data=data, data_version=wanted))

    async def commit(
        self, draft: Draft, adopt: Callable[[Snapshot], None] = lambda _: None, notices: Notices | None = None
    ) -> Snapshot:
        """Makes a draft durable and tells the observers, or leaves that to the caller: those to tell join ``notices``.

        ``adopt`` is called with what the session is at now, as soon as that is certain: before the observers, and even
        where the caller was cancelled too late to stop the commit.
        """
        await self._prepare(draft)
        draft.sealed = True
        try:
            return await self._commit_sealed(draft, adopt, notices)
        except SessionConflict as conflict:
            if self.plugins.listens("on_conflict"):
                view = SessionView.of(draft.state, self.policy.namespace)
                await self.plugins.on_conflict(view, conflict.expected, conflict.actual, draft.attempt)
            raise
        finally:
            draft.sealed = False  # a draft that was not committed can be tried again

    async def _commit_sealed(self, draft: Draft, adopt: Callable[[Snapshot], None], later: Notices | None) -> Snapshot:
        rows, size = self._rows(draft.key.session_id, draft.appended)
        commit = draft.commit(rows, self.documents, self.policy)
        size = self._check_commit_size(commit, size)
        task = asyncio.current_task()
        cancelled = _cancellations(task)
        notices: Notices = [] if later is None else later
        session = lambda: SessionView.of(draft.state, self.policy.namespace)  # noqa: E731 - made only if needed
        try:
            result = await self._send(commit, size, session, notices)
        except BaseException:
            if later is None:
                await tell(notices)
            raise
        snapshot = draft.committed(commit, result)
        adopt(snapshot)
        if self._is_watched:
            messages = snapshot.state.history[len(snapshot.state.history) - len(draft.appended) :]
            self._announce(commit, SessionView.of(snapshot.state, self.policy.namespace), draft.view(messages), notices)
        if later is None:
            await tell(notices)
        if _cancellations(task) > cancelled:
            raise asyncio.CancelledError
        return snapshot

    async def append(
        self,
        key: SessionKey,
        messages: Sequence[Message],
        *,
        seen: Token | None = None,
        adopt: Callable[[Committed, tuple[Message, ...]], None] | None = None,
        notices: Notices | None = None,
    ) -> tuple[Message, ...]:
        """Adds messages to a session in whatever state it is, and makes it active. Returns them numbered.

        ``adopt`` and ``notices`` are as for ``commit``.
        """
        refuse_stored(messages)
        view = SessionView(id=key.session_id, user_id=_owner(key), namespace=key.scope.namespace, state=None)
        prepared = await self._before_save(messages, view)
        rows, size = self._rows(key.session_id, prepared)
        commit = self._any(key, HeadChange(status="active"), messages=rows, seen=seen)
        self._check_commit_size(commit, size)
        return await self._send_any(commit, size, view, prepared, adopt, notices)

    async def change_head(self, key: SessionKey, change: HeadChange, *, claim: str | None = None) -> None:
        """Changes a session's head in whatever state it is."""
        view = SessionView(id=key.session_id, user_id=claim or _owner(key), namespace=key.scope.namespace, state=None)
        await self._send_any(self._any(key, change, claim=claim), 0, view, (), None, None)

    def _any(self, key: SessionKey, change: HeadChange, **fields: Any) -> Commit:
        return Commit(
            key=key,
            commit_id=new_id(),
            digest="-",
            expect=Expect.ANY,
            head=change,
            ttl=self.policy.session_ttl,
            message_ttl=self.policy.message_ttl,
            **fields,
        )

    async def _send_any(
        self,
        commit: Commit,
        size: int,
        view: SessionView,
        messages: Sequence[Message],
        adopt: Callable[[Committed, tuple[Message, ...]], None] | None,
        later: Notices | None,
    ) -> tuple[Message, ...]:
        turn = TurnView(commit.commit_id, tuple(messages), None, created=False)
        if self.plugins.listens("before_commit"):
            await self.plugins.before_commit(turn, view)
        task = asyncio.current_task()
        cancelled = _cancellations(task)
        notices: Notices = [] if later is None else later
        try:
            result = await self._send(commit, size, lambda: view, notices)
        except BaseException:
            if later is None:
                await tell(notices)
            raise
        first = result.first_seq or 0
        numbered = tuple(message._numbered(first, index, commit.commit_id) for index, message in enumerate(messages))
        if adopt is not None:
            adopt(result, numbered)
        self._announce(commit, view, replace(turn, messages=numbered), notices)
        if later is None:
            await tell(notices)
        if _cancellations(task) > cancelled:
            raise asyncio.CancelledError
        return numbered

    async def amend(
        self, key: SessionKey, change: Callable[[Draft], Awaitable[None]], load: Callable[[], Awaitable[Snapshot]]
    ) -> Snapshot:
        """Loads, changes and commits, again on top of what others wrote meanwhile.

        Raises:
            SessionConflict: others were faster each time.
        """
        attempt = 0
        while True:
            attempt += 1
            draft = Draft.on(key, await load())
            draft.attempt = attempt
            await change(draft)
            try:
                return await self.commit(draft)
            except SessionConflict:
                if attempt == AMEND_ATTEMPTS:
                    raise
            await back_off(attempt)

    async def _prepare(self, draft: Draft) -> None:
        """Lets the listeners change or refuse what is about to be stored."""
        plugins = self.plugins
        draft.settle_status()
        await self._agree_on_data(draft)
        await self._filter_appended(draft)
        if plugins.listens("before_commit"):
            shown = draft.view()
            wanted = await plugins.before_commit(shown, SessionView.of(draft.state, self.policy.namespace))
            if wanted is not shown:
                draft.apply(wanted)
            await self._filter_appended(draft)  # what that listener has put into the turn

    async def set_data(self, draft: Draft, data: dict[str, Any]) -> None:
        """Stages data once the schema and the listeners have agreed to it."""
        draft.set_data(data)
        await self._agree_on_data(draft)

    async def _agree_on_data(self, draft: Draft) -> None:
        """Asks the listeners about data that they were not asked about yet."""
        if draft.state._data == draft.agreed:
            return
        if self.plugins.listens("before_data_update"):
            previous = codec.decode(draft.agreed, what="data")
            view = SessionView.of(draft.state._with(_data=draft.agreed), self.policy.namespace)
            draft.set_data(await self.plugins.before_data_update(draft.state.data, previous, view))
        draft.agree()

    async def _filter_appended(self, draft: Draft) -> None:
        """Shows each appended message to the listeners once, however often the commit is tried."""
        if not self.plugins.listens("before_message_save"):
            return
        index = 0
        while index < len(draft.appended):
            message = draft.appended[index]
            if not any(message is seen for seen in draft.filtered):
                view = SessionView.of(draft.state, self.policy.namespace)
                message = await self.plugins.before_message_save(message, view)
                draft.exchange_appended(index, message)
                draft.filtered.append(draft.appended[index])
            index += 1

    async def _before_save(self, messages: Sequence[Message], view: SessionView) -> list[Message]:
        if not self.plugins.listens("before_message_save"):
            return list(messages)
        return [await self.plugins.before_message_save(message, view) for message in messages]

    def _rows(self, session_id: str, messages: Sequence[Message]) -> tuple[tuple[NewMessage, ...], int]:
        limits = self.policy.limits
        if len(messages) > limits.commit_messages:
            raise ValueTooLarge(
                f"{len(messages):,} messages in one commit are over Limits.commit_messages "
                f"({limits.commit_messages:,}); store them in several calls"
            )
        if len({message.id for message in messages}) != len(messages):
            raise InvalidArgument("two messages of one commit have the same id")
        if limits.id_bytes < ID_BYTES:
            for message in messages:
                check_id(message.id, "a message's id", limit=limits.id_bytes)
        rows: list[NewMessage] = []
        total = 0
        for message in messages:
            row, size = self.documents.row(session_id, message)
            rows.append(row)
            total += size
        return tuple(rows), total

    def portions(self, messages: Sequence[Message]) -> list[list[Message]]:
        """The messages in order, in lists that each fit into one commit."""
        limits = self.policy.limits
        portions: list[list[Message]] = []
        room = 0
        for message in messages:
            size = message._size()
            if not portions or len(portions[-1]) == limits.commit_messages or size > room:
                portions.append([])
                room = limits.commit_bytes - limits.state_bytes
            portions[-1].append(message)
            room -= size
        return portions

    def _check_commit_size(self, commit: Commit, messages_size: int) -> int:
        size = messages_size + sum(codec.utf8_length(text) for text in (commit.data, commit.state) if text is not None)
        limit = self.policy.limits.commit_bytes
        if size > limit:
            raise ValueTooLarge(f"a commit of {size:,} bytes is over Limits.commit_bytes ({limit:,}); split it")
        return size

    async def _send(self, commit: Commit, size: int, view: Callable[[], SessionView], notices: Notices) -> Committed:
        """The outcome of a commit, certain.

        Where the adapter cannot tell, the same commit is sent again: it is applied at most once and answered with its
        first result, so the second answer is the outcome of the first.
        """
        session = view() if self.plugins.listens("on_storage_error") else None
        send = partial(self.adapter.commit, commit)
        try:
            result = await self.call("commit", send, session=session, size=size, notices=notices)
        except CommitOutcomeUnknown as unknown:
            for attempt in range(1, RESENDS + 1):
                await back_off(attempt)
                try:
                    return await self.call("commit", send, session=session, size=size, notices=notices)
                except (CommitOutcomeUnknown, StorageUnavailable, StorageTimeout) as error:
                    unknown.__context__ = error
            raise
        if result.replayed:
            raise AlreadyCommitted
        return result

    @property
    def _is_watched(self) -> bool:
        """Whether anybody is told of commits: what they would be shown costs something to make."""
        return any(map(self.plugins.listens, _WATCHING))

    def _announce(self, commit: Commit, session: SessionView, turn: TurnView, notices: Notices) -> None:
        """Notes who is to be told of a commit that took effect, in order."""
        plugins = self.plugins
        if turn.created and plugins.listens("on_session_created"):
            notices.append(partial(plugins.on_session_created, session))
        if turn.messages and plugins.listens("on_messages_appended"):
            notices.append(partial(plugins.on_messages_appended, turn.messages, session))
        if commit.head.status == "completed" and plugins.listens("on_session_completed"):
            notices.append(partial(plugins.on_session_completed, session))
        if plugins.listens("on_session_committed"):
            notices.append(partial(plugins.on_session_committed, session, turn))


async def back_off(attempt: int) -> None:
    """Waits before another attempt: full jitter, so that those who collided once do not collide again."""
    await asyncio.sleep(random.uniform(0, min(0.2, 0.002 * 2**attempt)))  # noqa: S311 - spreads load, guards nothing


def digest_of(request: list[str]) -> str:
    """The digest of a request, given as texts: tells the same request sent again from a commit id used for another."""
    return hashlib.sha256(codec.encode_json(request).encode()).hexdigest()[:32]


def _owner(key: SessionKey) -> str | None:
    return key.scope.owner if isinstance(key.scope.owner, str) else None


def _cancellations(task: asyncio.Task[Any] | None) -> int:
    """How often a task was asked to stop. An adapter that had settled already swallows the request."""
    return task.cancelling() if task else 0
