"""The driver's errors as ours."""

import contextlib
import inspect
import uuid

import bson.errors
import pymongo.errors
import pytest
from pymongo import AsyncMongoClient

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    ForeignTable,
    SchemaMissing,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
    ValueTooLarge,
)
from turnkeep_mongodb._errors import CLASSES, CODES, only_duplicates, translate, write_failed
from turnkeep_testkit import new_commit, new_key

from .kit import from_url, named, opened

SECRET = "what somebody said"
OURS = f"turnkeep-{uuid.uuid4().hex}"
NO_ERRORS = {"_CertificateError"}  # of the ssl module


def driver_errors():
    """Every class of error that the driver's two modules define."""
    return {
        name: value
        for module in (pymongo.errors, bson.errors)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Exception) and name not in NO_ERRORS
    }


def make(kind):
    """An error of this class, as the driver makes them."""
    if kind is pymongo.errors.BulkWriteError:
        return kind({"writeErrors": [{"code": 121, "errmsg": "x", "op": {"content": SECRET}}]})
    if kind is pymongo.errors.ClientBulkWriteException:
        return kind({"writeErrors": [], "errorCode": None}, verbose=True)
    if kind is pymongo.errors.EncryptionError:
        return kind(ValueError("x"))
    if kind is pymongo.errors.EncryptedCollectionError:
        return kind(ValueError("x"), {})
    return kind("x")


@pytest.mark.parametrize("name", sorted(driver_errors()))
def test_every_error_of_the_driver_has_a_meaning(name):
    kind = driver_errors()[name]
    assert any(base in CLASSES for base in kind.__mro__)
    if not name.startswith("_"):
        assert kind in CLASSES or issubclass(kind, bson.errors.BSONError)
    cause = make(kind)
    error = translate(cause, "load")
    assert isinstance(error, StorageError)
    assert (error.adapter, error.operation) == ("mongodb", "load")
    assert error.__cause__ is (None if kind is pymongo.errors.BulkWriteError else cause)
    assert len(str(error)) > 20
    assert SECRET not in str(error)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_says_something_of_its_own(code):
    error = translate(pymongo.errors.OperationFailure("x", code), "load")
    assert type(error) is CODES[code].error
    assert str(code) in str(error)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (pymongo.errors.OperationFailure("x", 18), StorageRefused, False),
        (pymongo.errors.OperationFailure("x", 13), StorageRefused, False),
        (pymongo.errors.OperationFailure("x", 14031), StorageFull, False),
        (pymongo.errors.OperationFailure("x", 26), SchemaMissing, False),
        (pymongo.errors.OperationFailure("x", 166), ForeignTable, False),
        (pymongo.errors.OperationFailure("x", 238), StorageRefused, False),
        (pymongo.errors.WriteError("x", 17419), ValueTooLarge, False),
        (pymongo.errors.DocumentTooLarge("x"), ValueTooLarge, False),
        (pymongo.errors.ExecutionTimeout("x", 50), StorageTimeout, True),
        (pymongo.errors.NotPrimaryError("x"), StorageUnavailable, True),
        (pymongo.errors.ServerSelectionTimeoutError("x"), StorageUnavailable, True),
        (bson.errors.InvalidBSON("x"), CorruptRecord, False),
        (pymongo.errors.OperationFailure("x", 999_999), StorageError, False),
    ],
)
def test_meanings(error, kind, retryable):
    found = translate(error, "load")
    assert type(found) is kind
    assert found.retryable is retryable


def refused_connection():
    error = pymongo.errors.AutoReconnect("x")
    error.__cause__ = ConnectionRefusedError()
    return error


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.AutoReconnect("x"),
        pymongo.errors.NetworkTimeout("x"),
        pymongo.errors.ConnectionFailure("x"),
        pymongo.errors.WTimeoutError("x", 64),
        pymongo.errors.WriteConcernError("x", 100),
        pymongo.errors.OperationFailure("x", 11600),
        pymongo.errors.NotPrimaryError("x", {"code": 91}),
    ],
)
def test_a_write_that_may_have_taken_effect_is_of_unknown_outcome(error):
    found = write_failed(error, "commit", "c1")
    assert type(found) is CommitOutcomeUnknown
    assert found.commit_id == "c1"
    assert found.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.ServerSelectionTimeoutError("x"),
        pymongo.errors.WaitQueueTimeoutError("x"),
        pymongo.errors.NotPrimaryError("x", {"code": 10107}),
        pymongo.errors.OperationFailure("x", 13),
        pymongo.errors.WriteError("x", 17419),
        refused_connection(),
    ],
)
def test_a_write_that_was_refused_or_never_sent_is_not(error):
    assert not isinstance(write_failed(error, "commit", "c1"), CommitOutcomeUnknown)


