"""Two writers, one session; one request, sent twice; many requests at once."""

from __future__ import annotations

import asyncio
import collections
import contextlib

import pytest

from turnkeep import (
    Agent,
    CommitIdReused,
    CommitOutcomeUnknown,
    Conflict,
    Hooks,
    InvalidArgument,
    Message,
    ProviderError,
    SessionConflict,
    SessionManager,
    SessionNotFound,
    tool,
)
from turnkeep.providers import ProviderReply
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import booking, call, last_text, settle, tasks_but_me, texts


def make(persistence, *script, **options):
    provider = ScriptedProvider(*script, always=options.pop("always", None), pause=options.pop("pause", 0))
    return Agent(
        name="a", provider=provider, persistence=persistence, session_id=options.pop("session_id", "s"), **options
    )


def echo(request):
    return f"echo {last_text(request)}"


class Held:
    """A reply that comes when it is let go."""

    def __init__(self, text="held"):
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.text = text

    async def __call__(self, request):
        self.asked.set()
        await self.go.wait()
        return self.text


# One process


async def test_a_second_turn_is_refused_before_its_model_is_asked(store, persistence):
    held = Held()
    agent = make(persistence, held, always="never")
    first = asyncio.create_task(agent.respond("one"))
    await held.asked.wait()
    with pytest.raises(SessionConflict) as caught:
        await agent.respond("two")
    assert caught.value.reply is None
    assert caught.value.session_id == "s"
    assert agent.provider.calls == 1
    held.go.set()
    await first
    assert await store.texts("s") == [("user", "one"), ("assistant", "held")]


