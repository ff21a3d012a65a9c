"""The driver's errors as ours, and what the server refuses."""

import asyncio
import inspect
import json
import logging

import opensearchpy.exceptions
import pytest
from aiohttp import ClientConnectorError, ServerDisconnectedError

from turnkeep.contract import Expect, LoadQuery, SessionQuery
from turnkeep.errors import (
    CommitOutcomeUnknown,
    SchemaMissing,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    ValueTooLarge,
)
from turnkeep_opensearch._errors import BLOCKS, CLASSES, FAILURES, KINDS, STATUSES, refusal, translate, write_failed
from turnkeep_opensearch.calls import Calls
from turnkeep_testkit import new_commit, new_key

from .kit import ask, client_of, from_url, opened
from .server import stub

SECRET = "what somebody said"


def driver_errors():
    """Every class of error that the driver's module defines."""
    return {
        name: value
        for name, value in vars(opensearchpy.exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception) and not issubclass(value, Warning)
    }


def make(kind):
    """An error of this class, as the driver makes them."""
    if issubclass(kind, opensearchpy.exceptions.ConnectionError):
        return kind("N/A", "x", OSError("x"))
    if issubclass(kind, opensearchpy.exceptions.TransportError):
        return kind(418, "teapot", {"error": {"type": "teapot", "reason": SECRET}})
    return kind(SECRET)


@pytest.mark.parametrize("name", sorted(driver_errors()))
def test_every_error_of_the_driver_has_a_meaning(name):
    kind = driver_errors()[name]
    assert kind in CLASSES
    assert issubclass(kind, FAILURES)
    cause = make(kind)
    error = translate(cause, "load")
    assert isinstance(error, StorageError)
    assert (error.adapter, error.operation) == ("opensearch", "load")
    assert len(str(error)) > 20
    assert SECRET not in str(error)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_name_of_the_servers_says_something_of_its_own(kind):
    error = translate(refusal(400, {"type": kind, "reason": SECRET}), "load")
    assert type(error) is KINDS[kind].error
    assert kind in str(error)
    assert SECRET not in f"{error}{error.__cause__}"


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_every_status_says_something_of_its_own(status):
    error = translate(refusal(status, "said"), "load")
    assert type(error) is STATUSES[status].error
    assert str(status) in str(error)


@pytest.mark.parametrize("status", sorted(BLOCKS))
def test_blocks(status):
    error = translate(refusal(status, {"type": "cluster_block_exception", "reason": "x"}), "load")
    assert type(error) is BLOCKS[status].error


CONNECTION = opensearchpy.exceptions.ConnectionError
REFUSED = CONNECTION("N/A", "x", ClientConnectorError(None, OSError("refused")))


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (refusal(401, "Unauthorized"), StorageRefused, False),
        (refusal(403, {"type": "security_exception"}), StorageRefused, False),
        (refusal(413, "too large"), ValueTooLarge, False),
        (refusal(429, {"type": "cluster_block_exception"}), StorageFull, False),
        (refusal(429, {"type": "opensearch_rejected_execution_exception"}), StorageUnavailable, True),
        (refusal(404, {"type": "index_not_found_exception"}), SchemaMissing, False),
        (refusal(400, {"type": "mapper_parsing_exception"}), StorageRefused, False),
        (refusal(503, {"type": "search_phase_execution_exception"}), StorageUnavailable, True),
        (refusal(504, "gateway"), StorageTimeout, True),
        (opensearchpy.exceptions.ConnectionTimeout("TIMEOUT", "x", TimeoutError()), StorageTimeout, True),
        (REFUSED, StorageUnavailable, True),
        (opensearchpy.exceptions.SSLError("N/A", "x", OSError()), StorageRefused, False),
        (refusal(418, "teapot"), StorageError, False),
    ],
)
def test_meanings(error, kind, retryable):
    found = translate(error, "load")
    assert type(found) is kind
    assert found.retryable is retryable


@pytest.mark.parametrize(
    "error",
    [
        CONNECTION("N/A", "x", ServerDisconnectedError()),
        opensearchpy.exceptions.ConnectionTimeout("TIMEOUT", "x", TimeoutError()),
        opensearchpy.exceptions.SerializationError("half an answer"),
        refusal(502, "gateway"),
        refusal(503, {"type": "node_disconnected_exception"}),
        refusal(500, "x"),
    ],
)
def test_a_write_that_may_have_taken_effect_is_of_unknown_outcome(error):
    found = write_failed(error, "commit", "c1")
    assert type(found) is CommitOutcomeUnknown
    assert found.commit_id == "c1"


@pytest.mark.parametrize(
    "error",
    [
        REFUSED,
        refusal(403, "x"),
        refusal(400, "x"),
        refusal(429, "x"),
        refusal(503, {"type": "cluster_block_exception"}),
        refusal(503, {"type": "unavailable_shards_exception"}),
    ],
)
def test_a_write_that_was_refused_or_never_sent_is_not(error):
    assert not isinstance(write_failed(error, "commit", "c1"), CommitOutcomeUnknown)


