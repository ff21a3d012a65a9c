"""What the adapter is told: clients, URLs, options."""

import base64
import logging
import subprocess
import sys
import traceback

import pytest
from opensearchpy import AsyncOpenSearch, OpenSearch

from turnkeep.contract import Capability, Level
from turnkeep.errors import InvalidArgument
from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_opensearch.names import Indices

from .kit import ask, from_url, named, opened

CANARY = "tiqui-taca-4711"


def made_by(adapter):
    """What the driver's client for a URL was made with; nothing is sent."""
    return adapter._source._hosts, adapter._source._options


def test_every_option_of_ours():
    adapter = from_url(
        "opensearch://h?indices.sessions=agent_sessions&indices.messages=words&auto_create_indices=false&refresh=wait_for"
        "&settings.number_of_shards=3&settings.number_of_replicas=2&analyzer=portuguese&index_templates=true"
    )
    assert adapter._indices == Indices("agent_sessions", "words")
    assert (adapter._creates, adapter._refresh) == (False, "wait_for")
    form = adapter._schema._form("messages", 1)
    assert form["settings"]["index"] == {
        "number_of_shards": "3",
        "number_of_replicas": "2",
        "translog.durability": "request",
    }
    assert form["mappings"]["properties"]["content"]["analyzer"] == "portuguese"
    assert adapter._schema._templates


def test_the_drivers_options_reach_the_driver():
    hosts, options = made_by(
        from_url(
            "opensearch+https://ana:s%40me@a:1111,b:2222/behind/a/proxy?timeout=1.5&maxsize=7&verify_certs=no"
            "&ca_certs=/ca.pem&client_cert=/c.pem&client_key=/k.pem&ssl_assert_hostname=false&http_compress=1"
            "&opaque_id=x&ssl_show_warn=false&sniff_on_start=false&sniffer_timeout=60&trust_env=true"
            "&ssl_assert_fingerprint=ab&sniff_on_connection_fail=true"
        )
    )
    prefix = {"use_ssl": True, "url_prefix": "behind/a/proxy"}
    assert hosts == [{"host": "a", "port": 1111, **prefix}, {"host": "b", "port": 2222, **prefix}]
    basic = base64.b64encode(b"ana:s@me").decode()
    assert options == {
        "timeout": 1.5,
        "maxsize": 7,
        "verify_certs": False,
        "ca_certs": "/ca.pem",
        "client_cert": "/c.pem",
        "client_key": "/k.pem",
        "ssl_assert_hostname": False,
        "ssl_assert_fingerprint": "ab",
        "ssl_show_warn": False,
        "http_compress": True,
        "opaque_id": "x",
        "sniff_on_start": False,
        "sniff_on_connection_fail": True,
        "sniffer_timeout": 60.0,
        "trust_env": True,
        "headers": {"authorization": f"Basic {basic}"},
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("opensearch://h", [("h", 9200, False)]),
        ("opensearch+https://h", [("h", 9200, True)]),
        ("opensearch://[::1]:1234/", [("::1", 1234, False)]),
        ("opensearch://a,[::1]:1234", [("a", 9200, False), ("::1", 1234, False)]),
    ],
)
def test_hosts(url, expected):
    hosts, options = made_by(from_url(url))
    assert [(host["host"], host["port"], host["use_ssl"]) for host in hosts] == expected
    assert options == {}


def test_a_request_is_sent_three_times_unless_told_otherwise():
    assert from_url("opensearch://h")._source.tries == 3
    assert from_url("opensearch://h?max_retries=0")._source.tries == 1


