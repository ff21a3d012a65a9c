"""The table of the README that shows what each adapter can do, made from the test kit's own report.

``make capabilities`` runs the kit on each adapter, keeps the report beside this file, and writes the table anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
REPORT = Path(__file__).with_name("capabilities.json")

_PLACE = re.compile(r"(<!-- capabilities: make capabilities -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)


def reported():
    """The report on each adapter, by name."""
    adapters = json.loads(REPORT.read_text(encoding="utf-8"))["adapters"]
    return {adapter["label"]: adapter for adapter in adapters}


def with_table(page):
    """The page with the table as the report has it."""
    found, count = _PLACE.subn(lambda place: place[1] + as_table() + place[2], page)
    assert count == 1, "the README has one place for the table"
    return found


def as_table():
    columns = reported()
    names = next(iter(columns.values()))["capabilities"]
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[f"`{name}`", *(_cell(column["capabilities"][name]) for column in columns.values())] for name in names]
    counts = [sum(suite["counts"]["passed"] for suite in column["suites"].values()) for column in columns.values()]
    rows.append(["tests of the kit passed", *map(str, counts)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(capability):
    mark = " ✓" if capability["proof"] == "proved" else ""
    reason = f": {capability['reason']}" if capability["reason"] else ""
    return f"{capability['level']}{mark}{reason}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
