"""``async with session.turn()``: the way into an open turn on a live session, and out of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnkeep.gateway import AlreadyCommitted, digest_of
from turnkeep.ids import create_session_id, new_id
from turnkeep.judge import commit_id_reused
from turnkeep.turn import Joinable, OpenTurn, refuse_in_turn

if TYPE_CHECKING:
    from types import TracebackType

    from turnkeep.contract import SessionKey
    from turnkeep.session import SessionManager
    from turnkeep.turn import Draft


class SessionTurn:
    """The way in and out of ``SessionManager.turn``."""

    def __init__(self, session: SessionManager, commit_id: str | None) -> None:
        self._session = session
        self._commit_id = commit_id
        self._turn: OpenTurn | None = None

    async def __aenter__(self) -> OpenTurn:
        self._joinable = Joinable(await self.start())
        return self._joinable.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.finish(error)
        finally:
            self._joinable.__exit__()

    async def start(self) -> OpenTurn:
        """Has the session to itself, and an open turn on it. What makes it joinable is up to the caller."""
        session = self._session
        if session._id is None:
            session._id = create_session_id()
        key = session._key()
        refuse_in_turn(session._gateway.adapter, key.scope, key.session_id, "turn")
        commit_id = self._commit_id or new_id()
        self._passage = session._gateway.gates.enter(key, commit_id, wait=False)
        await self._passage.__aenter__()
        try:
            draft = await self._begin(key, commit_id)
        except BaseException:
            await self._passage.__aexit__(None, None, None)
            raise
        replayed = draft.base is not None and draft.base.replay is not None
        self._turn = OpenTurn(session._gateway.adapter, draft, replayed=replayed)
        return self._turn

    async def _abandon(self) -> None:
        """Drops the turn, if it was opened, and gives the session free."""
        if self._turn is not None:
            await self.finish(asyncio.CancelledError())

    async def finish(self, error: BaseException | None) -> None:
        """Makes the turn durable, or drops it where the block failed, and gives the session free."""
        turn = self._turn
        assert turn is not None
        draft = turn.draft
        try:
            if error is None and turn.replayed and draft.base is not None:
                self._session._adopt(draft.base)
            elif error is None and draft.changed:
                async with self._session._lock as notices:
                    try:
                        await self._session._save(draft, notices)
                    except AlreadyCommitted:
                        turn.replayed = True
                        await self._session._read_again()
        finally:
            turn.drop()
            await self._passage.__aexit__(None, None, None)

    async def _begin(self, key: SessionKey, commit_id: str) -> Draft:
        session = self._session
        if session._draft is not None:
            return session._draft.copy(commit_id)
        snapshot = await session._load(key.session_id, self._commit_id)
        if snapshot is None:
            draft = session._new_draft(key.session_id, commit_id)
        else:
            draft = session._draft_on(snapshot, commit_id)
        draft.digest = digest_of(["turn", key.session_id])
        if snapshot is not None and snapshot.replay is not None and snapshot.replay.digest != draft.digest:
            raise commit_id_reused(commit_id, session._gateway.adapter.name)
        return draft
