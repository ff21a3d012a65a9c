"""The Python blocks of every README, of docs/ and of api/ run as they stand, blocks of a file sharing names."""

import ast
import asyncio
import inspect
import re
import sys
import types

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from .pages import API, PAGES, ROOT, name_of, read

SKIPPED = {
    "docs/how-to/write-an-adapter.md": 17,  # excerpts of the example: test_excerpts.py
    "docs/tutorial/your-own-plugin.md": 1,  # a module of a package that is only told of
    "plugins/testkit/README.md": 2,
    # They need a Redis server.
    "docs/how-to/redis.md": 2,
    "plugins/redis/README.md": 1,
}
"""Pages to the blocks that are shown and not run."""


def evaluate(example):
    # Empty lines in front, so that a traceback shows the line of the page.
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, example.namespace)
    if inspect.iscoroutine(result):
        example.namespace["__runner__"].run(result)


SYBIL = Sybil([CodeBlockParser("python", evaluate), SkipParser()], path=ROOT)


@pytest.mark.parametrize("page", [*PAGES, *API], ids=name_of)
def test_blocks_run(page, tmp_path, monkeypatch):
    document = SYBIL.parse(page)
    # A real module, so that dataclasses, type hints and pickles of the page find it.
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    document.namespace = module.__dict__
    monkeypatch.chdir(tmp_path)
    with asyncio.Runner() as module.__runner__:
        for example in document.examples():
            example.evaluate()


@pytest.mark.parametrize("page", [*PAGES, *API], ids=name_of)
def test_blocks_are_found(page):
    """One that is indented or marked otherwise would silently not run."""
    marked = len(re.findall(r"^ *(?:```+|~~~+) *\{?\.?(?:py|python|python3|pycon)\b", read(page), re.MULTILINE))
    skipped = len(re.findall(r"<!-- skip: next -->", read(page)))
    assert skipped <= SKIPPED.get(name_of(page), 0), "a block that does not run has to be listed in SKIPPED"
    # A mark to skip is an example too.
    assert len(list(SYBIL.parse(page).examples())) == marked + skipped
