"""Two repositories made of dicts, behind RepositoryAdapter."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from turnkeep.contract import (
    Capability,
    Expect,
    HeadChange,
    Level,
    LoadQuery,
    MessageQuery,
    SessionQuery,
    Support,
)
from turnkeep.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    CorruptRecord,
    DataTooNew,
    SessionConflict,
    SessionExists,
    SessionNotFound,
    StorageError,
    StorageUnavailable,
)
from turnkeep.repositories import (
    HistoryKey,
    MessageRepository,
    RepositoryAdapter,
    RepositoryRecord,
    SessionRepository,
    settling,
)
from turnkeep.urls import StorageURL
from turnkeep_testkit import (
    AdapterSuite,
    ExactnessSuite,
    ExpirySuite,
    FakeClock,
    ListSuite,
    new_commit,
    new_key,
    new_message,
    new_scope,
)

HOUR = timedelta(hours=1)


class DictSessions(SessionRepository):
    def __init__(self, rows, step):
        self.rows = rows
        self.step = step

    async def create(self, record):
        await self.step("create")
        created = self.rows.setdefault((record.namespace, record.id), record) is record
        await self.step("created")
        return created

    async def get(self, namespace, session_id):
        await self.step("get")
        return self.rows.get((namespace, session_id))

    async def update(self, record, expected_version):
        await self.step("update")
        updated = self._is_at(record.namespace, record.id, expected_version)
        if updated:
            self.rows[record.namespace, record.id] = record
        await self.step("updated")
        return updated

    async def delete(self, namespace, session_id, expected_version):
        await self.step("delete")
        deleted = self._is_at(namespace, session_id, expected_version)
        if deleted:
            del self.rows[namespace, session_id]
        await self.step("deleted")
        return deleted

    async def find(self, query):
        await self.step("find")
        return sorted(filter(query.matches, self.rows.values()), key=query.position)[: query.limit]

    async def find_due(self, moment, limit):
        await self.step("find_due")
        due = [row for row in self.rows.values() if row.due_at is not None and row.due_at <= moment]
        return sorted(due, key=lambda row: row.due_at)[:limit]

    def _is_at(self, namespace, session_id, version):
        row = self.rows.get((namespace, session_id))
        return row is not None and row.version == version


class DictMessages(MessageRepository):
    """Deliberately slow: one message at a time, so that a writer can stop half-way."""

    def __init__(self, rows, step):
        self.rows = rows
        self.step = step

    async def append(self, history, messages):
        for message in messages:
            await self.step("append")
            assert self.rows.get((history, message.seq), message) == message, "a seq has one content for ever"
            self.rows[history, message.seq] = message

    async def page(self, history, first, last):
        await self.step("page")
        return [self.rows[history, seq] for seq in range(first, last + 1) if (history, seq) in self.rows]

    async def delete_for_session(self, history, up_to=None):
        for of, seq in sorted(self.rows):
            if of == history and (up_to is None or seq <= up_to):
                await self.step("erase")
                self.rows.pop((of, seq), None)


async def at_once(name):
    pass


async def elsewhere(name):
    await asyncio.sleep(0)


class Store:
    """What a database would hold."""

    def __init__(self):
        self.records = {}
        self.messages = {}

    def adapter(self, step=at_once, **options):
        return RepositoryAdapter(DictSessions(self.records, step), DictMessages(self.messages, step), **options)

    def remains(self, namespace, session_id):
        of = [history for history, _ in self.messages if history[:2] == (namespace, session_id)]
        return len(of) + ((namespace, session_id) in self.records)


OF_DICTS = {
    Capability.DURABLE: Support(Level.NONE, "dicts end with their process"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


class Conformance(AdapterSuite):
    no_schema = "the repositories come open; their tables are made by whoever makes them"

    step = staticmethod(at_once)

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, fake_clock):
        self.store = Store()
        return lambda: self.store.adapter(self.step, clock=fake_clock, capabilities=OF_DICTS)

    async def remains(self, key):
        return self.store.remains(key.scope.namespace, key.session_id)


class TestAtOnce(Conformance):
    """The kit, each call of a repository in one go."""


class TestElsewhere(Conformance):
    """The kit, each call of a repository taking its time, so that calls of different tasks really mix."""

    step = staticmethod(elsewhere)


# Orders in which two or three callers can reach the store, and every point at which one of them can die. All orders
# are played in which callers are interrupted so many times at most: races need few interruptions, orders grow fast.


class Died(BaseException):
    """A process that is gone takes no further step; neither does its error handling."""


class Stage:
    """Runs programs step by step: wherever several want the store, one is let through, as ``choices`` say."""

    def __init__(self, choices, interruptions, dies_at=None):
        self.choices = choices
        self.interruptions = interruptions
        self.taken = []  # (what was chosen, of how many)
        self.dies_at = dies_at
        self.steps = 0  # of the first program
        self.waiting = {}

    def gate(self, number):
        async def step(name):
            if number == 0:
                self.steps += 1
                if self.dies_at is not None and self.steps >= self.dies_at:
                    raise Died
            if name in {"created", "updated", "deleted"}:  # nobody can tell how long an answer took
                return
            self.waiting[number] = asyncio.get_running_loop().create_future()
            await self.waiting[number]

        return step

    async def run(self, programs):
        """What each program returned, or raised."""
        current = None
        tasks = [asyncio.create_task(program(self.gate(number))) for number, program in enumerate(programs)]
        while True:
            for _ in range(50):
                if all(task.done() or number in self.waiting for number, task in enumerate(tasks)):
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("somebody waits for something else than the store")
            if not self.waiting:
                return await asyncio.gather(*tasks, return_exceptions=True)
            options = sorted(self.waiting, key=lambda number: (number != current, number))
            if options[0] == current and not self.interruptions:
                del options[1:]
            choice = self.choices[len(self.taken)] if len(self.taken) < len(self.choices) else 0
            self.taken.append((choice, len(options)))
            if options[0] == current != options[choice]:
                self.interruptions -= 1
            current = options[choice]
            self.waiting.pop(current).set_result(None)


def next_choices(taken):
    """The choices of the next schedule after this one, or None: they were all seen."""
    taken = list(taken)
    while taken and taken[-1][0] == taken[-1][1] - 1:
        taken.pop()
    return [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1] if taken else None


class Scene:
    """A session with messages in the repository and in the tail of its record, and programs that work on it."""

    def __init__(self, store, clock, key):
        self.store, self.clock, self.key = store, clock, key
        self.adapter = store.adapter(clock=clock)
        self.sent = {}  # commit id -> commit
        self.acknowledged = {}  # commit id -> result
        self.undecided = set()  # commit ids whose sender died
        self.waited = None

    async def set(self, **options):
        await self.send(self.adapter, self.commit("1", **options))
        await self.send(self.adapter, self.commit("2", "3", expect=Expect.ANY, **options))
        self.token = (await self.adapter.load(self.key, LoadQuery())).head.token

    def commit(self, *contents, **options):
        commit = new_commit(self.key, *contents, **options)
        self.sent[commit.commit_id] = commit
        return commit

    def wait(self, time):
        self.clock.advance(time)
        self.waited = time

    async def send(self, adapter, commit):
        try:
            result = await adapter.commit(commit)
        except Died:
            self.undecided.add(commit.commit_id)
            raise
        self.acknowledged[commit.commit_id] = result
        return result

    def program(self, *acts):
        async def run(step):
            adapter = self.store.adapter(step, clock=self.clock)
            return [await act(self, adapter) for act in acts]

        return run

    def expect_whole(self, messages):
        """Only whole commits that were sent, in order, without gaps."""
        seqs = [message.seq for message in messages]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True
        by_commit = Counter(message.commit_id for message in messages)
        for commit_id, count in by_commit.items():
            assert count == len(self.sent[commit_id].messages)
        for message in messages:
            commit = self.sent[message.commit_id]
            assert message.content == commit.messages[message.seq - message.turn_seq].content

    async def expect_sound(self, *, may_leave_copies):
        if self.waited:
            self.clock.advance(-self.waited)  # a clock that was put back shows nothing that is half erased
            await self.adapter.load(self.key, LoadQuery())
            self.clock.advance(self.waited)
        stored = await self.adapter.load(self.key, LoadQuery())
        if stored is not None:
            head = stored.head
            self.expect_whole(stored.messages)
            assert [message.seq for message in stored.messages] == list(range(head.floor + 1, head.last_seq + 1))
            assert stored.messages == (await self.adapter.read_messages(self.key, MessageQuery(1000, after=0))).items
            there = {message.commit_id for message in stored.messages}
            ours = {
                commit_id: result
                for commit_id, result in self.acknowledged.items()
                if result.token.incarnation == head.token.incarnation
            }
            for commit_id, result in ours.items():
                assert commit_id in there or not self.sent[commit_id].messages or result.last_seq <= head.floor
            versions = Counter(result.token.version for result in ours.values() if not result.replayed)
            assert max(versions.values(), default=1) == 1, "two commits of one version"
            assert there <= {*ours, *self.undecided}, "a commit that was refused is there"
        await self.expect_swept(stored, may_leave_copies=may_leave_copies)

    async def expect_swept(self, stored, *, may_leave_copies):
        for _ in range(3):
            await self.adapter.sweep(1000)
        after = await self.adapter.load(self.key, LoadQuery())
        assert after == stored
        left = {(history.incarnation, seq) for history, seq in self.store.messages}
        needed = set()
        if stored is not None:
            incarnation = stored.head.token.incarnation
            record = self.store.records[self.key.scope.namespace, self.key.session_id]
            tail = len(json.loads(record.document)["tail"])
            stored_to = stored.head.last_seq - tail
            needed = {(incarnation, seq) for seq in range(stored.head.floor + 1, stored_to + 1)}
        else:
            assert not self.store.records
        assert needed <= left if may_leave_copies else needed == left
        # The session can be gone on with, or begun anew.
        again = new_commit(self.key, "more", expect=Expect.NEW if stored is None else Expect.ANY)
        assert (await self.adapter.commit(again)).created is (stored is None)


def sends(*contents, **options):
    """Commits; the same request again if its commit id was sent before."""

    async def act(scene, adapter):
        wanted = dict(options)
        if wanted.get("expect") == "token":
            wanted["expect"] = scene.token
        commit = scene.sent.get(options.get("commit_id")) or scene.commit(*contents, **wanted)
        try:
            return await scene.send(adapter, commit)
        except (SessionConflict, SessionNotFound, SessionExists) as error:
            return error

    act.puts = options.get("expect") is not None  # it may put the turn before into the message repository
    return act


async def deletes(scene, adapter):
    return await adapter.delete(scene.key)


async def sweeps(scene, adapter):
    return await adapter.sweep(10)


async def reads(scene, adapter):
    stored = await adapter.load(scene.key, LoadQuery(window=3))
    if stored is not None:
        scene.expect_whole(stored.messages)
        assert len(stored.messages) >= min(3, stored.head.message_count)
        assert not stored.messages or stored.messages[-1].seq == stored.head.last_seq


async def pages(scene, adapter):
    try:
        page = await adapter.read_messages(scene.key, MessageQuery(10, after=0))
    except SessionNotFound:
        return
    scene.expect_whole(page.items)


def swap(text):
    return sends(f"{text} user", f"{text} assistant", expect="token", data="{}")


def append(text):
    return sends(text, expect=Expect.ANY)


def repeated(text):
    return sends(text, expect=Expect.ANY, commit_id="c")


def clear():
    return sends(expect=Expect.ANY, drop_history=True)


def create(text):
    return sends(text)


SCENES = {
    "two swaps": ([[swap("a")], [swap("b")]], {}),
    "two appends": ([[append("a")], [append("b")]], {}),
    "the same append twice": ([[repeated("a")], [repeated("a")]], {}),
    "the same append twice, delete": ([[repeated("a")], [repeated("a"), deletes]], {}),
    "swap, append": ([[swap("a")], [append("b")]], {}),
    "append, delete": ([[append("a")], [deletes]], {}),
    "delete, append": ([[deletes], [append("a")]], {}),
    "append, new life": ([[append("a")], [deletes, create("b")]], {}),
    "swap, new life": ([[swap("a")], [deletes, create("b"), append("c")]], {}),
    "new life, append": ([[deletes, create("b")], [append("a")]], {}),
    "append, clear": ([[append("a")], [clear(), append("b")]], {}),
    "clear, append": ([[clear(), append("b")], [append("a")]], {}),
    "append, clear, sweep": ([[append("a")], [clear(), sweeps]], {}),
    "two creates over an expired one": ([[create("a")], [create("b")]], {"ttl": HOUR}),
    "create, sweep of an expired one": ([[create("a")], [sweeps]], {"ttl": HOUR}),
    "sweep, create over an expired one": ([[sweeps], [create("a")]], {"ttl": HOUR}),
    "delete, delete": ([[deletes], [deletes]], {}),
    "delete, create": ([[deletes], [create("a")]], {}),
    "append, sweep of aged messages": ([[append("a")], [sweeps]], {"message_ttl": HOUR}),
    "sweep of aged messages, append": ([[sweeps], [append("a")]], {"message_ttl": HOUR}),
    "sweep of aged messages, read": ([[sweeps], [reads]], {"message_ttl": HOUR}),
    "read, append, append": ([[reads], [append("a")], [append("b")]], {}),
    "read, append, delete": ([[reads], [append("a"), deletes]], {}),
    "page, clear": ([[pages], [clear(), append("a"), sweeps]], {}),
    "page, new life": ([[pages], [deletes, create("a"), append("b")]], {}),
}


def explore(name, runner, *, interruptions, deaths):
    """Plays the scene in every order; with deaths, the first program dies at each of its steps in each of them."""
    played = 0
    dies_at = 1 if deaths else None
    while True:
        choices, most_steps = [], 0
        while choices is not None:
            stage, scene, outcomes = runner.run(play(name, choices, interruptions, dies_at))
            played += 1
            died = isinstance(outcomes[0], Died)
            puts = any(getattr(act, "puts", False) for act in SCENES[name][0][0])
            for outcome in outcomes[1 if died else 0 :]:
                assert not isinstance(outcome, BaseException), (choices, dies_at, outcome)
            try:
                runner.run(scene.expect_sound(may_leave_copies=died and puts))
            except AssertionError as error:
                error.add_note(f"choices {choices}, dies at {dies_at}")
                raise
            most_steps = max(most_steps, stage.steps)
            choices = next_choices(stage.taken)
        if dies_at is None or most_steps < dies_at:
            return played
        dies_at += 1


async def play(name, choices, interruptions, dies_at):
    programs, options = SCENES[name]
    scene = Scene(Store(), FakeClock(), new_key())
    await scene.set(**options)
    if options:
        scene.wait(2 * HOUR)
    stage = Stage(choices, interruptions, dies_at)
    outcomes = await stage.run([scene.program(*acts) for acts in programs])
    return stage, scene, outcomes


@pytest.mark.parametrize("name", SCENES)
def test_every_order(name):
    with asyncio.Runner() as runner:
        played = explore(name, runner, interruptions=3 if len(SCENES[name][0]) == 2 else 2, deaths=False)
    assert played > 1


@pytest.mark.parametrize("name", SCENES)
def test_every_order_and_every_death(name):
    with asyncio.Runner() as runner:
        played = explore(name, runner, interruptions=2 if len(SCENES[name][0]) == 2 else 1, deaths=True)
    assert played > 1


# What else the adapter says and keeps


class Trouble(Exception):
    """A driver's error."""


