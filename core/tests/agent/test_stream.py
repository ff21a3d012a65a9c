# ruff: noqa: PT012, PERF401 - a stream is read in a block, chunk by chunk, and what it raises comes out of that
"""A reply as it comes: the same turn, and nothing of it when its reader leaves."""

from __future__ import annotations

import asyncio
import contextvars
import gc

import pytest

from turnkeep import (
    Agent,
    Hooks,
    InvalidArgument,
    PersistenceClosed,
    ProviderError,
    SessionConflict,
    SessionManager,
    tool,
)
from turnkeep.providers import Provider, ProviderReply
from turnkeep.turn import open_turns
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import booking, call, settle, tasks_but_me, texts

DEADLINE = 5
pytestmark = pytest.mark.timeout(20)  # leaving a stream waits for its turn, so a timeout of asyncio's cannot end a hang


def make(persistence, *script, **options):
    provider = ScriptedProvider(*script, always=options.pop("always", None), pause=options.pop("pause", 0))
    return Agent(name="a", provider=provider, persistence=persistence, session_id="s", **options)


class Fire(Provider):
    """Streams as fast as it is read: ``count`` pieces, then the reply."""

    def __init__(self, count):
        self.count = count
        self.given = 0
        self.closed = False

    async def generate(self, request):
        return ProviderReply(text="x" * self.count)

    async def stream(self, request):
        try:
            for _ in range(self.count):
                self.given += 1
                yield "x"
            yield ProviderReply(text="x" * self.count)
        finally:
            self.closed = True


async def collect(stream_context):
    async with asyncio.timeout(DEADLINE), stream_context as stream:
        return [chunk async for chunk in stream]


async def test_chunks_come_in_order_and_the_last_is_durable(store, persistence):
    agent = make(persistence, "one two three")
    seen = []
    async with agent.stream("hello", commit_id="c") as stream:
        async for chunk in stream:
            seen.append(chunk)
            if chunk.done:
                assert await store.texts("s") == [("user", "hello"), ("assistant", "one two three")]
    assert [chunk.delta for chunk in seen] == ["one ", "two ", "three", ""]
    assert [chunk.accumulated for chunk in seen] == ["one ", "one two ", "one two three", "one two three"]
    assert [chunk.done for chunk in seen] == [False, False, False, True]
    reply = seen[-1].reply
    assert (reply.message, reply.session_id, reply.commit_id) == ("one two three", "s", "c")
    assert all(chunk.reply is None for chunk in seen[:-1])
    assert texts(agent.session.get_history()) == await store.texts("s")


async def test_stream_and_respond_are_one_turn_code(store, persistence):
    """Same script, same hooks, same stored session: the original's two paths drifted apart."""
    script = [
        ProviderReply(route="book-a-table", text="Who?"),
        ProviderReply(data={"name": "Ana"}, tool_calls=(call("look", "c1"),), text="Let me see"),
        ProviderReply(data={"guests": 4}, text="Done"),
    ]
    found = []
    for way in ("respond", "stream"):
        order = []

        @tool
        async def look():
            return "seen"

        hooks = Hooks(
            before_respond=lambda: order.append("before_respond"),  # noqa: B023 - called before the next round
            before_message_save=lambda message: order.append(message.role),  # noqa: B023 - called before the next round
            after_respond=lambda reply: order.append(reply.message),  # noqa: B023 - called before the next round
        )
        agent = Agent(
            name="a",
            provider=ScriptedProvider(*script),
            persistence=persistence,
            session_id=way,
            routes=[booking()],
            tools=[look],
            hooks=hooks,
        )
        replies = []
        for text in ("a table", "Ana and three more"):
            if way == "respond":
                replies.append(await agent.respond(text))
            else:
                replies.append((await collect(agent.stream(text)))[-1].reply)
        state = (await store.dump())[way][1]
        found.append(
            (
                order,
                [(r.message, r.is_route_complete, r.tool_calls, r.executed_steps, r.stopped_reason) for r in replies],
                [(m.role, m.content, m.tool_calls, m.tool_call_id, m.route, m.step) for m in state.history],
                state.data,
                state.data_by_route,
                [(v.route, v.completed) for v in state.route_history],
            )
        )
    assert found[0] == found[1]


