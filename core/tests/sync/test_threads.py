"""The door used from many threads at once, and beside a running loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import turnkeep
from turnkeep import Hooks, SessionConflict, ToolCall, tool
from turnkeep.sync import Agent, SessionManager, connect
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import Echo, apart, in_time, texts, thread_names

THREADS = 32


def check_whole(store: Any, session_id: str, said: set[str]) -> None:
    """Every text that was said is in the history once, next to its own answer, and nothing else is."""
    history = store.load_session_history(session_id)
    assert [message.seq for message in history] == list(range(1, 2 * len(said) + 1))
    pairs = list(zip(history[::2], history[1::2], strict=True))
    assert {question.content for question, _ in pairs} == said
    for question, answer in pairs:
        assert answer.content == question.content.upper()
        assert answer.commit_id == question.commit_id


@apart(deadline=60)
def test_thirty_two_threads_on_shared_and_own_sessions(url: str) -> None:
    store = connect(url)
    agent = Agent(name="a", provider=Echo(pause=0.001), persistence=store, on_conflict="retry")

    def talk(number: int) -> None:
        for turn in range(4):
            text = f"text {number} {turn}"
            for session_id in (f"own-{number}", f"shared-{number % 4}"):
                reply = agent.respond(text, session_id=session_id)
                assert (reply.message, reply.session_id) == (text.upper(), session_id)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(talk, range(THREADS)))
    for number in range(THREADS):
        check_whole(store, f"own-{number}", {f"text {number} {turn}" for turn in range(4)})
    for shared in range(4):
        numbers = range(shared, THREADS, 4)
        check_whole(store, f"shared-{shared}", {f"text {number} {turn}" for number in numbers for turn in range(4)})
    store.close()
    assert [name for name in thread_names() if name.startswith("turnkeep")] == ["turnkeep-door"]


@apart(deadline=60)
def test_thirty_two_streams_some_of_them_left(url: str) -> None:
    store = connect(url)
    agent = Agent(name="a", provider=Echo(pause=0.002), persistence=store, on_conflict="retry")

    def talk(number: int) -> None:
        with agent.stream(f"one two {number}", session_id=f"shared-{number % 4}") as stream:
            for chunk in stream:
                if number % 8 >= 4:
                    break
                assert chunk.reply is None or chunk.reply.message == f"ONE TWO {number}"

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(talk, range(THREADS)))
    for shared in range(4):
        check_whole(store, f"shared-{shared}", {f"one two {number}" for number in range(shared, THREADS, 8)})
    store.close()


@apart
def test_messages_saved_at_the_same_time_all_land(url: str) -> None:
    store = connect(url)
    store.save_session_state("s", turnkeep.create_session(id="s"))
    session = SessionManager(store, session_id="s")  # shared, as little as one should
    session.get_or_create()

    def save(number: int) -> None:
        store.save_message("s", "user", f"a{number}")
        session.add_message("user", f"b{number}")
        store.update_collected_data("s", {f"k{number % 4}": number})

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(save, range(THREADS)))
    history = store.load_session_history("s")
    assert sorted(message.content for message in history) == sorted(f"{a}{n}" for a in "ab" for n in range(THREADS))
    assert len({message.seq for message in history}) == 2 * THREADS
    assert set(store.find_session_by_id("s").data) == {"k0", "k1", "k2", "k3"}
    store.close()


@apart
def test_with_raise_the_others_are_refused_before_a_model_is_asked() -> None:
    store = connect("memory://")
    provider = Echo(pause=0.3)
    agent = Agent(name="a", provider=provider, persistence=store)
    ready = threading.Barrier(THREADS)

    def talk(number: int) -> bool:
        ready.wait()
        try:
            agent.respond(f"text {number}", session_id="s")
        except SessionConflict:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        outcomes = list(pool.map(talk, range(THREADS)))
    assert sum(outcomes) == provider.calls == 1
    assert len(store.load_session_history("s")) == 2


@apart
def test_one_request_delivered_to_many_threads_is_answered_once() -> None:
    store = connect("memory://")
    provider = Echo(pause=0.1)
    agent = Agent(name="a", provider=provider, persistence=store)

    def talk(_: int) -> Any:
        return agent.respond("hi", session_id="s", commit_id="once")

    with ThreadPoolExecutor(THREADS) as pool:
        replies = list(pool.map(talk, range(THREADS)))
    assert {reply.message for reply in replies} == {"HI"}
    assert sum(not reply.replayed for reply in replies) == provider.calls == 1


@apart(deadline=40)
def test_hooks_and_tools_of_many_threads_use_the_door(url: str) -> None:
    @tool
    def count(session: Any) -> str:
        store.save_message(session.id, "system", "counted")
        return str(len(store.load_session_history(session.id)))

    def note(context: dict[str, Any], session: Any) -> dict[str, Any]:
        return {**context, "known": store.find_session_by_id(session.id) is not None}

    def answer(request: Any) -> Any:
        return "fine" if request.history[-1].role == "tool" else ToolCall("c", "count", {})

    store = connect(url)
    provider = ScriptedProvider(always=answer)
    hooks = Hooks(before_respond=note)
    agent = Agent(
        name="a", provider=provider, persistence=store, tools=[count], hooks=hooks, on_conflict="retry"
    )  # fmt: skip
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda number: agent.respond("hi", session_id=f"s{number % 16}"), range(THREADS)))
    for number in range(16):
        history = store.load_session_history(f"s{number}")
        assert [message.content for message in history if message.role == "tool"] == ["3", "8"]
    store.close()
    assert [name for name in thread_names() if name.startswith("turnkeep")] == ["turnkeep-door"]


@apart
def test_within_a_running_loop(url: str) -> None:
    """A notebook's cell: the call blocks the loop, and does not wait for it."""

    async def main() -> None:
        with connect(url) as store:
            agent = Agent(name="a", provider=Echo(pause=0.01), persistence=store, session_id="s")
            assert in_time(lambda: agent.respond("hi")).message == "HI"
            with agent.stream("one two") as stream:
                assert list(stream)[-1].done
            with agent.session.turn() as turn:
                turn.add_message("system", "noted")
            assert [record.id for record in store.find_sessions()] == ["s"]
            # Beside the loop's own tasks, and from its threads.
            replies = await asyncio.gather(
                *(asyncio.to_thread(agent.respond, f"text {n}", session_id=f"t{n}") for n in range(8))
            )
            assert [reply.message for reply in replies] == [f"TEXT {n}" for n in range(8)]
            # The asynchronous API on the same file, on this loop.
            async with turnkeep.connect(url) as there:
                assert len(await there.load_session_history("s")) == 5
                await there.save_message("s", "system", "from the loop")
            assert store.load_session_history("s")[-1].content == "from the loop"

    asyncio.run(main())
    asyncio.run(main_again())


