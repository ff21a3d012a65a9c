"""The Python blocks of every README and of docs/ run as they stand, file by file, blocks of a file sharing names."""

import ast
import asyncio
import inspect
import sys
import types
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "core/README.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def evaluate(example):
    # Empty lines in front, so that a traceback shows the line of the page.
    source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
    code = compile(source, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, example.namespace)
    if inspect.iscoroutine(result):
        example.namespace["__runner__"].run(result)


SYBIL = Sybil([CodeBlockParser("python", evaluate), SkipParser()], path=ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
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
