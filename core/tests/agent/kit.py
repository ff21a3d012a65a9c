"""What the tests of the agent share: a watched store, and small shorthands."""

from __future__ import annotations

import asyncio
import itertools

from pydantic import BaseModel, Field

from turnkeep import MemoryAdapter, Route, Step, ToolCall, connect
from turnkeep_testkit import WrappedAdapter

STORES = ("memory", "sqlite")
"""What the ``store`` fixture runs over."""

_numbers = itertools.count(1)


class Watched(WrappedAdapter):
    """Hands every call on to another adapter, and notes it.

    ``before`` and ``after``: async functions by operation, called around the inner call with its arguments.
    ``suspend``: lets other tasks run before and after every call. A commit settles, as the contract asks.
    """

    def __init__(self, inner, *, suspend=False):
        super().__init__(inner)
        self.suspend = suspend
        self.calls = []
        self.commits = []
        self.before = {}
        self.after = {}

    def count(self, operation):
        return self.calls.count(operation)

    def reset(self):
        self.calls.clear()
        self.commits.clear()

    async def pass_on(self, operation, call, *arguments):
        if operation in {"open", "aclose"}:
            return await call()
        self.calls.append(operation)
        if operation == "commit":
            self.commits += arguments
        if self.suspend:
            await asyncio.sleep(0)
        if operation in self.before:
            await self.before[operation](*arguments)
        result = await call()
        if operation in self.after:
            await self.after[operation](*arguments)
        if self.suspend:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if operation != "commit":
                    raise  # a commit that took effect says so, cancelled or not
        return result


class Store:
    """One database. ``connect`` opens a persistence of this process, ``other`` one as another process would."""

    def __init__(self, make):
        self._make = make
        self._opened = []
        self._connected = []
        self.adapter = self.new_adapter()

    def new_adapter(self, **options):
        adapter = Watched(self._make(), **options)
        self._opened.append(adapter)
        return adapter

    async def connect(self, **options):
        persistence = await connect(self.adapter, **options)
        self._connected.append(persistence)
        return persistence

    async def other(self, **options):
        persistence = await connect(self.new_adapter(), **options)
        self._connected.append(persistence)
        return persistence

    async def aclose(self):
        for persistence in self._connected:
            await persistence.aclose()
        for adapter in self._opened:
            await adapter.aclose()

    async def dump(self):
        """All that is stored, in a form that can be compared."""
        persistence = await self.other()
        found = {}
        async for record in await persistence.find_sessions(order="created"):
            state = await persistence.load_session_state(record.id)
            found[record.id] = (record, state)
        return found

    async def texts(self, session_id):
        """(role, content) of everything in a session's history; None where there is no session."""
        persistence = await self.other()
        state = await persistence.load_session_state(session_id)
        return None if state is None else [(message.role, message.content) for message in state.history]

    async def data(self, session_id):
        persistence = await self.other()
        state = await persistence.load_session_state(session_id)
        return None if state is None else state.data


def texts(history):
    return [(message.role, message.content) for message in history]


MESSAGE_FIELDS = (
    "role",
    "content",
    "id",
    "seq",
    "name",
    "tool_calls",
    "tool_call_id",
    "route",
    "step",
    "event",
    "metadata",
    "created_at",
    "commit_id",
)
STATE_FIELDS = (
    "id",
    "user_id",
    "agent_name",
    "status",
    "route_history",
    "current_route",
    "current_step",
    "data",
    "data_by_route",
    "metadata",
    "data_version",
)


def visible(state):
    """Everything of a session that a caller can see."""
    found = {name: getattr(state, name) for name in STATE_FIELDS}
    return found | {"history": [tuple(getattr(m, name) for name in MESSAGE_FIELDS) for m in state.history]}


def call(name, call_id=None, /, **arguments):
    """A tool call as a model makes it."""
    return ToolCall(call_id or f"call_{next(_numbers)}", name, arguments)


def last_text(request):
    """What the user said last."""
    return next(message.content for message in reversed(request.history) if message.role == "user")


class Booking(BaseModel):
    name: str
    guests: int = Field(ge=1, le=20)
    note: str | None = None


def booking(**options):
    return Route(
        "Book a table",
        required_fields=["name", "guests"],
        steps=[Step("Ask who the table is for", collect=["name"]), Step("Ask how many guests", collect=["guests"])],
        **options,
    )


def memory_store():
    shared = MemoryAdapter()
    return Store(lambda: shared)


async def settle(rounds=20):
    for _ in range(rounds):
        await asyncio.sleep(0)


def tasks_but_me():
    return asyncio.all_tasks() - {asyncio.current_task()}


def place(agent):
    """The ids of the route and the step that an agent's session is at."""
    state = agent.session.current
    return (state.current_route and state.current_route.id, state.current_step and state.current_step.id)
