"""Whose a session is, as far as this process remembers: a guess that saves a round trip, and that the scripts check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turnkeep.contract import ANYONE, Expect

if TYPE_CHECKING:
    from turnkeep.contract import Commit, SessionKey

_MOST: Final = 10_000


class Owners:
    """The owners of the sessions that were seen last."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str | None] = {}

    def remember(self, key: SessionKey, user_id: str | None) -> None:
        """Notes whose a session is."""
        identity = (key.scope.namespace, key.session_id)
        self._known.pop(identity, None)
        self._known[identity] = user_id
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def guess(self, key: SessionKey) -> str | None:
        """Whose it is likely to be."""
        if key.scope.owner is not ANYONE:
            return key.scope.owner
        return self._known.get((key.scope.namespace, key.session_id))

    def guess_after(self, commit: Commit) -> str | None:
        """Whose it is likely to be once the commit took effect."""
        if commit.claim is not None:
            return commit.claim
        return commit.user_id if commit.expect is Expect.NEW else self.guess(commit.key)
