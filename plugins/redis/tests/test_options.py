"""What the adapter is told: clients, URLs, options."""

from datetime import timedelta

import pytest
import redis
from redis.asyncio import Redis, RedisCluster

from turnkeep.connecting import build
from turnkeep.errors import ConfigurationError, InvalidArgument, StorageUnavailable
from turnkeep.plugins import Plugins
from turnkeep_redis import RedisAdapter
from turnkeep_redis.plugin import SCHEMES

from .kit import from_url

SECRET = "hunter2"


def address_of(adapter):
    return adapter._source


@pytest.mark.parametrize(
    ("url", "kind", "nodes", "database"),
    [
        ("redis://", "", [("localhost", 6379)], 0),
        ("redis://db.example", "", [("db.example", 6379)], 0),
        ("redis://db.example:7000/3", "", [("db.example", 7000)], 3),
        ("redis://[::1]:7000/", "", [("::1", 7000)], 0),
        ("redis+cluster://one:7000,two:7001,three", "cluster", [("one", 7000), ("two", 7001), ("three", 6379)], 0),
        ("redis+cluster://one/0", "cluster", [("one", 6379)], 0),
        ("redis+sentinel://one,[::1]:26000/mymaster", "sentinel", [("one", 26379), ("::1", 26000)], 0),
        ("redis+sentinel://one/mymaster/2", "sentinel", [("one", 26379)], 2),
    ],
)
def test_where_the_server_is(url, kind, nodes, database):
    address = address_of(from_url(url))
    assert (address.kind, address.nodes, address.database) == (kind, nodes, database)


def test_every_option():
    adapter = from_url(
        f"rediss+sentinel://ana:{SECRET}@one:26379/mymaster?key_prefix=agent:&session_ttl=60&message_ttl=30"
        "&durability=synced&replicas=1&max_connections=7&connect_timeout=1.5&tls.ca=ca.pem&tls.cert=c.pem&tls.key=k.pem"
        "&tls.verify=false&sentinel_username=watch&sentinel_password=other"
    )
    assert (adapter.session_ttl, adapter.message_ttl) == (timedelta(seconds=60), timedelta(seconds=30))
    assert adapter._wait_for == ("WAITAOF", 1, 1, 0)
    assert adapter._keys.prefix == "agent:"
    address = address_of(adapter)
    assert (address.connections, address.connect_timeout, address.service) == (7, 1.5, "mymaster")
    assert address.login == {"username": "ana", "password": SECRET}
    assert address.sentinel_login == {"username": "watch", "password": "other"}
    assert address.tls == {
        "ssl": True,
        "ssl_ca_certs": "ca.pem",
        "ssl_certfile": "c.pem",
        "ssl_keyfile": "k.pem",
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
    }


def test_defaults():
    adapter = from_url("redis://")
    assert (adapter.session_ttl, adapter.message_ttl, adapter._wait_for) == (None, None, ())
    assert adapter._keys.prefix == "turnkeep:"
    address = address_of(adapter)
    assert (address.connections, address.connect_timeout, address.tls, address.login) == (64, 5.0, {}, {})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://one,two", "names one server"),
        ("redis://one/name", "number of a database"),
        ("redis://one/1/2", "number of a database"),
        ("redis+cluster://one/2", "database 0 only"),
        ("redis+cluster://one:x,two", "no host:port"),
        ("redis+cluster://one:99999,two", "no host:port"),
        ("redis+cluster://,two", "no host:port"),
        ("redis+sentinel://one", "names the service"),
        ("redis://one?tls.ca=x", "rediss://"),
        ("redis://one?tls.verify=no", "rediss://"),
        ("redis://one?key_prefix=a{b}", "key_prefix"),
        ("redis://one?session_ttl=0", "positive"),
        ("redis://one?durability=full", "server or synced"),
        ("redis://one?replicas=1", "durability=synced"),
        ("redis://one?max_connections=0", "max_connections"),
        ("redis://one?connect_timeout=never", "connect_timeout"),
        ("redis://one?key_prefx=a", "did you mean key_prefix"),
    ],
)
def test_urls_that_make_no_sense(url, says):
    with pytest.raises(InvalidArgument, match=says):
        from_url(url)


@pytest.mark.parametrize(
    "arguments",
    [
        {"session_ttl": 0},
        {"session_ttl": -1},
        {"message_ttl": "60"},
        {"durability": "always"},
        {"replicas": 1},
        {"replicas": True, "durability": "synced"},
        {"key_prefix": "a b"},
    ],
)
async def test_arguments_that_make_no_sense(arguments):
    with pytest.raises(InvalidArgument):
        RedisAdapter(Redis(), **arguments)


@pytest.mark.parametrize("client", [redis.Redis(), redis.asyncio.ConnectionPool(), "redis://localhost", None])
def test_what_is_no_client_of_asyncio(client):
    with pytest.raises(InvalidArgument, match=r"redis\.asyncio"):
        RedisAdapter(client)


async def test_times_to_live_become_the_defaults_of_the_persistence():
    adapter = RedisAdapter(Redis(), key_prefix="agent:", session_ttl=86400, message_ttl=timedelta(days=7))
    policy = build(adapter).gateway.policy if hasattr(build(adapter), "gateway") else build(adapter)._gateway.policy
    assert (policy.session_ttl, policy.message_ttl) == (timedelta(days=1), timedelta(days=7))


def test_the_schemes_are_found():
    for scheme in SCHEMES:
        assert Plugins().adapter_class(scheme) is RedisAdapter


@pytest.mark.parametrize("url", [f"redis://ana:{SECRET}@127.0.0.1:1", f"redis+cluster://:{SECRET}@127.0.0.1:1"])
async def test_a_password_is_never_told(url, caplog):
    adapter = from_url(url)
    texts = [repr(adapter), str(adapter), repr(address_of(adapter))]
    with pytest.raises(StorageUnavailable) as caught:
        await adapter.open()
    error = caught.value
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    texts += [str(await adapter.check()), caplog.text]
    assert not [text for text in texts if SECRET in text]


async def test_what_is_not_open_says_so():
    with pytest.raises(ConfigurationError, match="not open"):
        await from_url("redis://").sweep(1)


async def test_a_client_of_a_cluster_is_told_from_one_of_a_server():
    cluster = RedisCluster("127.0.0.1", 1)
    assert RedisAdapter(cluster)._source.connect().is_cluster
    assert not RedisAdapter(Redis())._source.connect().is_cluster
    await cluster.aclose()