def failing(*names):
    """A step that raises at the first of each of these names."""
    left = list(names)

    async def step(name):
        if name in left:
            left.remove(name)
            raise Trouble("password=hunter2")

    return step


async def made(*contents, **options):
    store = Store()
    key = new_key()
    await store.adapter().commit(new_commit(key, *contents, **options))
    return store, key


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_write_that_fails_midway_is_undecided_and_can_be_sent_again(moment):
    store, key = await made("1")
    for expect, name in ((Expect.ANY, "update"), (Expect.NEW, "create")):
        step = failing(name if moment == "before" else f"{name}d")
        commit = new_commit(key if expect is Expect.ANY else new_key(), "2", expect=expect)
        with pytest.raises(CommitOutcomeUnknown) as caught:
            await store.adapter(step, name="acme").commit(commit)
        assert (caught.value.commit_id, caught.value.adapter) == (commit.commit_id, "acme")
        assert isinstance(caught.value.__cause__, Trouble)
        assert (await store.adapter().commit(commit)).replayed is (moment == "after")
        stored = await store.adapter().load(commit.key, LoadQuery())
        assert [message.content for message in stored.messages].count("2") == 1


async def test_an_error_of_ours_means_that_nothing_was_written():
    store, key = await made("1")

    async def unavailable(name):
        if name == "update":
            raise StorageUnavailable("gone")

    with pytest.raises(StorageUnavailable):
        await store.adapter(unavailable).commit(new_commit(key, "2", expect=Expect.ANY))


