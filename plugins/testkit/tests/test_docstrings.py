"""Each test of the kit says what it holds, and what to check when it fails."""

from __future__ import annotations

import inspect

import pytest

from turnkeep_testkit import AdapterSuite, faults
from turnkeep_testkit.suites.base import Suite

SUITES = [AdapterSuite, *(getattr(faults, name) for name in faults.__all__ if name.endswith("Suite"))]
TESTS = sorted(
    {(owner, name) for suite in SUITES for owner in suite.__mro__ for name in vars(owner) if name[:5] == "test_"},
    key=str,
)


@pytest.mark.parametrize(("owner", "name"), TESTS, ids=[f"{owner.__name__}-{name}" for owner, name in TESTS])
def test_a_docstring_ends_with_what_to_check(owner, name):
    said = inspect.getdoc(getattr(owner, name))
    promise, _, last = (said or "").rpartition("\n\n")
    assert promise, "first what it holds, then what to check"
    assert last.startswith("On failure: ")
    assert last.endswith(".")
    assert "On failure:" not in promise


def test_all_suites_are_looked_at():
    def below(suite):
        for each in suite.__subclasses__():
            if each.__module__.startswith("turnkeep_testkit."):
                yield each
                yield from below(each)

    assert {owner for owner, _ in TESTS} >= {
        suite for suite in below(Suite) if any(n[:5] == "test_" for n in vars(suite))
    }
