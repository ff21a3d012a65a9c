"""The page of the documentation that lists the mutants.

``PYTHONPATH=tests .venv/bin/python -m kit.table``, from the top of the repository, writes it anew.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/reference/mutants.md"

HEAD = """# What the test kit catches

What proves that [the test kit](testkit.md) tests anything: adapters with one defect each, and for each the test that \
fails it. The adapters are in `tests/kit` of the repository; the same tests pass the adapters without the defect. \
Other tests may catch a defect too; the one named here tells it by its name.

This page is made from `tests/kit`; a test fails when it is stale.

| Defect | Test that fails it |
|---|---|
"""


def as_page(caught_by):
    rows = [f"| {in_words(mutant.__name__)} | `{test}` |" for mutant, test in caught_by.items()]
    return HEAD + "\n".join(rows) + "\n"


def in_words(name):
    """The name of a class as the beginning of a sentence."""
    words = re.findall(r"[A-Z](?:[a-z]+|(?![a-z]))|\d+", name)
    return " ".join([words[0], *(word.lower() for word in words[1:])])


if __name__ == "__main__":
    from kit import damage, drivers, opening, schemas, searching  # noqa: F401 - they register their mutants
    from kit.mutants import CAUGHT_BY

    PAGE.write_text(as_page(CAUGHT_BY), encoding="utf-8")