@pytest.mark.parametrize("name", ["get", "page", "find", "find_due", "append", "erase", "delete"])
async def test_other_errors_of_a_driver_are_storage_errors(name):
    store, key = await made("1")
    await store.adapter().commit(new_commit(key, "2", expect=Expect.ANY))
    adapter = store.adapter(failing(name), name="acme")
    act = {
        "get": lambda: adapter.load(key, LoadQuery()),
        "page": lambda: adapter.read_messages(key, MessageQuery(10)),
        "find": lambda: adapter.find_sessions(SessionQuery(key.scope, 10)),
        "find_due": lambda: adapter.sweep(10),
        "append": lambda: adapter.commit(new_commit(key, "3", expect=Expect.ANY)),
    }.get(name, lambda: adapter.delete(key))
    with pytest.raises(StorageError, match="Trouble") as caught:
        await act()
    assert "hunter2" not in str(caught.value)
    assert type(caught.value) is StorageError
    assert (caught.value.adapter, type(caught.value.__cause__)) == ("acme", Trouble)


async def test_a_delete_that_failed_is_brought_to_its_end():
    for again in ("delete", "sweep", "create"):
        store, key = await made("1")
        await store.adapter().commit(new_commit(key, "2", expect=Expect.ANY))
        adapter = store.adapter(failing("erase"))
        with pytest.raises(StorageError):
            await adapter.delete(key)
        assert await adapter.load(key, LoadQuery()) is None
        assert (await adapter.find_sessions(SessionQuery(key.scope, 10))).items == ()
        assert store.remains(key.scope.namespace, key.session_id) == 2
        assert "1" not in str(store.records.values()).split("document=")[1]
        if again == "delete":
            assert await adapter.delete(key) is False
        elif again == "sweep":
            await adapter.sweep(10)
        else:
            await adapter.commit(new_commit(key))
        assert store.remains(key.scope.namespace, key.session_id) == (again == "create")


