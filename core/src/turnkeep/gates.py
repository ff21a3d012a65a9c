"""One turn at a time on a session, within one process: found out before a model is paid, not after."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnkeep._notices import tell
from turnkeep.errors import SessionConflict, TurnInProgress

if TYPE_CHECKING:
    from types import TracebackType

    from turnkeep._notices import Notices
    from turnkeep.contract import SessionKey


_log = logging.getLogger("turnkeep.hooks")

_HELD: ContextVar[tuple[object, ...]] = ContextVar("turnkeep_held", default=())


class Exclusive:
    """One write at a time on a live session; its observers are told when the next one may begin.

    A hook of the write itself that would wait for it is refused instead.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: object = None
        self._notices: Notices = []

    async def __aenter__(self) -> Notices:
        if self._holder is not None and self._holder in _HELD.get():
            raise TurnInProgress(
                "a hook that runs before a write of this live session cannot write through the same session: it would "
                "wait for itself. Return the changed value, or write in an on_* hook",
                session_id="",
            )
        await self._lock.acquire()
        self._holder = object()
        self._reset = _HELD.set((*_HELD.get(), self._holder))
        notices: Notices = []
        self._notices = notices
        return notices

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        notices = self._notices
        _HELD.reset(self._reset)
        self._holder = None
        self._lock.release()
        try:
            await tell(notices)
        except Exception as failure:
            if error is None:
                raise
            _log.error("an observer failed while %s was raised", type(error).__name__, exc_info=failure)


@dataclass(slots=True)
class _Gate:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    commit_ids: list[str] = field(default_factory=list)  # of the turn inside and of those that wait, in order


class Gates:
    """The sessions that have an open turn in this process."""

    def __init__(self) -> None:
        self._gates: dict[tuple[str, str], _Gate] = {}

    def enter(self, key: SessionKey, commit_id: str, *, wait: bool) -> Passage:
        """``async with`` it to have the session to oneself.

        Whoever comes while a turn is open waits, in order of arrival, if ``wait``, or if it repeats a commit id that is
        inside or waiting (it will find that commit's result); otherwise entering raises ``SessionConflict``.
        """
        return Passage(self._gates, (key.scope.namespace, key.session_id), commit_id, wait=wait)


class Passage:
    """A turn's way through the gate of its session."""

    def __init__(
        self, gates: dict[tuple[str, str], _Gate], identity: tuple[str, str], commit_id: str, *, wait: bool
    ) -> None:
        self._gates = gates
        self._identity = identity
        self._commit_id = commit_id
        self._wait = wait

    async def __aenter__(self) -> None:
        gate = self._gates.setdefault(self._identity, _Gate())
        if gate.commit_ids and not self._wait and self._commit_id not in gate.commit_ids:
            raise SessionConflict(
                f"another turn is open on session {self._identity[1]!r:.200} in this process; nothing was done. "
                'Repeat when it has ended, or use on_conflict="retry" to wait for it',
                session_id=self._identity[1],
                operation="respond",
            )
        gate.commit_ids.append(self._commit_id)
        try:
            await gate.lock.acquire()
        except BaseException:
            self._leave(gate)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gate = self._gates[self._identity]
        gate.lock.release()
        self._leave(gate)

    def _leave(self, gate: _Gate) -> None:
        gate.commit_ids.remove(self._commit_id)
        if not gate.commit_ids:
            del self._gates[self._identity]
