"""Every call of the door, from a plain script: it does what its twin does, and its errors are the twin's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

import turnkeep
from turnkeep import (
    UNSET,
    Capability,
    DataIncomplete,
    Hooks,
    InvalidArgument,
    Level,
    MemoryAdapter,
    NotSupported,
    PersistenceClosed,
    ProviderError,
    Route,
    SessionConflict,
    SessionNotFound,
    SessionNotLoaded,
    Step,
    TurnInProgress,
    create_session,
)
from turnkeep.providers import GuidedProvider
from turnkeep.sync import Agent, SessionManager, _door, connect
from turnkeep_testkit.scripted import ScriptedProvider

from .kit import Echo, sqlite_url, texts, thread_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from turnkeep.sync import Persistence

pytestmark = pytest.mark.timeout(30)


class Booking(BaseModel):
    name: str
    guests: int


BOOKING = Route(
    "Book a table",
    required_fields=["name", "guests"],
    steps=[Step("Ask who the table is for", collect=["name"]), Step("Ask how many guests", collect=["guests"])],
)


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory://"
    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")
    return sqlite_url(tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[Persistence]:
    with connect(url) as persistence:
        yield persistence


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test ends with no task on the door's loop, and no thread but the door's."""
    before = set(threading.enumerate())
    yield
    door = _door.the_door()

    async def others() -> list[str]:
        for _ in range(3):
            await asyncio.sleep(0)
        return [repr(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]

    assert door.run(others) == []
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert [name for name in left if name != "turnkeep-door"] == []


def tasks() -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return _door.the_door().run(count)


# -- the first five minutes ------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_with_another_agent(tmp_path: Path) -> None:
    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")

    def front_desk() -> Agent:
        return Agent(
            name="Front desk",
            provider=GuidedProvider(),
            schema=Booking,
            routes=[BOOKING],
            persistence=sqlite_url(tmp_path),
            session_id="table-7",
            user_id="ana",
        )

    with front_desk() as agent:
        assert agent.name == "Front desk"
        assert isinstance(agent.provider, GuidedProvider)
        assert agent.respond("A table, please").message == "Who the table is for?"
        assert agent.respond("Ana").message == "How many guests?"
    with front_desk() as agent:
        reply = agent.respond("four")
        assert reply.is_route_complete
        assert reply.session_id == agent.session.id == "table-7"
        assert agent.session.get_data(Booking) == Booking(name="Ana", guests=4)
        assert agent.session.current.user_id == "ana"
        assert len(agent.session.get_history()) == 6
        assert agent.session.validate() == []


def test_one_agent_serves_everybody_and_has_no_session(store: Persistence) -> None:
    agent = Agent(name="a", provider=Echo(), persistence=store)
    first = agent.respond("hi", user_id="ana")
    again = agent.respond("there", session_id=first.session_id, user_id="ana")
    assert again.session_id == first.session_id
    assert texts(store.load_session_history(first.session_id))[2:] == [("user", "there"), ("assistant", "THERE")]
    with pytest.raises(SessionNotLoaded):
        _ = agent.session


def test_an_agents_context(store: Persistence) -> None:
    agent = Agent(name="a", provider=Echo(), persistence=store, session_id="s", context={"locale": "pt"})
    assert agent.update_context({"city": "Porto"}) == {"locale": "pt", "city": "Porto"}
    assert agent.context == {"locale": "pt", "city": "Porto"}


def test_a_repeated_commit_id_gives_the_first_reply(store: Persistence) -> None:
    provider = Echo()
    agent = Agent(name="a", provider=provider, persistence=store)
    first = agent.respond("hi", session_id="s", commit_id="order-1")
    second = agent.respond("hi", session_id="s", commit_id="order-1")
    assert (first.replayed, second.replayed) == (False, True)
    assert second.message == first.message
    assert provider.calls == 1


# -- the live session ------------------------------------------------------------------------------------------------


def test_every_call_of_a_session(store: Persistence) -> None:
    session = SessionManager(store, session_id="s", user_id="ana")
    assert session.id == "s"
    assert session.persistence is store
    with pytest.raises(SessionNotLoaded):
        _ = session.current
    assert session.get_or_create().id == "s"
    assert session.add_message("user", "Hello").seq == 1
    assert session.add_message("assistant", "Hi!", name="Ana").name == "Ana"
    assert texts(session.get_history()) == [("user", "Hello"), ("assistant", "Hi!")]
    session.set_data({"guests": 4, "name": None, "gone": 1})
    session.set_data({"gone": UNSET})
    assert session.get_data() == session.data == {"guests": 4, "name": None}
    with pytest.raises(DataIncomplete, match="name"):
        session.get_data(Booking)
    session.set_data({"name": "Ana"})
    assert session.get_data(Booking) == Booking(name="Ana", guests=4)
    session.set_history([{"role": "user", "content": "Anew"}])
    assert texts(store.load_session_history("s")) == [("user", "Anew")]
    state = session.reset(preserve_history=True)
    assert state.id != "s"
    assert store.find_session_by_id("s") is None
    assert texts(session.get_history()) == [("user", "Anew")]
    session.clear_history()
    session.clear_data()
    assert session.get_history() == ()
    assert session.validate() == []
    assert session.delete()
    assert store.find_sessions().items == ()
    assert SessionManager(store).get_or_create().id.startswith("session_")


def test_a_window_and_what_lies_before_it(store: Persistence) -> None:
    SessionManager(store, session_id="s").get_or_create()
    for number in range(6):
        store.save_message("s", "user", str(number))
    session = SessionManager(store, session_id="s", window=2)
    session.get_or_create()
    assert texts(session.get_history()) == [("user", "4"), ("user", "5")]
    assert session.has_more
    assert texts(session.earlier(3)) == [("user", "1"), ("user", "2"), ("user", "3")]
    assert texts(session.earlier()) == [("user", "0")]
    assert not session.has_more


def test_staged_until_saved(store: Persistence) -> None:
    session = SessionManager(store, session_id="s", auto_save=False)
    session.add_message("user", "hi")
    session.set_data({"a": 1})
    assert store.find_session_by_id("s") is None
    session.save()
    assert texts(store.load_session_history("s")) == [("user", "hi")]
    assert store.find_session_by_id("s").data == {"a": 1}


def test_a_turn_is_one_commit(store: Persistence) -> None:
    session = SessionManager(store, session_id="s")
    with session.turn() as turn:
        turn.add_message("user", "one")
        turn.set_data({"a": 1})
        session.add_message("assistant", "two")  # joins
        session.set_data({"b": 2})
        store.save_message("s", "system", "three")
        assert store.load_session_state("s").data == {"a": 1, "b": 2}
        assert turn.state.data == session.data == {"a": 1, "b": 2}
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(store.find_session_by_id, "s").result() is None  # another thread is not in the turn
    found = store.load_session_state("s")
    assert found is not None
    assert texts(found.history) == [("user", "one"), ("assistant", "two"), ("system", "three")]
    assert len({message.commit_id for message in found.history}) == 1
    assert found.data == session.data == {"a": 1, "b": 2}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_turn_that_fails_leaves_nothing(store: Persistence, error: type[BaseException]) -> None:
    session = SessionManager(store, session_id="s")
    session.get_or_create()
    with pytest.raises(error), session.turn() as turn:  # noqa: PT012 - raised in the block, or by leaving it
        turn.add_message("user", "one")
        store.update_collected_data("s", {"a": 1})
        raise error
    assert store.load_session_history("s") == ()
    assert session.data == store.find_session_by_id("s").data == {}
    session.add_message("user", "after")  # the session is free, and no turn is joined any more
    assert texts(store.load_session_history("s")) == [("user", "after")]


def test_a_turn_with_a_commit_id_is_stored_once(store: Persistence) -> None:
    for expected in (False, True):
        with SessionManager(store, session_id="s").turn(commit_id="once") as turn:
            assert turn.replayed is expected
            if not turn.replayed:
                turn.add_message("user", "one")
    assert texts(store.load_session_history("s")) == [("user", "one")]


def test_what_cannot_be_part_of_a_turn(store: Persistence) -> None:
    session = SessionManager(store, session_id="s")
    agent = Agent(name="a", provider=Echo(), persistence=store)
    with session.turn() as turn:
        turn.add_message("user", "one")
        refused: list[Callable[[], object]] = [
            session.delete,
            session.reset,
            session.clear_history,
            session.turn().__enter__,
            lambda: store.delete_session("s"),
            lambda: agent.respond("hi", session_id="s"),
            lambda: list(entered(agent.stream("hi", session_id="s"))),
        ]
        for call in refused:
            with pytest.raises(TurnInProgress):
                call()
    assert texts(store.load_session_history("s")) == [("user", "one")]


def entered(stream: Any) -> Iterator[Any]:
    with stream:
        yield from stream


# -- asking the store ------------------------------------------------------------------------------------------------


def test_every_call_of_the_store(store: Persistence) -> None:
    made = store.save_session_state("s", create_session(id="s", user_id="ana", data={"a": 1}))
    assert made.data == {"a": 1}
    assert store.namespace == "default"
    assert store.user_id is None
    assert store.adapter.name in {"memory", "sqlite"}
    assert store.find_session_by_id("absent") is None
    assert store.load_session_state("absent") is None
    assert store.save_message("s", "user", "Hello!", event={"n": 1}).event == {"n": 1}
    assert [message.seq for message in store.save_messages("s", [{"role": "assistant", "content": "Hi"}])] == [2]
    assert texts(store.load_session_history("s")) == [("user", "Hello!"), ("assistant", "Hi")]
    assert store.update_collected_data("s", {"b": 2}).data == {"a": 1, "b": 2}
    assert store.update_route_step("s", route="book", step="name").current_route.id == "book"
    assert store.find_active_session_by_user_id("ana").id == "s"
    loaded = store.load_session_state("s")
    assert loaded is not None
    assert store.save_session_state("s", loaded.replace(data={"c": 3})).data == {"c": 3}
    with pytest.raises(SessionConflict):
        store.save_session_state("s", loaded)
    store.complete_session("s")
    assert store.find_session_by_id("s").status == "completed"
    store.abandon_session("s")
    store.update_session_status("s", "active")
    assert store.find_active_session_by_user_id("ana") is not None
    store.save_session_state("t", create_session(id="t"))
    store.claim_session("t", "ben")
    assert [record.id for record in store.find_sessions_by_user_id("ben")] == ["t"]
    assert {record.id for record in store.find_sessions(status="active", agent_name=None)} == {"s", "t"}
    assert store.stats().sessions == 2
    assert store.check().ok
    store.sweep()
    assert store.erase_user("ben").sessions == 1
    assert store.delete_sessions(status="completed", older_than=timedelta(days=1)) == 0
    assert store.delete_session("s")
    assert not store.delete_session("s")


def test_search(store: Persistence) -> None:
    store.save_session_state("s", create_session(id="s"))
    store.save_messages("s", [{"role": "user", "content": f"Refund {number}"} for number in range(3)])
    if store.adapter.capabilities[Capability.SEARCH].level is Level.NONE:
        with pytest.raises(NotSupported):
            store.search_messages("refund")
        return
    page = store.search_messages("refund", session_id="s", limit=2)
    assert {found.message.content for found in page} == {"Refund 0", "Refund 1", "Refund 2"}


def test_pages_are_walked_to_the_end(store: Persistence) -> None:
    for number in range(7):
        store.save_session_state(f"s{number}", create_session(id=f"s{number}", user_id="ana"))
    store.save_messages("s0", [{"role": "user", "content": str(number)} for number in range(7)])
    page = store.find_sessions_by_user_id("ana", limit=2, order="created")
    assert len(page.items) == 2
    assert {record.id for record in page} == {f"s{number}" for number in range(7)}
    assert len(list(page)) == 7  # again, from the same page
    following = store.find_sessions_by_user_id("ana", limit=2, order="created", cursor=page.next_cursor)
    assert not {record.id for record in following.items} & {record.id for record in page.items}
    assert len(list(store.find_sessions(limit=3))) == 7
    newest = store.find_messages_by_session_id("s0", limit=3)
    assert [message.content for message in newest.items] == ["4", "5", "6"]
    assert [message.content for message in newest] == ["4", "5", "6", "1", "2", "3", "0"]
    onward = store.find_messages_by_session_id("s0", limit=3, after=2)
    assert [message.content for message in onward] == ["2", "3", "4", "5", "6"]
    nested = [(one.id, other.id) for one in store.find_sessions(limit=3) for other in store.find_sessions(limit=2)]
    assert len(set(nested)) == 49
    for record in page:
        store.delete_session(record.id)  # calls within the walk
        break
    assert "2 items" in repr(page)


# -- opening and closing ---------------------------------------------------------------------------------------------


def test_closed_is_closed(url: str) -> None:
    store = connect(url)
    session = SessionManager(store, session_id="s")
    session.get_or_create()
    agent = Agent(name="a", provider=Echo(), persistence=store)
    for number in range(8):
        store.save_message("s", "user", str(number))
    page = store.find_messages_by_session_id("s", limit=2)
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.find_session_by_id("s"),
        lambda: session.add_message("user", "hi"),
        lambda: agent.respond("hi"),
        lambda: list(entered(agent.stream("hi"))),
        lambda: session.turn().__enter__(),
        lambda: list(page),
    ]
    for call in calls:
        with pytest.raises(PersistenceClosed):
            call()


