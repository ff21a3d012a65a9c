"""Turns per second: the PostgreSQL adapter against bare psycopg, interleaved in one run.

A turn loads a session with its last 50 messages, parses its data and state (metadata of messages is parsed when asked
for), and commits two messages and a new state. The bare program sends the same two statements through a pool of the
same size, parses the same JSON, and makes no objects of rows. Both do so in the same schema, on sessions of their own,
with a history of so many messages; one session, or sixteen at once. The last column says how much longer half of the
adapter's turns take than with a history of ten.

    python benchmarks/turn_postgres.py postgresql://localhost/test [--rounds 9] [--seconds 0.5] [--prepare 5]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import statistics
import time
from functools import partial
from operator import truediv
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import AsyncConnectionPool
from workload import CONTENT, DATA, METADATA, STATE, WINDOW, new_messages, parse, run_tasks, turn

from turnkeep.ids import new_id
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.statements import Queries, Tables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FILL = """
INSERT INTO {schema}.turnkeep_sessions (namespace, id, status, created_at, updated_at, incarnation, version,
    last_commit, last_seq, floor, collected_data, state)
SELECT 'default', unnest(%(ids)s::text[]), 'active', now(), now(), 'i', 1, 'c', %(length)s, 0, %(data)s, %(state)s;
"""
FILL_MESSAGES = """
INSERT INTO {schema}.turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
    encoding, metadata, created_at, committed_at)
SELECT 'default', session_id, 'i', seq, seq - (seq - 1) %% 2, 'c', md5(seq::text), 'user', %(content)s, 'plain',
    %(metadata)s, now(), now()
