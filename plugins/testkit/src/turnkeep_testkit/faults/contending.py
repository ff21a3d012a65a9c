"""T10: several processes on one session."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from turnkeep_testkit.faults.several import ManyProcesses
from turnkeep_testkit.processes.children import CONTEXT, Child
from turnkeep_testkit.processes.contending import MESSAGES, contend
from turnkeep_testkit.suites.base import seqs

if TYPE_CHECKING:
    from turnkeep_testkit.processes.contending import Done

_EVERYDAY, _CAMPAIGN = 3, 8


class ContentionSuite(ManyProcesses):
    """Processes that all load, change and commit one session: nothing is lost, everybody gets through."""

    async def test_t10_processes_on_one_session(self) -> None:
        """Each process commits its turns with the token it read, and repeats after a conflict: all land, whole, once.

        On failure: compare and write are two steps; numbers are given by the process; a conflict is not told as one.
        """
        processes, turns = _CAMPAIGN if self.campaign else _EVERYDAY, self.size("T10")
        key = self.new_key()
        barrier = CONTEXT.Barrier(processes)
        children = [Child(contend, self.factory, key, turns, barrier) for _ in range(processes)]
        said: list[Done] = []
        try:
            for child in children:
                assert await child.listen(lambda done: said.append(done) or True, seconds=self.deadline)
        finally:
            for child in children:
                child.kill()
        stored = await self.load(key)
        total = processes * turns
        assert seqs(stored.messages) == list(range(1, total * MESSAGES + 1))
        assert stored.head.token.version == total
        whole = [list(turn) for _, turn in groupby(stored.messages, key=lambda message: message.turn_seq)]
        assert {len(turn) for turn in whole} == {MESSAGES}
        assert all(len({message.commit_id for message in turn}) == 1 for turn in whole)
        assert len({turn[0].commit_id for turn in whole}) == total
        seconds = max(done.ended for done in said) - min(done.began for done in said)
        self.figure("T10", f"messages of {processes} processes x {turns} turns on one session", len(stored.messages))
        self.figure("T10", "turns lost, torn or stored twice", 0)
        self.figure("T10", "turns per second", total / seconds)
        self.figure("T10", "conflicts", sum(done.conflicts for done in said))
        self.figure("T10", "longest wait of a turn, s", max(done.longest for done in said))