def test_an_agent_closes_what_it_opened_and_nothing_else(url: str, store: Persistence) -> None:
    with Agent(name="a", provider=Echo(), persistence=store) as agent:
        agent.respond("hi", session_id="s")
        assert agent.persistence is store
    agent.close()
    assert store.find_session_by_id("s") is not None
    with Agent(name="a", provider=Echo(), persistence=url) as agent:
        agent.respond("hi", session_id="t")
        opened = agent.persistence
        assert opened.find_session_by_id("t") is not None
    agent.close()
    with pytest.raises(PersistenceClosed):
        agent.respond("hi")
    with pytest.raises(PersistenceClosed):
        opened.find_session_by_id("t")


def test_an_error_within_the_with_block_is_not_lost(url: str) -> None:
    with pytest.raises(ZeroDivisionError), connect(url) as store:
        raise ZeroDivisionError
    with pytest.raises(PersistenceClosed):
        store.sweep()
    with pytest.raises(ZeroDivisionError), Agent(name="a", provider=Echo(), persistence=url):
        raise ZeroDivisionError


def test_threads_are_named_and_end(url: str) -> None:
    before = set(thread_names())
    with connect(url) as store:
        store.find_sessions()
        assert all(name.startswith("turnkeep-") for name in set(thread_names()) - before)
    assert set(thread_names()) - before <= {"turnkeep-door"}


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_adapter_is_made_on_the_doors_loop(kind: str) -> None:
    made: list[tuple[str, asyncio.AbstractEventLoop]] = []

    def plain() -> MemoryAdapter:
        made.append((threading.current_thread().name, asyncio.get_running_loop()))
        return MemoryAdapter()

    async def later() -> MemoryAdapter:
        await asyncio.sleep(0)
        return plain()

    make = plain if kind == "plain" else later
    with connect(make, namespace="n") as store:
        assert store.namespace == "n"
        assert store.save_session_state("s", create_session(id="s")).id == "s"
    with Agent(name="a", provider=Echo(), persistence=make) as agent:
        assert agent.respond("hi").message == "HI"
    assert [name for name, _ in made] == ["turnkeep-door", "turnkeep-door"]
    assert made[0][1] is made[1][1]