FROM unnest(%(ids)s::text[]) AS session_id, generate_series(1, %(length)s) AS seq
"""
LENGTHS = (10, 1_000, 10_000)
NOTHING = {
    "now": None, "claim": None, "status": None, "completed_at": None, "agent_name": None, "current_route": None,
    "current_step": None, "ttl": None, "message_ttl": None, "data": None, "drop_history": False, "owner": None,
    "sets_agent_name": False, "sets_current_route": False, "sets_current_step": False,
}  # fmt: skip
COLUMNS = (
    "ids", "roles", "contents", "encodings", "names", "tool_calls", "tool_call_ids", "routes", "steps", "events",
    "metadatas", "replies", "created",
)  # fmt: skip


class Bare:
    """What one would write by hand, with nothing between the program and psycopg."""

    def __init__(self, pool: AsyncConnectionPool[Any], schema: str) -> None:
        queries = Queries.load_for(Tables(namespace=schema))
        self.pool = pool
        self.load_sql = queries.load.anyone
        self.commit_sql = queries.commit.anyone
        for name in COLUMNS:
            kind = b"timestamptz[]" if name == "created" else b"text[]"
            self.commit_sql = self.commit_sql.replace(
                b"%%(%s)b" % name.encode(), b"%%(%s)s::%s" % (name.encode(), kind)
            )

    async def run(self, sql: bytes, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(sql, parameters, binary=True)
            return await cursor.fetchall()

    async def turn(self, session_id: str) -> None:
        rows = await self.run(
            self.load_sql,
            {"now": None, "namespace": "default", "id": session_id, "window": WINDOW, "widen": 200, "commit_id": None},
        )
        head = next(row for row in rows if row[16] is not None)
        parse(head[-2], head[-1])
        columns = zip(*new_messages(), strict=True)
        parameters = NOTHING | {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}
        changed = await self.run(
            self.commit_sql,
            parameters
            | {
                "namespace": "default", "id": session_id, "commit_id": new_id(), "digest": "d" * 64, "count": 2,
                "state": STATE, "incarnation": head[19], "version": head[20], "last_commit": head[21],
            },
        )  # fmt: skip
        if not changed:
            raise RuntimeError("conflict")


class Contender:
    """One program on sessions of its own, with a history of so many messages.

    Attributes:
        speeds: turns per second, of each round.
        halves: milliseconds that half of the turns of a round took at most.
    """

    def __init__(self, turn: Callable[[str], Awaitable[None]], name: str, length: int, sessions: int) -> None:
        self.length = length
        self.ids = [f"{name}-{length}-{number}-{sessions}" for number in range(sessions)]
        self.speeds: list[float] = []
        self.halves: list[float] = []
        self._turn = turn

    async def fill(self, connection: psycopg.AsyncConnection[Any], schema: str) -> None:
        """Makes the sessions."""
        given = {"ids": self.ids, "length": self.length, "data": DATA, "state": STATE}
        await connection.execute(FILL.format(schema=schema), given)
        given = {"ids": self.ids, "length": self.length, "content": CONTENT, "metadata": METADATA}
        await connection.execute(FILL_MESSAGES.format(schema=schema), given)

    async def run(self, seconds: float, *, counts: bool) -> None:
        """A round."""
        times: list[float] = []

        async def turn(session_id: str) -> None:
            began = time.perf_counter()
            await self._turn(session_id)
            times.append(time.perf_counter() - began)

        speed = await run_tasks(turn, self.ids, seconds)
        if counts:
            self.speeds.append(speed)
            self.halves.append(1000 * statistics.median(times))


async def compare(url: str, schema: str, sessions: int, options: argparse.Namespace) -> None:
    """Prints a line for each length of history: medians of what the rounds took, and of their ratios."""
    adapter = PostgreSQLAdapter(url, schema=schema, prepare_threshold=options.prepare, min_size=10)
    await adapter.open()
    settings = {"autocommit": True, "prepare_threshold": options.prepare}
    async with AsyncConnectionPool(url, kwargs=settings, min_size=10, open=False) as pool:
        bare = Bare(pool, schema)
        pairs = [
            (
                Contender(partial(turn, adapter), "adapter", length, sessions),
                Contender(bare.turn, "bare", length, sessions),
            )
            for length in LENGTHS
        ]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for contender in itertools.chain(*pairs):
                await contender.fill(connection, schema)
            for table in ("sessions", "messages", "commits"):
                await connection.execute(f"VACUUM ANALYZE {schema}.turnkeep_{table}")
        for number in range(options.rounds + 1):
            for pair in pairs:
                for contender in pair if number % 2 else reversed(pair):
                    await contender.run(options.seconds, counts=number > 0)  # the first round warms up
    await adapter.aclose()
    for ours, theirs in pairs:
        ratios = sorted(map(truediv, ours.speeds, theirs.speeds))
        longer = statistics.median(map(truediv, ours.halves, pairs[0][0].halves))
        print(
            f"{sessions:>8}{ours.length:>9,}{statistics.median(ours.speeds):>12,.0f}{statistics.median(theirs.speeds):>10,.0f}"
            f"{statistics.median(ratios):>8.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            f"{statistics.median(ours.halves):>10.2f}{longer:>8.2f}"
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a database; the tables are made in a schema of their own, removed at the end")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender, in each round")
    parser.add_argument("--prepare", type=int, default=None, help="prepare_threshold of both; not at all unless given")
    options = parser.parse_args()
    schema = f"bench_{secrets.token_hex(6)}"
    async with await psycopg.AsyncConnection.connect(options.url, autocommit=True) as connection:
        await connection.execute(f"CREATE SCHEMA {schema}")
        try:
            adapter = PostgreSQLAdapter(options.url, schema=schema)
            await adapter.migrate()
            server = connection.info.parameter_status("server_version")
            print(f"PostgreSQL {server}, prepare_threshold={options.prepare}; medians of {options.rounds} rounds")
            print("sessions  history   adapter/s    bare/s   ratio  (lowest to highest)    p50 ms  to 10")
            for sessions in (1, 16):
                await compare(options.url, schema, sessions, options)
        finally:
            await connection.execute(f"DROP SCHEMA {schema} CASCADE")


if __name__ == "__main__":
    asyncio.run(main())
