"""What is OpenSearch's own about searching; what is found is the kit's to show."""

import json

import pytest
from opensearchpy import AsyncTransport

from turnkeep.contract import Capability, Expect, Level, LoadQuery, Scope, SearchQuery, SessionKey
from turnkeep.words import Terms
from turnkeep_opensearch.calls import Calls
from turnkeep_opensearch.messages import Messages
from turnkeep_opensearch.names import Indices
from turnkeep_opensearch.schema import Schema, migrations
from turnkeep_opensearch.search import searching
from turnkeep_opensearch.wording import Wording
from turnkeep_testkit import new_commit, new_key
from turnkeep_testkit.suites.search import ATTACKS

from .kit import ask, everything, from_url, named, opened, refresh

SCOPE = Scope("shop")


@pytest.fixture
def sent(monkeypatch):
    """Every request that is sent from now on: method and what for, parameters, body."""
    found = []
    perform = AsyncTransport.perform_request

    async def telling(self, method, url, params=None, body=None, **kwargs):
        kind = url.split("/")[2] if url.count("/") > 1 else url
        found.append((f"{method} {kind}", dict(params or {}), body))
        return await perform(self, method, url, params=params, body=body, **kwargs)

    monkeypatch.setattr(AsyncTransport, "perform_request", telling)
    return found


