"""Links lead somewhere, and the navigation lists every page once."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "core/README.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    found: dict[str, int] = {}
    headings = re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    for heading in headings:
        explicit = re.search(r"\{ *#([\w.-]+) *\}", heading)
        text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        slug = explicit[1] if explicit else re.sub(r"[\s]", "-", text)
        found[slug] = found.get(slug, -1) + 1
    return {slug if not n else f"{slug}_{n}" for slug, last in found.items() for n in range(last + 1)}


def links() -> list[tuple[Path, str]]:
    targets = [(page, one or other) for page in PAGES for one, other in LINK.findall(prose(page))]
    return [(page, target) for page, target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


@pytest.mark.parametrize(
    ("page", "target"),
    [pytest.param(*link, id=f"{link[0].relative_to(ROOT).as_posix()}-{link[1]}") for link in links()],
)
def test_link_leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / unquote(path)).resolve() if path else page
    assert there.exists(), f"{page.relative_to(ROOT)} links to {target}, which does not exist"
    assert there.is_relative_to(ROOT)
    if anchor and there.suffix == ".md":
        assert anchor in anchors(there), f"{there.relative_to(ROOT)} has no heading #{anchor}"
    if page.is_relative_to(DOCS):
        assert there.is_relative_to(DOCS), "a page of the site links only to pages of the site"


def nav(items) -> list[str]:
    found = []
    for item in items:
        value = next(iter(item.values())) if isinstance(item, dict) else item
        found += nav(value) if isinstance(value, list) else [value]
    return found


def test_the_navigation_lists_every_page_once():
    listed = nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