def test_a_function_that_fails_or_makes_something_else() -> None:
    def fails() -> MemoryAdapter:
        raise ZeroDivisionError("no driver today")

    with pytest.raises(ZeroDivisionError, match="no driver today"):
        connect(fails)
    with pytest.raises(InvalidArgument):
        connect(lambda: 7)


def test_an_adapter_that_was_made_elsewhere() -> None:
    adapter = MemoryAdapter()
    with connect(adapter) as store:
        store.save_session_state("s", create_session(id="s"))
    with connect(adapter) as store:
        assert store.find_session_by_id("s") is not None


def test_the_two_apis_are_not_mixed_up() -> None:
    """Whoever hands an object of one to the other is told so, not left with an AttributeError."""

    async def connected() -> turnkeep.Persistence:
        return await turnkeep.connect("memory://")

    there = asyncio.run(connected())
    with connect("memory://") as here:
        calls: list[Callable[[], object]] = [
            lambda: Agent(name="a", provider=Echo(), persistence=there),
            lambda: SessionManager(there),
            lambda: turnkeep.Agent(name="a", provider=Echo(), persistence=here),
            lambda: turnkeep.SessionManager(here),
        ]
        for call in calls:
            with pytest.raises(turnkeep.ConfigurationError):
                call()


# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream(store: Persistence) -> None:
    agent = Agent(name="a", provider=Echo(), persistence=store, session_id="s")
    with agent.stream("one two three") as stream:
        chunks = list(stream)
        assert list(stream) == []
    assert [chunk.delta for chunk in chunks] == ["ONE", " TWO", " THREE", ""]
    assert [chunk.accumulated for chunk in chunks] == ["ONE", "ONE TWO", "ONE TWO THREE", "ONE TWO THREE"]
    assert [chunk.done for chunk in chunks] == [False, False, False, True]
    assert chunks[-1].reply.message == "ONE TWO THREE"
    assert texts(store.load_session_history("s")) == [("user", "one two three"), ("assistant", "ONE TWO THREE")]


