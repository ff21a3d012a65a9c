"""What the documentation says of tables and grants is what is there."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
SQL = files("turnkeep_postgres") / "sql"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not beside this package")


def test_every_column_and_index_is_described():
    script = (SQL / "schema.sql").read_text()
    for name, body in re.findall(r"^CREATE TABLE (\w+) \(\n(.*?)^\);", script, re.MULTILINE | re.DOTALL):
        page = (DOCS / "reference/tables.md").read_text().split(f"## {name}\n")[1].split("\n## ")[0]
        columns = re.findall(r"^    ([a-z_]+) (\w+)", body, re.MULTILINE)
        described = re.findall(r"^\| `(\w+)` \| `(\w+)`", page, re.MULTILINE)
        assert described == columns
    page = (DOCS / "reference/tables.md").read_text()
    indexes = re.findall(r"^CREATE INDEX (\w+)", script, re.MULTILINE)
    assert re.findall(r"^\| `(turnkeep_(?:sessions|messages)_\w+)` \|", page, re.MULTILINE) == indexes


def test_the_grants_are_those_of_the_script():
    script = (SQL / "grants.sql").read_text()
    statements = script[script.index("GRANT") :]
    assert f"```sql\n{statements}```" in (DOCS / "how-to/postgres.md").read_text()
