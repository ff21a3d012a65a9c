"""Turns per second: the SQLAlchemy adapter against the bare driver, interleaved in one run.

A turn is that of the other benchmarks (`workload.py`). On PostgreSQL the bare program is that of `turn_postgres.py`:
psycopg, with the statements of turnkeep-postgres. On MariaDB it is asyncmy, with the text of the adapter's own
statements: one to load; one that reads with a lock, one that writes, and COMMIT. Both parse the same JSON; the bare one
makes no objects of rows.

    python benchmarks/turn_sqlalchemy.py sqlalchemy+postgresql+psycopg://localhost/test [--rounds 9] [--seconds 0.5]
    python benchmarks/turn_sqlalchemy.py sqlalchemy+mariadb+asyncmy://root@localhost/test
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncmy
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from turn_postgres import Bare
from workload import CONTENT, DATA, METADATA, STATE, WINDOW, new_messages, parse, run_tasks, turn

from turnkeep.ids import new_id
from turnkeep.urls import StorageURL
from turnkeep_sqlalchemy import SQLAlchemyAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncConnection

    Turn = Callable[[str], Awaitable[None]]

FILL = """
INSERT INTO {place}.turnkeep_sessions (namespace, id, status, created_at, updated_at, incarnation, version,
    last_commit, last_seq, floor, collected_data, state)
VALUES ('default', :id, 'active', {now}, {now}, 'i', 1, 'c', :length, 0, :data, :state)
"""
FILL_MESSAGES = """
INSERT INTO {place}.turnkeep_messages (namespace, session_id, incarnation, seq, turn_seq, commit_id, id, role, content,
    encoding, metadata, created_at, committed_at)
SELECT 'default', :id, 'i', seq, seq - (seq - 1) % 2, 'c', concat('m', seq), 'user', :content, 'plain', :metadata,
    {now}, {now}
