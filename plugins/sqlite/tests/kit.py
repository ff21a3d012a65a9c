"""What several test modules need."""

import sqlite3
from contextlib import asynccontextmanager, closing

from turnkeep_sqlite import SQLiteAdapter
from turnkeep_sqlite.statements import Migration

NAMES = (
    "turnkeep_schema",
    "turnkeep_sessions",
    "turnkeep_messages",
    "turnkeep_commits",
    "turnkeep_history",
    "turnkeep_words",
)
PARTS = tuple(f"turnkeep_words_{part}" for part in ("config", "content", "data", "docsize", "idx"))
"""What FTS5 makes of the table of words."""
ANOTHER = Migration(
    3,
    "0003_test",
    "A third step.",
    "CREATE TABLE turnkeep_schema_x (a TEXT);\nCREATE INDEX turnkeep_schema_y ON turnkeep_schema_x (a);\n",
)
"""A migration that is still to come."""


@asynccontextmanager
async def opened(database, **options):
    adapter = SQLiteAdapter(database, **options)
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.aclose()


def run_sql(path, *statements):
    """Runs statements in a connection of its own; the rows of the last one."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def structure(path):
    """What is defined in a database, without the names of the file that defined it."""
    return run_sql(path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")


def files_in(directory):
    return sorted(file.name for file in directory.iterdir())


_IDENTITIES = (("turnkeep_sessions", "id"), ("turnkeep_messages", "session_id"), ("turnkeep_commits", "session_id"))


def count_rows(path, key):
    """How many rows of a session there are, whatever the contract shows."""
    identity = (key.scope.namespace, key.session_id)
    with closing(sqlite3.connect(path)) as connection:
        return sum(
            connection.execute(
                f"SELECT count(*) FROM {table} WHERE namespace = ? AND {column} = ?", identity
            ).fetchone()[0]
            for table, column in _IDENTITIES
        )
