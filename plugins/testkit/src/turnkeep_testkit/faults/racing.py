"""T15: processes that create, write, delete and let expire the same sessions."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from turnkeep_testkit.faults.several import ManyProcesses
from turnkeep_testkit.processes.children import CONTEXT, Child
from turnkeep_testkit.processes.racing import race

if TYPE_CHECKING:
    from turnkeep_testkit.processes.racing import Deed

_PROCESSES = 4
_SESSIONS = 3


class RaceSuite(ManyProcesses):
    """However deletes, commits, expiry and creation race: a life that has ended stays ended."""

    async def test_t15_what_is_deleted_never_comes_back(self) -> None:
        """Processes work on the same few sessions; afterwards every acknowledged call is looked at in real time.

        Versions of a life rise by one per commit, no commit or load finds a life after its delete was acknowledged, or
        after the next one began, and in the end nothing remains.

        On failure: a commit is an upsert, compares without the incarnation, or writes messages before it finds the
        session gone; an expired session is replaced in two steps.
        """
        calls = self.size("T15")
        keys = [self.new_key() for _ in range(_SESSIONS)]
        barrier = CONTEXT.Barrier(_PROCESSES)
        children = [Child(race, self.factory, keys, calls, seed, barrier) for seed in range(_PROCESSES)]
        deeds: list[Deed] = []
        try:
            for child in children:
                assert await child.listen(lambda told: deeds.extend(told) or not told, seconds=self.deadline)
        finally:
            for child in children:
                child.kill()
        verify(deeds)
        for key in keys:
            await self.adapter.delete(key)
        while (await self.adapter.sweep(1000)).more:
            pass
        for key in keys:
            assert not await self.is_there(key)
            assert await self.remains(key) in {0, None}, "something is left of a session that was deleted"
        kinds = [deed.kind for deed in deeds]
        assert kinds.count("delete")
        assert kinds.count("commit")
        self.figure("T15", f"calls of {_PROCESSES} processes on {_SESSIONS} sessions", calls * _PROCESSES)
        self.figure("T15", "commits acknowledged", kinds.count("commit") + kinds.count("create"))
        self.figure("T15", "deletes acknowledged", kinds.count("delete"))
        self.figure("T15", "sessions that came back, orphans", 0)


def verify(deeds: list[Deed]) -> None:
    """Compares what was told with what can have happened.

    Raises:
        AssertionError: a life went on after its end, or its versions do not fit the order of real time.
    """
    lives: dict[tuple[str, str], list[Deed]] = defaultdict(list)
    for deed in deeds:
        lives[deed.session_id, deed.incarnation].append(deed)
    for life in lives.values():
        _verify_life(life)
    births: dict[str, list[Deed]] = defaultdict(list)
    for deed in deeds:
        if deed.kind == "create":
            assert deed.version == 1
            births[deed.session_id].append(deed)
    for session_id, born in births.items():
        born.sort(key=lambda birth: birth.began)
        for birth, next_birth in pairwise(born):
            if birth.ended < next_birth.began:
                late = [deed for deed in lives[session_id, birth.incarnation] if deed.began > next_birth.ended]
                assert not late, f"a life went on after the next one began: {late[0]}"


def _verify_life(life: list[Deed]) -> None:
    versions = [deed.version for deed in life if deed.kind in {"create", "commit"}]
    assert len(versions) == len(set(versions)), "two commits have the same version"
    ends = [deed.ended for deed in life if deed.kind == "delete"]
    assert len(ends) <= 1, "one life was deleted twice"
    late = [deed for deed in life for end in ends if deed.began > end]
    assert not late, f"a session was met after its delete was acknowledged: {late[0]}"
    # Real time: whatever was acknowledged before a call began is seen by it.
    acknowledged = sorted((deed.ended, deed.version) for deed in life if deed.kind in {"create", "commit"})
    at_least, index = 0, 0
    for deed in sorted(life, key=lambda deed: deed.began):
        while index < len(acknowledged) and acknowledged[index][0] < deed.began:
            at_least = max(at_least, acknowledged[index][1])
            index += 1
        assert deed.version >= at_least, f"older than what was acknowledged before it: {deed}"
        assert deed.kind != "commit" or deed.version > at_least, f"a version was given twice: {deed}"
