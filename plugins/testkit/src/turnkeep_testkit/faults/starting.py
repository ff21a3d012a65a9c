"""T16: several processes that start at once, and starters that are killed."""

from __future__ import annotations

import random

from turnkeep_testkit.faults.several import ManyProcesses
from turnkeep_testkit.processes.children import CONTEXT, PATIENCE, Child
from turnkeep_testkit.processes.starting import start
from turnkeep_testkit.suites.base import starts_closed, texts

_STARTERS = 4
_LONGEST = 0.03


class StartSuite(ManyProcesses):
    """On a store where there is nothing yet: one schema comes of many starters, and of killed ones."""

    @starts_closed
    async def test_t16_many_start_at_once_on_an_empty_store(self) -> None:
        """Processes open the same empty store at once: all of them can work, and see each other.

        On failure: two make the same tables at the same time; take a lock, or take "it is there already" for success.
        """
        barrier = CONTEXT.Barrier(_STARTERS)
        children = [Child(start, self.factory, self.scope, str(number), barrier) for number in range(_STARTERS)]
        try:
            for child in children:
                assert await child.listen(lambda _: True, seconds=PATIENCE), "a process could not start"
        finally:
            for child in children:
                child.kill()
        self.adapter = await self.another()
        await self._expect_started([str(number) for number in range(_STARTERS)])
        self.figure("T16", "processes that opened an empty store at once", _STARTERS)

    @starts_closed
    async def test_t16_starters_that_are_killed_leave_a_store_that_opens(self) -> None:
        """Processes are killed while they open an empty store, one after the other; the next one opens it, as new.

        On failure: the schema is made in steps that the next start takes for somebody else's tables.
        """
        kills = self.size("T16")
        rng = random.Random(16)  # noqa: S311 - the same moments in every run
        for number in range(kills):
            with Child(start, self.factory, self.scope, f"killed {number}", None) as child:
                await child.listen(lambda _: True, seconds=_LONGEST * rng.random())
        with Child(start, self.factory, self.scope, "last", None) as child:
            assert await child.listen(lambda _: True, seconds=PATIENCE), "the store could not be opened"
        self.adapter = await self.another()
        await self._expect_started(["last"])
        self.figure("T16", "starters killed", kills)

    async def _expect_started(self, expected: list[str]) -> None:
        for session_id in expected:
            assert texts((await self.load(self.new_key(session_id=session_id))).messages) == ["here"]
        assert await self.adapter.migrate() == []
        report = await self.adapter.check()
        assert report.ok, str(report)
