"""The adapter beside the memory adapter, through whatever Hypothesis thinks of."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from turnkeep.contract import Capability, Level
from turnkeep_testkit.stateful import SessionMachine
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from turnkeep.contract import StorageAdapter
    from turnkeep_testkit.bridge import Loop


class StatefulSuite(Suite):
    """The adapter and the memory adapter, side by side, through whatever Hypothesis thinks of."""

    machine_runs: ClassVar[int] = 30
    machine_steps: ClassVar[int] = 30

    def test_it_behaves_like_the_memory_adapter(self) -> None:
        """Every answer, every type of error and all that is visible are those of `MemoryAdapter`.

        On failure: the steps that lead there are printed as a program; the last assertion shows adapter against oracle.
        """
        with self.running(self.test_it_behaves_like_the_memory_adapter) as loop:
            stage = _OnStage(self, loop)
            loop.run(stage.open(), deadline=self.deadline)
            machine = type("Machine", (SessionMachine,), {"stage": stage})
            run_state_machine_as_test(
                machine,
                settings=self.examples(
                    self.machine_runs,
                    2000,
                    stateful_step_count=50 if self.campaign else self.machine_steps,
                    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink),
                ),
            )


class _OnStage:
    def __init__(self, suite: Suite, loop: Loop) -> None:
        self.loop = loop
        self.deadline = suite.deadline
        self.clock = suite.clock
        self.adapters: list[StorageAdapter] = []
        self.immediate_lists = suite.level(Capability.IMMEDIATE_LISTS) is Level.FULL
        self.has_stats = suite.level(Capability.STATS) is not Level.NONE
        self._suite = suite

    async def open(self) -> None:
        self.adapters = [self._suite.adapter, await self._suite.another()]

    async def reopen(self, number: int) -> None:
        await self.adapters[number].aclose()
        await self.adapters[number].open()
