"""The door after a fork: the child opens anew what has a URL, is told where that cannot be, and never hangs."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import turnkeep
from turnkeep import ConfigurationError, Hooks, MemoryAdapter, PersistenceClosed, SessionNotLoaded, ToolCall, tool
from turnkeep.sync import Agent, SessionManager, connect
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import (
    Echo,
    apart,
    in_child,
    in_time,
    need_sqlite,
    raises,
    run_script,
    sqlite_url,
    stored,
    texts,
    thread_names,
)

if TYPE_CHECKING:
    from pathlib import Path


@apart
def test_the_child_opens_anew_and_the_parent_keeps_working(url: str) -> None:
    store = connect(url)
    agent = Agent(name="a", provider=Echo(), persistence=store)
    agent.respond("parent", session_id="s")

    def child() -> list[Any]:
        reply = agent.respond("child", session_id="s")
        names = thread_names()
        store.close()
        return [reply.message, names.count("turnkeep-door"), thread_names(), len(list(agent_pages()))]

    def agent_pages() -> Any:
        with connect(url) as again:
            yield from again.find_sessions()

    for turn in range(3):
        message, doors, left, sessions = in_child(child)
        assert (message, doors, sessions) == ("CHILD", 1, 1)
        assert left == ["MainThread", "turnkeep-door"]
        assert in_time(lambda turn=turn: agent.respond(f"parent {turn}", session_id="s")).message == f"PARENT {turn}"
    assert len(store.load_session_history("s")) == 14
    store.close()


@apart
def test_an_agent_with_a_url_goes_on_in_the_child(url: str) -> None:
    with Agent(name="a", provider=Echo(), persistence=url, session_id="s", user_id="ana") as agent:
        agent.respond("parent")

        def child() -> list[Any]:
            first = agent.respond("child").message
            agent.session.set_data({"a": 1})
            answer = [first, agent.session.id, len(agent.session.get_history()), agent.name, repr(agent)]
            agent.close()
            return answer

        assert in_child(child) == ["CHILD", "s", 4, "a", "<Agent 'a' on sqlite>"]
        assert agent.session.get_or_create().data == {"a": 1}
        assert len(agent.session.get_history()) == 4


@apart
def test_a_live_session_loads_anew_in_the_child(url: str) -> None:
    with connect(url) as store:
        session = SessionManager(store, session_id="s")
        session.add_message("user", "parent")

        def child() -> list[Any]:
            with raises(SessionNotLoaded):
                _ = session.current
            with raises(SessionNotLoaded):
                session.get_history()
            store.save_message("s", "user", "somebody")
            session.add_message("user", "child")
            loaded = texts(session.get_history())
            store.close()
            return [session.id, loaded]

        session_id, loaded = in_child(child)
        assert session_id == "s"
        assert [content for _, content in loaded] == ["parent", "somebody", "child"]
        assert texts(session.get_history()) == [("user", "parent")]
        assert len(session.get_or_create().history) == 3


@apart
def test_what_was_staged_is_the_parents(url: str) -> None:
    with connect(url) as store:
        session = SessionManager(store, session_id="s", auto_save=False)
        session.add_message("user", "staged")

        def child() -> None:
            session.save()
            store.close()

        in_child(child)
        assert stored(url, "s") is None
        session.save()
        assert stored(url, "s") == [("user", "staged")]


@apart
def test_a_session_whose_id_was_chosen_later_is_the_same_in_the_child(url: str) -> None:
    """By ``get_or_create(id)``, or made by the first write: what the child writes must not go to another one."""
    with connect(url) as store:
        chosen, made = SessionManager(store), SessionManager(store)
        chosen.get_or_create("chosen")
        made.add_message("user", "parent")

        def child() -> list[Any]:
            chosen.add_message("user", "child")
            made.add_message("user", "child")
            answer = [chosen.id, made.id]
            store.close()
            return answer

        assert in_child(child) == ["chosen", made.id]
        assert len(store.load_session_history(made.id or "")) == 2


@apart
def test_the_own_session_that_an_agent_made_is_the_same_in_the_child(url: str) -> None:
    with Agent(name="a", provider=Echo(), persistence=url) as agent:
        reply = agent.respond("parent")

        def child() -> str:
            answer = agent.respond("child").session_id
            agent.close()
            return answer

        assert in_child(child) == reply.session_id


@apart
def test_a_context_that_was_updated_is_the_same_in_the_child(url: str) -> None:
    with Agent(name="a", provider=Echo(), persistence=url, session_id="s", context={"a": 1}) as agent:
        agent.update_context({"b": 2})
        assert in_child(lambda: agent.context) == {"a": 1, "b": 2}


@apart
def test_what_only_the_parent_has_says_so() -> None:
    adapter = MemoryAdapter()
    with connect("memory://") as in_memory, connect(adapter) as handed_in:
        of_memory = Agent(name="a", provider=Echo(), persistence=in_memory, session_id="s")
        own_memory = Agent(name="a", provider=Echo())
        live = SessionManager(handed_in, session_id="s")
        live.get_or_create()
        for agent in (of_memory, own_memory):
            agent.respond("hi")

        def child() -> int:
            calls: list[Any] = [
                in_memory.find_sessions,
                handed_in.find_sessions,
                lambda: live.add_message("user", "hi"),
                lambda: live.current,
                lambda: of_memory.respond("hi"),
                lambda: own_memory.respond("hi"),
                lambda: of_memory.stream("hi").__enter__(),
                lambda: of_memory.session.id,
            ]
            for call in calls:
                with raises(ConfigurationError, "fork"):
                    in_time(call)
            with connect("memory://") as store:  # one of its own it may have
                Agent(name="a", provider=Echo(), persistence=store).respond("hi")
            return len(calls)

        assert in_child(child) == 8
        assert of_memory.respond("hi").message == "HI"
        assert len(live.get_or_create().history) == 0


@apart
def test_a_function_makes_the_adapter_again(place: Path) -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(os.getpid())
        return MemoryAdapter()

    with connect(make) as store:

        def child() -> list[int]:
            store.find_sessions()
            return made

        parent = os.getpid()
        pids = in_child(child)
        assert pids[0] == parent
        assert len(pids) == 2
        assert pids[1] != parent
        assert made == [parent]


def leave_in_child(store_url: str) -> None:
    """The usual ``if os.fork() == 0: …; sys.exit()`` unwinds what the parent entered."""
    with connect(store_url) as store, Agent(name="a", provider=Echo(), persistence=store_url) as agent:
        agent.respond("hi", session_id="s")
        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        status = in_time(lambda: os.waitpid(pid, 0)[1], 8)
        assert os.waitstatus_to_exitcode(status) == 7
        store.find_sessions()
        assert agent.respond("hi", session_id="s").message == "HI"


@apart
def test_a_child_that_leaves_the_parents_with_block_ends(url: str) -> None:
    leave_in_child(url)


@apart
def test_a_child_that_leaves_the_with_block_of_a_store_in_memory_ends() -> None:
    """Closing what the child never had is no error."""
    leave_in_child("memory://")


@apart
def test_a_child_born_in_a_turn_does_not_hang_on_leaving_it(url: str) -> None:
    with connect(url) as store:
        session = SessionManager(store, session_id="s")

        def child() -> str:
            try:
                turn.__exit__(None, None, None)
            except ConfigurationError as error:
                return str(error)
            return ""

        turn = session.turn()
        with turn as opened:
            opened.add_message("user", "parent")
            assert "fork" in in_child(child, deadline=5)
        assert texts(store.load_session_history("s")) == [("user", "parent")]


@apart
def test_a_child_born_in_a_turn_may_end(url: str) -> None:
    with connect(url) as store:
        with SessionManager(store, session_id="s").turn() as turn:
            turn.add_message("user", "parent")
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            status = in_time(lambda: os.waitpid(pid, 0)[1], 8)
        assert os.waitstatus_to_exitcode(status) == 7
        assert texts(store.load_session_history("s")) == [("user", "parent")]


@apart
def test_streams_and_pages_of_the_parent_do_not_hang_in_the_child(url: str) -> None:
    with connect(url) as store:
        for number in range(5):
            SessionManager(store, session_id=f"s{number}").get_or_create()
        agent = Agent(name="a", provider=Echo(pause=0.05), persistence=store)
        page = store.find_sessions(limit=2)
        with agent.stream("one two three", session_id="s") as stream:
            chunks = iter(stream)
            next(chunks)

            def child() -> str:
                with raises(ConfigurationError, "fork"):
                    next(chunks)
                with raises(ConfigurationError, "fork"):
                    list(page)
                return "fine"

            assert in_child(child, deadline=5) == "fine"
            assert list(chunks)[-1].done
        assert len(list(page)) == 5


@apart
def test_a_child_of_a_tool_opens_anew_and_is_in_no_turn(url: str) -> None:
    @tool
    def fork(session: Any) -> str:
        def child() -> Any:
            found = store.find_session_by_id(session.id)
            store.close()
            return found is None

        return str(in_child(child))

    with connect(url) as store:
        provider = ScriptedProvider(ToolCall("c", "fork", {}), "fine")
        agent = Agent(name="a", provider=provider, persistence=store, session_id="s", tools=[fork])
        in_time(lambda: agent.respond("hi"), 12)
        assert agent.session.get_history()[2].content == "True"


@apart
def test_a_store_that_was_closed_stays_closed_in_the_child(url: str) -> None:
    store = connect(url)
    agent = Agent(name="a", provider=Echo(), persistence=url)
    store.close()
    agent.close()

    def child() -> str:
        store.close()
        agent.close()
        with raises(PersistenceClosed):
            store.find_sessions()
        with raises(PersistenceClosed):
            agent.respond("hi")
        return "fine"

    assert in_child(child) == "fine"


@apart
def test_threads_of_the_child_open_one_store(url: str) -> None:
    with connect(url) as store:
        agent = Agent(name="a", provider=Echo(), persistence=store, on_conflict="retry")

        def child() -> list[str]:
            ready = threading.Barrier(16)

            def talk(number: int) -> None:
                ready.wait()
                store.find_sessions()
                agent.respond("hi", session_id=f"s{number}")

            threads = [threading.Thread(target=talk, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            names = thread_names()
            store.close()
            return [*names, "--", *thread_names()]

        names = in_child(child)
        assert names.count("turnkeep-sqlite-writer") == 1
        assert names[names.index("--") + 1 :] == ["MainThread", "turnkeep-door"]


@apart
def test_a_relative_url_means_the_same_file_in_the_child(place: Path, url: str) -> None:
    """A daemon changes its directory, and forks."""
    os.chdir(place)
    with connect("sqlite:///relative.db") as store, Agent(
        name="a", provider=Echo(), persistence="sqlite:///relative.db"
    ) as agent:  # fmt: skip
        agent.respond("hi", session_id="s")
        (place / "elsewhere").mkdir()
        os.chdir(place / "elsewhere")

        def child() -> list[Any]:
            answer = [store.find_session_by_id("s") is not None, agent.respond("hi", session_id="s").message]
            agent.close()
            store.close()
            return [*answer, os.listdir()]  # noqa: PTH208 - the working directory of the child

        assert in_child(child) == [True, "HI", []]


@apart
def test_a_fork_while_other_threads_are_busy(url: str) -> None:
    with connect(url) as store:
        agent = Agent(name="a", provider=Echo(), persistence=store, on_conflict="retry")
        agent.respond("hi", session_id="busy-0")  # what is imported late is imported: no child survives half a module
        stop = threading.Event()

        def talk(number: int) -> None:
            while not stop.is_set():
                agent.respond("hi", session_id=f"busy-{number}")

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()

        def child() -> str:
            answer = agent.respond("child", session_id="s").message
            store.close()
            return answer

        try:
            for _ in range(5):
                assert in_child(child) == "CHILD"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert len(store.load_session_history("s")) == 10


@apart
def test_hooks_and_tools_work_in_the_child(url: str) -> None:
    @tool
    def count(session: Any) -> str:
        return str(len(store.load_session_history(session.id)))

    def note(context: dict[str, Any], session: Any) -> dict[str, Any]:
        return {**context, "known": store.find_session_by_id(session.id) is not None}

    def answer(request: Any) -> Any:
        tools = [message.content for message in request.history if message.role == "tool"]
        return f"{request.context['known']} {tools}" if tools else ToolCall("c", "count", {})

    with connect(url) as store:
        provider = ScriptedProvider(always=answer)
        hooks = Hooks(before_respond=note)
        agent = Agent(name="a", provider=provider, persistence=store, tools=[count], hooks=hooks)

        def child() -> str:
            reply = agent.respond("hi", session_id="child")
            store.close()
            return reply.message

        assert in_child(child) == "True ['2']"
        assert agent.respond("hi", session_id="parent").message == "True ['2']"


POOL = """
import multiprocessing, sys
from turnkeep import SessionConflict
from turnkeep.sync import Agent, connect
from turnkeep.providers import GuidedProvider

