"""The table of the README that shows what each adapter can do, made from the test kit's own report.

``make capabilities`` runs the kit on each adapter, keeps the report beside this file, and writes the table anew. It
starts the servers that are not running, and ends them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
REPORT = Path(__file__).with_name("capabilities.json")

COLUMNS = {
    "memory": ("core/tests/test_memory_conformance.py", "memory://"),
    "sqlite": ("plugins/sqlite/tests/test_conformance.py::TestFile", "sqlite:///capabilities.db"),
    "postgres": ("plugins/postgres/tests/test_conformance.py::TestNew", "postgresql://localhost/app"),
    "sqlalchemy (TestPostgreSQL)": (
        "plugins/sqlalchemy/tests/test_conformance.py::TestPostgreSQL",
        "sqlalchemy+postgresql+psycopg://localhost/app",
    ),
    "sqlalchemy (TestMariaDB)": (
        "plugins/sqlalchemy/tests/test_conformance.py::TestMariaDB",
        "sqlalchemy+mariadb+asyncmy://localhost/app",
    ),
    "redis": ("plugins/redis/tests/test_conformance.py::TestRedis", "redis://localhost"),
    "mongodb": ("plugins/mongodb/tests/test_conformance.py::TestReplicaSet", "mongodb://localhost/app"),
    "opensearch": ("plugins/opensearch/tests/test_conformance.py::TestOpenSearch", "opensearch://localhost"),
}
"""By the kit's name for each adapter: the tests that show what it can do, and an address of it."""

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
    found = [column["capabilities"] for column in columns.values()]
    reasons = {each[name]["reason"]: None for name in names for each in found if each[name]["reason"]}
    notes = {reason: number for number, reason in enumerate(reasons, 1)}
    rows = [["", *(label.replace("Test", "") for label in columns)], ["---"] * (len(columns) + 1)]
    rows += [[f"`{name}`", *(_cell(each[name], notes) for each in found)] for name in names]
    counts = [sum(suite["counts"]["passed"] for suite in column["suites"].values()) for column in columns.values()]
    rows.append(["tests of the kit passed", *map(str, counts)])
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*table, "", *(f"{number}. {reason}" for reason, number in notes.items())])


def _cell(capability, notes):
    mark = " ✓" if capability["proof"] == "proved" else ""
    note = f" ({notes[capability['reason']]})" if capability["reason"] else ""
    return f"{capability['level']}{mark}{note}"


def report():
    """Runs the kit on each adapter; the exit status."""
    from services.registry import Registry  # only here: the page's tests need no servers

    servers = Registry()
    started = servers.up(required=True)
    try:
        tests = [tests for tests, _ in COLUMNS.values()]
        command = [Path(sys.executable).with_name("pytest"), "-q", f"--turnkeep-report={REPORT}", *tests]
        environment = os.environ | servers.addresses() | {"TURNKEEP_REQUIRE_SERVICES": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    finally:
        servers.down(started)


if __name__ == "__main__":
    if failed := report():
        sys.exit(failed)
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
