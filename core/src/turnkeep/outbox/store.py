"""What the contract asks for, by statements that each touch one document."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from turnkeep.contract import Expect, StoredSession, Token
from turnkeep.errors import CommitOutcomeUnknown, Conflict, SessionNotFound
from turnkeep.ids import new_id
from turnkeep.judge import (
    committed,
    find_visible,
    is_live,
    judge,
    next_head,
    number_messages,
    past_commit,
    session_conflict,
    session_not_found,
)
from turnkeep.outbox.history import Gap, History
from turnkeep.outbox.items import identity, to_items
from turnkeep.outbox.recall import Recall
from turnkeep.outbox.records import Grave, Record, next_record, read_grave, read_record
from turnkeep.outbox.ring import find_past
from turnkeep.outbox.tail import is_due, outbox

if TYPE_CHECKING:
    from datetime import datetime

    from turnkeep.contract import Commit, Committed, LoadQuery, MessagePage, MessageQuery, Replay, SessionKey
    from turnkeep.outbox.clock import Clock
    from turnkeep.outbox.items import Document
    from turnkeep.outbox.ports import MessageDocuments, SessionDocuments
    from turnkeep.outbox.settling import Effect
    from turnkeep.outbox.tail import Bounds

_PATIENCE: Final = 0.002
"""Seconds; a writer that lost twice waits up to so long times its losses, lest all of them lose together again."""

_LONGEST_WAIT: Final = 0.05


class Store:
    """Reads and writes sessions.

    Args:
        sessions: the heads.
        messages: the documents of older messages.
        clock: the server's time.
        bounds: how large a head becomes.
        adapter: the adapter's name, for errors.
        failures: what the driver raises.
    """

    def __init__(
        self,
        sessions: SessionDocuments,
        messages: MessageDocuments,
        clock: Clock,
        *,
        bounds: Bounds,
        adapter: str,
        failures: type[Exception] | tuple[type[Exception], ...],
    ) -> None:
        self._sessions = sessions
        self._messages = messages
        self._clock = clock
        self._bounds = bounds
        self._adapter = adapter
        self._failures = failures
        self._recall = Recall()
        self._history = History(messages, adapter)
        self._appends: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def load(self, key: SessionKey, query: LoadQuery) -> StoredSession | None:
        """The session, if it is there and visible."""
        gap: Gap | None = None
        while True:
            document = await self._find(key, texts=True)
            record = self._visible(document, key)
            if document is None or record is None:
                return None
            if gap is not None:
                gap.expect_change(record, self._adapter)
            self._recall.keep(record.session, record)
            try:
                replay = None if query.commit_id is None else await self._replay(record, query.commit_id)
                messages = await self._history.window(record, query.window)
            except Gap as found:  # cleared, or deleted, since the head was read
                gap = found
                continue
            return StoredSession(record.head, document["collected_data"], document["state"], messages, replay)

    async def read_messages(self, key: SessionKey, query: MessageQuery) -> MessagePage:
        """A page of history."""
        gap: Gap | None = None
        while True:
            record = self._visible(await self._find(key, texts=False), key)
            if record is None:
                raise session_not_found(key.session_id, self._adapter, "read_messages")
            if gap is not None:
                gap.expect_change(record, self._adapter)
            try:
                return await self._history.page(record, query)
            except Gap as found:
                gap = found

    async def commit(self, commit: Commit, effect: Effect) -> Committed:
        """Lets ``judge`` decide over what was known last or over what is there, and writes if it is there still."""
        session = identity(commit.key.scope.namespace, commit.key.session_id)
        if commit.expect is not Expect.ANY:
            return await self._commit(commit, session, effect)
        # Appends of one process go one after the other: side by side they would only make each other lose.
        async with self._appends.setdefault(session, asyncio.Lock()):
            return await self._commit(commit, session, effect)

    async def _commit(self, commit: Commit, session: str, effect: Effect) -> Committed:
        done = await self._try_guess(commit, session, effect)
        losses = 0
        while done is None:
            if losses > 1:
                await asyncio.sleep(random.random() * min(_PATIENCE * losses, _LONGEST_WAIT))  # noqa: S311 - no secret
            done = await self._try(commit, await self._read(session), effect)
            losses += 1
        return done

    async def _try_guess(self, commit: Commit, session: str, effect: Effect) -> Committed | None:
        """Commits to the session as it was known last, or to none if it is to be new; None if that was not so."""
        record = None if commit.expect is Expect.NEW else self._recall.get(session)
        if commit.expect is not Expect.NEW:
            if record is None or (isinstance(commit.expect, Token) and commit.expect != record.head.token):
                return None
            record = record.at(self._clock())
            past = find_past(record.recent, commit.commit_id, self._adapter)
            if past is not None or not is_live(record.head, self._clock()):
                return None
        try:
            return await self._try(commit, record, effect)
        except (Conflict, SessionNotFound):
            return None  # only what was read may refuse

    async def _read(self, session: str) -> Record | None:
        """The session as it is, after what was left of a deleted one is gone."""
        document = await self._sessions.find_any(session)
        grave = None if document is None else read_grave(document)
        if grave is not None:
            await self.clear(grave)
        return None if document is None or grave is not None else read_record(document, self._clock(), self._adapter)

    async def _try(self, commit: Commit, record: Record | None, effect: Effect) -> Committed | None:
        """One attempt on a session that was read or guessed; None if it was not so any more.

        Raises:
            Conflict, SessionNotFound: as ``judge`` says.
        """
        now = self._clock()
        past = None if record is None else find_past(record.recent, commit.commit_id, self._adapter)
        head = None if record is None else record.head
        replayed = judge(commit, head, past, now, adapter=self._adapter)
        if replayed is not None:
            return replayed
        if record is not None and not is_live(record.head, now):
            grave = await self._sessions.bury(record, now, at=record.head.token)
            if grave is None:
                return None
            await self.clear(grave)
            record = None
        if record is None:
            return await self._create(commit, now, effect)
        return await self._append(commit, record, now, effect)

    async def _create(self, commit: Commit, now: datetime, effect: Effect) -> Committed | None:
        after = next_head(commit, None, new_id(), now)
        result = committed(commit, None, after)
        items = to_items(number_messages(commit, result))
        record = next_record(commit, None, after, past_commit(commit, result), items, now, self._bounds)
        effect.begun = True
        if await self._sessions.insert(record, (commit.data, commit.state), now):
            self._recall.keep(record.session, record)
            return result
        effect.begun = False
        return None

    async def _append(self, commit: Commit, record: Record, now: datetime, effect: Effect) -> Committed | None:
        before = record.head
        waiting = outbox(record.tail, record.flushed) if is_due(record.tail, record.flushed, self._bounds) else []
        if waiting:  # what they say was decided by commits that took effect
            await self._messages.insert(before, waiting)
            record = record._replace(flushed=before.last_seq)
        after = next_head(commit, before, before.token.incarnation, now)
        result = committed(commit, before, after)
        items = to_items(number_messages(commit, result))
        following = next_record(commit, record, after, past_commit(commit, result), items, now, self._bounds)
        self._recall.forget(record.session)  # until the outcome is known
        effect.begun = True
        taken = await self._sessions.swap(record, following, len(items), (commit.data, commit.state), now)
        if taken:
            self._recall.keep(record.session, following)
            return result
        effect.begun = False
        if waiting:
            await self._tidy(record.grave._replace(erased=waiting[0]["seq"] - 1))
        return None

    async def _tidy(self, written: Grave) -> None:
        """Removes documents written too late: their session was deleted, or its history cleared, meanwhile."""
        document = await self._sessions.find_any(written.session)
        if document is None or document["incarnation"] != written.incarnation or document.get("buried"):
            await self._erase(written)
            return
        gone = max(document["erased"], document["floor"])  # who cleared did not know of them
        if gone > written.erased:
            await self._erase(written._replace(last_seq=gone))

    async def flush(self, document: Document) -> bool:
        """Writes the documents of what waits for them in a head, read with its tail; whether there was anything.

        The head keeps its token. ``swap`` and ``trim`` of the adapter have to refuse a record that knows of fewer
        documents than the head does: else they would be forgotten.
        """
        if read_grave(document) is not None:
            return False
        now = self._clock()
        record = read_record(document, now, self._adapter)
        if record.flushed >= record.head.last_seq:
            return False
        waiting = outbox(record.tail, record.flushed)
        if waiting:
            await self._messages.insert(record.head, waiting)
        flushed = record._replace(flushed=record.head.last_seq)
        if await self._sessions.trim(flushed, now):
            self._recall.keep(record.session, flushed)
        elif waiting:
            await self._tidy(record.grave._replace(erased=waiting[0]["seq"] - 1))
        return True

    async def delete(self, key: SessionKey, expect: Token | None, effect: Effect) -> bool:
        """Buries a session, if it is visible and where it is expected to be, and removes what it leaves."""
        while True:
            document = await self._find(key, texts=False)
            record = self._visible(document, key)
            if record is None:
                grave = None if document is None else read_grave(document)
                if grave is not None:
                    await self.clear(grave)
                return False
            if expect is not None and record.head.token != expect:
                raise session_conflict(key.session_id, expect, record.head.token, self._adapter, "delete")
            effect.begun = True
            if await self.remove(record, at=expect):
                return True
            effect.begun = False

    async def remove(self, record: Record, *, at: Token | None = None) -> bool:
        """Removes a session and everything of it; False if it is not there, or not at the token, any more."""
        self._recall.forget(record.session)
        grave = await self._sessions.bury(record, self._clock(), at=at)
        if grave is None:
            return False
        try:
            await self.clear(grave)
        except self._failures as error:
            raise CommitOutcomeUnknown(
                "the session is gone, but not all it left was removed; the next sweep does that, or the same call once "
                f"more ({type(error).__name__})",
                commit_id="",
                adapter=self._adapter,
                operation="delete",
            ) from error
        return True

    async def clear(self, grave: Grave) -> int:
        """Removes what a deleted session left, its grave last; how many message documents that were."""
        removed = await self._erase(grave)
        await self._sessions.remove(grave)
        return removed

    async def _erase(self, grave: Grave) -> int:
        return await self._messages.erase(grave.session, grave.incarnation, grave.erased + 1, grave.last_seq)

    async def _find(self, key: SessionKey, *, texts: bool) -> Document | None:
        """The document of a session; sets the clock beside it, now and then."""
        if not self._clock.is_due:
            return await self._sessions.find(key, texts=texts)
        found, _ = await asyncio.gather(
            self._sessions.find(key, texts=texts), self._clock.set(self._sessions.tell_time)
        )
        return found

    def _visible(self, document: Document | None, key: SessionKey) -> Record | None:
        if document is None or read_grave(document) is not None:
            return None
        now = self._clock()
        record = read_record(document, now, self._adapter)
        return None if find_visible(record.head, key, now) is None else record

    async def _replay(self, record: Record, commit_id: str) -> Replay | None:
        past = find_past(record.recent, commit_id, self._adapter)
        if past is None:
            return None
        if past.first_seq is None or past.last_seq is None:
            return past.replay(record.head)
        first = max(past.first_seq, record.head.floor + 1)
        return past.replay(record.head, await self._history.stretch(record, first, past.last_seq))