def talk(number):
    try:
        agent.respond(f"text {number}", session_id=f"s{number % 3}")
    except SessionConflict:
        pass

if __name__ == "__main__":
    store = connect(sys.argv[1])
    agent = Agent(name="a", provider=GuidedProvider(), persistence=store, on_conflict="retry")
    talk(0)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert len(pool.map(talk, range(24), chunksize=1)) == 24
        pool.close()
        pool.join()
    talk(1)
    print(sum(record.message_count for record in store.find_sessions()))
"""


def test_a_pool_of_forked_workers(tmp_path: Path) -> None:
    """Workers of one application on shared sessions: a few may give up after three conflicts, none may hang."""
    need_sqlite()
    ended = run_script(POOL, sqlite_url(tmp_path), deadline=30)
    assert (ended.code, ended.stderr) == (0, "")
    assert int(ended.stdout) % 2 == 0
    assert 26 <= int(ended.stdout) <= 52


WORKERS = """
import os, sys
from turnkeep.sync import Agent
from turnkeep.providers import GuidedProvider

agent = Agent(name="a", provider=GuidedProvider(), persistence=sys.argv[1])  # at import, as with gunicorn --preload
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(5):
            agent.respond("hi", session_id=f"worker-{number}")
        sys.exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
agent.respond("hi", session_id="parent")
print(sum(record.message_count for record in agent.persistence.find_sessions()))
"""


def test_preforked_workers_that_end_without_closing(tmp_path: Path) -> None:
    need_sqlite()
    ended = run_script(WORKERS, sqlite_url(tmp_path))
    assert (ended.code, ended.stdout.strip(), ended.stderr) == (0, "32", "")


@apart
def test_a_store_that_is_opened_anew_may_be_helped_by_another(url: str, place: Path) -> None:
    """A plain hook of the opening uses the door for a store that is opened anew only then."""

    class Needs:
        @turnkeep.hookimpl
        def on_startup(self) -> None:
            seen.append(len(list(other.find_sessions())))

    seen: list[int] = []
    other = connect(f"sqlite:///{place}/other.db")
    with connect(url, plugins=[Needs()]) as store:

        def child() -> list[int]:
            in_time(store.find_sessions, 5)
            store.close()
            other.close()
            return seen

        found = in_child(child, deadline=15)
        assert found == [0] * len(found)
    other.close()
