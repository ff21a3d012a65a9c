"""Searching 100,000 messages of 100 owners: each adapter against its engine's own query, interleaved in one run.

An owner searches for a common word, a rare one, two words and a phrase; the engine's own query is what one would write
by hand for the same page: the index asked for the same words, joined to sessions for the owner, the best 20. What the
adapter does beside it is to check what may be seen, to make messages of rows, and to page. MongoDB is asked for no
index of words: there the program reads the owner's heads and documents itself, and matches words as the adapter does.

    python benchmarks/search.py [sqlite] [mariadb] [postgres --postgres URL] [opensearch --opensearch URL]
        [mongodb --mongodb URL] [--messages 100000] [--owners 100] [--rounds 30]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import sqlite3
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
from opensearchpy import AsyncOpenSearch
from pymongo import AsyncMongoClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from turnkeep.contract import Commit, Expect, Scope, SearchQuery, SessionKey
from turnkeep.ids import new_id
from turnkeep.urls import StorageURL
from turnkeep.words import Terms
from turnkeep_mongodb import MongoDBAdapter
from turnkeep_mongodb.names import Collections, Names
from turnkeep_opensearch import OpenSearchAdapter
from turnkeep_opensearch.names import head_id
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.search import to_tsquery
from turnkeep_sqlalchemy import SQLAlchemyAdapter
from turnkeep_sqlalchemy.search import place_of, to_token
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_sqlite.search import _expression
from turnkeep_testkit import new_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from turnkeep.contract import StorageAdapter

NAMESPACE, A_COMMIT, A_TURN = "bench", 100, 2
COMMON = [f"common{number}" for number in range(20)]
USUAL = [f"usual{number}" for number in range(2000)]
SEARCHES = {"common": "common3", "rare": "usual77", "two words": "common3 usual77", "phrase": '"common3 common4"'}


def texts(count: int) -> Iterator[str]:
    """Messages of 20 words, the same in every run: common words are in most of them, usual ones in one of 200."""
    chance = random.Random(7)
    for _ in range(count):
        yield " ".join(chance.choices(COMMON, k=10) + chance.choices(USUAL, k=10))


async def fill(adapter: StorageAdapter, count: int, owners: int) -> None:
    """The messages, in one session for each owner; the last of each by a commit as large as a turn's."""
    said = list(texts(count))
    for owner in range(owners):
        key, expect = SessionKey(Scope(NAMESPACE), f"session{owner}"), Expect.NEW
        mine = said[owner::owners]
        ends = [*range(A_COMMIT, len(mine) - A_TURN, A_COMMIT), len(mine) - A_TURN, len(mine)]
        for begin, end in pairwise([0, *ends]):
            messages = tuple(new_message(text) for text in mine[begin:end])
            await adapter.commit(Commit(key, new_id(), "d", expect, messages, user_id=f"owner{owner}"))
            expect = Expect.ANY


