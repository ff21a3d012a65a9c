"""Links lead somewhere, the navigation lists every page once, pages are written for those who read them."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from .pages import API, DOCS, FENCE, PAGES, ROOT, name_of, read

LINKING = [*PAGES, ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def prose(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))


def anchors(page: Path) -> set[str]:
    found: dict[str, int] = {}
    headings = re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", read(page)), re.MULTILINE)
    for heading in headings:
        explicit = re.search(r"\{ *#([\w.-]+)[^}]*\}", heading)
        text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        slug = explicit[1] if explicit else re.sub(r"[-\s]+", "-", text)
        found[slug] = found.get(slug, -1) + 1
    return {slug if not n else f"{slug}_{n}" for slug, last in found.items() for n in range(last + 1)}


def links() -> list[tuple[Path, str]]:
    targets = [(page, one or other) for page in LINKING for one, other in LINK.findall(prose(page))]
    return [(page, target) for page, target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


@pytest.mark.parametrize(
    ("page", "target"), [pytest.param(*link, id=f"{name_of(link[0])}-{link[1]}") for link in links()]
)
def test_link_leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    there = (page.parent / unquote(path)).resolve() if path else page
    assert there.exists(), f"{name_of(page)} links to {target}, which does not exist"
    assert there.is_relative_to(ROOT)
    if anchor and there.suffix == ".md":
        assert anchor in anchors(there), f"{name_of(there)} has no heading #{anchor}"
    if page.is_relative_to(DOCS):
        assert there.is_relative_to(DOCS), "a page of the site links only to pages of the site"


def nav(items) -> list[tuple[str, str]]:
    found = []
    for item in items:
        ((title, value),) = item.items()
        found += nav(value) if isinstance(value, list) else [(title, value)]
    return found


def test_the_navigation_lists_every_page_once():
    listed = [path for _, path in nav(NAV)]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_pages_are_called_what_the_navigation_calls_them():
    titles = {path: read(DOCS / path).splitlines()[0].removeprefix("# ") for _, path in nav(NAV)}
    assert titles == {path: title for title, path in nav(NAV)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title_and_begins_with_what_it_is_for(page):
    lines = FENCE.sub("", read(page)).splitlines()
    assert [line for line in lines if re.match(r"# ", line)] == lines[:1]
    assert re.match(r"[\w`@\[]", next(line for line in lines[1:] if line)), "a sentence comes first"


@pytest.mark.parametrize("page", [*LINKING, *API], ids=name_of)
def test_no_page_knows_a_machine(page):
    text = read(page)
    assert not re.findall(r"(?<![\w.])/(?:work|home|root|tmp|Users)/", text)
    assert not re.findall(r"(?<!\+)https?://(?!127\.0\.0\.1|localhost)", text), "links to elsewhere go stale"
