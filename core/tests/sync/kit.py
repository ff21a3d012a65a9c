"""Scenarios in processes of their own, with a hard deadline: one that hangs fails, and takes nobody along."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeep.providers import Provider, ProviderReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turnkeep.providers import ProviderRequest

TESTS = Path(__file__).parents[1]
HERE = Path(__file__).parent.name
DEADLINE = 20.0

_RUN_BODY = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from {HERE} import kit; kit.run_body(*sys.argv[1:])"


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def apart(function: Callable[..., None] | None = None, *, deadline: float = DEADLINE) -> Any:
    """Makes a test of a function that is to run in a process of its own.

    It is given what it names: ``place``, an empty directory, and ``url``, of an SQLite file in there. It must end
    within the deadline, without an error and with nothing on standard error.
    """

    def decorate(body: Callable[..., None]) -> Callable[[Path], None]:
        def test(tmp_path: Path) -> None:
            if "url" in signature(body).parameters:
                need_sqlite()
            ended = run(
                [sys.executable, "-c", _RUN_BODY, Path(body.__code__.co_filename).stem, name, str(tmp_path)],
                deadline=deadline,
            )
            assert ended.code == 0, f"ended with {ended.code}\n{ended.stdout}{ended.stderr}"
            assert ended.stderr == "", ended.stderr

        name = body.__name__
        test.__name__, test.__qualname__, test.__doc__, test.__module__ = name, name, body.__doc__, body.__module__
        test.body = body
        return test

    return decorate if function is None else decorate(function)


def run_body(module: str, name: str, place: str) -> None:
    """In the process of its own: runs the function."""
    logging.getLogger("turnkeep").addHandler(logging.NullHandler())  # a warning of ours is no error; asyncio's are
    body = getattr(importlib.import_module(f"{HERE}.{module}"), name).body
    offered = {"place": Path(place), "url": sqlite_url(Path(place))}
    body(**{key: offered[key] for key in signature(body).parameters})


def run(command: list[str], *, deadline: float = DEADLINE, interrupt_at: str | None = None) -> Ended:
    """Runs a command to its end. Beyond the deadline all its threads say where they are, and its children end too.

    With ``interrupt_at`` it gets the Ctrl-C of a terminal once it has printed that line.
    """
    if command[0] == sys.executable:
        # Python 3.12 warns of every fork beside threads.
        warnings = ["default::ResourceWarning", "ignore:This process:DeprecationWarning"]
        command[1:1] = ["-X", "faulthandler", *(word for each in warnings for word in ("-W", each))]
    started = time.monotonic()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so begun as a background job, and inherited by children
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            if interrupt_at is not None:
                assert process.stdout is not None
                assert process.stdout.readline().strip() == interrupt_at
                started = time.monotonic()
                process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            raise AssertionError(f"did not end within {deadline:g} s\n{stdout}{stderr}") from None
    return Ended(process.returncode, stdout, stderr, time.monotonic() - started)


def run_script(source: str, *arguments: str, deadline: float = DEADLINE, interrupt_at: str | None = None) -> Ended:
    """Runs a program as a person would have written it: its names are global until the very end."""
    return run([sys.executable, "-c", source, *arguments], deadline=deadline, interrupt_at=interrupt_at)


def in_child(function: Callable[[], Any], *, deadline: float = 10.0, leave: Callable[[int], object] = os._exit) -> Any:
    """What the function returns (anything JSON knows) in a forked child; an error there is one here."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer = {"returned": function()}
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent hears of it
            answer = {"raised": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(answer).encode())
        leave(0)
    os.close(writing)
    end = time.monotonic() + deadline
    answer = b""
    try:
        while select.select([reading], [], [], max(0, end - time.monotonic()))[0]:
            piece = os.read(reading, 65536)
            if not piece:
                break
            answer += piece
        else:
            os.kill(pid, signal.SIGABRT)  # faulthandler says where it hangs
            raise AssertionError(f"the child hangs; so far it said {answer!r}")
    finally:
        os.close(reading)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.kill(pid, signal.SIGABRT)
            raise AssertionError("the child does not end")
        time.sleep(0.005)
    assert answer, "the child ended without an answer"
    found = json.loads(answer)
    assert "raised" not in found, f"in the child: {found['raised']}"
    return found["returned"]


def need_sqlite() -> None:
    """Skips the test where there is no database that outlives its process."""
    import pytest

    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")


def sqlite_url(place: Path) -> str:
    """Of the file in that directory."""
    return f"sqlite:///{place}/store.db?durability=normal"


def stored(url: str, session_id: str) -> list[tuple[str, str]] | None:
    """(role, content) of all a session's messages, read by the asynchronous API; None where there is no session."""
    import turnkeep

    async def read() -> list[tuple[str, str]] | None:
        async with turnkeep.connect(url) as persistence:
            state = await persistence.load_session_state(session_id)
            return None if state is None else texts(state.history)

    return asyncio.run(read())


def texts(history: Any) -> list[tuple[str, str]]:
    """(role, content) of messages."""
    return [(message.role, message.content) for message in history]


def thread_names() -> list[str]:
    """Of the threads that live."""
    return sorted(thread.name for thread in threading.enumerate())


@contextmanager
def raises(kind: type[BaseException], words: str = "") -> Iterator[list[BaseException]]:
    """As pytest's, for processes that have no pytest."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    else:
        raise AssertionError(f"no {kind.__name__} was raised")
    assert words in str(caught[0]), caught[0]


def in_time(function: Callable[[], Any], seconds: float = 3.0) -> Any:
    """What the function returns; it must not take longer."""
    started = time.monotonic()
    result = function()
    took = time.monotonic() - started
    assert took < seconds, f"took {took:.1f} s"
    return result


class Echo(Provider):
    """Says what the user said, in capitals, word by word; says so when it begins, and waits if told to."""

    def __init__(self, *, pause: float = 0.0) -> None:
        self.pause = pause
        self.asked = threading.Event()
        self.calls = 0

    async def generate(self, request: ProviderRequest) -> ProviderReply:
        """Capitals."""
        self.calls += 1
        self.asked.set()
        await asyncio.sleep(self.pause)
        text = next(message.content for message in reversed(request.history) if message.role == "user")
        return ProviderReply(text=text.upper())

    async def stream(self, request: ProviderRequest) -> Any:
        """Capitals, word by word."""
        reply = await self.generate(request)
        first, *rest = reply.text.split(" ")
        yield first
        for word in rest:
            await asyncio.sleep(self.pause)
            yield f" {word}"
        yield reply