async def main_again() -> None:
    """Another loop in the same process: the door is bound to none of them."""
    with connect("memory://") as store:
        Agent(name="a", provider=Echo(), persistence=store).respond("hi", session_id="s")
        assert texts(store.load_session_history("s")) == [("user", "hi"), ("assistant", "HI")]


@apart
def test_a_plain_hook_of_an_asynchronous_agent_may_use_the_door(url: str) -> None:
    """It blocks the agent's loop for as long; it does not hang, and is part of no turn of another store."""

    async def main() -> None:
        async with turnkeep.connect(url) as there:
            agent = turnkeep.Agent(name="a", provider=Echo(), persistence=there, hooks=Hooks(before_respond=look))
            await agent.respond("hi", session_id="s")
            await agent.respond("hi", session_id="s")

    def look() -> None:
        seen.append(len(list(store.find_sessions())))

    seen: list[int] = []
    with connect(url) as store:
        in_time(lambda: asyncio.run(main()), 5)
    assert seen == [0, 1]


@apart
def test_a_thread_that_opens_the_door_may_end() -> None:
    opened: list[Any] = []
    thread = threading.Thread(target=lambda: opened.append(connect("memory://")))
    thread.start()
    thread.join()
    agent = Agent(name="a", provider=Echo(), persistence=opened[0])
    assert in_time(lambda: agent.respond("hi", session_id="s")).message == "HI"


@apart
def test_threads_open_the_door_at_the_same_time() -> None:
    ready = threading.Barrier(THREADS)

    def open_and_talk(number: int) -> str:
        ready.wait()
        with Agent(name="a", provider=Echo(), session_id=f"s{number}") as agent:
            return agent.respond("hi").message

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(open_and_talk, range(THREADS))) == ["HI"] * THREADS
    assert [name for name in thread_names() if name.startswith("turnkeep")] == ["turnkeep-door"]