def test_other_errors_stay_what_they_are():
    error = KeyError("x")
    assert translate(error, "load") is error
    assert write_failed(error, "commit", "c1") is error


async def test_nobody_there():
    adapter = from_url("opensearch://127.0.0.1:1")
    with pytest.raises(StorageUnavailable, match="connection") as caught:
        await adapter.open()
    assert caught.value.retryable
    report = await adapter.check()
    assert [(check.name, check.ok) for check in report.checks] == [("server", False)]


async def test_an_unknown_host():
    with pytest.raises(StorageUnavailable):
        await from_url("opensearch://no-such-host.invalid").open()


# Other servers, older ones, credentials


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"version": {"distribution": "opensearch", "number": "1.3.20"}}, r"1\.3\.20; turnkeep needs 2\.8 or newer"),
        ({"version": {"distribution": "opensearch", "number": "2.7.0"}}, "2.8 or newer"),
        ({"version": {"distribution": "opensearch", "number": "next"}}, "2.8 or newer"),
        ({"version": {"number": "8.19.0", "build_flavor": "default"}}, "no OpenSearch server"),
        ({"hello": "world"}, "no OpenSearch server"),
        ([], "no OpenSearch server"),
        ("<html>Welcome</html>", "no OpenSearch server|no JSON"),
    ],
)
async def test_other_servers_and_older_ones_are_told(said, match):
    async with stub(lambda method, path: (200, said)) as server:
        adapter = from_url(server.url)
        for call in (adapter.open, adapter.migrate):
            with pytest.raises(StorageError, match=match):
                await call()
        assert not (await adapter.check()).ok
        assert {method for method, *_ in server.requests} == {"GET"}


@pytest.mark.parametrize(("status", "says"), [(401, "user and password"), (403, "permission")])
async def test_wrong_credentials_are_told(status, says, caplog):
    caplog.set_level(logging.DEBUG)
    async with stub(lambda method, path: (status, "Unauthorized")) as server:
        adapter = from_url(server.url.replace("://", "://ana:s3cret@"))
        for call in (adapter.open, adapter.migrate):
            with pytest.raises(StorageRefused, match=says) as caught:
                await call()
            assert not caught.value.retryable
        report = await adapter.check()
        assert says in str(report)
    assert all(headers["authorization"] == "Basic YW5hOnMzY3JldA==" for _, _, headers, _ in server.requests)
    shown = f"{caplog.text}{report}{caught.value!r}{caught.value.__cause__!r}"
    assert "s3cret" not in shown
    assert "YW5hOnMzY3JldA" not in shown


async def test_what_was_not_answered_is_sent_again_as_often_as_told():
    async with stub(lambda method, path: None) as server, client_of(server.url, max_retries=0) as client:
        for tries in (1, 3):
            server.requests.clear()
            with pytest.raises(opensearchpy.exceptions.ConnectionError):
                await Calls(client, tries=tries).send("POST", "/x/_update/y", {})
            assert len(server.requests) == tries


async def test_an_attempt_that_was_sent_is_not_forgotten_when_a_later_one_is_not():
    async with stub(lambda method, path: server.stop()) as server, client_of(server.url, max_retries=0) as client:
        with pytest.raises(opensearchpy.exceptions.ConnectionError) as caught:
            await Calls(client, tries=3).send("POST", "/x/_update/y", {})
        assert isinstance(write_failed(caught.value, "commit", "c"), CommitOutcomeUnknown)
        with pytest.raises(opensearchpy.exceptions.ConnectionError) as caught:
            await Calls(client, tries=3).send("POST", "/x/_update/y", {})
        assert type(write_failed(caught.value, "commit", "c")) is StorageUnavailable


async def test_a_request_that_is_too_slow_is_not_sent_again(cluster_url):
    async with client_of(cluster_url, timeout=0.001, max_retries=0) as client:
        with pytest.raises(opensearchpy.exceptions.ConnectionTimeout):
            await Calls(client, tries=3).send("POST", "/_search", {})


# What the real one refuses


async def test_a_full_disk(cluster_url, names, client):
    """Past its flood-stage mark the server blocks an index so."""
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        block = f"/{names['sessions']}/_settings"
        await ask(client, "PUT", block, {"index.blocks.read_only_allow_delete": True})
        with pytest.raises(StorageFull, match="make room"):
            await adapter.commit(new_commit(key, "two", expect=first.token))
        with pytest.raises(StorageFull):
            await adapter.commit(new_commit(new_key(), "two"))
        assert (await adapter.load(key, LoadQuery())).head.token == first.token
        report = await adapter.check()
        assert not report.ok
        assert "read_only_allow_delete" in str(report)
        await ask(client, "PUT", block, {"index.blocks.read_only_allow_delete": None})
        assert (await adapter.commit(new_commit(key, "two", expect=first.token))).last_seq == 2


