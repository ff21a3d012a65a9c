"""A turn: changes staged on top of what was read, to be committed as one or dropped.

A turn that is *open* can be joined: calls for the same session made from hooks, tools and step callbacks, anywhere
below the code that opened it, read what it has staged and stage what they write. A context variable carries the open
turns; one that has ended is skipped, so a task that outlives its turn reads and writes for itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnkeep import codec
from turnkeep.contract import UNCHANGED, Commit, Expect, HeadChange, SessionKey
from turnkeep.documents import write_state
from turnkeep.errors import InvalidArgument, TurnInProgress
from turnkeep.ids import new_id
from turnkeep.judge import reported_head
from turnkeep.messages import Message
from turnkeep.models import UNSET, SessionState
from turnkeep.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from turnkeep.agent.reply import Reply
    from turnkeep.agent.schema import Schema
    from turnkeep.contract import Committed, NewMessage, Scope, Status, Unchanged
    from turnkeep.documents import Documents
    from turnkeep.policy import Policy


@dataclass(frozen=True, slots=True)
class TurnView:
    """What a commit is about to do, or has done; for hooks.

    Attributes:
        commit_id: of the commit.
        messages: that it adds, in order; numbered once it was committed.
        data: the collected data as a dict, or None where the commit leaves it alone.
        created: whether it creates the session.
    """

    commit_id: str
    messages: tuple[Message, ...]
    data: dict[str, Any] | None
    created: bool


class Draft:
    """Changes to one session, staged: what there was, what is to be added, and what it will look like.

    Args:
        key: the session and the scope it is seen from.
        base: what was read; None for a session that this draft creates.
        state: the state to begin with; with a base, the base's.
        commit_id: made here when none is given.

    Attributes:
        origin: the staged draft that this one was copied from.
        replies: of the turns staged in it, by commit id, each with the digest of its request.
        sealed: it is being committed; nothing more can be staged.
        schema: what its data is held against.
        attempt: how often the change was tried.
        agreed: the data's text that listeners have agreed to.
        filtered: those of the appended messages that listeners have seen.
    """

    def __init__(
        self, key: SessionKey, base: Snapshot | None, state: SessionState, *, commit_id: str | None = None
    ) -> None:
        self.key = key
        self.base = base
        self.state: SessionState = state
        self.commit_id: str = commit_id or new_id()
        self.digest = "-"
        self.origin: Draft | None = None
        self.replies: dict[str, tuple[str, Reply]] = {}
        self.sealed = False
        self.schema: Schema | None = None
        self.attempt = 1
        self.agreed: str = state._data
        self.filtered: list[Message] = []
        self._first = state
        self._written = ("", "")
        self.appended: list[Message] = []
        self.drop_history: bool = False
        self.status: Status | None = None
        self.completed_at: datetime | None = None

    @classmethod
    def on(cls, key: SessionKey, base: Snapshot, *, commit_id: str | None = None) -> Draft:
        """A draft on top of what was read."""
        return cls(key, base, base.state, commit_id=commit_id)

    def copy(self, commit_id: str | None = None) -> Draft:
        """A draft with the same changes staged, to stage more on without touching this one.

        It is another commit: if this one was sent and its outcome is not known, the two must not be taken for one.
        """
        twin = object.__new__(Draft)
        twin.__dict__ |= self.__dict__ | {"appended": list(self.appended), "commit_id": commit_id or new_id()}
        twin.origin = self
        twin.replies = dict(self.replies)
        return twin

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        untouched = self._first if self.base is None else self.base.state
        staged = self.appended or self.drop_history or self.status is not None
        return bool(staged) or self.state is not untouched

    def rebase(self, base: Snapshot) -> None:
        """Puts the same version with more history at hand under what is staged."""
        self.base = base
        self._stage(history=(*base.state.history, *self.appended))

    def append(self, messages: Iterable[Message]) -> None:
        """Stages messages at the end of the history."""
        added = tuple(messages)
        refuse_stored(added)
        self.appended.extend(added)
        self._stage(history=(*self.state.history, *added))

    def exchange_appended(self, index: int, message: Message) -> None:
        """Puts another message in place of an appended one; the document of a reply stays in its place."""
        reply = self.appended[index]._row.reply
        if reply is not None:
            message = message._answering(reply)
        kept = self.state.history[: len(self.state.history) - len(self.appended)]
        self.appended[index] = message
        self._stage(history=(*kept, *self.appended))

    def set_history(self, messages: Iterable[Message]) -> None:
        """Stages a history that replaces all there was."""
        self.drop_history = True
        self.appended = list(messages)
        self._stage(history=tuple(self.appended))

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Stages collected data in place of what there was.

        Raises:
            InvalidData: it does not fit the schema.
        """
        if self.schema is not None:
            data = self.schema.check_changes(self.state.data, data)
        self._stage(_data=codec.encode(dict(data), what="data"))

    def agree(self) -> None:
        """Notes that listeners need not be asked about the data as it is."""
        self.agreed = self.state._data

    def settle_status(self) -> None:
        """Makes a session that had ended active again, unless its status is being set."""
        if self.status is None and self.state.status != "active":
            self._stage(status="active")

    def set_status(self, status: Status, completed_at: datetime | None = None) -> None:
        """Stages a status."""
        self.status = status
        self.completed_at = completed_at
        self._stage(status=status)

    def stage(self, state: SessionState) -> None:
        """Stages a whole state: its data, route, step, route history, notes."""
        self.state = state

    def _stage(self, **changes: Any) -> None:
        self.state = self.state._with(**changes)

    def view(self, messages: tuple[Message, ...] | None = None) -> TurnView:
        """What hooks are shown."""
        data_changed = self.base is None or self.state._data != self.base.stored_data
        return TurnView(
            commit_id=self.commit_id,
            messages=tuple(self.appended) if messages is None else messages,
            data=self.state.data if data_changed else None,
            created=self.base is None,
        )

    def apply(self, view: TurnView) -> None:
        """Stages what a listener made of this draft's view: other messages, other data."""
        kept = self.state.history[: len(self.state.history) - len(self.appended)]
        if view.messages != tuple(self.appended):
            refuse_stored(view.messages)
            self.appended = answered(view.messages, self.appended)
            self._stage(history=(*kept, *self.appended))
        if view.data is not None:
            self.set_data(view.data)

    def commit(self, rows: tuple[NewMessage, ...], documents: Documents, policy: Policy) -> Commit:
        """The commit of everything staged. ``rows`` are the appended messages, encoded."""
        session_id = self.key.session_id
        data, state = self.state._data, write_state(self.state)
        documents.check_state_size(data, state)
        self._written = (data, state)
        base = self.base
        return Commit(
            key=self.key,
            commit_id=self.commit_id,
            digest=self.digest,
            expect=Expect.NEW if base is None else base.head.token,
            messages=rows,
            data=documents.seal(session_id, "data", data) if base is None or data != base.stored_data else None,
            state=documents.seal(session_id, "state", state) if base is None or state != base.stored_state else None,
            head=self._head_change(),
            drop_history=self.drop_history and base is not None,
            user_id=self.state.user_id,
            ttl=policy.session_ttl,
            message_ttl=policy.message_ttl,
        )

    def _head_change(self) -> HeadChange:
        before = self.base.state if self.base else None
        state = self.state

        def changed(new: str | None, old: str | None) -> str | Unchanged | None:
            return UNCHANGED if new == old else new

        route, step = state.current_route, state.current_step
        before_route = before.current_route if before else None
        before_step = before.current_step if before else None
        return HeadChange(
            # Writing to a session that had ended makes it active again.
            status=self.status or "active",
            completed_at=self.completed_at,
            agent_name=changed(state.agent_name, before.agent_name if before else None),
            current_route=changed(route.id if route else None, before_route.id if before_route else None),
            current_step=changed(step.id if step else None, before_step.id if before_step else None),
        )

    def committed(self, commit: Commit, result: Committed) -> Snapshot:
        """What the session is at now that the commit took effect. Only for a result that is contiguous."""
        before = self.base.head if self.base else None
        head = reported_head(commit, before, result)
        first = result.first_seq or 0
        numbered = [message._numbered(first, index, self.commit_id) for index, message in enumerate(self.appended)]
        known = self.state.history[: len(self.state.history) - len(numbered)]
        state = self.state._with(
            history=(*known, *numbered),
            status=head.status,
            metadata=self.state.metadata._touched(head.created_at, head.updated_at),
            _token=result.token,
        )
        data_text, state_text = self._written
        return Snapshot(state=state, head=head, stored_data=data_text, stored_state=state_text)


