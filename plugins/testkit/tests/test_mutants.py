"""The kit catches what it claims: each defect is failed by a test whose name tells it."""

from __future__ import annotations

import inspect
import re

import pytest

from turnkeep.errors import TurnkeepError
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import AdapterSuite, FakeClock

from .mutants import CAUGHT_BY
from .parameters import parameters_of


def run(adapter_class, name):
    """Runs one test of the kit, with every parameter set of it, or with those that have the `[part]`."""
    test, _, part = name.rstrip("]").partition("[")
    for arguments in parameters_of(getattr(AdapterSuite, test)):
        if not part or any(part in str(value) for value in arguments.values()):
            suite = _Suite()
            suite.prepare(*_maker(adapter_class))
            getattr(suite, test)(**arguments)


def _maker(adapter_class):
    clock = FakeClock()
    first = adapter_class(clock=clock)
    waiting = [first]

    def make():
        # Two adapters over one memory are the same object, unless the mutant knows better.
        return waiting.pop() if waiting else first.sibling() if hasattr(first, "sibling") else first

    return make, clock


class _Suite(AdapterSuite):
    deadline = 5.0

    async def remains(self, key):
        found = self.adapter.snapshot()
        identity = (key.scope.namespace, key.session_id)
        return sum((row["namespace"], row["id"]) == identity for row in found["sessions"]) + sum(
            (row["namespace"], row["session_id"]) == identity for row in found["messages"]
        )


@pytest.mark.parametrize("mutant", CAUGHT_BY, ids=lambda mutant: mutant.__name__)
def test_the_mutant_is_caught(mutant):
    # An assertion of the kit, `pytest.raises` that saw nothing, or an error of the contract; no accident in the mutant.
    with pytest.raises((AssertionError, pytest.fail.Exception, TurnkeepError)):
        run(mutant, CAUGHT_BY[mutant])


@pytest.mark.parametrize("test", sorted(set(CAUGHT_BY.values())))
def test_the_correct_adapter_passes(test):
    run(MemoryAdapter, test)


def test_the_tests_are_the_kits():
    for test in CAUGHT_BY.values():
        function = getattr(AdapterSuite, test.partition("[")[0])
        assert re.search(r"On failure:", inspect.getdoc(function))
