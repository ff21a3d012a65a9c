"""Which session is meant, as seen by whom, and what it was at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Anyone(Enum):
    """The type of ``ANYONE``."""

    ANYONE = "anyone"


ANYONE: Final = Anyone.ANYONE
"""An owner that matches every session of the namespace. (None matches the sessions that have no owner.)"""


Owner = str | None | Anyone


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose sessions a call may see: those of one owner, those without one, or all of a namespace."""

    namespace: str
    owner: Owner = ANYONE

    def sees(self, user_id: str | None) -> bool:
        """Whether a session of this owner is within the scope."""
        return self.owner is ANYONE or self.owner == user_id


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One session, as seen from a scope. The owner is checked inside each statement; it is not part of the identity."""

    scope: Scope
    session_id: str


@dataclass(frozen=True, slots=True)
class Token:
    """What a loaded session was at. Opaque: compare it, hand it back, do not compute with it.

    A version alone would be met again after delete and re-create, or after a failover; the incarnation says which life
    of the session id this is, and the commit id which of two histories.
    """

    incarnation: str
    version: int
    commit_id: str


class Expect(Enum):
    """What a commit expects to find, where it does not expect a ``Token``."""

    NEW = "new"
    """No such session. An expired or deleted one counts as none: the commit begins a new incarnation."""
    ANY = "any"
    """A session, in whatever state. For appends and head fields only."""
