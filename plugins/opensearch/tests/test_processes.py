"""Processes that are killed, compete, race and start at once; a server that is killed; driver calls that fail."""

import asyncio
import functools
import signal
import sys
import uuid

import pytest
from opensearchpy import AsyncTransport
from opensearchpy.exceptions import ConnectionError as ConnectionFailed

from turnkeep.contract import Expect, LoadQuery
from turnkeep_testkit import FakeClock, new_commit, new_key
from turnkeep_testkit.faults import DriverCalls, DriverFaultSuite, KilledWriterSuite, ProcessFaultSuite, adapter_at

from .kit import absent, count_documents, everything, from_url, named, opened, refresh


@pytest.fixture
def driver_calls(monkeypatch):
    """Lets the n-th request fail as one does whose connection is lost."""
    calls = DriverCalls(lambda: ConnectionFailed("N/A", "made up", OSError("made up")))
    perform = AsyncTransport.perform_request

    async def failing(self, method, url, *args, **kwargs):
        if url.endswith("/_refresh"):  # the tests' own
            return await perform(self, method, url, *args, **kwargs)
        with calls.call(f"{method} {url.split('/')[2] if url.count('/') > 1 else ''}"):
            return await perform(self, method, url, *args, **kwargs)

    monkeypatch.setattr(AsyncTransport, "perform_request", failing)
    return calls


class TestProcesses(ProcessFaultSuite):
    @pytest.fixture
    def adapter_factory(self, cluster_url, names):
        self.place = (cluster_url, names)
        return functools.partial(adapter_at, named(cluster_url, names))

    async def lists_settle(self):
        await refresh(*self.place)

    async def remains(self, key):
        return await count_documents(*self.place, key)


class TestKilledServer(KilledWriterSuite):
    """On a server of its own, which nobody else misses."""

    @pytest.fixture
    def server(self, tmp_path, pytestconfig):
        if not pytestconfig.getoption("turnkeep_campaign"):
            pytest.skip("a server takes 10 seconds or more to start, and again after each kill: in campaigns only")
        reason = "tests/services of the repository is not to be had"
        services = pytest.importorskip("services.opensearch", reason=reason)
        server = services.OpenSearch(tmp_path)
        if not server.at_hand():
            absent("no OpenSearch server to start, and kill, is on this machine: it takes Java and Maven")
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
        stem = uuid.uuid4().hex
        names = {"sessions": f"s{stem}", "messages": f"m{stem}"}
        return functools.partial(adapter_at, named(server.address(), names))


WRITER = """
import asyncio, os, signal, sys
from turnkeep.contract import Expect, Scope, SessionKey
from turnkeep.urls import StorageURL
from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_testkit import new_commit

url, namespace, session_id, when = sys.argv[1:]

async def main():
    adapter = OpenSearchAdapter.from_url(StorageURL(url))
    await adapter.open()
    sessions, messages = adapter._open.store._sessions, adapter._open.store._messages
    place, name = {"flushed": (messages, "insert"), "committed": (sessions, "swap")}[when]
    method = getattr(place, name)

    async def dying(*args):
        await method(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, dying)
    key = SessionKey(Scope(namespace), session_id)
    await adapter.commit(new_commit(key, "the 17th", expect=Expect.ANY, commit_id="c17"))

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["flushed", "committed"])
async def test_a_writer_killed_between_flush_and_commit_and_between_commit_and_flush(cluster_url, names, client, when):
    """It flushes 16 messages and commits the 17th, and dies after the one or the other; the next flush comes later."""
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, *[str(number) for number in range(16)]))
        arguments = (named(cluster_url, names), key.scope.namespace, key.session_id, when)
        writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, *arguments)
        assert await writer.wait() == -signal.SIGKILL
        landed = when == "committed"
        stored = await adapter.load(key, LoadQuery(commit_id="c17"))
        assert len(stored.messages) == 16 + landed
        assert (stored.replay is not None) is landed
        assert len((await everything(client, names))["messages"]) == 16  # flushed, whether or not the head says so
        again = await adapter.commit(new_commit(key, "the 17th", expect=Expect.ANY, commit_id="c17"))
        assert (again.replayed, again.last_seq) == (landed, 17)
        for number in range(60):
            await adapter.commit(new_commit(key, f"later {number}", expect=Expect.ANY))
        said = [message.content for message in (await adapter.load(key, LoadQuery())).messages]
        assert said == [*map(str, range(16)), "the 17th", *(f"later {number}" for number in range(60))]
        assert await adapter.delete(key)
        assert (await everything(client, names))["messages"] == {}


class TestDriverCalls(DriverFaultSuite):
    @pytest.fixture
    def fake_clock(self):
        return FakeClock()

    @pytest.fixture
    def make_adapter(self, cluster_url, shared_names, fake_clock):
        self.place = (cluster_url, shared_names)
        return lambda: from_url(named(cluster_url, shared_names, max_retries=0), clock=fake_clock)

    @pytest.fixture
    def driver_calls(self, driver_calls):
        return driver_calls

    async def lists_settle(self):
        await refresh(*self.place)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("nth", [1, 2])
    async def test_a_commit_that_flushes_is_old_or_new_wherever_it_ends(self, nth, when):
        """The first request writes the documents of the outbox, the second commits; a third there is not."""
        key, last = await self.create(*[str(number) for number in range(16)])
        self.calls.arm(nth, when)
        commit = new_commit(key, "more", expect=last.token)
        with pytest.raises(Exception, match=r"lost|repeat"):
            await self.adapter.commit(commit)
        assert self.calls.failed == ("POST _bulk", "POST _update")[nth - 1]
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