async def test_a_stream_takes_what_respond_takes(store, persistence):
    agent = make(persistence, always="ok")
    stream = agent.stream("hi", session_id="other", user_id="ana", context={"a": 1}, metadata={"m": 2}, commit_id="c")
    await collect(stream)
    assert agent.provider.last.context["a"] == 1
    user, _ = await persistence.load_session_history("other")
    assert (user.metadata, user.commit_id) == ({"m": 2}, "c")
    assert (await persistence.find_session_by_id("other")).user_id == "ana"


async def test_a_reply_without_pieces_is_still_given_out(persistence):
    class Silent(Provider):
        async def generate(self, request):
            raise AssertionError

        async def stream(self, request):
            yield ProviderReply(text="all at once")

    agent = Agent(name="a", provider=Silent(), persistence=persistence, session_id="s")
    chunks = await collect(agent.stream("hello"))
    assert "".join(chunk.delta for chunk in chunks) == "all at once"
    assert chunks[-1].accumulated == "all at once"


async def test_the_default_stream_is_one_piece(persistence):
    class Whole(Provider):
        async def generate(self, request):
            return ProviderReply(text="whole")

    agent = Agent(name="a", provider=Whole(), persistence=persistence, session_id="s")
    assert [chunk.delta for chunk in await collect(agent.stream("hello"))] == ["whole", ""]


async def test_an_empty_reply_is_done_at_once(store, persistence):
    chunks = await collect(make(persistence, "").stream("hello"))
    assert [(chunk.delta, chunk.done) for chunk in chunks] == [("", True)]
    assert await store.texts("s") == [("user", "hello"), ("assistant", "")]


async def test_tool_rounds_begin_another_message(store, persistence):
    @tool
    def look():
        return "rain"

    agent = make(persistence, ProviderReply(text="Let me see", tool_calls=(call("look"),)), "It rains", tools=[look])
    chunks = await collect(agent.stream("weather?"))
    assert [chunk.accumulated for chunk in chunks] == ["Let ", "Let me ", "Let me see", "It ", "It rains", "It rains"]
    assert chunks[-1].reply.message == "It rains"
    assert [call.name for call in chunks[-1].reply.tool_calls] == ["look"]
    assert await store.texts("s") == [
        ("user", "weather?"),
        ("assistant", "Let me see"),
        ("tool", "rain"),
        ("assistant", "It rains"),
    ]


async def test_a_replayed_stream_gives_the_first_reply_as_text(store, persistence):
    agent = make(persistence, "one two")
    await collect(agent.stream("hello", commit_id="c"))
    chunks = await collect(agent.stream("hello", commit_id="c"))
    assert agent.provider.calls == 1
    assert "".join(chunk.delta for chunk in chunks) == "one two"
    assert chunks[-1].reply.replayed
    assert len(await store.texts("s")) == 2


# Leaving early


async def leave_by_break(agent):
    async with agent.stream("hello") as stream:
        async for _ in stream:
            break


async def leave_by_raising(agent):
    with pytest.raises(ZeroDivisionError):
        async with agent.stream("hello") as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def leave_by_cancellation(agent):
    started = asyncio.Event()

    async def consume():
        async with agent.stream("hello") as stream:
            async for _ in stream:
                started.set()
                await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_while_waiting(agent):
    async def consume():
        async with agent.stream("hello") as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(consume())
    await settle(4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_without_reading(agent):
    async with agent.stream("hello"):
        pass


async def leave_after_a_while_without_reading(agent):
    async with agent.stream("hello"):
        await settle(60)


async def leave_by_timeout(agent):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), agent.stream("hello") as stream:
            async for _ in stream:
                await asyncio.sleep(0.03)


async def drop_the_generator(agent):
    """As a web framework does with a response whose client went away: the generator is collected, not closed."""

    async def body():
        async with agent.stream("hello") as stream:
            async for chunk in stream:
                yield chunk.delta

    generator = body()
    await anext(generator)
    del generator
    gc.collect()
    for _ in range(100):
        await asyncio.sleep(0)
        if not [task for task in tasks_but_me() if task.get_name() == "turnkeep-stream"]:
            break


async def close_the_generator(agent):
    async def body():
        async with agent.stream("hello") as stream:
            async for chunk in stream:
                yield chunk.delta

    generator = body()
    await anext(generator)
    await generator.aclose()


async def never_enter(agent):
    agent.stream("hello")
    gc.collect()


WAYS = [
    leave_by_break,
    leave_by_raising,
    leave_by_cancellation,
    leave_while_waiting,
    leave_without_reading,
    leave_after_a_while_without_reading,
    leave_by_timeout,
    drop_the_generator,
    close_the_generator,
    never_enter,
]


