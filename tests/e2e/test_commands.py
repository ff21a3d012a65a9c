"""The two commands of the README, as typed."""

import re
import shutil

import pytest

import turnkeep

from .conftest import ROOT, clean_environ, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("make") is None, reason="the README's commands need make"),
]


def make(*arguments, stdin="", cwd=ROOT):
    return run("make", *arguments, stdin=stdin, cwd=cwd, env=clean_environ())


def test_the_readme_names_the_commands():
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    commands = {line.partition("#")[0].strip() for block in blocks for line in block.splitlines()}
    assert {"make chat", "make test"} <= commands


def test_make_alone_lists_every_target():
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    listed = re.findall(r"^  make ([a-z-]+)", make(), re.MULTILINE)
    assert sorted(listed) == sorted(phony.split())


async def test_make_chat_goes_on_where_it_was_left(tmp_path):
    """Two processes, one conversation; names with blanks and characters that a shell, make or a URL would read."""
    database = tmp_path / "two words & $HOME #1%20.db"
    first = make("chat", f"DB={database}", "SESSION=t1", stdin="A table please\nAna\n")
    assert database.exists()
    second = make("chat", f"DB={database}", "SESSION=t1", stdin="4\n")
    for output in (first, second):
        assert "turnkeep chat" not in output
        assert "make" not in output
    copy = tmp_path / "copy.db"
    shutil.copy(database, copy)
    async with turnkeep.connect(f"sqlite:///{copy}") as persistence:
        state = await persistence.load_session_state("t1")
    assert [line for output in (first, second) for line in output.splitlines()] == [
        message.content for message in state.history if message.role == "assistant"
    ]
    assert state.data == {"name": "Ana", "guests": 4}
    assert len(state.history) == 6
    assert [visit.completed for visit in state.route_history] == [True]


async def test_make_chat_takes_a_url(tmp_path):
    make("chat", f"DB=sqlite:///{tmp_path}/url.db?durability=normal", "SESSION=t1", stdin="A table please\n")
    assert (tmp_path / "url.db").exists()
