"""What a turn gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from turnkeep import codec
from turnkeep.errors import CorruptRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from turnkeep.messages import Message, ToolCall

StoppedReason = Literal["needs_input", "route_complete", "validation_error", "tool_limit"]


@dataclass(frozen=True, slots=True)
class ExecutedStep:
    """A step that the turn finished."""

    route: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The outcome of a turn.

    Attributes:
        message: what to tell the user.
        session_id: the session it belongs to.
        is_route_complete: the turn completed the route the conversation was on.
        tool_calls: every tool that was called, in order.
        executed_steps: the steps that were finished, in order.
        stopped_reason: why the turn ended: it waits for the user (``"needs_input"``), a route was completed, some of
            the collected values did not fit and were dropped, or the model kept calling tools.
        usage: what the provider reported, summed up.
        commit_id: of the commit that made it durable; pass it again to get this reply again.
        replayed: the commit id had taken effect before; this is its first reply, and no model was asked.
    """

    message: str
    session_id: str
    is_route_complete: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    executed_steps: tuple[ExecutedStep, ...] = ()
    stopped_reason: StoppedReason = "needs_input"
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    commit_id: str = ""
    replayed: bool = False

    def document(self) -> str:
        """What is stored with the last message of the turn, to rebuild the reply from."""
        # By itself, because its keys are the provider's.
        usage = codec.encode(dict(self.usage), what="usage") if self.usage else "{}"
        return _write(self.is_route_complete, self.executed_steps, self.stopped_reason, usage)

    @classmethod
    def rebuilt(cls, session_id: str, commit_id: str, messages: Sequence[Message]) -> Reply:
        """The reply of a commit, from the messages it stored, one of which carries the document.

        Raises:
            CorruptRecord: it does not.
        """
        answers = [message for message in messages if message._row.reply is not None]
        document = answers[-1]._row.reply if answers else None
        if document is None:
            raise CorruptRecord(f"commit {commit_id!r:.80} of session {session_id!r:.200} carries no reply")
        found = cast("dict[str, Any]", codec.decode(document, what="reply"))
        try:
            return cls(
                message=answers[-1].content,
                session_id=session_id,
                is_route_complete=found["complete"],
                tool_calls=tuple(call for message in messages for call in message.tool_calls),
                executed_steps=tuple(ExecutedStep(*step) for step in found["steps"]),
                stopped_reason=found["stopped"],
                usage=codec.decode(found["usage"], what="usage"),
                commit_id=commit_id,
                replayed=True,
            )
        except (KeyError, TypeError) as error:
            raise CorruptRecord(f"the reply of commit {commit_id!r:.80} cannot be read") from error


@lru_cache(64)  # most turns finish nothing and report nothing: their documents are all the same
def _write(complete: bool, steps: tuple[ExecutedStep, ...], stopped: StoppedReason, usage: str) -> str:
    return codec.encode_json(
        {
            "v": 1,
            "complete": complete,
            "steps": [[step.route, step.id] for step in steps],
            "stopped": stopped,
            "usage": usage,
        }
    )


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of a reply on its way.

    Attributes:
        delta: the text that is new.
        accumulated: the text of this assistant message so far; a tool round begins another message.
        done: whether this is the last chunk; the turn is durable then.
        reply: on the last chunk, the whole reply.
    """

    delta: str
    accumulated: str
    done: bool = False
    reply: Reply | None = None