class SQLite:
    """FTS5, in a thread as the adapter does it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name) / "bench.db"
        self.adapter = SQLiteAdapter(self._path, durability="normal")

    async def open(self) -> None:
        await self.adapter.open()

    async def ready(self) -> None:
        """Everything is in the index."""
        self._connection = sqlite3.connect(self._path, check_same_thread=False)

    def _query(self, terms: Terms, owner: str) -> int:
        return len(
            self._connection.execute(
                "SELECT message.*, bm25(turnkeep_words, 1.0, 0.0) AS score FROM turnkeep_words "
                "JOIN turnkeep_messages AS message ON message.serial = turnkeep_words.rowid "
                "JOIN turnkeep_sessions AS session ON session.namespace = message.namespace "
                "AND session.id = message.session_id WHERE turnkeep_words MATCH ? AND session.user_id = ? "
                "ORDER BY score, message.session_id, message.seq LIMIT 20",
                (_expression(terms, NAMESPACE, owner), owner),
            ).fetchall()
        )

    async def own_query(self, terms: Terms, owner: str) -> int:
        """How many it finds."""
        return await asyncio.to_thread(self._query, terms, owner)

    async def close(self) -> None:
        self._connection.close()
        await self.adapter.aclose()
        self._directory.cleanup()


class MariaDB:
    """FULLTEXT, in a database of its own beside that of ``TURNKEEP_TEST_MARIADB_URL``, through the same driver."""

    def __init__(self, _: argparse.Namespace) -> None:
        server, _, _ = os.environ["TURNKEEP_TEST_MARIADB_URL"].rpartition("/")
        self._name = f"turnkeep_bench_{secrets.token_hex(4)}"
        self._server, self._url = server.removeprefix("sqlalchemy+"), f"{server}/{self._name}"
        self.adapter = SQLAlchemyAdapter.from_url(StorageURL(self._url))

    async def open(self) -> None:
        await self._on_server(f"CREATE DATABASE {self._name}")
        await self.adapter.open()

    async def ready(self) -> None:
        """Everything is in the index."""
        self._engine = create_async_engine(self._url.removeprefix("sqlalchemy+"), isolation_level="AUTOCOMMIT")

    async def own_query(self, terms: Terms, owner: str) -> int:
        """How many it finds."""
        runs = " ".join(f'+"{" ".join(map(to_token, run))}"' for run in terms.wanted)
        given = {"terms": f"+{place_of(NAMESPACE, owner).split()[1]} {runs}", "owner": owner}
        async with self._engine.connect() as connection:
            found = await connection.execute(text(self._SQL), given)
            return len(found.fetchall())

    _SQL = (
        "SELECT message.*, MATCH (words.words) AGAINST (:terms IN BOOLEAN MODE) AS score "
        "FROM turnkeep_words AS words JOIN turnkeep_messages AS message "
        "USING (namespace, session_id, incarnation, seq) JOIN turnkeep_sessions AS session "
        "ON session.namespace = message.namespace AND session.id = message.session_id "
        "WHERE MATCH (words.words) AGAINST (:terms IN BOOLEAN MODE) AND session.user_id = :owner "
        "ORDER BY score DESC, message.session_id, message.seq LIMIT 20"
    )

    async def close(self) -> None:
        await self._engine.dispose()
        await self.adapter.aclose()
        await self._on_server(f"DROP DATABASE {self._name}")

    async def _on_server(self, statement: str) -> None:
        engine = create_async_engine(f"{self._server}/", isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(statement))
        await engine.dispose()


COLUMNS = (
    "message.session_id, seq, turn_seq, commit_id, message.id, role, name, content, encoding, tool_calls, "
    "tool_call_id, route, step, event, metadata, reply, message.created_at"
)


class PostgreSQL:
    """The column of words and its index, by psycopg; in a schema of its own, which is dropped at the end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._url, self._schema = options.postgres, f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {self._schema}".encode())
        self.adapter = PostgreSQLAdapter(self._url, schema=self._schema)

    async def open(self) -> None:
        await self.adapter.open()

    async def ready(self) -> None:
        """Everything is in the index, and the planner knows the tables, as after autovacuum."""
        self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, prepare_threshold=None)
        await self._connection.execute(f"SET search_path = {self._schema}".encode())
        await self._connection.execute("VACUUM ANALYZE turnkeep_messages, turnkeep_sessions")

    async def own_query(self, terms: Terms, owner: str) -> int:
        """How many it finds."""
        cursor = self._connection.cursor(binary=True)
        await cursor.execute(
            f"SELECT {COLUMNS}, ts_rank(words, %(terms)s::tsquery) AS score FROM turnkeep_messages AS message "
            "JOIN turnkeep_sessions AS session ON session.namespace = message.namespace "
            "AND session.id = message.session_id WHERE words @@ %(terms)s::tsquery AND session.namespace = %(place)s "
            "AND session.user_id = %(owner)s ORDER BY score DESC, message.session_id, message.seq LIMIT 20",
            {"terms": to_tsquery(terms), "place": NAMESPACE, "owner": owner},
        )
        return len(await cursor.fetchall())

    async def close(self) -> None:
        await self._connection.close()
        await self.adapter.aclose()
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {self._schema} CASCADE".encode())


HEAD = ["incarnation", "user_id", "floor", "marks", "expires_us"]


