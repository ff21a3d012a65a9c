"""What was removed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Erased:
    """What ``delete_owner`` removed, of all sessions that had not expired.

    Attributes:
        sessions: how many.
        messages: in their histories; not those that had left them before.
    """

    sessions: int
    messages: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What ``sweep`` removed.

    Attributes:
        sessions: expired ones.
        messages: those of these sessions, and those that had left a history. A database that lets some go by itself
            has fewer left to count.
        more: whether it stopped at its limit.
    """

    sessions: int
    messages: int
    more: bool
