import asyncio
import contextlib
import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import turnkeep
from turnkeep_cli.commands import app

COMMAND = [sys.executable, "-m", "turnkeep_cli"]
# Ctrl-C reaches whom the terminal belongs to.
IN_A_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from turnkeep_cli.__main__ import main
main()
"""
CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")

# Providers of a distribution that is "installed" by standing on the path.
PROVIDERS = '''
import asyncio
import pathlib
from turnkeep import hookimpl
from turnkeep.errors import ProviderError
from turnkeep.providers import Provider, ProviderReply

HOSTILE = """# Menu

- **soup** [red]not markup[/red] :smile:
- `List<String>` and <script>alert(1)</script> and List<Integer>
- escape \\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x9b2J \\u202eright to left
- entity &#27;[31m &#x9b;31m &amp;
- [link](http://example.org/%1b[31m) half \\ud800 end
"""

class Hostile(Provider):
    async def generate(self, request):
        return ProviderReply(text=HOSTILE)

class Failing(Provider):
    async def generate(self, request):
        text = request.history[-1].content
        if "fail" in text:
            raise ProviderError("the model [bold]is\\x1b[31m out[/bold]; try again in a minute", retryable=True)
        return ProviderReply(text=f"heard {text}")

class Slow(Provider):
    async def stream(self, request):
        for word in ("one ", "two ", "three "):
            yield word
            await asyncio.sleep(0.05)
        if "forever" in request.history[-1].content:
            await asyncio.sleep(60)
        yield ProviderReply(text="one two three ")

    async def generate(self, request):
        await asyncio.sleep(60)

def unmade():
    raise RuntimeError("set ACME_KEY")

@hookimpl
def register_providers(register):
    register("hostile", Hostile)
    register("failing", Failing)
    register("slow", Slow)
    register("unmade", unmade)
    register("wrong", dict)
'''


@dataclass
class Done:
    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


def environ(path=None):
    """Of a person's shell, whatever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNKEEP", "FORCE", "NO_"))}
    return (
        kept | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"} | ({"PYTHONPATH": str(path)} if path else {})
    )


@pytest.fixture
def cli(tmp_path):
    """Runs the command as a process of its own, with everything piped."""

    def run(*arguments, stdin="", path=None, **extra):
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=environ(path) | extra,
            timeout=60,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Runs the command in this process."""
    monkeypatch.chdir(tmp_path)
    for name in ("turnkeep", "turnkeep.plugins"):  # as the command sets them for its process
        logger = logging.getLogger(name)
        for attribute in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, attribute, getattr(logger, attribute))
    for name in list(os.environ):
        if name.startswith("TURNKEEP"):
            monkeypatch.delenv(name)

    def run(*arguments, stdin=""):
        result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def providers(tmp_path):
    """A folder for PYTHONPATH, in which a distribution with providers is installed."""
    return install(tmp_path / "site", "acme", PROVIDERS)


def install(folder, name, source):
    info = folder / f"turnkeep_{name}-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: turnkeep-{name}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[turnkeep]\n{name} = turnkeep_{name}\n")
    (folder / f"turnkeep_{name}.py").write_text(source)
    return folder


def stored(database, session_id):
    """What is in the database, read as any application would."""

    async def load():
        async with turnkeep.connect(f"sqlite:///{database}", auto_create=False) as persistence:
            return await persistence.load_session_state(session_id)

    return asyncio.run(load())


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments, cwd, path=None):
        self._screen, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=environ(path),
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""
        self._seen = 0

    @property
    def text(self):
        """All that was shown, without what only colours it."""
        return CONTROL.sub("", self.raw).replace("\r\n", "\n")

    def type(self, text):
        os.write(self._screen, text.encode())

    def wait_for(self, expected, timeout=20):
        """Waits until the text comes, behind what was waited for before."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.text.find(expected, self._seen)
            if found >= 0:
                self._seen = found + len(expected)
                return
            if time.monotonic() > deadline or not self._read(deadline):
                raise AssertionError(f"{expected!r} did not come; what came: {self.text[self._seen :]!r}")

    def say(self, line, reply):
        self.wait_for("you> ")
        self.type(f"{line}\r")
        self.wait_for(reply)

    def end(self, timeout=20):
        """Reads the rest, and returns the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            pass
        return self.process.wait(timeout)

    def _read(self, deadline):
        ready, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # so Linux says that the other side is closed
            return False
        self.raw += data.decode()
        return bool(data)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._screen)


@pytest.fixture
def terminal(tmp_path):
    """Starts the command in a terminal."""
    started = []

    def start(*arguments, path=None):
        started.append(Terminal(*arguments, cwd=tmp_path, path=path))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def full(tmp_path):
    """The path of a database with a few sessions."""
    path = Path(tmp_path) / "full.db"

    async def fill():
        async with turnkeep.connect(f"sqlite:///{path}") as persistence:
            for number in range(30):
                messages = [{"role": "user", "content": f"message {n}"} for n in range(3)]
                state = turnkeep.create_session(
                    f"s{number:02}", user_id="ana" if number % 3 else None, data={"number": number}, history=messages
                )
                await persistence.save_session_state(state.id, state)
                if number < 5:
                    await persistence.complete_session(state.id)

    asyncio.run(fill())
    return path
