"""Where a connection can be cut, and a cut that waits for its request."""

from __future__ import annotations

from enum import Enum


class Cut(Enum):
    """Where a connection is cut."""

    BEFORE_REQUEST = "before the request reached the server"
    IN_REQUEST = "after half of the request reached the server"
    AFTER_REQUEST = "after the request reached the server, without waiting for the answer"
    BEFORE_REPLY = "after the server answered, before the answer reached the client"
    IN_REPLY = "after half of the answer reached the client"


class Strike:
    """A cut that waits for its request.

    Attributes:
        place: where it cuts.
        struck: whether it has.
    """

    def __init__(self, place: Cut, nth: int) -> None:
        self.place = place
        self.struck = False
        self._left = nth

    def meets(self) -> bool:
        """Counts a request; whether it is the one to cut."""
        self._left -= 1
        return self._left == 0