def test_a_stream_is_durable_before_its_last_chunk(store: Persistence) -> None:
    agent = Agent(name="a", provider=Echo(pause=0.1), persistence=store)
    with agent.stream("one two", session_id="s") as stream:
        chunks = iter(stream)
        assert next(chunks).delta == "ONE"
        assert store.find_session_by_id("s") is None
        assert list(chunks)[-1].done
        assert store.find_session_by_id("s") is not None


@pytest.mark.parametrize("way", ["break", "raise", "not read", "closed generator", "dropped generator"])
def test_a_stream_that_is_left_leaves_nothing(store: Persistence, way: str) -> None:
    agent = Agent(name="a", provider=Echo(pause=0.05), persistence=store, session_id="s")
    text = " ".join(["word"] * 40)

    def generate() -> Iterator[str]:
        with agent.stream(text) as stream:
            for chunk in stream:
                yield chunk.delta

    if way == "break":
        with agent.stream(text) as stream:
            for _ in stream:
                break
    elif way == "raise":
        with pytest.raises(ZeroDivisionError), agent.stream(text) as stream:  # noqa: PT012 - raised in the block, or by leaving it
            next(iter(stream))
            raise ZeroDivisionError
    elif way == "not read":
        with agent.stream(text):
            pass
    elif way == "closed generator":
        generator = generate()
        next(generator)
        generator.close()  # what a WSGI server does when the client is gone
    else:
        generator = generate()
        next(generator)
        del generator
        gc.collect()
    assert tasks() == 0
    assert store.find_session_by_id("s") is None
    assert agent.respond("hi").message == "HI"
    assert texts(store.load_session_history("s")) == [("user", "hi"), ("assistant", "HI")]