async def test_an_index_set_to_read_only(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        await ask(client, "PUT", f"/{names['sessions']}/_settings", {"index.blocks.write": True})
        with pytest.raises(StorageRefused, match="read-only"):
            await adapter.commit(new_commit(key, "two", expect=first.token))
        with pytest.raises(StorageRefused, match="read-only"):
            await adapter.delete(key)
        assert (await adapter.load(key, LoadQuery())).head.token == first.token
        await ask(client, "PUT", f"/{names['sessions']}/_settings", {"index.blocks.write": None})


async def test_a_cluster_that_is_red(cluster_url, names, client):
    """Indices whose shards have no place; the cluster of everybody else is none of our business."""
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        (index,) = await ask(client, "GET", f"/{names['sessions']}")
        nowhere = {"settings": {"index.routing.allocation.require._name": "nobody"}}
        body = {**nowhere, "aliases": {names["sessions"]: {}}, "mappings": await mapping_of(client, index)}
        await ask(client, "DELETE", f"/{index}")
        await ask(client, "PUT", f"/{index}", body, wait_for_active_shards="0")
        with pytest.raises(StorageUnavailable, match="cannot serve"):
            await adapter.load(key, LoadQuery())
        with pytest.raises(StorageUnavailable, match="cannot serve"):
            await adapter.find_sessions(SessionQuery(key.scope, 10))
        report = await adapter.check()
        assert not report.ok
        assert "red" in str(report)
        commit = asyncio.create_task(adapter.commit(new_commit(new_key(), "two")))
        with pytest.raises(
            (asyncio.CancelledError, StorageError)
        ):  # the server waits for a shard: the caller's deadline
            async with asyncio.timeout(1):
                await commit


async def mapping_of(client, index):
    return (await ask(client, "GET", f"/{index}/_mapping"))[index]["mappings"]


async def test_indices_that_are_removed_meanwhile_are_missed_and_not_made_by_a_write(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, *["x"] * 16))
        for kind in ("messages", "sessions"):
            (index,) = await ask(client, "GET", f"/{names[kind]}")
            await ask(client, "DELETE", f"/{index}")
            with pytest.raises(SchemaMissing, match="turnkeep migrate"):
                await adapter.commit(new_commit(key, "y", expect=first.token))
        for call in (adapter.commit(new_commit(new_key(), "x")), adapter.load(key, LoadQuery()), adapter.delete(key)):
            with pytest.raises(SchemaMissing, match="turnkeep migrate"):
                await call
        assert await ask(client, "GET", f"/{names['sessions']}*") == {}
        assert len(await adapter.migrate()) == 2
        assert await adapter.load(key, LoadQuery()) is None


async def test_a_mapping_that_was_changed_refuses_and_quotes_nothing(cluster_url, names, client, caplog):
    """Somebody made an index of the same name by hand, in which a field of ours is of another type."""
    async with opened(cluster_url, names) as adapter:
        (index,) = await ask(client, "GET", f"/{names['sessions']}")
        mapping = await mapping_of(client, index)
        mapping["properties"]["agent_name"] = mapping["properties"]["user_id"] = {"type": "integer"}
        await ask(client, "DELETE", f"/{index}")
        await ask(client, "PUT", f"/{index}", {"aliases": {names["sessions"]: {}}, "mappings": mapping})
        await ask(client, "PUT", f"/{index}/_doc/%23turnkeep", {"version": 2, "after": None})
        with pytest.raises(StorageRefused, match=r"mapping or a setting.*check\(\)") as caught:
            await adapter.commit(new_commit(new_key(), "x", user_id=SECRET))
        assert caught.value.__cause__ is None
        assert SECRET not in caplog.text
        report = await adapter.check()
        assert not report.ok
        assert "agent_name" in str(report)


async def test_a_hundred_thousand_keys_make_no_fields(cluster_url, names, client):
    data = json.dumps({f"key {number}": {"a": number} for number in range(100_000)})
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        (index,) = await ask(client, "GET", f"/{names['sessions']}")
        before = await mapping_of(client, index)
        created = await adapter.commit(new_commit(key, "x", data=data, state=data))
        assert created.created
        stored = await adapter.load(key, LoadQuery())
        assert (stored.data, stored.state) == (data, data)
        assert await mapping_of(client, index) == before


async def test_a_message_of_10_mb_comes_back_as_it_went_in(cluster_url, names):
    content = "ä message\n" * (10 << 20 >> 4) + '\x01\\"' * 1000
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, content))
        await adapter.commit(new_commit(key, "next", expect=Expect.ANY))
        await adapter.commit(new_commit(key, "and next", expect=Expect.ANY))
        stored = await adapter.load(key, LoadQuery())
        assert [message.content for message in stored.messages] == [content, "next", "and next"]


async def test_a_document_that_is_not_there_is_no_warning_in_the_log(cluster_url, shared_names, caplog):
    """The driver would warn of each session that does not exist."""
    async with opened(cluster_url, shared_names) as adapter:
        caplog.set_level(logging.WARNING)
        key = new_key()
        assert await adapter.load(key, LoadQuery()) is None
        await adapter.commit(new_commit(key, "x"))
        with pytest.raises(StorageError):
            await adapter.commit(new_commit(key, "x"))
        assert caplog.records == []
