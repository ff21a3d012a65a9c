"""What a session was at when it was last read or written by us."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep.contract import Committed, Head, Replay
    from turnkeep.messages import Message
    from turnkeep.models import SessionState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a session, decoded.

    Attributes:
        state: the session; its history is what was loaded of it.
        head: its head.
        stored_data: the data's text as it is stored, to tell whether a commit changes it.
        stored_state: the state's text as it is stored.
        replay: what the commit that was asked for had done, if it had taken effect.
    """

    state: SessionState
    head: Head
    stored_data: str
    stored_state: str
    replay: Replay | None = None

    @property
    def has_more(self) -> bool:
        """Whether there is history before what was loaded."""
        if self.state.history:
            return (self.state.history[0].seq or 0) > self.head.floor + 1
        return self.head.last_seq > self.head.floor

    def is_behind(self, other: Snapshot | None) -> bool:
        """Whether the other one is a later version of the same life of the same session."""
        if other is None or other.state.id != self.state.id:
            return False
        mine, theirs = self.head.token, other.head.token
        return mine.incarnation == theirs.incarnation and mine.version < theirs.version

    def with_history(self, history: tuple[Message, ...]) -> Snapshot:
        """The same version with more or less of its history at hand."""
        return replace(self, state=self.state._with(history=history))

    def appended(self, result: Committed, message: Message) -> Snapshot:
        """The session after a message was added to it."""
        head = replace(
            self.head,
            token=result.token,
            status="active",
            completed_at=None,
            last_seq=message.seq or 0,
            floor=(message.seq or 0) - result.message_count,
            last_message_at=result.time,
            updated_at=result.time,
            expires_at=result.expires_at,
        )
        return replace(self, head=head, state=self.state._after_append(message, result))