def test_what_a_streamed_turn_raises_is_raised_by_the_loop(store: Persistence) -> None:
    agent = Agent(name="a", provider=ScriptedProvider(ZeroDivisionError("no")), persistence=store, session_id="s")
    with agent.stream("hi") as stream, pytest.raises(ProviderError) as caught:
        list(stream)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert store.find_session_by_id("s") is None


def test_a_stream_is_entered_once_and_before_it_is_read(store: Persistence) -> None:
    stream = Agent(name="a", provider=Echo(), persistence=store).stream("hi", session_id="s")
    with pytest.raises(InvalidArgument, match="entered"):
        list(stream)
    with stream:
        with pytest.raises(InvalidArgument, match="once"):
            stream.__enter__()
        assert list(stream)[-1].done


def test_a_repeated_stream_gives_the_first_reply(store: Persistence) -> None:
    agent = Agent(name="a", provider=Echo(), persistence=store)
    replies = []
    for _ in range(2):
        with agent.stream("one two", session_id="s", commit_id="once") as stream:
            replies.append(list(stream)[-1].reply)
    assert [reply.replayed for reply in replies] == [False, True]
    assert replies[1].message == "ONE TWO"


# -- errors and context variables ------------------------------------------------------------------------------------

FAILING: dict[str, Callable[[Any, Any, Any], Any]] = {
    "no such session": lambda store, session, agent: store.save_message("absent", "user", "hi"),
    "bad id": lambda store, session, agent: store.find_session_by_id(""),
    "bad limit": lambda store, session, agent: store.find_sessions(limit=0),
    "bad role": lambda store, session, agent: store.save_message("s", "robot", "hi"),
    "not serializable": lambda store, session, agent: store.save_message("s", "user", "hi", event=object()),
    "too large": lambda store, session, agent: store.save_message("s", "user", "x" * 5_000_000),
    "bad changes": lambda store, session, agent: store.update_collected_data("s", 7),
    "exists": lambda store, session, agent: store.save_session_state("s", create_session(id="s")),
    "bad text": lambda store, session, agent: agent.respond(7),
    "bad commit id": lambda store, session, agent: agent.respond("hi", commit_id="x" * 65),
    "provider": lambda store, session, agent: agent.respond("hi", session_id="other"),
    "other user": lambda store, session, agent: store.claim_session("absent", "ana"),
    "bad context": lambda store, session, agent: agent.update_context(7),
    "unknown role in a session": lambda store, session, agent: session.add_message("robot", "hi"),
}