LONG = [leave_without_reading, leave_after_a_while_without_reading, leave_by_timeout]
"""Those where a turn that fits into the queue may end before the block does."""


@pytest.mark.parametrize(
    ("leave", "pieces"),
    [pytest.param(way, 100, id=f"{way.__name__}-100") for way in WAYS]
    + [pytest.param(way, 5, id=f"{way.__name__}-5") for way in WAYS if way not in LONG],
)
async def test_leaving_early_leaves_nothing(store, persistence, leave, pieces):
    before = tasks_but_me()
    context = dict(contextvars.copy_context().items())
    agent = make(persistence, " ".join(["word"] * pieces), "next", pause=0)
    async with asyncio.timeout(DEADLINE):
        await leave(agent)
    await settle()
    assert await store.dump() == {}
    assert tasks_but_me() - before == set()
    assert dict(contextvars.copy_context().items()) == context
    assert open_turns() == ()
    assert persistence._gateway.gates._gates == {}
    agent.provider._script.clear()
    agent.provider.add("next")
    async with asyncio.timeout(DEADLINE):
        assert (await agent.respond("again")).message == "next"
    assert await store.texts("s") == [("user", "again"), ("assistant", "next")]


async def test_leaving_a_full_queue_does_not_hang(memory):
    """The turn waits for a place in the queue when its reader leaves: being cancelled, it must not wait for another."""
    persistence = await memory.connect()
    agent = Agent(name="a", provider=Fire(1000), persistence=persistence, session_id="s")

    async def leave():
        async with agent.stream("hello") as stream:
            async for _ in stream:
                await settle()  # the queue is full again
                break

    task = asyncio.create_task(leave())
    done, _ = await asyncio.wait([task], timeout=1)
    for _ in range(10):
        for hanging in tasks_but_me():
            hanging.cancel()
        await asyncio.sleep(0)
    assert done, "leaving the block hangs"
    assert await memory.dump() == {}


async def test_the_providers_stream_is_closed_when_the_block_is_left(memory):
    """A vendor's connection is given back by the generator's own clean-up, not whenever garbage is collected."""
    persistence = await memory.connect()
    release = asyncio.Event()
    closed = []

    class Slow(Provider):
        async def generate(self, request):
            raise AssertionError

        async def stream(self, request):
            try:
                for number in range(1000):
                    yield f"{number} "
                    if number == 3:
                        release.set()
            finally:
                await asyncio.sleep(0)
                closed.append(True)

    provider = Slow()
    agent = Agent(name="a", provider=provider, persistence=persistence, session_id="s")
    gc.disable()
    try:
        async with asyncio.timeout(DEADLINE), agent.stream("hello") as stream:
            async for _ in stream:
                await release.wait()
                break
        assert closed == [True]
    finally:
        gc.enable()


async def test_a_reader_that_stops_at_the_last_chunk_has_it_all(store, persistence):
    agent = make(persistence, "one two")
    async with agent.stream("hello") as stream:
        async for chunk in stream:
            if chunk.done:
                break
    assert await store.texts("s") == [("user", "hello"), ("assistant", "one two")]
    assert texts(agent.session.get_history()) == await store.texts("s")


async def test_a_slow_reader_holds_the_provider_back(persistence):
    provider = Fire(1000)
    agent = Agent(name="a", provider=provider, persistence=persistence, session_id="s")
    read = 0
    async with asyncio.timeout(DEADLINE), agent.stream("hello") as stream:
        async for chunk in stream:  # noqa: B007 - the last one is looked at below
            read += 1
            if read in (1, 50):
                await settle(200)
                assert provider.given <= read + 20
    assert chunk.done
    assert provider.given == 1000


# Errors


async def test_a_providers_error_surfaces_and_nothing_is_stored(store, persistence):
    class Breaks(Provider):
        async def generate(self, request):
            raise AssertionError

        async def stream(self, request):
            yield "one "
            raise ConnectionResetError("gone")

    agent = Agent(name="a", provider=Breaks(), persistence=persistence, session_id="s")
    seen = []
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ProviderError) as caught:
            async with agent.stream("hello") as stream:
                async for chunk in stream:
                    seen.append(chunk.delta)
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert seen == ["one "]
    assert await store.dump() == {}


