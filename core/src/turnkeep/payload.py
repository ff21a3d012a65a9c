"""The seam between what a user wrote and what a database keeps."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

PayloadKind = Literal["content", "tool_calls", "event", "metadata", "reply", "data", "state"]
"""What a payload is: five parts of a message, two documents of a session."""


@runtime_checkable
class PayloadFilter(Protocol):
    """Turns payloads into what is stored, and back: encryption, for example.

    A persistence passes every payload of every session through the one filter that its plugins registered. What is not
    a payload stays in the clear: ids, owner, role, name, status, route, step, times, sizes and counts.

    Both methods are called on the event loop, up to a hundred times per load: they must be quick, and do no I/O. They
    may be called from several loops of one process at the same time.
    """

    @property
    def name(self) -> str:
        """A short name, for errors and reports."""
        ...

    def seal(self, kind: PayloadKind, aad: bytes, payload: bytes) -> bytes:
        """What is stored in place of ``payload``.

        May be called more than once for one payload, when a commit is tried again, and need not return the same bytes.
        An exception fails the turn; nothing is written.

        Args:
            kind: what the payload is.
            aad: names the one place the payload belongs to: namespace, session id, message id (empty for the two
                documents of a session) and kind. Sealed bytes should not open under another.
            payload: UTF-8 text of any length, never changed by the filter.
        """
        ...

    def open(self, kind: PayloadKind, aad: bytes, sealed: bytes) -> bytes:
        """The payload, exactly: ``open(kind, aad, seal(kind, aad, payload)) == payload``.

        What was sealed by an earlier key or version of the filter opens as long as the filter was given the means.

        Raises:
            DecryptionError: ``sealed`` was made with another key, for another place, or was changed. Never return a
                guess, an empty payload, or ``sealed`` itself.
        """
        ...
