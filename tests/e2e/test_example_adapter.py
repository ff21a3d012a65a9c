"""An adapter by somebody else, as its users have it: wheels in a clean environment, found by entry point."""

import ast
import io
import shutil
import sys
import tokenize

import pytest

from .conftest import ROOT, UV, clean_environ, run

pytestmark = pytest.mark.e2e

EXAMPLE = ROOT / "examples/third_party_adapter"
TALK = """
import asyncio
import turnkeep

async def main():
    async with turnkeep.connect("jsonl:///conversations") as persistence:
        if await persistence.find_session_by_id("s1") is None:
            await persistence.save_session_state("s1", turnkeep.create_session("s1"))
        await persistence.save_message("s1", "user", "Hello")
        print(len(await persistence.load_session_history("s1")), type(persistence.adapter).__module__)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home(wheels, tmp_path_factory):
    """An environment with nothing but core, the kit and the example, from wheels, and what these need."""
    base, environ = tmp_path_factory.mktemp("example"), clean_environ()
    source = base / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(UV, "build", "--wheel", "--out-dir", base, source, cwd=base, env=environ)
    (wheel,) = base.glob("turnkeep_jsonl-*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, base / "environment", cwd=base, env=environ)
    python = base / "environment/bin/python"
    paths = [wheels["turnkeep"], wheels["turnkeep-testkit"], wheel]
    run(UV, "pip", "install", "--quiet", "--python", python, *paths, cwd=base, env=environ)
    return base


def test_it_passes_its_tests(home, tmp_path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    python = home / "environment/bin/python"
    said = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=tmp_path, env=clean_environ(), timeout=600
    )
    assert "turnkeep: what was shown of each adapter" in said
    assert "jsonl" in said
    assert " passed" in said.splitlines()[-1]


def test_its_url_is_found_by_entry_point(home, tmp_path):
    python = home / "environment/bin/python"
    for number in (1, 2):
        said = run(python, "-I", "-c", TALK, cwd=tmp_path, env=clean_environ())
        assert said.split() == [str(number), "turnkeep_jsonl.adapter"]
    assert (tmp_path / "conversations").is_dir()


def test_it_has_less_than_200_lines_of_code():
    sources = list((EXAMPLE / "src").rglob("*.py"))
    assert len(sources) == 5
    assert sum(map(lines_of_code, sources)) < 200


def lines_of_code(path):
    """Lines that are neither empty, nor comments, nor documentation."""
    text = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        for statement in getattr(node, "body", ()) if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                told |= set(range(statement.lineno, statement.end_lineno + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in blank]
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - told)
