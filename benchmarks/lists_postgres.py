"""Reads among 100,000 sessions of 1,000 owners: the PostgreSQL adapter against bare psycopg, interleaved in one run.

The bare program reads the same heads by the index that is there for it, whole rows, through a pool of the same size,
and makes no objects of them. A list of all statuses is compared with the bare read of one.

    python benchmarks/lists_postgres.py postgresql://localhost/test [--rounds 9] [--seconds 0.5] [--prepare 5]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import statistics
import time
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from turnkeep.contract import ANYONE, LoadQuery, Scope, SessionKey, SessionQuery
from turnkeep_postgres import PostgreSQLAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Read = Callable[[int], Awaitable[int]]

SESSIONS, OWNERS = 100_000, 1_000
FILL = f"""
INSERT INTO {{0}}.turnkeep_sessions (namespace, id, user_id, agent_name, status, created_at, updated_at, incarnation,
    version, last_commit, last_seq, floor, collected_data, state)
SELECT 'default', 's' || n, 'u' || n % {OWNERS}, 'desk', (array['active', 'completed', 'abandoned'])[1 + n / 1000 % 3],
    now() - n * interval '1 s', now() - n * interval '1 s', 'i', 1, 'c', 0, 0, '{{{{}}}}', '{{{{}}}}'
FROM generate_series(1, {SESSIONS}) AS n
"""
LIST = "SELECT * FROM {0}.turnkeep_sessions WHERE namespace = 'default' AND %s ORDER BY updated_at DESC, id LIMIT 20"
BARE = {
    "lookup": "SELECT * FROM {0}.turnkeep_sessions WHERE namespace = 'default' AND id = 's' || %(n)s",
    "active of an owner": LIST % "user_id = 'u' || %(owner)s AND status = 'active'",
    "20 active": LIST % "status = 'active'",
    "20 of all statuses": LIST % "status = 'active'",
}


def contenders(adapter: PostgreSQLAdapter, pool: AsyncConnectionPool[Any], schema: str) -> dict[str, tuple[Read, Read]]:
    """For each read the adapter's and the bare one; each takes a number and gives how many heads it got."""

    async def look_up(n: int) -> int:
        return int(await adapter.load(SessionKey(Scope("default"), f"s{n}"), LoadQuery(0)) is not None)

    def listing(*, of_owner: bool, status: Any) -> Read:
        async def find(n: int) -> int:
            scope = Scope("default", f"u{n % OWNERS}" if of_owner else ANYONE)
            return len((await adapter.find_sessions(SessionQuery(scope, 20, status=status))).items)

        return find

    def bare(sql: str) -> Read:
        async def read(n: int) -> int:
            async with pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), {"n": str(n), "owner": str(n % OWNERS)}, binary=True)
                return len(await cursor.fetchall())

        return read

    ours = (
        look_up,
        listing(of_owner=True, status="active"),
        listing(of_owner=False, status="active"),
        listing(of_owner=False, status=None),
    )
    return {name: (our, bare(sql.format(schema))) for our, (name, sql) in zip(ours, BARE.items(), strict=True)}


async def median(read: Read, numbers: itertools.count[int], seconds: float) -> float:
    """Milliseconds of a read, the median of as many as there is time for."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        if not await read(next(numbers) * 7919 % SESSIONS + 1):
            raise RuntimeError("nothing was found")
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


async def compare(url: str, schema: str, options: argparse.Namespace) -> None:
    """Prints a line for each read: medians of milliseconds, and of their ratio."""
    adapter = PostgreSQLAdapter(url, schema=schema, prepare_threshold=options.prepare)
    await adapter.open()
    settings = {"autocommit": True, "prepare_threshold": options.prepare}
    async with AsyncConnectionPool(url, kwargs=settings, min_size=1, open=False) as pool:
        for name, reads in contenders(adapter, pool, schema).items():
            found: tuple[list[float], list[float]] = ([], [])
            for number in range(options.rounds + 1):
                for which in (0, 1) if number % 2 else (1, 0):
                    spent = await median(reads[which], itertools.count(), options.seconds)
                    if number:  # the first round warms up
                        found[which].append(spent)
            ratios = sorted(ours / theirs for ours, theirs in zip(*found, strict=True))
            ours, theirs = map(statistics.median, found)
            print(
                f"{name:20}{ours:>12.2f}{theirs:>10.2f}{statistics.median(ratios):>8.2f}"
                f"  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    await adapter.aclose()


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
            await PostgreSQLAdapter(options.url, schema=schema).migrate()
            await connection.execute(FILL.format(schema))
            await connection.execute(f"VACUUM ANALYZE {schema}.turnkeep_sessions")
            server = connection.info.parameter_status("server_version")
            print(f"PostgreSQL {server}, prepare_threshold={options.prepare}; medians of {options.rounds} rounds")
            print("read                  adapter ms   bare ms   ratio  (lowest to highest)")
            await compare(options.url, schema, options)
        finally:
            await connection.execute(f"DROP SCHEMA {schema} CASCADE")


if __name__ == "__main__":
    asyncio.run(main())