def test_the_plugin_names_both_schemes_and_loads_no_driver():
    said = """
import sys
from turnkeep_opensearch import plugin
found = {}
plugin.register_adapters(found.__setitem__)
assert set(found) == {"opensearch", "opensearch+https"}, found
assert not {"opensearchpy", "aiohttp", "turnkeep_opensearch.adapter"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", said], check=True, timeout=60)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("opensearch://", "names its hosts"),
        ("opensearch:///x", "names its hosts"),
        ("opensearch://a,,b", "lists its hosts"),
        ("opensearch://a,b:port", "lists its hosts"),
        ("opensearch://h?indices.sessions=A", "a-z, 0-9"),
        ("opensearch://h?indices.sessions=a%20b", "a-z, 0-9"),
        ("opensearch://h?indices.sessions=-a", "begin with a letter"),
        ("opensearch://h?indices.sessions=*", "a-z, 0-9"),
        ("opensearch://h?indices.sessions=", "must not be empty"),
        ("opensearch://h?indices.sessions=x&indices.messages=x", "different names"),
        ("opensearch://h?indices.users=x", "no option 'indices.users'"),
        ("opensearch://h?refresh=perhaps", "refresh must be"),
        ("opensearch://h?refesh=true", "did you mean refresh"),
        ("opensearch://h?timeout=0", "positive"),
        (f"opensearch://h?verify_certs={CANARY[:4]}", "verify_certs"),
    ],
)
def test_refused_urls(url, says):
    with pytest.raises(InvalidArgument, match=says):
        from_url(url)


async def test_only_an_async_client_is_taken():
    with OpenSearch("http://h") as client, pytest.raises(InvalidArgument, match="AsyncOpenSearch"):
        OpenSearchAdapter(client)
    for what in ("opensearch://h", None, object()):
        with pytest.raises(InvalidArgument, match="AsyncOpenSearch"):
            OpenSearchAdapter(what)


@pytest.mark.parametrize("name", ["a b", "A", "_a", ".a", "a*", "a,b", "x" * 201, "", "ä", 3, {"$ne": 1}])
async def test_refused_index_names(name):
    async with AsyncOpenSearch("http://h") as client:
        with pytest.raises(InvalidArgument):
            OpenSearchAdapter(client, {"sessions": name})


async def test_refused_arguments():
    async with AsyncOpenSearch("http://h") as client:
        with pytest.raises(InvalidArgument, match="sessions and messages"):
            OpenSearchAdapter(client, {"message": "x"})
        for refresh in (None, 1, "no", 0):
            with pytest.raises(InvalidArgument, match="refresh must be"):
                OpenSearchAdapter(client, refresh=refresh)


@pytest.mark.parametrize(("refresh", "level"), [(False, Level.PARTIAL), ("wait_for", Level.FULL), (True, Level.FULL)])
async def test_lists_are_immediate_where_commits_wait_for_them(refresh, level):
    async with AsyncOpenSearch("http://h") as client:
        assert OpenSearchAdapter(client, refresh=refresh).supports(Capability.IMMEDIATE_LISTS).level is level


async def test_settings_and_templates_reach_the_indices(cluster_url, names, client):
    words = {"tokenizer": "whitespace", "filter": ["lowercase"]}
    settings = {"number_of_shards": 2, "analysis": {"analyzer": {"words": words}}}
    async with opened(cluster_url, names, settings=settings, analyzer="words", index_templates=True) as adapter:
        assert (await adapter.check()).ok
        found = await ask(client, "GET", f"/{names['messages']}", flat_settings="true")
        (index,) = found.values()
        assert index["settings"]["index.number_of_shards"] == "2"
        assert index["settings"]["index.translog.durability"] == "request"
        assert index["settings"]["index.auto_expand_replicas"] == "0-1"
        assert index["mappings"]["properties"]["content"]["analyzer"] == "words"
        said = await ask(client, "POST", f"/{names['messages']}/_analyze", {"field": "content", "text": "Mesa-7 JÁ"})
        assert [token["token"] for token in said["tokens"]] == ["mesa-7", "já"]
    template = (await ask(client, "GET", f"/_index_template/{names['messages']}"))["index_templates"][0]
    assert template["index_template"]["index_patterns"] == [f"{names['messages']}-*"]
    await ask(client, "PUT", f"/{names['messages']}-restored")
    found = await ask(client, "GET", f"/{names['messages']}-restored")
    assert found[f"{names['messages']}-restored"]["mappings"] == index["mappings"]


async def test_the_urls_settings_reach_the_indices(cluster_url, names, client):
    more = {"settings.number_of_shards": 2, "settings.number_of_replicas": 0}
    adapter = from_url(named(cluster_url, names, **more))
    await adapter.open()
    await adapter.aclose()
    (index,) = (await ask(client, "GET", f"/{names['sessions']}", flat_settings="true")).values()
    assert (index["settings"]["index.number_of_shards"], index["settings"]["index.number_of_replicas"]) == ("2", "0")
    assert index["settings"]["index.refresh_interval"] == "-1"


async def test_nothing_shows_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    adapter = from_url(f"opensearch://ana:{CANARY}ä€@127.0.0.1:1?timeout=1&opaque_id=x")
    report = await adapter.check()
    texts = [repr(adapter), str(adapter), str(report), repr(report)]
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(Exception, match="connection") as caught:
            await call()
        texts += ["".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())]
        texts += [repr(caught.value), repr(caught.value.__cause__)]
    assert not report.ok
    texts.append(caplog.text)
    encoded = base64.b64encode(f"ana:{CANARY}ä€".encode()).decode()
    assert not any(CANARY in text or encoded in text for text in texts)
    assert "127.0.0.1" in caplog.text