async def pages(adapter, asked, *, scope=SCOPE, limit=10, **conditions):
    """Every page of a search, as what its messages say."""
    found, cursor = [], None
    while True:
        query = SearchQuery(scope, Terms.parse(asked), limit, cursor=cursor, **conditions)
        page = await adapter.search_messages(query)
        found.append([hit.message.content for hit in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return found


async def said(adapter, asked, **options):
    return [content for page in await pages(adapter, asked, **options) for content in page]


def inner_keys(value):
    """The name of everything in a document of JSON, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(inner_keys, value.values()))
    return set().union(*map(inner_keys, value)) if isinstance(value, list) else set()


def inner_queries(queries):
    """Class and description of each query that Lucene made of a search."""
    for query in queries:
        yield query["type"], query["description"]
        yield from inner_queries(query.get("children", ()))


LOOKED_UP = {
    "PhraseQuery",
    "TermQuery",
    "BooleanQuery",
    "ConstantScoreQuery",
    "DocValuesFieldExistsQuery",
    "MatchAllDocsQuery",
}
"""The first two go to the terms of the index; the others join them, or read a field's column."""


async def test_what_was_typed_is_only_ever_a_value(cluster_url, shared_names, sent):
    async with opened(cluster_url, shared_names) as adapter:
        for attack in (*ATTACKS, 'refund -"my order"'):
            del sent[:]
            try:
                terms = Terms.parse(attack)
            except ValueError:
                continue
            await adapter.search_messages(SearchQuery(Scope("typed", "ana"), terms, 10, "s", "user"))
            ((kind, _, body),) = sent
            assert kind == "POST /_msearch"
            lines = [json.loads(line) for line in body.splitlines()]
            for params, search in zip(lines[::2], lines[1::2], strict=True):
                query = search["query"]
                known = {
                    "bool",
                    "filter",
                    "must",
                    "must_not",
                    "should",
                    "term",
                    "range",
                    "exists",
                    "field",
                    "gt",
                    "lte",
                }
                fields = {"namespace", "user_id", "session_id", "role", "waiting", "expires_us", "words"}
                assert inner_keys(query) <= known | fields | {"match_phrase", "query", "zero_terms_query"}
                assert params["allow_partial_search_results"] == "false"
            typed = lines[1]["query"]["bool"]["must"]
            assert [each["match_phrase"]["words"]["query"] for each in typed] == [" ".join(run) for run in terms.wanted]


async def test_the_index_of_words_answers(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        await adapter.commit(new_commit(new_key(SCOPE), "a refund", "nothing"))
        await refresh(cluster_url, names)
        assert await said(adapter, '"a refund"') == ["a refund"]
        body = searching(SearchQuery(Scope("shop", "ana"), Terms.parse('"a refund" -nothing'), 10), Wording())
        answer = await ask(client, "POST", f"/{names['messages']}/_search", {**body, "profile": True})
    (shard,) = answer["profile"]["shards"]
    queries = list(inner_queries(shard["searches"][0]["query"]))
    assert {"PhraseQuery", "TermQuery"} <= {kind for kind, _ in queries} <= LOOKED_UP
    assert {'words:"a refund"', "words:nothing", "namespace:shop"} <= {said for _, said in queries}


async def test_the_first_search_empties_outboxes_and_the_next_one_does_not(cluster_url, names, client, sent):
    async with opened(cluster_url, names) as adapter:
        key = new_key(SCOPE)
        done = await adapter.commit(new_commit(key, "a refund"))
        assert await said(adapter, "refund") == []  # before the refresh
        before = (await everything(client, names))["sessions"]
        del sent[:]
        assert await said(adapter, "refund") == ["a refund"]
        first, heads, writing = "POST /_msearch", "POST _mget", ["POST _bulk", "POST _update", "POST _refresh"]
        assert [kind for kind, _, _ in sent] == [first, heads, *writing, "POST _search", heads]
        del sent[:]
        assert await said(adapter, "refund") == ["a refund"]
        assert [kind for kind, _, _ in sent] == [first, heads, heads]  # it is found to be written already
        after = await everything(client, names)
        assert len(after["messages"]) == 1
        name = f"shop/{key.session_id}"
        changed = {field for field, value in after["sessions"][name].items() if before[name][field] != value}
        assert changed == {"flushed", "waiting"}
        del sent[:]
        assert await said(adapter, "refund") == ["a refund"]
        assert [kind for kind, _, _ in sent] == [first, heads]
        del sent[:]
        await adapter.commit(new_commit(key, "more", expect=done.token))
        assert [kind for kind, _, _ in sent] == ["POST _update"]


async def test_pages_after_the_first_write_nothing(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        await adapter.commit(new_commit(new_key(SCOPE), *["a refund"] * 3))
        await refresh(cluster_url, names)
        first = await adapter.search_messages(SearchQuery(SCOPE, Terms.parse("refund"), 2))
        await adapter.commit(new_commit(new_key(SCOPE), "a refund"))
        await refresh(cluster_url, names)
        query = SearchQuery(SCOPE, Terms.parse("refund"), 2, cursor=first.next_cursor)
        assert len((await adapter.search_messages(query)).items) == 1
        assert len((await everything(client, names))["messages"]) == 3


async def test_who_did_not_know_of_an_emptied_outbox_reads_again(cluster_url, names, client):
    """Two processes: one knows a head by heart, the other's search writes its documents."""
    async with opened(cluster_url, names) as writer, opened(cluster_url, names) as other:
        key = new_key(SCOPE)
        done = await writer.commit(new_commit(key, "a refund", "more"))
        await refresh(cluster_url, names)
        assert await said(other, "refund") == ["a refund"]
        done = await writer.commit(new_commit(key, "third", expect=done.token))
        head = (await everything(client, names))["sessions"][f"shop/{key.session_id}"]
        assert (head["flushed"], head["waiting"], head["version"]) == (2, 1, 2)
        await writer.load(key, LoadQuery())
        assert await said(other, "third") == ["third"]
        await writer.commit(new_commit(key, "new", expect=done.token, drop_history=True))
        await writer.sweep(10)
        assert [each["content"] for each in (await everything(client, names))["messages"].values()] == []
        assert await said(other, "refund or third") == []
        assert await said(other, "new") == ["new"]


@pytest.mark.parametrize("how", ["cleared", "deleted", "made anew", "committed to"])
async def test_a_head_that_changes_while_its_outbox_is_emptied(cluster_url, names, client, monkeypatch, how):
    insert = Messages.insert
    async with opened(cluster_url, names) as adapter, opened(cluster_url, names) as other:
        key = new_key(SCOPE)
        await adapter.commit(new_commit(key, "a refund"))
        await refresh(cluster_url, names)

        async def change():
            if how in ("cleared", "committed to"):
                drop = how == "cleared"
                await other.commit(new_commit(key, "then", expect=Expect.ANY, drop_history=drop))
            else:
                await other.delete(key)
            if how == "made anew":
                await other.commit(new_commit(key, "then"))

        async def slow(self, head, items):
            await insert(self, head, items)
            monkeypatch.setattr(Messages, "insert", insert)
            await change()

        monkeypatch.setattr(Messages, "insert", slow)
        expected = ["a refund"] if how == "committed to" else []
        assert await said(adapter, "refund") == expected
        found = await everything(client, names)
        assert [document["content"] for document in found["messages"].values()] == expected
        assert await said(adapter, "then") == ([] if how == "deleted" else ["then"])


async def test_a_page_may_be_short_where_heads_rule_hits_out(cluster_url, names, client):
    """Documents of nobody's sessions that were claimed by others come first."""
    async with opened(cluster_url, names) as adapter:
        for owner in ["bob"] * 30 + ["ana"] * 2:
            key = new_key(SCOPE)
            nobodys = SessionKey(Scope("shop", None), key.session_id)
            await adapter.commit(new_commit(key, "refund"))
            await refresh(cluster_url, names)
            await said(adapter, "refund", session_id=key.session_id)
            await adapter.commit(new_commit(nobodys, expect=Expect.ANY, claim=owner))
        for owner, count in (("bob", 30), ("ana", 2)):
            found = await pages(adapter, "refund", scope=Scope("shop", owner), limit=1)
            assert sum(map(len, found)) == count
            assert len(found) < 32  # several pages of the index make one of ours
        assert await said(adapter, "refund", scope=Scope("shop", None)) == []


async def test_pages_over_several_shards_show_each_once(cluster_url, names):
    async with opened(cluster_url, names, settings={"number_of_shards": 3}) as adapter:
        texts = [f"refund {'x ' * (number % 4)}{number}" for number in range(30)]
        await adapter.commit(new_commit(new_key(SCOPE), *texts))
        await refresh(cluster_url, names)
        for limit in (1, 7, 30):
            found = await pages(adapter, "refund", limit=limit)
            assert sorted(content for page in found for content in page) == sorted(texts)
        lengths = [len(content.split()) for content in await said(adapter, "refund")]
        assert lengths == sorted(lengths)


async def test_a_space_of_few_scripts_parts_words_here_too(cluster_url, names):
    async with opened(cluster_url, names) as adapter:
        await adapter.commit(new_commit(new_key(SCOPE), "left\u1680right", "left right"))
        await refresh(cluster_url, names)
        assert sorted(await said(adapter, "left")) == ["left right", "left\u1680right"]
        assert sorted(await said(adapter, '"left\u1680right"')) == ["left right", "left\u1680right"]


@pytest.mark.parametrize(
    ("analyzer", "asked", "text"),
    [
        ("english", "the refunds -orders", "I want a refund"),
        ("english", '"refunding orders"', "refunded order"),
        ("russian", "район", "в этом районе"),
        ("german", "häusern", "Die Häuser"),
        ("cjk", "東京", "東京に行きたい"),
        ("cjk", '"東京 hotel"', "in 東京 Hotel"),
    ],
)
async def test_an_analyzer_decides_what_a_word_is(cluster_url, names, analyzer, asked, text):
    async with opened(cluster_url, names, analyzer=analyzer) as adapter:
        support = adapter.supports(Capability.SEARCH)
        assert support.level is Level.PARTIAL
        assert support.reason.startswith(f"it goes by the rules of the analyzer {analyzer}; it finds what was there")
        await adapter.commit(new_commit(new_key(SCOPE), text, "the order of something else"))
        await refresh(cluster_url, names)
        assert await said(adapter, asked) == [text]


async def test_what_an_analyzer_leaves_out_finds_nothing_alone(cluster_url, names):
    async with opened(cluster_url, names, analyzer="english", refresh=True) as adapter:
        assert adapter.supports(Capability.SEARCH).reason == "it goes by the rules of the analyzer english"
        await adapter.commit(new_commit(new_key(SCOPE), "the refund"))
        assert await said(adapter, "the") == []
        assert await said(adapter, "refund -the") == ["the refund"]


async def test_documents_of_the_first_version_are_found_after_its_migration(cluster_url, names, client, monkeypatch):
    calls = Calls(client)
    await Schema(Indices(**names), "x", steps=migrations(Wording())[:1]).migrate(calls)
    url = named(cluster_url, names)
    old = from_url(url)
    old._schema._steps = old._schema._steps[:1]
    monkeypatch.setattr(Wording, "fields", lambda self, item: {})
    await old.open()
    key = new_key(SCOPE)
    texts = [f"Café {number}" for number in range(1200)]
    await old.commit(new_commit(key, *texts, "NUL: \0", "..."))
    await old.commit(new_commit(key, "the newest café", expect=Expect.ANY))
    await old.aclose()
    monkeypatch.undo()
    assert not any("words" in each for each in (await everything(client, names))["messages"].values())
    adapter = from_url(url)
    assert await adapter.migrate() == ["0002_words: Adds the words that searches look at."]
    await adapter.open()
    await refresh(cluster_url, names)
    assert await said(adapter, "cafe 1199") == ["Café 1199"]
    assert len(await said(adapter, "cafe", limit=500)) == 1201
    assert len((await adapter.load(SessionKey(SCOPE, key.session_id), LoadQuery())).messages) == 1203
    await adapter.aclose()


async def test_who_opens_beside_a_first_migration_sees_no_version_in_between(cluster_url, names, monkeypatch):
    """Each request of the one that makes the indices is followed by another's opening."""
    url = named(cluster_url, names)
    perform = AsyncTransport.perform_request
    opened_after = []

    async def telling(self, method, path, **kwargs):
        answer = await perform(self, method, path, **kwargs)
        if method != "GET":
            with monkeypatch.context() as patch:
                patch.setattr(AsyncTransport, "perform_request", perform)
                other = from_url(url)
                await other.open()
                await other.aclose()
            opened_after.append(path)
        return answer

    monkeypatch.setattr(AsyncTransport, "perform_request", telling)
    adapter = from_url(url)
    await adapter.open()
    await adapter.aclose()
    assert opened_after