async def test_a_cancelled_write_that_does_not_come_to_an_end_is_undecided(monkeypatch):
    monkeypatch.setattr(settling, "PATIENCE", 0.02)
    store, key = await made("1")

    async def hangs(name):
        if name == "update":
            await asyncio.sleep(60)

    for write in (
        lambda adapter: adapter.commit(new_commit(key, "2", expect=Expect.ANY)),
        lambda adapter: adapter.delete(key),
    ):
        task = asyncio.create_task(write(store.adapter(hangs)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(CommitOutcomeUnknown):
            await task
        await asyncio.sleep(0)
    assert (await store.adapter().load(key, LoadQuery())).head.message_count == 1


async def test_a_refused_write_that_was_cancelled_is_not_tried_again():
    store, key = await made("1")
    release = asyncio.Event()

    async def waits(name):
        if name == "update":
            await release.wait()

    task = asyncio.create_task(store.adapter(waits).commit(new_commit(key, "2", expect=Expect.ANY)))
    await asyncio.sleep(0.01)
    await store.adapter().commit(new_commit(key, "3", expect=Expect.ANY))
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    stored = await store.adapter().load(key, LoadQuery())
    assert [message.content for message in stored.messages] == ["1", "3"]


class LossySessions(DictSessions):
    """Where a database cuts times to milliseconds."""

    async def get(self, namespace, session_id):
        row = await super().get(namespace, session_id)
        return row and cut(row)

    async def find(self, query):
        return sorted(filter(query.matches, map(cut, self.rows.values())), key=query.position)[: query.limit]


def cut(row):
    names = ("last_message_at", "completed_at", "created_at", "updated_at", "expires_at", "due_at")
    times = {name: getattr(row, name) for name in names}
    return replace(
        row,
        message_count=-1,
        **{name: time and time.replace(microsecond=time.microsecond // 1000 * 1000) for name, time in times.items()},
    )


class TestLossyColumns(ExactnessSuite, ListSuite, ExpirySuite):
    """What counts is the document; lists go by the columns as the store gives them back."""

    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, fake_clock):
        store = Store()
        sessions, messages = LossySessions(store.records, at_once), DictMessages(store.messages, at_once)
        return lambda: RepositoryAdapter(sessions, messages, clock=fake_clock)


class LaggingSessions(DictSessions):
    """Where lists come from an index that is a while behind."""

    async def find(self, query):
        found = await super().find(query)
        await asyncio.sleep(0)
        shown, self.indexed = getattr(self, "indexed", {}), {row.id: row for row in found}
        return sorted(shown.values(), key=query.position)[: query.limit]


async def test_lists_that_lag_show_nothing_that_is_gone():
    store = Store()
    capabilities = {Capability.IMMEDIATE_LISTS: Support(Level.PARTIAL, "an index")}
    sessions, messages = LaggingSessions(store.records, at_once), DictMessages(store.messages, at_once)
    adapter = RepositoryAdapter(sessions, messages, capabilities=capabilities)
    scope = new_scope()
    keys = [new_key(scope) for _ in range(3)]
    for key in keys:
        await adapter.commit(new_commit(key, "1"))
    await adapter.find_sessions(SessionQuery(scope, 10))
    await adapter.delete(keys[0])
    await adapter.commit(new_commit(keys[1], expect=Expect.ANY, head=HeadChange(status="completed")))
    page = await adapter.find_sessions(SessionQuery(scope, 10, status="active"))
    assert [head.session_id for head in page.items] == [keys[2].session_id]


async def test_what_is_missing_or_unreadable_is_corrupt():
    store, key = await made("1", "2")
    adapter = store.adapter()
    await adapter.commit(new_commit(key, "3", expect=Expect.ANY))
    identity = key.scope.namespace, key.session_id
    record = store.records[identity]
    store.messages.popitem()
    for read in (adapter.load(key, LoadQuery()), adapter.read_messages(key, MessageQuery(10))):
        with pytest.raises(CorruptRecord, match="counts messages"):
            await read
    newest = await adapter.load(key, LoadQuery(window=1))
    assert [message.content for message in newest.messages] == ["3"]
    for document in ("", "null", "[]", "{}", '{"v":1}', "\ud800", "[" * 100_000, record.document.replace("1", '"x"')):
        store.records[identity] = replace(record, document=document)
        with pytest.raises(CorruptRecord):
            await adapter.load(key, LoadQuery())
        with pytest.raises(CorruptRecord):
            await adapter.commit(new_commit(key, "4", expect=Expect.ANY))
    store.records[identity] = replace(record, document=record.document.replace('"v":1', '"v":2'))
    with pytest.raises(DataTooNew):
        await adapter.load(key, LoadQuery())
    store.records[identity] = replace(record, id="another")
    with pytest.raises(CorruptRecord, match="byte by byte"):
        await adapter.load(key, LoadQuery())


async def test_an_unreadable_record_does_not_keep_a_sweep_from_the_others():
    clock = FakeClock()
    store = Store()
    adapter = store.adapter(clock=clock)
    scope = new_scope()
    for number in range(3):
        await adapter.commit(new_commit(new_key(scope, str(number)), "1", ttl=HOUR))
    store.records[scope.namespace, "0"] = replace(store.records[scope.namespace, "0"], document="?")
    clock.advance(2 * HOUR)
    with pytest.raises(CorruptRecord):
        await adapter.sweep(10)
    assert [session_id for _, session_id in store.records] == ["0"]


async def test_a_repository_that_never_lets_anybody_win_is_found_out():
    store, key = await made("1")
    adapter = store.adapter()

    async def refuses(*_):
        return False

    adapter.sessions.update = adapter.sessions.create = refuses
    for write in (
        adapter.commit(new_commit(key, "2", expect=Expect.ANY)),
        adapter.commit(new_commit(new_key(), "2")),
        adapter.delete(key),
    ):
        with pytest.raises(StorageUnavailable, match="byte by byte"):
            await write


async def test_cleared_history_is_erased_with_the_next_turn():
    store, key = await made("secret 1")
    adapter = store.adapter()
    await adapter.commit(new_commit(key, "secret 2", expect=Expect.ANY))
    await adapter.commit(new_commit(key, expect=Expect.ANY, drop_history=True))
    assert "secret 2" not in str(store.records)
    await adapter.commit(new_commit(key, "2", expect=Expect.ANY))
    assert "secret" not in str((store.records, store.messages))


async def test_a_turn_moves_to_the_messages_with_the_next_one():
    store, key = await made("1", "2")
    adapter = store.adapter()
    assert not store.messages
    await adapter.commit(new_commit(key, expect=Expect.ANY, head=HeadChange(status="completed")))
    assert not store.messages
    await adapter.commit(new_commit(key, "3", expect=Expect.ANY))
    assert [message.content for message in store.messages.values()] == ["1", "2"]


async def test_a_record_at_rest(monkeypatch):
    ids = iter(["i" * 32, "v" * 32])
    monkeypatch.setattr("turnkeep.repositories.recorded.new_id", lambda: next(ids))
    store, key = Store(), new_key(new_scope("ana", "n"), "s")
    message = new_message("Hi \u00e4", id="m", name="Ana", route="booking", event='{"a":1}')
    head = HeadChange(status="completed", agent_name="desk", current_route="booking", current_step="name")
    commit = new_commit(
        key,
        message,
        commit_id="c",
        digest="d",
        data='{"guests":4}',
        state='{"b":2}',
        user_id="ana",
        head=head,
        ttl=HOUR,
    )
    await store.adapter(clock=FakeClock()).commit(replace(commit, message_ttl=HOUR))
    (record,) = store.records.values()
    at, later = 1773500966535897, 1773504566535897
    assert json.loads(record.document) == {
        "v": 1,
        "token": [1, "c"],
        "head": ["ana", "completed", "desk", "booking", "name"],
        "times": [at, at, at, at, later],
        "seqs": [1, 0, 0],
        "state": '{"b":2}',
        "marks": [[1, later]],
        "past": [["c", "d", 1, True, 1, 1, 1, at]],
        "tail": [
            [
                "m",
                "user",
                "Hi \u00e4",
                "plain",
                "Ana",
                None,
                None,
                "booking",
                None,
                '{"a":1}',
                None,
                None,
                at,
                1,
                1,
                "c",
            ]
        ],
    }
    now = FakeClock().now
    assert replace(record, document="") == RepositoryRecord(
        namespace="n",
        id="s",
        version="v" * 32,
        incarnation="i" * 32,
        user_id="ana",
        status="completed",
        agent_name="desk",
        current_route="booking",
        current_step="name",
        collected_data='{"guests":4}',
        message_count=1,
        last_message_at=now,
        completed_at=now,
        created_at=now,
        updated_at=now,
        expires_at=now + HOUR,
        due_at=now + HOUR,
        document="",
    )


async def test_check_names_the_repository_that_fails():
    report = await Store().adapter().check()
    assert report.ok
    report = await Store().adapter(failing("page")).check()
    assert [(check.name, check.ok) for check in report.checks] == [("sessions", True), ("messages", False)]
    assert "hunter2" not in str(report)


def test_it_is_not_opened_by_url():
    with pytest.raises(ConfigurationError, match="two repositories"):
        RepositoryAdapter.from_url(StorageURL("acme://"))


def test_a_session_repository_has_six_methods_and_a_message_repository_three():
    assert SessionRepository.__abstractmethods__ == {"create", "get", "update", "delete", "find", "find_due"}
    assert MessageRepository.__abstractmethods__ == {"append", "page", "delete_for_session"}


def test_a_history_key_is_a_dict_key():
    assert {HistoryKey("n", "s", "i"): 1}[HistoryKey("n", "s", "i")] == 1
