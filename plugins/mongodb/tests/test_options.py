"""What the adapter is told: clients, URLs, options."""

import subprocess
import sys

import pytest
from pymongo import AsyncMongoClient, MongoClient

from turnkeep.errors import ConfigurationError, InvalidArgument, StorageError
from turnkeep_mongodb import MongoDBAdapter
from turnkeep_mongodb.names import Names

from .kit import from_url

CANARY = "tiqui-taca-4711"


def client_of(adapter):
    """The driver's client for a URL; nothing is sent."""
    return adapter._source.connect()


async def test_every_option_of_ours():
    adapter = from_url("mongodb://h/x?database=myapp&collections.sessions=agent_sessions&collections.messages=words")
    assert adapter._database == "myapp"
    assert adapter._names == Names("agent_sessions", "words", "agent_schema")


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("mongodb://h", "turnkeep"),
        ("mongodb://h/", "turnkeep"),
        ("mongodb://h/chat", "chat"),
        ("mongodb://h/login?database=chat", "chat"),
    ],
)
async def test_the_database_is_the_path_unless_it_is_an_option(url, database):
    assert from_url(url)._database == database


async def test_the_drivers_options_reach_the_driver():
    adapter = from_url("mongodb://ana:s%40me@a:1111,b:2222/login?replicaSet=rs&maxPoolSize=7&connectTimeoutMS=100")
    client = client_of(adapter)
    options = client.options
    assert options.replica_set_name == "rs"
    assert options.pool_options.max_pool_size == 7
    assert options.pool_options.connect_timeout == 0.1
    credentials = options.pool_options._credentials
    assert (credentials.username, credentials.password, credentials.source) == ("ana", "s@me", "login")
    assert set(client.topology_description.server_descriptions()) == {("a", 1111), ("b", 2222)}
    await client.close()


async def test_a_server_is_sought_for_five_seconds_unless_told_otherwise():
    for query, seconds in (("", 5), ("?serverSelectionTimeoutMS=250", 0.25), ("?serverselectiontimeoutms=250", 0.25)):
        client = client_of(from_url(f"mongodb://h/x{query}"))
        assert client.options.server_selection_timeout == seconds
        await client.close()


async def test_addresses_of_version_6():
    client = client_of(from_url("mongodb://[::1]:1234/x"))
    assert set(client.topology_description.server_descriptions()) == {("::1", 1234)}
    await client.close()


async def test_hosts_that_dns_names():
    adapter = from_url("mongodb+srv://no-such-cluster.example.invalid/x?serverSelectionTimeoutMS=200")
    assert (adapter._database, adapter._source.where) == ("x", "mongodb+srv://no-such-cluster.example.invalid")
    with pytest.raises(StorageError):
        await adapter.open()


def test_the_plugin_names_both_schemes_and_loads_no_driver():
    said = """
import sys
from turnkeep_mongodb import plugin
found = {}
plugin.register_adapters(found.__setitem__)
assert set(found) == {"mongodb", "mongodb+srv"}, found
assert not {"pymongo", "bson", "turnkeep_mongodb.adapter"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", said], check=True, timeout=60)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mongodb://", "names its hosts"),
        ("mongodb:///chat", "names its hosts"),
        ("mongodb://h/a.b", "letters, digits"),
        ("mongodb://h/admin", "none of admin"),
        ("mongodb://h/x?collections.sessions=a%20b", "letters, digits"),
        ("mongodb://h/x?collections.sessions=$where", "letters, digits"),
        ("mongodb://h/x?collections.sessions=", "must not be empty"),
        ("mongodb://h/x?collections.sessions=x&collections.messages=x", "different names"),
        ("mongodb://h/x?collections.users=x", "none of turnkeep's"),
        ("mongodb://h/x?colection=x", "none of turnkeep's"),
        (f"mongodb://h/x?maxPoolSize={CANARY}", "maxPoolSize"),
        (f"mongodb://h/x?tls={CANARY}", "tls"),
    ],
)
async def test_refused_urls(url, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        from_url(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("option", ["w=0", "journal=false", "W=0", "journal=FALSE"])
async def test_writes_that_nobody_acknowledges_are_refused(option):
    with pytest.raises(ConfigurationError, match=r"leave it out: every write is acknowledged"):
        from_url(f"mongodb://h/x?{option}")


async def test_a_client_that_does_not_wait_for_writes_is_refused():
    client = AsyncMongoClient("mongodb://h", w=0)
    with pytest.raises(ConfigurationError, match="w=0"):
        MongoDBAdapter(client, "x")
    await client.close()


async def test_whatever_else_the_client_says_writes_are_safe_and_reads_are_of_the_primary(replica_url, database):
    options = {"w": 1, "journal": False, "readPreference": "secondary", "readConcernLevel": "local"}
    client = AsyncMongoClient(replica_url, **options)
    adapter = MongoDBAdapter(client, database)
    await adapter.open()
    found = adapter._open.collections
    for collection in (found.sessions, found.messages, found.schema):
        assert collection.write_concern.document == {"w": "majority", "j": True}
        assert collection.read_concern.level == "majority"
        assert collection.read_preference.name == "Primary"
    assert client.write_concern.document == {"w": 1, "j": False}
    await adapter.aclose()
    await client.close()


async def test_only_an_async_client_is_taken():
    with MongoClient("mongodb://h", connect=False) as client, pytest.raises(InvalidArgument, match="AsyncMongoClient"):
        MongoDBAdapter(client)
    for what in ("mongodb://h", None, object()):
        with pytest.raises(InvalidArgument, match="AsyncMongoClient"):
            MongoDBAdapter(what)


@pytest.mark.parametrize(
    "name", ["", "a b", "a.b", "a$b", "a/b", "x" * 64, "local", "config", "\0", None, 7, {"$ne": 1}]
)
async def test_refused_database_names(client, name):
    with pytest.raises(InvalidArgument):
        MongoDBAdapter(client, name)


@pytest.mark.parametrize("name", ["a b", "a.b", "1a", "x" * 64, "", "system.users", "$cmd", "ä", 3, {"$ne": 1}])
async def test_refused_collection_names(client, name):
    with pytest.raises(InvalidArgument):
        MongoDBAdapter(client, collections={"sessions": name})


async def test_unknown_collections_are_refused(client):
    with pytest.raises(InvalidArgument, match="sessions and messages"):
        MongoDBAdapter(client, collections={"message": "x"})


async def test_names_that_are_not_given_follow_the_sessions():
    assert Names.named({"sessions": "chats"}).schema == "chats_schema"
    assert Names.named({"sessions": "sessions"}).schema == "schema"
    assert Names.named({"messages": "m"}) == Names(messages="m")


async def test_nothing_shows_the_password():
    adapter = from_url(f"mongodb://ana:{CANARY}@127.0.0.1:1/x?serverSelectionTimeoutMS=20&authSource={CANARY}")
    report = await adapter.check()
    texts = [repr(adapter), str(adapter), str(report), repr(report)]
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(Exception, match="no server could be reached") as caught:
            await call()
        texts += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not report.ok
    assert not any(CANARY in text for text in texts)
