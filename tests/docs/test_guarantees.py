"""Every promise names tests that there are."""

import re

from .pages import DOCS, ROOT, rows

FOLDERS = ["core/tests", "plugins/*/tests", "plugins/testkit/src/turnkeep_testkit/*", "tests"]
MISSING = "no test yet"


def find_tests() -> set[str]:
    files = [file for folder in FOLDERS for place in ROOT.glob(folder) for file in place.rglob("*.py")]
    return {
        name
        for file in files
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def promises() -> list[list[str]]:
    return rows(DOCS / "explanation/guarantees.md")


def test_every_promise_names_tests():
    for promise, held_by in promises():
        assert promise
        assert held_by == MISSING or re.fullmatch(r"`test_\w+`(?:, `test_\w+`)*", held_by), promise


def test_every_test_that_is_named_is_there():
    named = {name for _, held_by in promises() for name in re.findall(r"`(test_\w+)`", held_by)}
    assert sorted(named - find_tests()) == []


def test_no_promise_is_made_twice():
    made = [promise for promise, _ in promises()]
    assert len(made) == len(set(made))