FROM {numbers}
"""
NOW = {"postgresql": "now()", "mariadb": "UTC_TIMESTAMP(6)"}
NUMBERS = {"postgresql": "generate_series(1, {}) AS seq", "mariadb": "seq_1_to_{}"}


class BareMariaDB:
    """What one would write by hand, with nothing between the program and asyncmy."""

    def __init__(self, pool: Any, adapter: SQLAlchemyAdapter) -> None:
        self._pool = pool
        self._adapter = adapter
        self._store: Any = adapter._store
        self._load, self._load_names, self._load_values = self._compile(
            self._store._untyped(self._store._q.load_window)
        )
        self._lock, self._lock_names, _ = self._compile(self._store._lock)
        self._write, self._write_names = "", ()
        self._rows: list[dict[str, Any]] = []

    def _compile(self, statement: Any) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        compiled = statement.compile(dialect=self._adapter._connections.engine.dialect)
        return str(compiled), tuple(compiled.positiontup), dict(compiled.params)

    async def learn(self, session_id: str) -> None:
        """Looks at what the adapter writes in a turn: the statement, and its parameters."""
        write, seen = self._store._write, []

        async def watching(connection: AsyncConnection, writes: list[tuple[Any, Any]]) -> None:
            seen.extend(writes)
            await write(connection, writes)

        self._store._write = watching
        await turn(self._adapter, session_id)
        del self._store._write
        rows = [given if isinstance(given, list) else [given] for _, given in seen]
        self._write, self._write_names, _ = self._compile(self._store._statement([what for what, _ in seen], rows))
        self._rows = [row for given in rows for row in given]

    async def turn(self, session_id: str) -> None:
        of = {"of_session": session_id, "of_namespace": "default"}
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            wanted = self._load_values | of | {"of_window": WINDOW, "of_commit": None, "of_anyone": 1, "of_owner": None}
            await cursor.execute(self._load, [wanted[name] for name in self._load_names])
            first = (await cursor.fetchall())[0]
            parse(first[34], first[35])
        commit_id = new_id()
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            wanted = of | {"of_commit": commit_id}
            await cursor.execute(self._lock, [wanted[name] for name in self._lock_names])
            head = await cursor.fetchone()
            values = self._values(session_id, commit_id, head)
            await cursor.execute(self._write, [values[name] for name in self._write_names])
            await connection.commit()

    def _values(self, session_id: str, commit_id: str, head: tuple[Any, ...]) -> dict[str, Any]:
        version, last_commit, last_seq = head[11:14]
        place = {"session_id": session_id, "commit_id": commit_id}
        update, past, *messages = self._rows
        changed = [
            update
            | {"of_session": session_id, "of_version": version, "of_last_commit": last_commit, "new_state": STATE}
            | {"new_version": version + 1, "new_last_commit": commit_id, "new_last_seq": last_seq + 2},
            past | place | {"version": version + 1, "first_seq": last_seq + 1, "last_seq": last_seq + 2},
        ]
        for seq, (row, message) in enumerate(zip(messages, new_messages(), strict=True), last_seq + 1):
            changed.append(row | message._asdict() | place | {"seq": seq, "turn_seq": last_seq + 1})
        places = ((0, 0), (1, 0), (2, 0), (2, 1))
        return {
            f"{name}_{place}_{number}": value
            for (place, number), row in zip(places, changed, strict=True)
            for name, value in row.items()
        }


@asynccontextmanager
async def contenders(address: str, url: URL, place: str) -> AsyncGenerator[tuple[SQLAlchemyAdapter, Any]]:
    """The adapter, and the bare program, each with ten connections."""
    if url.get_backend_name() == "postgresql":
        option, dsn = f"?schema={place}&pool_size=10", address.partition("://")[2]
    else:
        option, address = "?pool_size=10", f"{address.rpartition('/')[0]}/{place}"
    given = StorageURL(address + option)
    adapter = SQLAlchemyAdapter.from_url(given)
    given.finish()
    await adapter.open()
    try:
        if url.get_backend_name() == "postgresql":
            async with AsyncConnectionPool(
                f"postgresql://{dsn}", kwargs={"autocommit": True}, min_size=10, open=False
            ) as pool:
                yield adapter, Bare(pool, place)
        else:
            where = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or ""}
            async with asyncmy.create_pool(**where, db=place, minsize=10, maxsize=10, autocommit=True) as pool:
                yield adapter, BareMariaDB(pool, adapter)
    finally:
        await adapter.aclose()


async def compare(address: str, place: str, sessions: int, length: int, options: argparse.Namespace) -> None:
    """Prints one line: medians of turns per second, and of milliseconds per turn with one session."""
    url = make_url(address.removeprefix("sqlalchemy+"))
    kind = url.get_backend_name()
    ids = {name: [f"{name}-{length}-{number}-{sessions}" for number in range(sessions)] for name in ("adapter", "bare")}
    async with connected(url) as connection:
        for session_id in (*ids["adapter"], *ids["bare"]):
            named = {"place": place, "now": NOW[kind], "numbers": NUMBERS[kind].format(length)}
            given = {"id": session_id, "length": length, "data": DATA, "state": STATE}
            await connection.execute(text(FILL.format(**named)), given)
            given = {"id": session_id, "content": CONTENT, "metadata": METADATA}
            await connection.execute(text(FILL_MESSAGES.format(**named)), given)
        if kind == "postgresql":
            await connection.execute(text("VACUUM ANALYZE"))
    async with contenders(address, url, place) as (adapter, bare):
        if kind == "mariadb":
            await bare.learn(ids["bare"][0])
        turns: dict[str, Turn] = {"adapter": partial(turn, adapter), "bare": bare.turn}
        found: dict[str, list[float]] = {name: [] for name in turns}
        for number in range(options.rounds + 1):
            for name in sorted(turns, reverse=bool(number % 2)):
                speed = await run_tasks(turns[name], ids[name], options.seconds)
                if number:  # the first round warms up
                    found[name].append(speed)
    ratios = sorted(ours / theirs for ours, theirs in zip(found["adapter"], found["bare"], strict=True))
    ours, theirs = statistics.median(found["adapter"]), statistics.median(found["bare"])
    print(
        f"{sessions:>8}{length:>9,}{ours:>12,.0f}{theirs:>10,.0f}{statistics.median(ratios):>8.2f}"
        f"  ({ratios[0]:.2f} to {ratios[-1]:.2f}){1000 * sessions / ours:>10.2f}",
        flush=True,
    )


@asynccontextmanager
async def connected(url: URL) -> AsyncGenerator[AsyncConnection]:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a database; tables are made in a schema of their own, removed at the end")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender, in each round")
    parser.add_argument("--sessions", type=int, nargs="*", default=(1, 16))
    parser.add_argument("--lengths", type=int, nargs="*", default=(10, 1_000, 10_000))
    options = parser.parse_args()
    url = make_url(options.url.removeprefix("sqlalchemy+"))
    place = f"turnkeep_bench_{secrets.token_hex(6)}"
    kind = "SCHEMA" if url.get_backend_name() == "postgresql" else "DATABASE"
    async with connected(url) as connection:
        await connection.execute(text(f"CREATE {kind} {place}"))
        try:
            version = ".".join(map(str, connection.dialect.server_version_info[:2]))
            print(f"{url.drivername}, server {version}; medians of {options.rounds} rounds")
            print("sessions  history   adapter/s    bare/s   ratio  (lowest to highest)   ms/turn")
            async with contenders(options.url, url, place):
                pass  # the tables are made
            for sessions in options.sessions:
                for length in options.lengths:
                    await compare(options.url, place, sessions, length, options)
        finally:
            await connection.execute(text(f"DROP {kind} {place}{' CASCADE' if kind == 'SCHEMA' else ''}"))


if __name__ == "__main__":
    asyncio.run(main())
