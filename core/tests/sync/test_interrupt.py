"""Ctrl-C, and other exceptions that a signal brings: prompt, nothing stored, and the door is still of use."""

from __future__ import annotations

import asyncio
import linecache
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import turnkeep
from turnkeep import Hooks, MemoryAdapter, ToolCall, tool
from turnkeep.sync import Agent, SessionManager, connect
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import TESTS, Echo, apart, in_time, need_sqlite, raises, run_script, sqlite_url, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def interrupt_when(event: threading.Event, number: int = signal.SIGINT) -> None:
    """Sends this process a signal shortly after the event."""

    def wait() -> None:
        assert event.wait(10)
        time.sleep(0.2)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def interrupted(call: Callable[[], Any], event: threading.Event, seconds: float = 3) -> None:
    interrupt_when(event)
    started = time.monotonic()
    with raises(KeyboardInterrupt):
        call()
    took = time.monotonic() - started
    assert took < seconds, f"took {took:.1f} s"


@apart
def test_while_a_model_hangs(url: str) -> None:
    provider = Echo(pause=60)
    with connect(url) as store:
        agent = Agent(name="a", provider=provider, persistence=store, session_id="s")
        for _ in range(2):
            provider.asked.clear()
            interrupted(lambda: agent.respond("hi"), provider.asked)
            assert store.find_session_by_id("s") is None
        provider.pause = 0
        assert in_time(lambda: agent.respond("hi")).message == "HI"
        assert len(store.load_session_history("s")) == 2


@apart
def test_while_a_stream_hangs(url: str) -> None:
    provider = Echo(pause=60)
    with connect(url) as store:
        agent = Agent(name="a", provider=provider, persistence=store, session_id="s")

        def read() -> None:
            with agent.stream("one two") as stream:
                for _ in stream:
                    pass

        interrupted(read, provider.asked)
        assert store.find_session_by_id("s") is None
        provider.pause = 0
        with agent.stream("one two") as stream:
            assert list(stream)[-1].done


@apart
def test_while_a_plain_tool_or_hook_hangs() -> None:
    @tool
    def hang() -> None:
        ran.set()
        time.sleep(60)

    def hook() -> None:
        ran.set()
        time.sleep(60)

    store = connect("memory://")
    for options in (
        {"provider": ScriptedProvider(ToolCall("c", "hang", {}))},
        {"provider": Echo(), "hooks": Hooks(before_respond=hook)},
    ):
        ran = threading.Event()
        agent = Agent(name="a", persistence=store, tools=[hang], **options)
        interrupted(lambda agent=agent: agent.respond("hi", session_id="s"), ran)
        assert store.find_session_by_id("s") is None
    agent = Agent(name="a", provider=Echo(), persistence=store)
    assert in_time(lambda: agent.respond("hi", session_id="s")).message == "HI"


@apart
def test_while_it_waits_for_another_turn() -> None:
    provider = Echo(pause=2)
    store = connect("memory://")
    agent = Agent(name="a", provider=provider, persistence=store, on_conflict="retry")
    first = threading.Thread(target=agent.respond, args=("first",), kwargs={"session_id": "s"})
    first.start()
    interrupted(lambda: agent.respond("second", session_id="s"), provider.asked, 1.5)
    first.join()
    assert [message.content for message in store.load_session_history("s")] == ["first", "FIRST"]
    provider.pause = 0
    assert in_time(lambda: agent.respond("third", session_id="s")).message == "THIRD"


@apart
def test_while_the_store_hangs() -> None:
    class Slow(MemoryAdapter):
        async def load(self, key: Any, query: Any) -> Any:
            asked.set()
            await asyncio.sleep(hold)
            return await super().load(key, query)

    asked = threading.Event()
    hold = 60.0
    store = connect(Slow, timeout=120)
    interrupted(lambda: store.find_session_by_id("s"), asked)
    hold = 0.0
    assert in_time(lambda: store.find_session_by_id("s")) is None


@apart
def test_while_a_store_is_being_opened() -> None:
    class Slow(MemoryAdapter):
        async def open(self, *, auto_create: bool = True) -> None:
            asked.set()
            await asyncio.sleep(60)

    asked = threading.Event()
    interrupted(lambda: connect(Slow), asked)
    with connect("memory://") as store:
        assert in_time(store.find_sessions).items == ()


@apart
def test_within_a_turn(url: str) -> None:
    def stage() -> None:
        with session.turn() as turn:
            turn.add_message("user", "hi")
            staged.set()
            time.sleep(60)

    staged = threading.Event()
    with connect(url) as store:
        session = SessionManager(store, session_id="s")
        interrupted(stage, staged)
        assert store.find_session_by_id("s") is None
        with session.turn() as turn:
            turn.add_message("user", "again")
        assert len(store.load_session_history("s")) == 1


