"""Sizes beyond which a value is refused before anything is sent to a database."""

from __future__ import annotations

from dataclasses import dataclass, fields

from turnkeep.errors import InvalidArgument

ID_BYTES = 512
"""What an id may have at most, on any database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds, checked by Persistence for every adapter alike. Sizes are bytes of the stored form in UTF-8.

    The defaults keep a commit within the smallest hard limits of the databases behind (a MongoDB document has 16 MB,
    MariaDB's default packet 16 MB).
    """

    id_bytes: int = ID_BYTES
    """Session id, owner, message id. Cannot be raised over 512, OpenSearch's own limit."""
    message_bytes: int = 4 * 1024 * 1024
    """One message: content, tool calls, event and metadata together."""
    state_bytes: int = 1024 * 1024
    """Collected data and state together."""
    commit_messages: int = 1000
    """Messages of one commit."""
    commit_bytes: int = 16 * 1024 * 1024
    """One commit: all messages, data and state."""
    page: int = 1000
    """Items of one page."""
    nesting: int = 100
    """Containers within containers, in data, metadata and events."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise InvalidArgument(f"Limits.{field.name} must be a positive int, not {value!r:.80}")
        if self.id_bytes > ID_BYTES:
            raise InvalidArgument(f"Limits.id_bytes cannot be over {ID_BYTES}: not every database holds longer ids")
        if self.nesting > 100:
            raise InvalidArgument("Limits.nesting cannot be over 100: not every reader parses deeper documents")