def answered(messages: Iterable[Message], before: Iterable[Message]) -> list[Message]:
    """The messages, of which one carries the document of the reply that one of ``before`` carried.

    The one with the same id, or else the last of the assistant's, or else the last.
    """
    found = list(messages)
    old = next((message for message in before if message._row.reply is not None), None)
    if old is None or old._row.reply is None or not found or any(message._row.reply is not None for message in found):
        return found
    same = [index for index, message in enumerate(found) if message.id == old.id]
    spoken = [index for index, message in enumerate(found) if message.role == "assistant"]
    place = (same or spoken or [len(found) - 1])[-1]
    found[place] = found[place]._answering(old._row.reply)
    return found


def refuse_stored(messages: Iterable[Message]) -> None:
    """Refuses messages that are in a history already.

    Raises:
        InvalidArgument: one of them is.
    """
    for message in messages:
        if message.seq is not None:
            raise InvalidArgument(f"message {message.id!r:.80} is stored already; use message.replace() for a new one")


class OpenTurn:
    """A draft that calls further down may join.

    Attributes:
        store: identity of the store it belongs to.
        draft: what is staged.
        context: the turn's own context; None outside of an agent's turn.
        agent: whose turn it is; None outside of an agent's turn.
        replayed: its commit id had taken effect before; nothing will be stored.
    """

    def __init__(self, store: object, draft: Draft, *, agent: object = None, replayed: bool = False) -> None:
        self.store = store
        self.draft = draft
        self.agent = agent
        self.replayed = replayed
        self.context: dict[str, Any] = {}
        self.kept_context: dict[str, Any] = {}
        self._dropped = False

    @property
    def ended(self) -> bool:
        """Whether it was committed, is being committed, or was dropped: nothing more can be staged."""
        return self._dropped or self.draft.sealed

    def add_message(self, role: Any, content: str, **fields: Any) -> Message:
        """Stages a message; takes the fields of ``Message``. It is numbered when the turn is committed."""
        self._check_open()
        message = Message.of({"role": role, "content": content, **fields})
        self.draft.append([message])
        return message

    def set_data(self, changes: Mapping[str, Any]) -> None:
        """Stages a shallow merge into the collected data; ``UNSET`` removes a key."""
        self._check_open()
        self.draft.set_data(merge(self.draft.state.data, changes))

    @property
    def state(self) -> SessionState:
        """The session as it will be once the turn is committed."""
        return self.draft.state

    def drop(self) -> None:
        """Ends the turn: nothing more can be staged, and nobody joins it any more."""
        self._dropped = True

    def _check_open(self) -> None:
        if self.ended:
            raise InvalidArgument("this turn has ended; open another one")


