"""What the README says each adapter can do is what the kit reported, and what the adapters declare today."""

import pytest

import turnkeep
from turnkeep_testkit import AdapterSuite

from .capabilities import COLUMNS, README, reported, with_table

AGAIN = "run: make capabilities"


def test_the_table_is_the_report():
    page = README.read_text(encoding="utf-8")
    assert with_table(page) == page, AGAIN


def test_every_adapter_is_reported():
    assert list(reported()) == list(COLUMNS), AGAIN


@pytest.mark.parametrize("name", COLUMNS)
def test_what_was_reported_is_what_is_declared(name):
    found = reported()[name]["capabilities"]
    adapter = turnkeep.connect(COLUMNS[name][1])._persistence.adapter
    declared = {each.name: adapter.supports(each) for each in turnkeep.Capability}
    assert {each: (found[each]["level"], found[each]["reason"]) for each in found} == {
        each: (support.level.value, support.reason) for each, support in declared.items()
    }, AGAIN


@pytest.mark.parametrize("name", COLUMNS)
def test_nothing_failed_and_no_suite_is_missing(name):
    suites = reported()[name]["suites"]
    wanted = {base.__name__ for base in AdapterSuite.__bases__}
    assert set(suites) == wanted, AGAIN
    assert [suite for suite, found in suites.items() if found["counts"]["failed"] or found["counts"]["xfailed"]] == []
