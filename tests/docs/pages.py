"""The pages that the tests look at."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.md"))
READMES = [ROOT / "README.md", ROOT / "core/README.md", *sorted(ROOT.glob("plugins/*/README.md"))]
PAGES = [*READMES, *sorted(DOCS.rglob("*.md"))]
API = sorted((Path(__file__).parent / "api").glob("*.md"))
"""The public surface, as a user types it, section by section."""

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def rows(page: Path) -> list[list[str]]:
    """The rows of every table on a page, headings and rules left out."""
    lines = [line for line in FENCE.sub("", read(page)).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, under in zip(cells, [*cells[1:], [""]], strict=True) if not (_rule(row) or _rule(under))]


def _rule(row: list[str]) -> bool:
    return all(re.fullmatch(r":?-+:?", cell) for cell in row)


def code(page: Path) -> str:
    """Every Python block of a page."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE))
