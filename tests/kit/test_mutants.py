"""The kit catches what it claims: each defect is failed by a test whose name tells it."""

from __future__ import annotations

import inspect
import re
from unittest.mock import patch

import pytest

from turnkeep.errors import TurnkeepError
from turnkeep_testkit import AdapterSuite, FakeClock, SchemaSuite
from turnkeep_testkit.faults import DriverFaultSuite
from turnkeep_testkit.parameters import parameters_of

from . import damage, drivers, opening, schemas, searching  # noqa: F401 - they register their mutants
from .mutants import CAUGHT_BY
from .schemas import NEWEST
from .table import PAGE, as_page


class Suite(AdapterSuite, DriverFaultSuite):
    """All of the kit, over one store in memory."""

    deadline = 5.0

    async def remains(self, key):
        found = self.seen.snapshot()
        identity = (key.scope.namespace, key.session_id)
        return sum((row["namespace"], row["id"]) == identity for row in found["sessions"]) + sum(
            (row["namespace"], row["session_id"]) == identity for row in found["messages"]
        )

    def connect_url(self):
        return "memory://"

    async def lose_message(self, key, seq):
        self.seen.lose_message(key, seq)

    async def fingerprint(self):
        return self.seen.fingerprint()

    async def make_schema_older(self):
        self.seen.catalogue.newest = NEWEST + 1

    async def make_schema_newer(self):
        self.seen.catalogue.version = NEWEST + 5

    async def make_schema_foreign(self):
        self.seen.catalogue.foreign = True


def run(adapter_class, name):
    """Runs one test of the kit, with every parameter set of it, or with those that have the `[part]`."""
    test, _, part = name.rstrip("]").partition("[")
    ran = 0
    for arguments in parameters_of(getattr(Suite, test)):
        if not part or any(part in str(value) for value in arguments.values()):
            suite, (make, clock) = Suite(), maker(adapter_class)
            suite.prepare(make, clock)
            suite.calls = getattr(make(), "calls", None)
            with patch("turnkeep.memory.MemoryAdapter", adapter_class):  # as memory:// finds it
                getattr(suite, test)(**arguments)
            ran += 1
    assert ran, f"there is no {name}"


def maker(adapter_class):
    clock = FakeClock()
    first = adapter_class(clock=clock)
    waiting = [first, first]

    def make():
        # Two adapters over one memory are the same object, unless the mutant knows better.
        return waiting.pop() if waiting else first.sibling() if hasattr(first, "sibling") else first

    return make, clock


@pytest.mark.parametrize("mutant", CAUGHT_BY, ids=lambda mutant: mutant.__name__)
def test_the_mutant_is_caught(mutant):
    # An assertion of the kit, `pytest.raises` that saw nothing, or an error of the contract; no accident in the mutant.
    with pytest.raises((AssertionError, pytest.fail.Exception, TurnkeepError)):
        run(mutant, CAUGHT_BY[mutant])


CORRECT = sorted(
    {(mutant.correct, test) for mutant, test in CAUGHT_BY.items()}, key=lambda pair: (pair[0].__name__, pair[1])
)


@pytest.mark.parametrize(("correct", "test"), CORRECT)
def test_the_correct_adapter_passes(correct, test):
    run(correct, test)


def test_there_are_enough_mutants():
    assert len(CAUGHT_BY) >= 40
    assert len({mutant.__name__ for mutant in CAUGHT_BY}) == len(CAUGHT_BY)


def test_each_test_of_the_schema_suite_catches_something():
    tests = {name for name in vars(SchemaSuite) if name.startswith("test_")}
    assert tests <= set(CAUGHT_BY.values())


def test_the_tests_say_what_to_check():
    for test in CAUGHT_BY.values():
        assert re.search(r"On failure:", inspect.getdoc(getattr(Suite, test.partition("[")[0])))


def test_the_page_lists_every_mutant():
    assert PAGE.read_text(encoding="utf-8") == as_page(CAUGHT_BY), (
        "make it anew: python -m kit.table (see its docstring)"
    )
