"""What is PostgreSQL's own of searching: the words it makes, crowded messages, languages, and what a migration does."""

import asyncio
import random
import re
import secrets
from importlib.resources import files

import psycopg
import pytest

from turnkeep.contract import Capability, Level, Scope, SearchQuery
from turnkeep.errors import (
    ConfigurationError,
    ForeignTable,
    InvalidArgument,
    SchemaMissing,
    SchemaOutdated,
    StorageRefused,
)
from turnkeep.words import DROPPED, MOST_WORDS, PARTING, SINGLE, Terms, split_words
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.schema import MIGRATIONS
from turnkeep_testkit import new_commit, new_key, new_message
from turnkeep_testkit.suites.search import CASES

from .kit import NEW, OLD, opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]

SEARCH = (files("turnkeep_postgres") / "sql" / "migrations" / "0002_search.sql").read_text()


@pytest.fixture(params=[NEW, OLD])
def database_in_c(request):
    """A database whose own rules of case know ASCII only."""
    url, name = server_url(request.param), f"kit_{secrets.token_hex(6)}"
    run_sql(url, f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    try:
        yield replaced(url, dbname=name)
    finally:
        run_sql(url, f"DROP DATABASE {name}")


def ranges_in(name):
    """What the function's constant of this name says, as `turnkeep.words` says it."""
    text = re.search(rf"{name} CONSTANT text :=(.*?);\n", SEARCH, re.DOTALL)[1]
    ends = re.findall(r"\\(?:u(\w{4})|U(\w{8}))(-?)", text)
    points = [(int(short or long, 16), dash) for short, long, dash in ends]
    found, at = [], 0
    while at < len(points):
        first, dash = points[at]
        last = points[at + 1][0] if dash else first
        found.append((first, last))
        at += 2 if dash else 1
    return tuple(found)


def test_the_classes_are_those_of_turnkeep_words():
    assert ranges_in("accents") == DROPPED
    assert ranges_in("single") == SINGLE
    assert ranges_in("parting") == PARTING
    assert f"most CONSTANT integer := {MOST_WORDS};" in SEARCH


def some_texts():
    """Every text of the kit, random ones, and long ones, which are read in portions."""
    rng = random.Random(8)
    texts = [text for asked, found, others in CASES.values() for text in (asked, *found, *others)]
    letters = "".join(texts) + "".join(map(chr, range(1, 0x600)))
    texts += ["".join(rng.choices(letters, k=rng.choice([3, 20, 200]))) for _ in range(300)]
    texts += ["ab " * 30_000 + "last", "x" * 300_000 + " last", "wörd " * 20_000 + "last", "a" * 65_536 + "\u0301 b"]
    texts += ["", " ", f"{'a ' * 4998}{'x' * 60_000} b c d", "İ I ß ẞ ΑΣ ﬀ Ǆ"]
    return texts


def places_of(words):
    places = {}
    for place, word in enumerate(words, 1):
        places.setdefault(word, []).append(place)
    crowded = {"*": []} if any(len(some) > 256 for some in places.values()) else {}
    return {word: some[:256] for word, some in places.items()} | crowded


async def test_words_are_those_of_turnkeep_words_whatever_the_locale(database_in_c):
    async with opened(database_in_c):
        pass
    texts = [(text, places_of(split_words(text))) for text in some_texts()]
    with psycopg.connect(database_in_c) as connection:
        assert connection.execute("SELECT lower('É')").fetchone() == ("É",)
        for text, expected in texts:
            made = connection.execute(
                "SELECT lexeme, coalesce(positions, '{}') FROM unnest(turnkeep_words(%s, 'plain', NULL))", [text]
            ).fetchall()
            assert dict(made) == expected, text[:200]


async def said(adapter, asked, scope=None, limit=100):
    """What is found, on all pages."""
    contents, cursor = [], None
    while True:
        query = SearchQuery(scope or Scope("default"), Terms.parse(asked), limit, cursor=cursor)
        page = await adapter.search_messages(query)
        contents += [hit.message.content for hit in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return contents


async def test_case_does_not_count_whatever_the_locale(database_in_c):
    async with opened(database_in_c) as adapter:
        await adapter.commit(new_commit(new_key(Scope("default")), "ПРИВЕТ, ÉCOLE ΟΔΟΣ"))
        for asked in ("привет", "école", "οδός"):
            assert await said(adapter, asked)


async def test_phrases_of_words_that_are_said_too_often_are_found(schema):
    """A tsvector keeps 256 places of a word; what lies behind is looked for in the text."""
    crowd = "the cat and " * 300
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key(Scope("default"))
        texts = [f"{crowd}the refund", f"{crowd}a refund", "the refund", "refund the"]
        await adapter.commit(new_commit(key, *texts))
        for limit in (1, 100):
            assert sorted(await said(adapter, '"the refund"', limit=limit)) == sorted([texts[0], texts[2]])
            assert sorted(await said(adapter, 'refund -"the refund"', limit=limit)) == sorted([texts[1], texts[3]])
            assert await said(adapter, '"cat and the refund"', limit=limit) == [texts[0]]


async def test_a_language_finds_by_its_rules(schema):
    async with opened(server_url(), schema=schema, search_language="english") as adapter:
        support = adapter.supports(Capability.SEARCH)
        assert support.level is Level.PARTIAL
        assert support.reason == "by the rules of the text search configuration 'english'"
        key = new_key(Scope("default"))
        sealed = new_message("a refund")._replace(encoding="sealed")
        await adapter.commit(new_commit(key, "Refunds were ordered", "a CAFÉ", "the order of a refund", sealed))
        assert sorted(await said(adapter, "refunding")) == ["Refunds were ordered", "the order of a refund"]
        assert await said(adapter, "cafe") == ["a CAFÉ"]
        assert await said(adapter, '"an order of the refunds"') == ["the order of a refund"]
        assert await said(adapter, "refund -ordering cafe | a:*") == []
        assert await said(adapter, "the of") == []
        long = "Donaudampfschiffahrtselektrizitätenhauptbetriebswerk"
        await adapter.commit(new_commit(new_key(Scope("default")), long, ""))
        assert await said(adapter, long) == [long]
        assert await said(adapter, "refund the", limit=1) == await said(adapter, "refund")


async def test_a_very_long_message_in_a_language(schema):
    async with opened(server_url(), schema=schema, search_language="english") as adapter:
        words = " ".join(f"{number}word" for number in range(200_000))
        await adapter.commit(new_commit(new_key(Scope("default")), f"refund {words}", "x" * 3_000_000))
        assert len(await said(adapter, "refunds")) == 1


async def test_a_language_that_is_not_there_is_named(schema):
    adapter = PostgreSQLAdapter(server_url(), schema=schema, search_language="klingon")
    for call in (adapter.open, adapter.migrate, lambda: adapter.migrate(dry_run=True)):
        with pytest.raises(ConfigurationError, match="no text search configuration 'klingon'"):
            await call()
    assert run_sql(server_url(), f"SELECT FROM pg_class WHERE relnamespace = '{schema}'::regnamespace") == []
    for wrong in ("", "a'b", "a b", 1):
        with pytest.raises(InvalidArgument, match="search_language"):
            PostgreSQLAdapter(server_url(), search_language=wrong)


async def test_another_language_is_explained_and_migrated_to(schema):
    url = server_url()
    async with opened(url, schema=schema) as adapter:
        await adapter.commit(new_commit(new_key(Scope("default")), "refunds"))
    for old, new, found in (("none", "english", 1), ("english", "german", 0), ("german", None, 0)):
        adapter = PostgreSQLAdapter(url, schema=schema, search_language=new)
        with pytest.raises(ConfigurationError, match=f"search_language {old}, not {new or 'none'}.*turnkeep migrate"):
            await adapter.open()
        assert f"search_language {old}, not" in str(await adapter.check())
        steps = await adapter.migrate(dry_run=True)
        assert [step.partition("\n")[0] for step in steps] == ["-- search_language"]
        if new == "german":
            run_sql(url, steps[0].encode())
        else:
            assert await adapter.migrate() == steps
        assert await adapter.migrate() == []
        await adapter.open()
        assert len(await said(adapter, "refunding")) == found
        assert await said(adapter, "refunds") == ["refunds"]
        assert (await adapter.check()).ok
        await adapter.aclose()


OLDER = """
    INSERT INTO {0}.turnkeep_sessions (namespace, id, status, created_at, updated_at, incarnation, version, last_commit,
        last_seq, floor, collected_data, state)
    VALUES ('default', 's', 'active', now(), now(), 'i', 1, 'c', 2, 0, '{{}}', '{{}}');
    INSERT INTO {0}.turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
        encoding, created_at, committed_at)
    SELECT 'default', 's', 'i', seq, 1, 'c', 'm', 'user', 'a refund', (array['plain', 'sealed'])[seq], now(), now()
    FROM generate_series(1, 2) AS seq;
"""


async def test_messages_that_are_there_gain_their_words(schema):
    older = PostgreSQLAdapter(server_url(), schema=schema)
    older._schema._migrations = MIGRATIONS[:1]
    await older.migrate()
    run_sql(server_url(), OLDER.format(schema).encode())
    adapter = PostgreSQLAdapter(server_url(), schema=schema)
    with pytest.raises(SchemaOutdated, match="turnkeep migrate"):
        await adapter.open()
    assert [step.partition("\n")[0] for step in await adapter.migrate()] == ["-- 0002_search"]
    await adapter.open()
    assert await said(adapter, "refund") == ["a refund"]
    await adapter.aclose()


async def test_who_opens_while_another_makes_the_tables_sees_all_of_them_or_none(schema):
    """The one that makes them is held between its two steps; what an opener finds then is no older version."""
    url = server_url()
    maker, opener = (PostgreSQLAdapter(url, schema=schema) for _ in range(2))
    first, second = MIGRATIONS
    lock = secrets.randbits(62)
    hold = f"SELECT pg_advisory_xact_lock({lock});\n{second.sql}"
    maker._schema._migrations = (first, second._replace(sql=hold))
    waiting = (
        f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {lock & 0xFFFFFFFF}"
    )
    held = await psycopg.AsyncConnection.connect(url, autocommit=True)
    try:
        await held.execute(f"SELECT pg_advisory_lock({lock})")
        making = asyncio.create_task(maker.open())
        while run_sql(url, waiting) != [(1,)]:
            assert not making.done()
            await asyncio.sleep(0.01)
        with pytest.raises(SchemaMissing):
            await opener.open(auto_create=False)
        opening = asyncio.create_task(opener.open())
    finally:
        await held.close()
    await asyncio.gather(making, opening)
    for adapter in (maker, opener):
        await adapter.aclose()
    assert run_sql(url, f"SELECT count(*) FROM {schema}.turnkeep_schema") == [(2,)]


async def test_a_function_of_somebody_else_is_left_alone(schema):
    signature = f"{schema}.turnkeep_words(text, text, regconfig)"
    run_sql(server_url(), f"CREATE FUNCTION {signature} RETURNS int LANGUAGE sql RETURN 7")
    with pytest.raises(ForeignTable, match="function has the name of ours"):
        await PostgreSQLAdapter(server_url(), schema=schema).open()
    assert run_sql(server_url(), f"SELECT {schema}.turnkeep_words('', '', NULL)") == [(7,)]


async def test_a_role_that_may_not_call_the_function_is_told(schema):
    url, role = server_url(), f"kit_{secrets.token_hex(6)}"
    async with opened(url, schema=schema):
        pass
    run_sql(url, f"CREATE ROLE {role} LOGIN", f"GRANT {role} TO CURRENT_USER")
    try:
        script = (files("turnkeep_postgres") / "sql" / "grants.sql").read_text()
        run_sql(url, script.replace(':"schema"', schema).replace(':"role"', role).encode())
        run_sql(url, f"REVOKE EXECUTE ON FUNCTION {schema}.turnkeep_words FROM PUBLIC")
        async with opened(replaced(url, user=role), schema=schema) as runtime:
            await runtime.commit(new_commit(new_key(Scope("default")), "a refund"))
            assert await said(runtime, "refund") == ["a refund"]
            assert (await runtime.check()).ok
            run_sql(url, f"REVOKE EXECUTE ON FUNCTION {schema}.turnkeep_words FROM {role}")
            assert "may not write" in str(await runtime.check())
            with pytest.raises(StorageRefused, match="grant it"):
                await runtime.commit(new_commit(new_key(Scope("default")), "a refund"))
    finally:
        run_sql(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