@apart
def test_as_a_turn_was_opened_it_does_not_stay_open(url: str) -> None:
    """The signal came once all was done on the door's side, and before the caller heard of it."""

    class Interrupts:
        @turnkeep.hookimpl
        async def on_session_loaded(self) -> None:
            if armed:
                armed.clear()
                os.kill(os.getpid(), signal.SIGINT)

    armed: list[bool] = []
    with connect(url, plugins=[Interrupts()]) as store:
        session = SessionManager(store, session_id="s")
        session.get_or_create()
        armed.append(True)
        sys.setswitchinterval(1)  # the door's thread goes on until it has nothing left to do
        with raises(KeyboardInterrupt), session.turn() as turn:
            turn.add_message("user", "never")
        sys.setswitchinterval(0.005)
        with session.turn() as turn:
            turn.add_message("user", "hi")
        assert [message.content for message in store.load_session_history("s")] == ["hi"]


@apart(deadline=40)
def test_at_any_moment_it_is_all_or_nothing(url: str) -> None:
    """Commits are whole, and when the interrupt is out nothing of the call goes on: what was read then, stays true."""

    def interrupt(number: int, frame: Any) -> None:
        # Not in the midst of Python's own locks and weak references: those do not bear it.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if line == "waiter.acquire()" or any(name in frame.f_code.co_filename for name in ("turnkeep", "asyncio")):
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, 0.0002)

    signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    with connect(url) as store:
        agent = Agent(name="a", provider=Echo(), persistence=store, session_id="s")
        agent.session.get_or_create()
        stop = time.monotonic() + 3
        while time.monotonic() < stop:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + hits % 7 / 2000)
                for _ in range(100):
                    agent.session.add_message("system", "x")
                    agent.respond("hi")
            except KeyboardInterrupt:
                hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            history = in_time(lambda: store.load_session_history("s"))
            stored_texts = {message.seq: message.content for message in history}
            first = history[0].seq or 0 if history else 0
            assert list(stored_texts) == list(range(first, first + len(history)))
            known = {message.seq: message.content for message in agent.session.get_history()}
            assert known.items() <= stored_texts.items(), "what was interrupted took effect later"
            commits: dict[str | None, str] = {}
            for message in history:
                commits[message.commit_id] = commits.get(message.commit_id, "") + message.content
            assert set(commits.values()) <= {"x", "hiHI"}
            if len(history) > 300:
                agent.session.clear_history()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert hits > 3


class SoftTimeLimitExceeded(Exception):
    """What Celery raises in a task, from a signal handler."""


@apart
def test_other_exceptions_of_signal_handlers_too(url: str) -> None:
    """A caller who was told that it failed must not find the turn stored."""

    def limit(*_: object) -> None:
        raise SoftTimeLimitExceeded

    def end(*_: object) -> None:
        raise SystemExit("terminated")

    signal.signal(signal.SIGALRM, limit)
    signal.signal(signal.SIGTERM, end)
    provider = Echo(pause=1.5)
    with connect(url) as store:
        agent = Agent(name="a", provider=provider, persistence=store, session_id="s")
        for number, error in ((signal.SIGALRM, SoftTimeLimitExceeded), (signal.SIGTERM, SystemExit)):
            provider.asked.clear()
            interrupt_when(provider.asked, number)
            with raises(error):
                agent.respond("hi")
            time.sleep(2)
            assert store.find_session_by_id("s") is None, error
        provider.pause = 0
        assert in_time(lambda: agent.respond("hi")).message == "HI"


@apart
def test_beside_a_blocked_loop_it_is_over_once_the_loop_is_free() -> None:
    """Somebody's async tool blocks the door's loop: the call could not even begin."""

    @tool
    async def block() -> None:
        ran.set()
        time.sleep(1.5)  # noqa: ASYNC251 - what one must not do

    ran = threading.Event()
    store = connect("memory://")
    provider = ScriptedProvider(ToolCall("c", "block", {}), "fine")
    agent = Agent(name="a", provider=provider, persistence=store, tools=[block])
    other = threading.Thread(target=agent.respond, args=("hi",), kwargs={"session_id": "s"})
    other.start()
    assert ran.wait(5)
    blocked = threading.Event()
    blocked.set()
    interrupted(store.find_sessions, blocked, 3)
    other.join()
    assert len(store.load_session_history("s")) == 4


PROGRAM = f"""
import sys, threading
sys.path.insert(0, {str(TESTS)!r})
from sync.kit import Echo
from turnkeep.sync import Agent
provider = Echo(pause=60)
agent = Agent(name="a", provider=provider, persistence=sys.argv[1], session_id="s")
threading.Thread(target=lambda: provider.asked.wait() and print("asked", flush=True), daemon=True).start()
agent.respond("hi")
"""


def test_a_program_ends_with_the_interrupt(tmp_path: Path) -> None:
    need_sqlite()
    url = sqlite_url(tmp_path)
    ended = run_script(PROGRAM, url, interrupt_at="asked")
    assert ended.code == -signal.SIGINT
    assert ended.stderr.count("Traceback") == 1
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    assert ended.seconds < 5
    assert stored(url, "s") is None
