"""What writers tried and what they were told, against what is there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from turnkeep.contract import LoadQuery
from turnkeep_testkit.honesty import insist

if TYPE_CHECKING:
    from turnkeep.contract import Commit, Committed, SessionKey, StorageAdapter, StoredSession


@dataclass(frozen=True, slots=True)
class Tried:
    """Said before a commit is sent.

    Attributes:
        commit: what is sent.
        at: when, by the machine's monotonic clock, which all processes share.
    """

    commit: Commit
    at: float


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Said after it returned."""

    commit_id: str
    committed: Committed


class Ledger:
    """Every commit that was tried on some sessions, in order, and how it ended.

    All who write to these sessions write here, every commit has messages, and its state names the commit id.

    Attributes:
        acknowledged: the result of each commit that is known to have taken effect, by commit id.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[str, Committed] = {}
        self._tried: dict[str, Commit] = {}
        self._began: dict[str, float] = {}
        self._open: dict[str, Commit] = {}

    def note(self, entry: Tried | Acknowledged) -> None:
        """Adds what a writer said."""
        if isinstance(entry, Tried):
            commit = entry.commit
            self._tried[commit.commit_id] = self._open[commit.commit_id] = commit
            self._began[commit.commit_id] = entry.at
        else:
            self.acknowledged[entry.commit_id] = entry.committed
            del self._open[entry.commit_id]

    @property
    def unheard(self) -> int:
        """How many commits were sent whose outcome nobody heard."""
        return len(self._open)

    def began(self, commit_id: str) -> float:
        """When the commit was first sent."""
        return self._began[commit_id]

    async def settle(self, adapter: StorageAdapter) -> int:
        """Sends every commit again whose outcome nobody heard, as a client would, and counts those that had landed."""
        landed = 0
        for commit in list(self._open.values()):
            committed = await insist(lambda commit=commit: adapter.commit(commit))
            landed += committed.replayed
            self.note(Acknowledged(commit.commit_id, committed))
        return landed

    async def verify(self, adapter: StorageAdapter) -> None:
        """Compares with what is stored.

        Raises:
            AssertionError: an acknowledged turn is lost, torn, there twice or at another version, or there is one that
                nobody wrote.
        """
        assert not self._open, "settle first"
        keys = {commit.key.session_id: commit.key for commit in self._tried.values()}
        for key in keys.values():
            stored = await insist(lambda key=key: adapter.load(key, LoadQuery()))
            assert stored is not None, "an acknowledged session is not there"
            self._verify_session(key, stored)

    def _verify_session(self, key: SessionKey, stored: StoredSession) -> None:
        assert [message.seq for message in stored.messages] == list(range(1, stored.head.last_seq + 1)), "a gap"
        found: list[str] = []
        for _, turn in groupby(stored.messages, key=lambda message: message.turn_seq):
            messages = list(turn)
            commit = self._tried.get(messages[0].commit_id)
            assert commit is not None, "a turn that nobody wrote"
            assert [message.id for message in messages] == [message.id for message in commit.messages], "a torn turn"
            assert [message.content for message in messages] == [message.content for message in commit.messages]
            assert {message.commit_id for message in messages} == {commit.commit_id}
            found.append(commit.commit_id)
        assert len(found) == len(set(found)), "a turn is there twice"
        expected = {
            commit_id: committed.token.version
            for commit_id, committed in self.acknowledged.items()
            if self._tried[commit_id].key == key
        }
        lost = expected.keys() - set(found)
        assert not lost, f"{len(lost)} acknowledged turns are lost"
        versions = {commit_id: version for version, commit_id in enumerate(found, 1)}
        assert versions == expected, "turns are not in the order of their versions"
        assert stored.head.token.version == len(found)
        assert stored.state == self._tried[found[-1]].state, "the state is not that of the last turn"
