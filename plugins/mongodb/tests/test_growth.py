"""What a turn costs does not depend on how much was said before, and every query goes along an index."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from datetime import timedelta

import bson
import pytest
from pymongo import monitoring

from turnkeep.contract import ANYONE, Expect, LoadQuery, MessageQuery, Scope, SessionQuery, StatsQuery
from turnkeep.errors import StorageRefused
from turnkeep_mongodb.lists import counting, listing
from turnkeep_mongodb.messages import looking_over
from turnkeep_testkit import FakeClock, new_commit, new_key, new_message

from .kit import FUTURE, everything, opened

TURN = {"state": '{"s":"' + "s" * 900 + '"}'}
PLACES = list(itertools.product(range(10), range(10)))


class Monitor(monitoring.CommandListener):
    """Every command that a client sends, with its size, and how many wait for each other."""

    def __init__(self):
        self.commands = []
        self.hints = []

    def started(self, event):
        self.hints += [event.command["hint"]] if "hint" in event.command else []
        if event.command_name not in {"hello", "ismaster", "endSessions"}:
            self.commands.append((event.command_name, len(bson.encode(event.command))))

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass

    def take(self):
        found, self.commands, self.hints = self.commands, [], []
        return found


def names(commands):
    return [name for name, _ in commands]


@pytest.fixture
def monitor():
    return Monitor()


@asynccontextmanager
async def monitored(url, database, monitor):
    """An open adapter all of whose commands are noted."""
    options = {"event_listeners": [monitor]}
    async with opened(url, database, clock=FakeClock(FUTURE), client_options=options) as found:
        monitor.take()
        yield found


@pytest.fixture
async def adapter(replica_url, database, monitor):
    async with monitored(replica_url, database, monitor) as found:
        yield found


async def fill(adapter, key, count, size=200):
    """A session with so many messages."""
    last = await adapter.commit(new_commit(key))
    while last.message_count < count:
        texts = ["x" * size] * min(500, count - last.message_count)
        last = await adapter.commit(new_commit(key, *texts, expect=last.token))
    return last.token


async def turn(adapter, key):
    """A load and a commit, each with the commands it took."""
    stored = await adapter.load(key, LoadQuery(50))
    return await adapter.commit(new_commit(key, "q" * 500, "a" * 1500, expect=stored.head.token, **TURN))


async def test_a_turn_is_one_round_trip_each_way_and_one_more_when_the_outbox_is_full(adapter, monitor):
    key = new_key()
    await adapter.commit(new_commit(key))
    assert names(monitor.take()) == ["insert"]
    took = []
    for _ in range(48):
        await turn(adapter, key)
        took.append(names(monitor.take()))
    assert took == ([["find", "update"]] * 8 + ([["find", "insert", "update"]] + [["find", "update"]] * 7) * 5)
    await turn(adapter, key)
    monitor.take()
    for _ in range(3):
        await adapter.commit(new_commit(key, "x", expect=Expect.ANY))
        assert names(monitor.take()) == ["update"]


async def test_what_a_turn_sends_and_reads_does_not_grow(adapter, monitor, pytestconfig):
    sent = {}
    lengths = (10, 1000, 10_000) if pytestconfig.getoption("turnkeep_campaign") else (10, 1000)
    for length in lengths:
        key = new_key()
        await fill(adapter, key, length)
        for _ in range(40):  # until tail and ring are full
            await turn(adapter, key)
        monitor.take()
        for _ in range(8):
            await turn(adapter, key)
        commands = monitor.take()
        assert set(names(commands)) == {"find", "insert", "update"}
        sent[length] = sorted(size for name, size in commands if name == "update")
    payload = 2000 + len(TURN["state"])
    assert max(sent[lengths[-1]]) - max(sent[10]) < 64  # a number takes a digit more
    assert max(sent[lengths[-1]]) < 1.5 * payload + 4096
    print(f"bytes of a commit after {', '.join(f'{length:,}: {max(sent[length]):,}' for length in lengths)} messages")


async def test_documents_are_bounded(adapter, client, database, pytestconfig):
    count = 100_000 if pytestconfig.getoption("turnkeep_campaign") else 2000
    key = new_key()
    token = await fill(adapter, key, count)
    await adapter.commit(new_commit(key, "last", expect=token))
    stored = await adapter.load(key, LoadQuery(50))
    assert stored.head.message_count == count + 1
    assert 50 <= len(stored.messages) <= 250
    page = await adapter.read_messages(key, MessageQuery(100, before=count // 2))
    assert [message.seq for message in page.items] == list(range(count // 2 - 100, count // 2))
    assert len((await adapter.load(key, LoadQuery())).messages) == count + 1
    heads = [len(bson.encode(head)) async for head in client[database]["turnkeep_sessions"].find()]
    assert max(heads) < 600_000
    async for message in client[database]["turnkeep_messages"].find().limit(100):
        assert len(bson.encode(message)) < 1000


async def test_large_messages_do_not_stay_in_the_head(adapter, client, database):
    key = new_key()
    await adapter.commit(new_commit(key, *["x" * (1 << 20)] * 10))
    for _ in range(2):
        await adapter.commit(new_commit(key, "y" * (4 << 20), expect=Expect.ANY))
    await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
    (head,) = (await everything(client, database))["turnkeep_sessions"]
    assert len(bson.encode(head)) < 600_000
    stored = await adapter.load(key, LoadQuery())
    assert [len(message.content) for message in stored.messages] == [1 << 20] * 10 + [4 << 20] * 2 + [1]


async def test_values_up_to_the_default_limits_fit(adapter):
    """What LARGE_VALUES asks for, though the sum of one commit is bounded."""
    key = new_key()
    content, data = "x" * (4 * 2**20 - 1000), '"' + "ä" * (2**19 - 100) + '"'
    message = new_message(content, metadata='"' + "m" * 900 + '"')
    await adapter.commit(new_commit(key, message, message, message, "small", data=data))
    stored = await adapter.load(key, LoadQuery())
    assert [message.content for message in stored.messages] == [content] * 3 + ["small"]
    assert stored.data == data


def stages(plan):
    """Every stage of a plan."""
    if isinstance(plan, dict):
        found = [plan["stage"]] if "stage" in plan else []
        found += [plan["indexName"]] if "indexName" in plan else []
        return found + [stage for part in plan.values() for stage in stages(part)]
    return [stage for part in plan for stage in stages(part)] if isinstance(plan, list) else []


async def used(cursor):
    """The stages of the plan that wins."""
    return stages((await cursor.explain())["queryPlanner"]["winningPlan"])


@pytest.fixture
async def listed(replica_url, shared_database, monitor):
    """An adapter over a hundred sessions of ten owners, made by the first test that needs them."""
    async with monitored(replica_url, shared_database, monitor) as adapter:
        if not (await adapter.find_sessions(SessionQuery(Scope("kit"), 1))).items:
            keys = {new_key(Scope("kit"), f"s{number} {owner}"): f"o{owner}" for number, owner in PLACES}
            for owner in {*keys.values()}:
                commits = [new_commit(key, "x", user_id=user_id) for key, user_id in keys.items() if user_id == owner]
                await asyncio.gather(*map(adapter.commit, commits))
        yield adapter


@pytest.fixture
def filled(listed):
    """Its collections."""
    return listed._open.collections


@pytest.mark.parametrize(
    ("owner", "order", "index"),
    [
        (ANYONE, "activity", "turnkeep_activity"),
        ("o1", "activity", "turnkeep_owner_activity"),
        (None, "activity", "turnkeep_owner_activity"),
        (ANYONE, "created", "turnkeep_created"),
        ("o1", "created", "turnkeep_owner_created"),
    ],
)
async def test_lists_go_along_an_index(listed, filled, monitor, owner, order, index):
    page = await listed.find_sessions(SessionQuery(Scope("kit"), 2, order=order))
    for cursor in (None, page.next_cursor):
        for status in (None, "active"):
            query = SessionQuery(Scope("kit", owner), 20, order=order, cursor=cursor, status=status)
            condition, sort = listing(query, FUTURE)
            plan = await used(filled.sessions.find(condition).hint(index).sort(sort).limit(20))
            assert index in plan, plan
            monitor.take()
            await listed.find_sessions(query)
            assert monitor.hints == [index]


async def test_everything_else_goes_along_an_index(listed, filled):
    await listed.load(new_key(Scope("kit"), "s1 1"), LoadQuery(0))
    record = listed._open.store._recall.get("kit/s1 1")
    life = {"session": record.session, "incarnation": record.head.token.incarnation}
    by_index = {
        "turnkeep_history": filled.messages.find(life | {"seq": {"$gte": 1, "$lte": 9}}).sort("seq", 1),
        "turnkeep_expiry": filled.sessions.find({"expires_at": {"$lte": FUTURE}}).sort("expires_at", 1),
        "turnkeep_sweep": filled.sessions.find({"sweep_at": {"$lte": FUTURE}}).sort("sweep_at", 1),
    }
    for index, cursor in by_index.items():
        plan = await used(cursor)
        assert index in plan, plan
        assert "COLLSCAN" not in plan
    erased = await used(filled.messages.find(life | {"seq": {"$lte": 3}}))
    assert "turnkeep_history" in erased
    assert not {"COLLSCAN", "SORT"} & set(await used(filled.sessions.find({"_id": record.session})))


async def test_aggregations_join_nothing_and_go_along_an_index(listed, filled, monitor):
    for scope, index in ((Scope("kit"), "turnkeep_created"), (Scope("kit", "o1"), "turnkeep_owner_created")):
        monitor.take()
        assert (await listed.stats(StatsQuery(scope))).sessions == (100 if scope.owner is ANYONE else 10)
        assert monitor.hints == [index]
        assert "$lookup" not in str(counting(scope, FUTURE))
    pipeline = looking_over("", 100)
    assert "$lookup" not in str(pipeline)
    assert list(pipeline[0]["$match"]) == list(pipeline[1]["$sort"]) == ["_id"]


async def test_a_list_without_its_index_says_so(listed, filled):
    await filled.sessions.drop_index("turnkeep_activity")
    with pytest.raises(StorageRefused, match="turnkeep migrate"):
        await listed.find_sessions(SessionQuery(Scope("kit"), 20))
    assert await listed.migrate() == ["index turnkeep_activity: Makes it again."]
    assert len((await listed.find_sessions(SessionQuery(Scope("kit"), 20))).items) == 20


async def test_the_ttl_index_leaves_a_week(filled):
    index = (await filled.sessions.index_information())["turnkeep_expiry"]
    assert index["expireAfterSeconds"] == timedelta(days=7).total_seconds()
