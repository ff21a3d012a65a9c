"""Processes that are killed, compete, race and start at once; a server that is killed; driver calls that fail."""

import functools
import uuid

import pytest
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import AutoReconnect

from turnkeep.contract import Expect, LoadQuery
from turnkeep_testkit import FakeClock, new_commit, new_key
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite, KilledWriterSuite, ProcessFaultSuite, adapter_at

from .kit import FUTURE, absent, from_url, named, watched
from .test_conformance import count_documents

CALLS = (
    (AsyncCollection, "find_one"),
    (AsyncCollection, "insert_one"),
    (AsyncCollection, "insert_many"),
    (AsyncCollection, "update_one"),
    (AsyncCollection, "replace_one"),
    (AsyncCollection, "delete_one"),
    (AsyncCollection, "delete_many"),
    (AsyncCollection, "aggregate"),
    (AsyncCursor, "to_list"),
)
"""Every method of the driver by which the store reads or writes."""


@pytest.fixture
def driver_calls(monkeypatch):
    """Lets the n-th of them fail as a connection does that is lost."""
    calls = DriverCalls(lambda: AutoReconnect("made up"))
    for kind, name in CALLS:
        method = getattr(kind, name)

        def failing(self, *args, method=method, name=name, **kwargs):
            async def call():
                with calls.call(name):
                    return await method(self, *args, **kwargs)

            return call()

        monkeypatch.setattr(kind, name, failing)
    return calls


class TestProcesses(ProcessFaultSuite):
    @pytest.fixture
    def adapter_factory(self, replica_url, database):
        self.place = (replica_url, database)
        return functools.partial(adapter_at, named(replica_url, database))

    async def remains(self, key):
        return count_documents(*self.place, key)


class TestKilledServer(KilledWriterSuite):
    """On a server of its own, which nobody else misses."""

    @pytest.fixture
    def server(self, tmp_path):
        services = pytest.importorskip("services.mongodb", reason="tests/services of the repository is not to be had")
        server = services.MongoDB(tmp_path)
        if not server.at_hand():
            absent("no MongoDB-wire server to start, and kill, is on this machine; `make services` brings one")
        server.start()
        yield server
        server.stop()

    @pytest.fixture
    def kill_server(self, server):
        def kill():
            server.kill()
            server.resume()

        return kill

    @pytest.fixture
    def adapter_factory(self, server):
        url = named(watched(server.address()), f"turnkeep_{uuid.uuid4().hex}", directConnection="true")
        return functools.partial(adapter_at, url)


class TestDriverCalls(DriverFaultSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock(FUTURE)

    @pytest.fixture
    def make_adapter(self, replica_url, shared_database, fake_clock):
        return lambda: from_url(named(replica_url, shared_database), clock=fake_clock)

    @pytest.fixture
    def driver_calls(self, driver_calls):
        return driver_calls

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("nth", [1, 2])
    async def test_a_commit_that_flushes_is_old_or_new_wherever_it_ends(self, nth, when):
        """The first call writes the documents of the outbox, the second commits; a third there is not."""
        key, last = await self.create(*[str(number) for number in range(16)])
        self.calls.arm(nth, when)
        commit = new_commit(key, "more", expect=last.token)
        with pytest.raises(Exception, match=r"lost|repeat"):
            await self.adapter.commit(commit)
        assert self.calls.failed == ("insert_many", "update_one")[nth - 1]
        self.calls.arm(0)
        other = await self.another()  # after a crash
        stored = await other.load(key, LoadQuery())
        landed = (nth, when) == (2, "after")
        assert len(stored.messages) == 16 + landed
        again = await other.commit(commit)
        assert (again.replayed, again.last_seq) == (landed, 17)
        for number in range(40):
            await other.commit(new_commit(key, str(number), expect=Expect.ANY))
        stored = await self.adapter.load(key, LoadQuery())
        assert [message.seq for message in stored.messages] == list(range(1, 58))

    @pytest.mark.parametrize("nth", [1, 2, 3, 4])
    async def test_a_delete_that_ends_anywhere_is_old_or_gone(self, nth):
        """Read, bury, remove the messages, remove the grave."""
        key, _ = await self.create(*["x"] * 20)
        await self.append(key, "y")
        self.calls.arm(nth)
        with pytest.raises(Exception, match=r"lost|repeat|gone"):
            await self.adapter.delete(key)
        self.calls.arm(0)
        other = await self.another()
        there = await other.load(key, LoadQuery()) is not None
        assert there is (nth <= 2)
        if nth > 2:
            await other.sweep(100)
            assert await other.delete(key) is False
        else:
            assert await other.delete(key) is True
        created = await other.commit(new_commit(new_key(key.scope, key.session_id), "new"))
        assert created.token.version == 1
