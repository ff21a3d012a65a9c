"""Programs that end without closing: within seconds, with their own exit code, and without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .kit import TESTS, need_sqlite, run_script, sqlite_url, stored

if TYPE_CHECKING:
    from pathlib import Path

HEAD = f"""
import asyncio, atexit, os, sys, threading, time
sys.path.insert(0, {str(TESTS)!r})
from sync.kit import Echo
from turnkeep import Hooks, MemoryAdapter
from turnkeep.sync import Agent, SessionManager, connect
url = sys.argv[1]
"""
SAID = [("user", "hi"), ("assistant", "HI")]


@pytest.fixture
def url(tmp_path: Path) -> str:
    need_sqlite()
    return sqlite_url(tmp_path)


def check(source: str, url: str, *, code: int = 0, stdout: str = "", seconds: float = 8) -> None:
    ended = run_script(HEAD + source, url)
    assert (ended.code, ended.stderr) == (code, ""), ended.stderr
    assert ended.stdout == stdout
    assert ended.seconds < seconds


AGENT = "agent = Agent(name='a', provider=Echo(), persistence=url, session_id='s')\n"


def test_nothing_was_closed(url: str) -> None:
    check(AGENT + "store = connect(url)\nagent.respond('hi')\nsession = SessionManager(store, session_id='t')\n"
          "session.add_message('user', 'hi')\n", url)  # fmt: skip
    assert stored(url, "s") == SAID
    assert stored(url, "t") == [("user", "hi")]


def test_the_exit_code_is_the_programs(url: str) -> None:
    check(AGENT + "agent.respond('hi')\nsys.exit(3)\n", url, code=3)
    assert stored(url, "s") == SAID


def test_an_error_is_shown_alone(url: str) -> None:
    ended = run_script(HEAD + AGENT + "agent.respond('hi')\n1 / 0\n", url)
    assert ended.code == 1
    assert ended.stderr.count("Traceback") == 1
    assert ended.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert stored(url, "s") == SAID


def test_a_stream_is_open(url: str) -> None:
    check(AGENT + "agent.provider.pause = 30\nstream = agent.stream('hi there')\nstream.__enter__()\n"
          "assert agent.provider.asked.wait(5)\n", url)  # fmt: skip
    assert stored(url, "s") is None


def test_a_stream_is_being_read(url: str) -> None:
    check(AGENT + "agent.provider.pause = 0.3\nstream = agent.stream('one two three four')\nstream.__enter__()\n"
          "chunks = iter(stream)\nassert next(chunks).delta == 'ONE'\n", url)  # fmt: skip
    assert stored(url, "s") is None


def test_a_generator_with_a_stream_is_left_over(url: str) -> None:
    check(AGENT + """
agent.provider.pause = 0.3
def generate():
    with agent.stream('one two three four') as stream:
        yield from stream
chunks = generate()
next(chunks)
""", url)  # fmt: skip
    assert stored(url, "s") is None


def test_a_turn_is_open(url: str) -> None:
    check(AGENT + "turn = agent.session.turn()\nturn.__enter__().add_message('user', 'hi')\n", url)
    assert stored(url, "s") is None


def test_a_daemon_thread_waits_for_a_model(url: str) -> None:
    check(AGENT + "agent.provider.pause = 30\n"
          "threading.Thread(target=agent.respond, args=('hi',), daemon=True).start()\n"
          "assert agent.provider.asked.wait(5)\n", url)  # fmt: skip
    assert stored(url, "s") is None


def test_a_thread_that_is_no_daemon_is_waited_for(url: str) -> None:
    check(AGENT + "agent.provider.pause = 1\nagent.persistence.find_sessions()\n"
          "threading.Thread(target=agent.respond, args=('hi',)).start()\n", url)  # fmt: skip
    assert stored(url, "s") == SAID


def test_a_plain_tool_or_hook_is_still_running(url: str) -> None:
    check(AGENT + """
ran = threading.Event()
def hang():
    ran.set()
    time.sleep(60)
agent = Agent(name="a", provider=Echo(), persistence=url, session_id="s", hooks=Hooks(before_respond=hang))
threading.Thread(target=agent.respond, args=("hi",), daemon=True).start()
assert ran.wait(5)
""", url)  # fmt: skip
    assert stored(url, "s") is None


def test_hooks_of_the_end_run(url: str) -> None:
    """Plain and async."""
    check("""
import turnkeep
class Plain:
    @turnkeep.hookimpl
    def on_shutdown(self, persistence):
        print('plain')
class Async:
    @turnkeep.hookimpl
    async def on_shutdown(self, persistence):
        found = await persistence.find_session_by_id("s")
        print(found.id)
store = connect(url, plugins=[Async(), Plain()])
SessionManager(store, session_id="s").get_or_create()
""", url, stdout="s\nplain\n")  # fmt: skip


def test_atexit_functions_on_either_side_may_close(url: str) -> None:
    """One registered before the door was first used runs after the door has closed."""
    check("""
def close():
    store.close()
    agent.close()
    print("closed")
atexit.register(close)
store = connect(url)
agent = Agent(name="a", provider=Echo(), persistence=url, session_id="s")
agent.respond("hi")
atexit.register(close)
""", url, stdout="closed\nclosed\n")  # fmt: skip
    assert stored(url, "s") == SAID


def test_whoever_calls_after_the_door_has_closed_is_told_so(url: str) -> None:
    check("""
from turnkeep import PersistenceClosed
def late():
    for call in (store.find_sessions, lambda: session.add_message("user", "late")):
        try:
            call()
        except PersistenceClosed:
            print("closed")
atexit.register(late)
store = connect(url)
session = SessionManager(store, session_id="s")
session.add_message("user", "hi")
""", url, stdout="closed\nclosed\n")  # fmt: skip
    assert stored(url, "s") == [("user", "hi")]


def test_with_a_running_loop(url: str) -> None:
    check(AGENT + "async def main():\n    agent.respond('hi')\nasyncio.run(main())\n", url)
    assert stored(url, "s") == SAID


def test_an_adapter_that_cannot_close_is_not_waited_for(url: str) -> None:
    check("""
class Slow(MemoryAdapter):
    async def aclose(self):
        await asyncio.sleep(60)
store = connect(Slow)
SessionManager(store, session_id="s").get_or_create()
""", url, seconds=12)  # fmt: skip


def test_one_that_fails_to_close_does_not_keep_the_others(url: str) -> None:
    check("""
class Broken(MemoryAdapter):
    async def aclose(self):
        raise OSError("gone")
class Noted(MemoryAdapter):
    async def aclose(self):
        print("closed")
stores = [connect(Broken), connect(Noted), connect(Broken)]
""", url, stdout="closed\n")  # fmt: skip


def test_the_process_is_left_by_os_exit(url: str) -> None:
    check(AGENT + "agent.respond('hi')\nos._exit(0)\n", url)
    assert stored(url, "s") == SAID


def test_nothing_was_opened(url: str) -> None:
    check("agent = Agent(name='a', provider=Echo(), persistence=url)\n", url)