def test_other_errors_stay_what_they_are():
    error = KeyError("x")
    assert translate(error, "load") is error
    assert write_failed(error, "commit", "c1") is error


def test_only_duplicates():
    def bulk(*codes, concern=()):
        return pymongo.errors.BulkWriteError(
            {"writeErrors": [{"code": code} for code in codes], "writeConcernErrors": list(concern)}
        )

    assert only_duplicates(bulk(11000, 11000))
    assert not only_duplicates(bulk(11000, 121))
    assert not only_duplicates(bulk())
    assert not only_duplicates(bulk(11000, concern=[{"code": 64}]))


async def test_nobody_there():
    adapter = from_url("mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=50")
    with pytest.raises(StorageUnavailable, match="no server could be reached") as caught:
        await adapter.open()
    assert caught.value.retryable
    report = await adapter.check()
    assert [(check.name, check.ok) for check in report.checks] == [("server", False)]
    assert "host, port and network" in report.checks[0].fix


async def test_an_unknown_host():
    with pytest.raises(StorageUnavailable):
        await from_url("mongodb://no-such-host.invalid/x?serverSelectionTimeoutMS=200").open()


async def test_the_server_goes_away(replica_url, database):
    async with opened(replica_url, database) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        await adapter._open.client.close()
        for call in (adapter.load(key, LoadQuery()), adapter.commit(new_commit(key, "y", expect=Expect.ANY))):
            with pytest.raises(StorageUnavailable, match="the client was closed"):
                await call


async def test_a_commit_over_16_mb_is_refused_whole(replica_url, database):
    async with opened(replica_url, database) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "x"))
        before = await adapter.load(key, LoadQuery())
        large = new_commit(key, *["x" * (4 << 20)] * 4, expect=first.token)
        for _ in range(2):
            with pytest.raises(ValueTooLarge, match="16 MB"):
                await adapter.commit(large)
        assert await adapter.load(key, LoadQuery()) == before
        await adapter.commit(
            new_commit(key, *["x" * (4 << 20)] * 3, expect=first.token, data='"' + "x" * 1000000 + '"')
        )
        # The next commit must make room: what has no document yet gets one.
        await adapter.commit(new_commit(key, *["y" * (4 << 20)] * 3, expect=Expect.ANY))
        await adapter.commit(new_commit(key, "z", expect=Expect.ANY))
        stored = await adapter.load(key, LoadQuery())
        assert [len(message.content) for message in stored.messages] == [1] + [4 << 20] * 6 + [1]


async def test_a_user_without_the_right_is_told(replica_url, database):
    """The server would say so with code 13 or 18; that it reaches the caller as refused is the point."""
    adapter = from_url(named(replica_url, database, authSource="admin").replace("://", "://ana:wrong@"))
    with pytest.raises(StorageRefused, match="user, password"):
        await adapter.open()


@contextlib.asynccontextmanager
async def failing(client, **data):
    """Lets the server fail commands of ours alone, where it was started for that (--enable-test-commands)."""
    data |= {"appName": OURS}
    try:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    except pymongo.errors.OperationFailure as error:
        pytest.skip(f"the server makes no failures to order: code {error.code}")
    try:
        yield
    finally:
        await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize(
    ("code", "kind"),
    [(10107, StorageUnavailable), (14031, StorageFull), (13, StorageRefused), (11600, CommitOutcomeUnknown)],
)
async def test_what_the_server_refuses(standalone_url, standalone_database, code, kind):
    """A server that is not the primary any more, has no room, forbids it, or is shut down meanwhile."""
    ours = opened(standalone_url, standalone_database, client_options={"appname": OURS})
    async with ours as adapter, AsyncMongoClient(standalone_url) as client:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        commit = new_commit(key, "two", expect=first.token)
        application = {"failCommands": ["update"], "errorCode": code}
        async with failing(client, **application):
            with pytest.raises(kind):
                await adapter.commit(commit)
        assert (await adapter.load(key, LoadQuery())).head.token == first.token
        assert (await adapter.commit(commit)).last_seq == 2


async def test_a_write_without_a_majority_is_of_unknown_outcome_and_lands_once(standalone_url, standalone_database):
    ours = opened(standalone_url, standalone_database, client_options={"appname": OURS})
    async with ours as adapter, AsyncMongoClient(standalone_url) as client:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        commit = new_commit(key, "two", expect=first.token)
        concern = {"code": 64, "errmsg": "waiting for replication timed out"}
        async with failing(client, failCommands=["update"], writeConcernError=concern):
            with pytest.raises(CommitOutcomeUnknown) as caught:
                await adapter.commit(commit)
        assert caught.value.commit_id == commit.commit_id
        again = await adapter.commit(commit)
        assert again.last_seq == 2
        assert [message.content for message in (await adapter.load(key, LoadQuery())).messages] == ["one", "two"]