_OPEN: ContextVar[tuple[OpenTurn, ...]] = ContextVar("turnkeep_open_turns", default=())


def open_turns() -> tuple[OpenTurn, ...]:
    """The open turns of the running code, outermost first."""
    return tuple(turn for turn in _OPEN.get() if not turn.ended)


def joined(store: object, scope: Scope, session_id: str) -> OpenTurn | None:
    """The open turn on this session that the running code is part of, if the scope sees its session."""
    for turn in reversed(_OPEN.get()):
        key = turn.draft.key
        if (
            not turn.ended
            and turn.store is store
            and key.session_id == session_id
            and key.scope.namespace == scope.namespace
            and scope.sees(turn.draft.state.user_id)
        ):
            return turn
    return None


def refuse_in_turn(store: object, scope: Scope, session_id: str, operation: str) -> None:
    """For what cannot be part of a turn.

    Raises:
        TurnInProgress: the running code is part of a turn on this session.
    """
    if joined(store, scope, session_id) is not None:
        raise TurnInProgress(
            f"{operation} is not possible inside a turn on the same session ({session_id!r:.200}); "
            "do it after the turn, or on another session",
            session_id=session_id,
        )


class Joinable:
    """Makes a turn joinable by everything called inside the ``with`` block, and ends it there."""

    def __init__(self, turn: OpenTurn) -> None:
        self._turn = turn

    def __enter__(self) -> OpenTurn:
        self._reset = _OPEN.set((*_OPEN.get(), self._turn))
        return self._turn

    def __exit__(self, *exc_info: object) -> None:
        self._turn.drop()
        _OPEN.reset(self._reset)


def merge(data: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A shallow merge: None is a value, ``UNSET`` removes a key.

    Raises:
        InvalidArgument: ``changes`` is no dict.
    """
    if not isinstance(changes, dict):
        raise InvalidArgument(f"changes must be a dict, not {type(changes).__name__}")
    merged = {**data, **changes}
    return {key: value for key, value in merged.items() if value is not UNSET}