async def test_of_two_at_once_exactly_one_wins(store, persistence):
    agent = make(persistence, always=echo)
    outcomes = await asyncio.gather(agent.respond("one"), agent.respond("two"), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reply", "SessionConflict"]
    assert agent.provider.calls == 1
    assert await store.texts("s") == [("user", "one"), ("assistant", "echo one")]


async def test_another_agent_on_the_same_persistence_is_refused_as_well(persistence):
    held = Held()
    first = asyncio.create_task(make(persistence, held).respond("one"))
    await held.asked.wait()
    other = make(persistence, always="never")
    with pytest.raises(SessionConflict):
        await other.respond("two")
    assert other.provider.calls == 0
    with pytest.raises(SessionConflict):
        async with SessionManager(persistence, session_id="s").turn():
            raise AssertionError("not reached")
    held.go.set()
    await first


async def test_other_sessions_and_namespaces_are_not_held_up(store, persistence):
    held = Held()
    agent = make(persistence, held, always="ok")
    first = asyncio.create_task(agent.respond("one"))
    await held.asked.wait()
    async with asyncio.timeout(5):
        await agent.respond("two", session_id="t")
        await make(await store.connect(namespace="other"), "ok").respond("three")
    held.go.set()
    await first


async def test_with_retry_the_second_waits_and_both_land_in_order(store, persistence):
    held = Held("first")
    agent = make(persistence, held, always=echo, on_conflict="retry")
    tasks = [asyncio.create_task(agent.respond("one"))]
    await held.asked.wait()
    for text in ("two", "three"):
        tasks.append(asyncio.create_task(agent.respond(text)))
        await settle()
    assert agent.provider.calls == 1
    held.go.set()
    await asyncio.gather(*tasks)
    assert await store.texts("s") == [
        ("user", "one"),
        ("assistant", "first"),
        ("user", "two"),
        ("assistant", "echo two"),
        ("user", "three"),
        ("assistant", "echo three"),
    ]
    assert texts(agent.provider.last.history)[:4] == (await store.texts("s"))[:4]


async def test_one_that_waits_can_be_cancelled(store, persistence):
    held = Held()
    agent = make(persistence, held, always=echo, on_conflict="retry")
    first = asyncio.create_task(agent.respond("one"))
    await held.asked.wait()
    waiting = asyncio.create_task(agent.respond("two"))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    third = asyncio.create_task(agent.respond("three"))
    held.go.set()
    await asyncio.gather(first, third)
    assert [content for _, content in await store.texts("s")] == ["one", "held", "three", "echo three"]
    assert persistence._gateway.gates._gates == {}


async def test_a_turn_that_fails_lets_the_next_one_in(persistence):
    agent = make(persistence, RuntimeError, always=echo, on_conflict="retry")
    outcomes = await asyncio.gather(agent.respond("one"), agent.respond("two"), return_exceptions=True)
    assert isinstance(outcomes[0], ProviderError)
    assert outcomes[1].message == "echo two"


# Two processes


async def test_a_conflict_carries_the_reply_and_leaves_both_sides_whole(store, persistence):
    held = Held("paid for")
    agent, other = make(persistence, "begin", held), make(await store.other(), "other", always="ok")
    await agent.respond("begin")
    before = agent.session.current
    task = asyncio.create_task(agent.respond("mine"))
    await held.asked.wait()
    await other.respond("theirs")
    held.go.set()
    with pytest.raises(SessionConflict) as caught:
        await task
    conflict = caught.value
    assert (conflict.reply.message, conflict.session_id, conflict.retryable) == ("paid for", "s", True)
    assert (conflict.expected.version, conflict.actual.version) == (1, 2)
    assert agent.session.current == before
    assert [content for _, content in await store.texts("s")] == ["begin", "begin", "theirs", "other"]
    await agent.session.get_or_create("s")
    assert texts(agent.session.get_history()) == await store.texts("s")
    agent.provider.add("now")
    await agent.respond("again")
    assert len(await store.texts("s")) == 6


async def test_with_retry_the_turn_is_run_again_on_what_the_other_wrote(store, persistence):
    told = []
    agent = make(
        persistence,
        "begin",
        "one",
        "two",
        on_conflict="retry",
        hooks=Hooks(
            on_conflict=lambda session, expected, actual, attempt: told.append(
                (session.id, expected.version, actual.version, attempt)
            )
        ),
    )
    await agent.respond("begin")
    other = await store.other()

    async def interfere(_):
        store.adapter.before.clear()
        await other.save_message("s", "system", "from elsewhere")

    store.adapter.before["commit"] = interfere
    reply = await agent.respond("mine", commit_id="c")
    assert (reply.message, reply.commit_id, reply.replayed) == ("two", "c", False)
    assert told == [("s", 1, 2, 1)]
    assert ("system", "from elsewhere") in texts(agent.provider.last.history)
    assert [content for _, content in await store.texts("s")] == ["begin", "begin", "from elsewhere", "mine", "two"]
    assert [request.commit_id for request in agent.provider.requests[1:]] == ["c", "c"]


@pytest.mark.parametrize(("on_conflict", "attempts"), [("raise", 1), ("retry", 3)])
async def test_at_most_three_attempts(store, persistence, on_conflict, attempts):
    told = []
    agent = make(
        persistence,
        "begin",
        always=echo,
        on_conflict=on_conflict,
        hooks=Hooks(on_conflict=lambda attempt: told.append(attempt)),  # noqa: PLW0108 - it names its argument
    )
    await agent.respond("begin")
    before = agent.session.current
    other = await store.other()

    async def interfere(_):
        await other.save_message("s", "system", "x")

    store.adapter.before["commit"] = interfere
    with pytest.raises(SessionConflict) as caught:
        await agent.respond("mine")
    assert caught.value.reply.message == "echo mine"
    assert agent.provider.calls == 1 + attempts
    assert told == list(range(1, attempts + 1))
    assert agent.session.current == before
    assert ("user", "mine") not in await store.texts("s")


async def test_two_processes_that_both_begin_a_session_with_retry(store, persistence):
    """The first message of a new session, delivered twice: a conflict like any other."""
    held = Held()
    agent = make(persistence, held, always=echo, on_conflict="retry")
    task = asyncio.create_task(agent.respond("mine"))
    await held.asked.wait()
    await make(await store.other(), "other").respond("theirs")
    held.go.set()
    reply = await task
    assert reply.message == "echo mine"
    assert [content for _, content in await store.texts("s")] == ["theirs", "other", "mine", "echo mine"]


async def test_two_processes_that_both_begin_a_session_with_raise(store, persistence):
    held = Held("paid for")
    agent = make(persistence, held)
    task = asyncio.create_task(agent.respond("mine"))
    await held.asked.wait()
    await make(await store.other(), "other").respond("theirs")
    held.go.set()
    with pytest.raises(Conflict) as caught:
        await task
    assert caught.value.reply.message == "paid for"
    assert [content for _, content in await store.texts("s")] == ["theirs", "other"]


async def test_a_session_deleted_meanwhile_is_not_brought_back(store, persistence):
    held = Held()
    agent = make(persistence, "begin", held)
    await agent.respond("begin")
    task = asyncio.create_task(agent.respond("mine"))
    await held.asked.wait()
    await (await store.other()).delete_session("s")
    held.go.set()
    with pytest.raises(SessionNotFound):
        await task
    assert await store.texts("s") is None


async def test_a_session_deleted_and_made_anew_meanwhile_is_another_one(store, persistence):
    held = Held()
    agent = make(persistence, "begin", held)
    await agent.respond("begin")
    task = asyncio.create_task(agent.respond("mine"))
    await held.asked.wait()
    other = await store.other()
    await other.delete_session("s")
    await SessionManager(other, session_id="s").add_message("user", "new life")
    held.go.set()
    with pytest.raises(SessionConflict):
        await task
    assert await store.texts("s") == [("user", "new life")]


# The same request again


async def test_a_repeated_commit_id_gives_the_first_reply_without_asking(store, persistence):
    @tool
    def look(): ...

    agent = make(
        persistence,
        ProviderReply(route="book-a-table", data={"name": "Ana"}, tool_calls=(call("look"),)),
        ProviderReply(text="Done", data={"guests": 2}, usage={"output_tokens": 3}),
        routes=[booking()],
        tools=[look],
    )
    first = await agent.respond("hello", commit_id="c")
    second = await agent.respond("hello", commit_id="c")
    assert (first.replayed, second.replayed) == (False, True)
    for name in (
        "message",
        "session_id",
        "is_route_complete",
        "tool_calls",
        "executed_steps",
        "stopped_reason",
        "commit_id",
    ):
        assert getattr(first, name) == getattr(second, name), name
    assert dict(first.usage) == dict(second.usage)
    assert agent.provider.calls == 2
    assert len(await store.texts("s")) == 4


@pytest.mark.parametrize("deleted", [False, True])
async def test_another_process_commits_the_same_id_during_the_last_attempt(store, persistence, deleted):
    agent = make(persistence, "begin", always=echo, on_conflict="retry")
    await agent.respond("begin")
    other = await store.other()
    attempts = []

    async def interfere(_):
        attempts.append(1)
        if len(attempts) < 3:
            await other.save_message("s", "system", "from elsewhere")
            return
        store.adapter.before.clear()
        await make(other, "first").respond("mine", commit_id="c")

    store.adapter.before["commit"] = interfere
    if not deleted:
        reply = await agent.respond("mine", commit_id="c")
        assert (reply.message, reply.replayed) == ("first", True)
        assert [content for _, content in await store.texts("s")][-2:] == ["mine", "first"]
        return
    commit = store.adapter.commit

    async def commit_then_delete(request):
        result = await commit(request)
        if result.replayed:
            await other.delete_session("s")
        return result

    store.adapter.commit = commit_then_delete
    with pytest.raises(SessionConflict, match="was deleted"):
        await agent.respond("mine", commit_id="c")
    assert await store.texts("s") is None


async def test_also_in_another_process_and_by_another_agent(store, persistence):
    first = await make(persistence, "first").respond("hello", commit_id="c")
    again = make(await store.other(), always="never")
    second = await again.respond("hello", commit_id="c")
    assert (second.message, second.replayed, again.provider.calls) == (first.message, True, 0)
    assert texts(again.session.get_history()) == await store.texts("s")
    named = Agent(name="b", provider=ScriptedProvider(), persistence=await store.other())
    assert (await named.respond("hello", session_id="s", commit_id="c")).replayed


async def test_also_after_other_turns(store, persistence):
    agent = make(persistence, always=echo)
    await agent.respond("hello", commit_id="c")
    for number in range(5):
        await agent.respond(f"m{number}")
    reply = await agent.respond("hello", commit_id="c")
    assert (reply.message, reply.replayed) == ("echo hello", True)
    assert len(await store.texts("s")) == 12
    assert texts(agent.session.get_history()) == await store.texts("s")


@pytest.mark.parametrize("window", [0, 1, 3])
async def test_also_where_the_window_does_not_reach(store, persistence, window):
    agent = make(persistence, always=echo, window=window)
    await agent.respond("hello", commit_id="c")
    for number in range(5):
        await agent.respond(f"m{number}")
    assert (await agent.respond("hello", commit_id="c")).message == "echo hello"


async def test_the_replay_runs_no_hook_of_a_commit_and_stores_nothing(store, persistence):
    ran = []
    names = (
        "before_respond",
        "before_message_save",
        "before_commit",
        "on_session_committed",
        "on_messages_appended",
        "before_provider_call",
        "on_session_created",
    )
    agent = make(persistence, "first")
    await agent.respond("hello", commit_id="c")

    def note(name):
        return lambda: ran.append(name)

    hooks = Hooks(**{name: note(name) for name in names})
    again = make(persistence, hooks=hooks)
    store.adapter.reset()
    await again.respond("hello", commit_id="c")
    assert ran == []
    assert store.adapter.calls == ["load"]


async def test_after_respond_also_runs_for_a_replay(persistence):
    """hookspecs: "A replayed turn runs it too, with reply.replayed set"."""
    seen = []
    hooks = Hooks(after_respond=lambda reply: seen.append(reply.replayed))
    agent = make(persistence, "first", hooks=hooks)
    await agent.respond("hello", commit_id="c")
    await agent.respond("hello", commit_id="c")
    assert seen == [False, True]


@pytest.mark.parametrize("change", [{"text": "bye"}, {"metadata": {"a": 1}}])
async def test_another_request_with_that_commit_id_is_refused(store, persistence, change):
    agent = make(persistence, always=echo)
    await agent.respond("hello", commit_id="c")
    with pytest.raises(CommitIdReused) as caught:
        await agent.respond(**{"text": "hello", "commit_id": "c", **change})
    assert caught.value.commit_id == "c"
    assert agent.provider.calls == 1
    assert len(await store.texts("s")) == 2


async def test_a_commit_id_of_another_kind_of_call_is_refused(persistence):
    agent = make(persistence, always=echo)
    async with SessionManager(persistence, session_id="s").turn(commit_id="c") as turn:
        turn.add_message("user", "hello")
    with pytest.raises(CommitIdReused):
        await agent.respond("hello", commit_id="c")


async def test_a_reply_that_has_left_the_history_is_explained(store, persistence):
    agent = make(persistence, always=echo)
    await agent.respond("hello", commit_id="c")
    await agent.session.clear_history()
    with pytest.raises(CommitIdReused, match="history"):
        await agent.respond("hello", commit_id="c")
    assert agent.provider.calls == 1
    assert await store.texts("s") == []


async def test_commit_ids_are_per_session(store, persistence):
    agent = make(persistence, always=echo)
    await agent.respond("hello", commit_id="c")
    reply = await agent.respond("other", session_id="t", commit_id="c")
    assert (reply.message, reply.replayed) == ("echo other", False)


async def test_another_owner_is_not_given_the_reply(store, persistence):
    agent = make(persistence, always=echo)
    await agent.respond("secret", session_id="x", user_id="ana", commit_id="c")
    with pytest.raises(Conflict) as caught:
        await agent.respond("secret", session_id="x", user_id="bob", commit_id="c")
    assert "echo secret" not in str(caught.value)


async def test_two_at_once_with_one_commit_id_the_second_waits_for_the_first(store, persistence):
    held = Held()
    agent = make(persistence, held, always="never")
    first = asyncio.create_task(agent.respond("hello", commit_id="c"))
    await held.asked.wait()
    more = [asyncio.create_task(agent.respond("hello", commit_id="c")) for _ in range(3)]
    await settle()
    held.go.set()
    replies = await asyncio.gather(first, *more)
    assert [reply.replayed for reply in replies] == [False, True, True, True]
    assert {reply.message for reply in replies} == {"held"}
    assert agent.provider.calls == 1
    assert len(await store.texts("s")) == 2


async def test_two_at_once_with_one_commit_id_and_other_texts(persistence):
    held = Held()
    agent = make(persistence, held, always="never")
    first = asyncio.create_task(agent.respond("hello", commit_id="c"))
    await held.asked.wait()
    second = asyncio.create_task(agent.respond("bye", commit_id="c"))
    await settle()
    held.go.set()
    await first
    with pytest.raises(CommitIdReused):
        await second
    assert agent.provider.calls == 1


async def test_if_the_first_of_them_fails_the_second_does_the_work(store, persistence):
    agent = make(persistence, RuntimeError, "second")
    outcomes = await asyncio.gather(*(agent.respond("hello", commit_id="c") for _ in range(2)), return_exceptions=True)
    assert isinstance(outcomes[0], ProviderError)
    assert (outcomes[1].message, outcomes[1].replayed) == ("second", False)
    assert len(await store.texts("s")) == 2


async def test_two_processes_with_one_commit_id_store_it_once(store, persistence):
    """Both asked their model; the slower finds the commit done and gives the faster one's reply."""
    held = Held("mine")
    agent = make(persistence, "begin", held)
    await agent.respond("begin")
    task = asyncio.create_task(agent.respond("hello", commit_id="c"))
    await held.asked.wait()
    other = await make(await store.other(), "theirs").respond("hello", commit_id="c")
    held.go.set()
    try:
        mine = await task
    except SessionConflict:
        mine = await agent.respond("hello", commit_id="c")
    assert mine.message == other.message == "theirs"
    assert mine.replayed
    assert await store.texts("s") == [
        ("user", "begin"),
        ("assistant", "begin"),
        ("user", "hello"),
        ("assistant", "theirs"),
    ]
    await settle()
    assert texts(agent.session.get_history()) == await store.texts("s")


async def test_two_processes_with_one_commit_id_on_a_new_session(store, persistence):
    held = Held("mine")
    agent = make(persistence, held, on_conflict="retry")
    task = asyncio.create_task(agent.respond("hello", commit_id="c"))
    await held.asked.wait()
    await make(await store.other(), "theirs").respond("hello", commit_id="c")
    held.go.set()
    mine = await task
    assert (mine.message, mine.replayed) == ("theirs", True)
    assert texts(agent.session.get_history()) == await store.texts("s") == [("user", "hello"), ("assistant", "theirs")]


async def test_an_unknown_outcome_is_resolved_by_the_commit_id(store, persistence):
    lost = 1

    async def lose(_):
        nonlocal lost
        if lost:
            lost -= 1
            raise CommitOutcomeUnknown("the connection broke", commit_id="c")

    agent = make(persistence, always=echo)
    store.adapter.after["commit"] = lose
    reply = await agent.respond("hello", commit_id="c")
    assert (reply.message, agent.provider.calls) == ("echo hello", 1)
    assert (
        await store.texts("s") == texts(agent.session.get_history()) == [("user", "hello"), ("assistant", "echo hello")]
    )
    lost = 99
    with pytest.raises(CommitOutcomeUnknown):
        await agent.respond("again", commit_id="d")
    lost = 0
    reply = await agent.respond("again", commit_id="d")
    assert (reply.replayed, agent.provider.calls) == (True, 2)
    assert len(await store.texts("s")) == 4


async def test_an_unknown_outcome_can_be_repeated_with_the_errors_commit_id(store, persistence):
    """ "Repeating the call with the same commit id is safe": also when the caller had not made the id."""

    async def lose(_):
        raise CommitOutcomeUnknown("the connection broke", commit_id=store.adapter.commits[-1].commit_id)

    agent = make(persistence, always=echo)
    store.adapter.after["commit"] = lose
    with pytest.raises(CommitOutcomeUnknown) as caught:
        await agent.respond("hello")
    store.adapter.after.clear()
    reply = await agent.respond("hello", commit_id=caught.value.commit_id)
    assert (reply.replayed, agent.provider.calls) == (True, 1)
    assert len(await store.texts("s")) == 2


async def test_the_replys_own_commit_id_gives_it_again(persistence):
    agent = make(persistence, always=echo)
    first = await agent.respond("hello")
    again = await agent.respond("hello", commit_id=first.commit_id)
    assert (again.message, again.replayed, agent.provider.calls) == (first.message, True, 1)


async def test_a_message_noted_after_the_reply_does_not_become_the_reply(store, persistence):
    """on_context_update runs after the assistant's message was staged: what it adds is the last of the turn."""

    async def on_context_update(session):
        await persistence.save_message(session.id, "system", "context changed")

    @tool
    async def touch():
        await agent.update_context({"n": 1})

    agent = make(
        persistence, call("touch"), "the reply", tools=[touch], hooks=Hooks(on_context_update=on_context_update)
    )
    first = await agent.respond("hello", commit_id="c")
    again = await agent.respond("hello", commit_id="c")
    assert (first.message, again.message) == ("the reply", "the reply")
    assert again.replayed


async def test_a_message_added_by_before_commit_does_not_become_the_reply(persistence):
    import dataclasses

    def before_commit(turn):
        return dataclasses.replace(turn, messages=(*turn.messages, Message("system", "audited")))

    agent = make(persistence, "the reply", hooks=Hooks(before_commit=before_commit))
    await agent.respond("hello", commit_id="c")
    assert (await agent.respond("hello", commit_id="c")).message == "the reply"


@pytest.mark.parametrize("bad", ["", "x" * 65, "a b", "é", "a\n", 5])
async def test_commit_ids_are_short_and_printable(store, persistence, bad):
    with pytest.raises(InvalidArgument):
        await make(persistence, always="ok").respond("hello", commit_id=bad)
    assert await store.dump() == {}


# Many at once


@pytest.mark.parametrize("way", ["respond", "stream"])
async def test_two_hundred_at_once_over_fifty_sessions(store, persistence, way):
    agent = make(persistence, always=echo, on_conflict="retry", context={"shared": []})
    before = tasks_but_me()

    async def one(number):
        session_id, user_id = f"s{number % 50}", f"u{number % 50}"
        if way == "respond":
            return await agent.respond(f"m{number}", session_id=session_id, user_id=user_id)
        async with agent.stream(f"m{number}", session_id=session_id, user_id=user_id) as stream:
            chunks = [chunk async for chunk in stream]
        assert "".join(chunk.delta for chunk in chunks) == chunks[-1].reply.message
        return chunks[-1].reply

    async with asyncio.timeout(60):
        replies = await asyncio.gather(*(one(number) for number in range(200)))
    for number, reply in enumerate(replies):
        assert (reply.session_id, reply.message) == (f"s{number % 50}", f"echo m{number}")
    found = await store.dump()
    assert found.keys() == {f"s{number}" for number in range(50)}
    for number in range(50):
        record, state = found[f"s{number}"]
        assert (record.user_id, record.message_count, len(state.history)) == (f"u{number}", 8, 8)
        contents = [content for _, content in texts(state.history)]
        assert contents[1::2] == [f"echo {content}" for content in contents[::2]]
        assert sorted(contents[::2]) == sorted(f"m{number + 50 * k}" for k in range(4))
        assert contents[::2] == [f"m{number + 50 * k}" for k in range(4)]  # in order of arrival
        assert [message.seq for message in state.history] == list(range(1, 9))
    await settle()
    assert tasks_but_me() - before == set()
    assert persistence._gateway.gates._gates == {}
    assert agent.provider.calls == 200
    assert collections.Counter(store.adapter.calls)["load"] == 200


async def test_twenty_at_once_on_one_session_of_two_processes(store, persistence):
    """Each retries what the other got in between: all that are acknowledged are there, once; the others said so."""
    agents = [
        make(persistence, always=echo, on_conflict="retry"),
        make(await store.other(), always=echo, on_conflict="retry"),
    ]
    await agents[0].respond("begin")
    outcomes = await asyncio.gather(
        *(agents[number % 2].respond(f"m{number}") for number in range(20)), return_exceptions=True
    )
    stored = [content for role, content in await store.texts("s") if role == "user"]
    assert all(isinstance(outcome, SessionConflict) or outcome.message for outcome in outcomes)
    acknowledged = [f"m{n}" for n, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)]
    assert sorted(stored[1:]) == sorted(acknowledged)
    assert len(acknowledged) >= 10


async def test_a_turn_left_in_another_context_does_not_block_its_session(store, persistence):
    """A web framework may run the two halves of ``async with`` in two tasks (a dependency that yields)."""
    manager = SessionManager(persistence, session_id="s").turn()
    turn = await asyncio.create_task(manager.__aenter__())
    turn.add_message("user", "x")
    with contextlib.suppress(ValueError):
        await asyncio.create_task(manager.__aexit__(None, None, None))
    assert persistence._gateway.gates._gates == {}
    async with asyncio.timeout(5):
        await make(persistence, "ok").respond("hello")
