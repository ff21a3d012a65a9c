"""What a network does to all bytes alike, as long as it lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Way = Literal["requests", "replies"]
"""From client to server, or from server to client."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What is done to bytes on their way.

    Attributes:
        swallowed: the ways on which bytes are lost.
        held: the ways on which bytes wait.
        latency: seconds that each piece waits.
        piece: the most bytes that are passed on at a time; None: as they come.
        pause: seconds between two such pieces.
        refusing: new connections are cut at once.
    """

    swallowed: tuple[Way, ...] = ()
    held: tuple[Way, ...] = ()
    latency: float = 0.0
    piece: int | None = None
    pause: float = 0.0
    refusing: bool = False
