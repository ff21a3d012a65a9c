"""What an adapter may or may not be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Capability(Enum):
    """What an adapter may or may not be able to do. The list is closed; adapters declare, nobody sniffs."""

    ATOMIC_TURN = "atomic_turn"
    """Messages, data, state and head of one commit become visible together or not at all."""
    DURABLE = "durable"
    """An acknowledged commit survives a power cut, given the settings ``check()`` asks for."""
    IMMEDIATE_LISTS = "immediate_lists"
    """``find_sessions`` shows a commit as soon as it was acknowledged."""
    SEARCH = "search"
    """``search_messages`` works."""
    STATS = "stats"
    """``stats`` works."""
    IDEMPOTENT_FOREVER = "idempotent_forever"
    """A commit id is recognised as long as its session lives, not only for the last 32 commits."""
    LARGE_VALUES = "large_values"
    """Values up to the default ``Limits`` fit."""


class Level(Enum):
    """How far a capability goes."""

    FULL = "full"
    PARTIAL = "partial"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Support:
    """How far a capability goes, and why not further."""

    level: Level
    reason: str = ""