@pytest.mark.parametrize("title", FAILING)
async def test_the_errors_are_the_same(title: str) -> None:
    fail = FAILING[title]
    async with turnkeep.connect("memory://") as store:
        session = turnkeep.SessionManager(store, session_id="s")
        await session.get_or_create()
        agent = turnkeep.Agent(name="a", provider=ScriptedProvider(OSError("gone")), persistence=store)
        with pytest.raises(turnkeep.TurnkeepError) as there:
            await fail(store, session, agent)
    with connect("memory://") as blocking:
        lives = SessionManager(blocking, session_id="s")
        lives.get_or_create()
        door = Agent(name="a", provider=ScriptedProvider(OSError("gone")), persistence=blocking)
        with pytest.raises(turnkeep.TurnkeepError) as here:
            fail(blocking, lives, door)
    assert type(here.value) is type(there.value)
    assert str(here.value) == str(there.value)
    assert vars(here.value) == vars(there.value)
    assert repr(here.value.__cause__) == repr(there.value.__cause__)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"persistence": "nosuch://x"}, turnkeep.AdapterNotFound),
        ({"persistence": "memory://?windw=3"}, InvalidArgument),
        ({"on_conflict": "maybe"}, InvalidArgument),
        ({"provider": "gpt"}, InvalidArgument),
        ({"tools": [print, print]}, InvalidArgument),
        ({"context": 7}, InvalidArgument),
        ({"session_id": ""}, InvalidArgument),
    ],
)
def test_a_constructor_refuses_the_same(arguments: dict[str, Any], error: type[Exception]) -> None:
    arguments = {"name": "a", "provider": Echo(), **arguments}
    with pytest.raises(error) as there:
        turnkeep.Agent(**arguments)
    with pytest.raises(error) as here:
        Agent(**arguments)
    assert str(here.value) == str(there.value)


def test_an_error_shows_where_it_was_called(store: Persistence) -> None:
    with pytest.raises(SessionNotFound) as caught:
        store.save_message("absent", "user", "hi")
    assert caught.traceback[0].path.name == "test_calls.py"
    assert caught.value.__context__ is None


def test_context_variables_of_the_caller_are_seen(store: Persistence) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []

    def plain(context: Any) -> None:
        seen.append(tenant.get())
        tenant.set("leaked")

    async def later(context: Any) -> None:
        seen.append(tenant.get())

    def asked(request: Any) -> str:
        seen.append(tenant.get())
        return "fine"

    hooks = Hooks(before_respond=plain, after_respond=later)
    agent = Agent(name="a", provider=ScriptedProvider(always=asked), persistence=store, hooks=hooks)
    tenant.set("ana's")
    agent.respond("hi")
    assert seen == ["ana's"] * 3
    with agent.stream("hi") as stream:
        list(stream)
    assert seen == ["ana's"] * 6
    assert tenant.get() == "ana's"

    def other(name: str) -> str:
        tenant.set(name)
        agent.respond("hi", session_id=name)
        return tenant.get()

    with ThreadPoolExecutor(4) as pool:
        names = [f"t{number}" for number in range(8)]
        assert list(pool.map(other, names)) == names
    assert sorted(seen[6:]) == sorted(names * 3)