class OpenSearch:
    """The field of words, by the driver; in indices of its own, which are removed at the end.

    It joins nothing: a second request asks for the heads of the sessions, as they are now.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        stem = f"bench_{secrets.token_hex(4)}"
        self._names = {"sessions": f"{stem}_sessions", "messages": f"{stem}_messages"}
        url = urlsplit(options.opensearch)
        self._client = AsyncOpenSearch(hosts=[{"host": url.hostname, "port": url.port or 9200}])
        self.adapter = OpenSearchAdapter(self._client, self._names)

    async def open(self) -> None:
        await self.adapter.open()

    async def ready(self) -> None:
        """Everything has its document, and searches find it."""
        await self._client.indices.refresh(index=",".join(self._names.values()))
        await self.adapter.search_messages(SearchQuery(Scope(NAMESPACE), Terms.parse("nothing"), 20))
        await self._client.indices.refresh(index=",".join(self._names.values()))

    async def own_query(self, terms: Terms, owner: str) -> int:
        """How many it finds."""
        phrases = [{"match_phrase": {"words": " ".join(run)}} for run in terms.wanted]
        owned = [{"term": {"namespace": NAMESPACE}}, {"term": {"user_id": owner}}]
        order = [{"_score": "desc"}, {"session_id": "asc"}, {"seq": "asc"}]
        body = {"query": {"bool": {"must": phrases, "filter": owned}}, "sort": order, "size": 20}
        found = await self._client.search(index=self._names["messages"], body={**body, "track_total_hits": False})
        hits = [hit["_source"] for hit in found["hits"]["hits"]]
        if sessions := {hit["session"] for hit in hits}:
            asked = {"docs": [{"_id": head_id(name), "_source": HEAD} for name in sessions]}
            heads = await self._client.mget(index=self._names["sessions"], body=asked)
            living = {(head["_id"], head["_source"]["incarnation"]) for head in heads["docs"] if head["found"]}
            hits = [hit for hit in hits if (head_id(hit["session"]), hit["incarnation"]) in living]
        return len(hits)

    async def close(self) -> None:
        await self.adapter.aclose()
        await self._client.indices.delete(index=",".join(f"{name}-1" for name in self._names.values()))
        await self._client.close()


class MongoDB:
    """A reading of all that the owner said, in a database of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._client: AsyncMongoClient[Any] = AsyncMongoClient(options.mongodb)
        self._database = f"bench_{secrets.token_hex(4)}"
        self.adapter = MongoDBAdapter(self._client, self._database)

    async def open(self) -> None:
        await self.adapter.open()

    async def ready(self) -> None:
        """There is nothing to wait for."""
        found = Collections.of(self._client, self._database, Names())
        self._sessions, self._messages = found.sessions, found.messages

    async def own_query(self, terms: Terms, owner: str) -> int:
        """How many it finds."""
        found: list[tuple[float, str, int]] = []
        living = {"namespace": NAMESPACE, "user_id": owner, "expires_us": {"$not": {"$lte": time.time_ns() // 1000}}}
        heads = self._sessions.find(living, {"collected_data": 0, "state": 0})
        async for head in heads:
            items = [item for item in head["tail"] if item["seq"] > head["flushed"]]
            items += await self._messages.find({"session": head["_id"], "incarnation": head["incarnation"]}).to_list()
            said = [(item["content"], item["seq"]) for item in items if terms.match(item["content"])]
            found += [(-terms.score(content), head["session_id"], seq) for content, seq in said]
        return len(sorted(found)[:20])

    async def close(self) -> None:
        await self.adapter.aclose()
        for name in await self._client[self._database].list_collection_names():
            await self._client[self._database].drop_collection(name)
        await self._client.close()


ENGINES = {"sqlite": SQLite, "mariadb": MariaDB, "postgres": PostgreSQL, "opensearch": OpenSearch, "mongodb": MongoDB}


async def timed(call: Callable[[], Awaitable[int]]) -> tuple[float, int]:
    began = time.perf_counter()
    found = await call()
    return time.perf_counter() - began, found


async def compare(name: str, options: argparse.Namespace) -> None:
    engine = ENGINES[name](options)
    await engine.open()
    await fill(engine.adapter, options.messages, options.owners)
    began = time.perf_counter()
    await engine.adapter.search_messages(SearchQuery(Scope(NAMESPACE), Terms.parse("nothing"), 20))
    print(f"{name}: {options.messages:,} messages; the first search took {time.perf_counter() - began:.1f} s")
    await engine.ready()
    for what, asked in SEARCHES.items():
        terms = Terms.parse(asked)
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(options.rounds):
            owner = f"owner{number % options.owners}"
            query = SearchQuery(Scope(NAMESPACE, owner), terms, 20)

            async def search(query: SearchQuery = query) -> int:
                return len((await engine.adapter.search_messages(query)).items)

            async def own(owner: str = owner, terms: Terms = terms) -> int:
                return await engine.own_query(terms, owner)

            for times, call in sorted([(ours, search), (theirs, own)], key=lambda _: random.random()):
                seconds, found = await timed(call)
                times.append(seconds)
                if found > 20:
                    raise RuntimeError("a page has more than its limit")
        mine, bare = statistics.median(ours), statistics.median(theirs)
        print(f"  {what:10} adapter {mine * 1000:7.2f} ms   engine {bare * 1000:7.2f} ms   ratio {mine / bare:.2f}")
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", choices=[[], *ENGINES], help="sqlite unless named")
    parser.add_argument("--postgres", help="the URL of a database of PostgreSQL")
    parser.add_argument("--opensearch", help="the URL of a node of OpenSearch")
    parser.add_argument("--mongodb", help="the URL of a server of MongoDB")
    parser.add_argument("--owners", type=int, default=100)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    for name in {"postgres", "opensearch", "mongodb"} & set(options.engines):
        if not getattr(options, name):
            parser.error(f"{name} needs --{name} URL")
    for name in options.engines or ["sqlite"]:
        asyncio.run(compare(name, options))


if __name__ == "__main__":
    main()