async def test_an_error_after_many_unread_pieces_still_surfaces(persistence):
    class Breaks(Provider):
        async def generate(self, request):
            raise AssertionError

        async def stream(self, request):
            for _ in range(16):
                yield "x"
            raise ConnectionResetError("gone")

    agent = Agent(name="a", provider=Breaks(), persistence=persistence, session_id="s")
    async with asyncio.timeout(DEADLINE):
        async with agent.stream("hello") as stream:
            await settle(100)
            with pytest.raises(ProviderError):
                async for _ in stream:
                    pass


async def test_a_stream_that_ends_without_a_reply_is_an_error(store, persistence):
    class Endless(Provider):
        async def generate(self, request):
            raise AssertionError

        async def stream(self, request):
            yield "one"

    agent = Agent(name="a", provider=Endless(), persistence=persistence, session_id="s")
    with pytest.raises(ProviderError):
        await collect(agent.stream("hello"))
    assert await store.dump() == {}


async def test_what_respond_refuses_the_stream_refuses_too(store, persistence):
    agent = make(persistence, always="ok")
    with pytest.raises(InvalidArgument):
        await collect(agent.stream(5))
    with pytest.raises(InvalidArgument):
        await collect(agent.stream("x", commit_id="a b"))
    await persistence.aclose()
    with pytest.raises(PersistenceClosed):
        await collect(agent.stream("x"))


async def test_a_stream_is_entered_once_and_before_it_is_read(persistence):
    agent = make(persistence, always="ok")
    stream = agent.stream("hello")
    with pytest.raises(InvalidArgument, match="async with"):
        async for _ in stream:
            pass
    await collect(stream)
    with pytest.raises(InvalidArgument, match="once"):
        await collect(stream)


async def test_a_conflict_after_the_first_piece_is_not_run_again(store, persistence):
    agent = make(persistence, "first", always="one two", on_conflict="retry")
    await agent.respond("hello")
    other = await store.other()
    conflicts = 0

    async def interfere(commit):
        nonlocal conflicts
        conflicts += 1
        store.adapter.before.pop("commit")
        await other.save_message("s", "system", "from elsewhere")

    store.adapter.before["commit"] = interfere
    with pytest.raises(SessionConflict) as caught:
        await collect(agent.stream("again"))
    assert (agent.provider.calls, conflicts) == (2, 1)
    assert caught.value.reply.message == "one two"
    assert len(await store.texts("s")) == 3


async def test_a_conflict_elsewhere_after_the_first_piece_is_not_run_again_either(persistence):
    """A callback's own SessionConflict comes before the turn's reply is made, but after its text was given out."""
    from turnkeep import Route, Step

    def finalize():
        raise SessionConflict("of another session", session_id="x")

    route = Route("R", steps=[Step("Ask", collect=["name"], finalize=finalize)])
    agent = make(
        persistence,
        always=ProviderReply(route="r", data={"name": "Ana"}, text="one two"),
        routes=[route],
        on_conflict="retry",
    )
    deltas = []
    with pytest.raises(SessionConflict):
        async with asyncio.timeout(DEADLINE), agent.stream("hello") as stream:
            async for chunk in stream:
                deltas.append(chunk.delta)
    assert deltas == ["one ", "two"]
    assert agent.provider.calls == 1


async def test_a_refused_stream_asks_no_model(persistence):
    agent = make(persistence, always="ok one two three")
    async with asyncio.timeout(DEADLINE), agent.stream("one") as first:
        await anext(aiter(first))
        with pytest.raises(SessionConflict):
            await collect(agent.stream("two"))
        assert agent.provider.calls == 1


async def test_the_turn_is_not_open_for_its_reader(store, persistence):
    """What the reader of a stream does is not part of the turn: the turn runs in a context of its own."""
    agent = Agent(name="a", provider=Fire(100), persistence=persistence, session_id="s")
    read = 0
    async with asyncio.timeout(DEADLINE), agent.stream("hello") as stream:
        async for _ in stream:
            assert open_turns() == ()
            read += 1
            if read == 1:
                assert await persistence.load_session_state("s") is None
    assert len(await store.texts("s")) == 2


async def test_a_message_saved_by_the_reader_meanwhile_makes_the_turn_conflict(store, persistence):
    await SessionManager(persistence, session_id="s").add_message("user", "before")
    agent = Agent(name="a", provider=Fire(100), persistence=persistence, session_id="s")
    with pytest.raises(SessionConflict):
        async with asyncio.timeout(DEADLINE), agent.stream("hello") as stream:
            async for chunk in stream:
                if chunk.accumulated == "x":
                    await persistence.save_message("s", "system", "noted")
    assert await store.texts("s") == [("user", "before"), ("system", "noted")]
