"""What went over the wire, counted."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts at one moment. The difference of two of them is what happened in between.

    Attributes:
        connections: connections the client made.
        requests: how often a client began to speak, on a connection where the server had the last word or nobody had.
        round_trips: requests that the server began to answer. What is sent in one go (a pipeline, a batch) is one.
        sent: bytes from client to server.
        received: bytes from server to client.
    """

    connections: int = 0
    requests: int = 0
    round_trips: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        names = [field.name for field in fields(self)]
        return Traffic(*(getattr(self, name) - getattr(earlier, name) for name in names))
