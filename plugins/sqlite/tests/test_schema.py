"""Making, checking and migrating the tables."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from importlib.resources import files

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_sqlite import SQLiteAdapter, schema
from turnkeep_sqlite.schema import MIGRATIONS, Schema
from turnkeep_sqlite.statements import Queries, Tables, split
from turnkeep_testkit import new_commit, new_key

from .kit import ANOTHER, NAMES, PARTS, files_in, opened, run_sql, structure

STEPS = [
    "0001_initial: The first tables.",
    "0002_search: Words of messages, for search_messages; what is there already is read once.",
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def test_the_picture_equals_the_migrations(tmp_path):
    picture, migrated = tmp_path / "picture.db", tmp_path / "migrated.db"
    with closing(sqlite3.connect(picture)) as connection:
        connection.executescript(Tables().fill((files("turnkeep_sqlite") / "sql" / "schema.sql").read_text()))
    with closing(sqlite3.connect(migrated, isolation_level=None)) as connection:
        Schema(Tables(), "x", shared=False).migrate(connection)
    assert structure(picture) == structure(migrated)


def test_migrations_are_numbered_and_described():
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert all(step.purpose.endswith(".") for step in MIGRATIONS)


def test_every_statement_is_described_and_used():
    text = (files("turnkeep_sqlite") / "sql" / "queries.sql").read_text()
    names = [line.removeprefix("-- name: ") for line in text.splitlines() if line.startswith("-- name: ")]
    assert sorted(names) == sorted(Queries.__slots__)
    lines = text.splitlines()
    assert all(lines[lines.index(f"-- name: {name}") + 1].startswith("-- ") for name in names)
    sources = "".join(file.read_text() for file in files("turnkeep_sqlite").iterdir() if file.name.endswith(".py"))
    assert [name for name in names if f"queries.{name}" not in sources] == []


def test_statements_are_split_as_sqlite_would():
    script = "CREATE TABLE a (b TEXT DEFAULT ';');\n-- a comment; with a semicolon\nCREATE TABLE c (d);\n"
    assert len(list(split(script))) == 2


async def test_open_makes_the_tables_once(path):
    async with opened(path):
        pass
    before = structure(path)
    assert {name for kind, name, *_ in before if kind in {"table", "view"}} == {*NAMES, *PARTS}
    async with opened(path, durability="normal"):
        pass
    assert structure(path) == before
    assert run_sql(path, "SELECT version, name FROM turnkeep_schema ORDER BY version") == [
        (1, "0001_initial"),
        (2, "0002_search"),
    ]


async def test_other_names(path):
    names = {"sessions": "order", "messages": "Group", "commits": "select_x"}
    async with opened(path, tables=names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "hello"))
        assert (await adapter.load(key, LoadQuery())).messages[0].content == "hello"
        assert await adapter.delete(key)
    tables = {name for kind, name, *_ in structure(path) if kind in {"table", "view"}}
    parts = {part.replace("turnkeep", "order") for part in PARTS}
    assert tables == {"order", "Group", "select_x", "order_schema", "order_history", "order_words", *parts}


async def test_absent_and_not_to_be_made(path):
    adapter = SQLiteAdapter(path)
    with pytest.raises(SchemaMissing, match="turnkeep migrate sqlite:///"):
        await adapter.open(auto_create=False)
    assert [check.name for check in (await adapter.check()).checks if not check.ok and not check.warning] == ["file"]
    assert await adapter.migrate(dry_run=True) == STEPS
    assert files_in(path.parent) == []


async def test_an_empty_file_is_nothing_yet(path):
    path.touch()
    adapter = SQLiteAdapter(path)
    with pytest.raises(SchemaMissing):
        await adapter.open(auto_create=False)
    assert path.stat().st_size == 0
    assert await adapter.migrate(dry_run=True) == STEPS
    assert path.stat().st_size == 0
    await adapter.open()
    await adapter.aclose()


async def test_what_to_do_about_another_version_names_file_and_package(path, monkeypatch):
    """That nothing is changed, the kit proves."""
    async with opened(path):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, ANOTHER))
        with pytest.raises(SchemaOutdated, match="turnkeep migrate sqlite:///"):
            await SQLiteAdapter(path).open()
        assert await SQLiteAdapter(path).migrate(dry_run=True) == ["0003_test: A third step."]
    run_sql(path, "INSERT INTO turnkeep_schema VALUES (7, '0007_later', 'x')")
    with pytest.raises(SchemaTooNew, match="pip install --upgrade turnkeep-sqlite"):
        await SQLiteAdapter(path).open()
    assert "7" in str(await SQLiteAdapter(path).check())


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_a_database_of_something_else_is_left_alone(path, mode):
    run_sql(path, f"PRAGMA journal_mode = {mode}", "CREATE TABLE invoices (id)", "INSERT INTO invoices VALUES (1)")
    before = path.read_bytes()
    adapter = SQLiteAdapter(path)
    for call in (adapter.open, adapter.migrate, lambda: adapter.migrate(dry_run=True)):
        with pytest.raises(ForeignTable, match="shared=true"):
            await call()
    assert not (await adapter.check()).ok
    assert path.read_bytes() == before
    assert files_in(path.parent) == ["store.db"]


async def test_shared_puts_our_tables_beside_others(path):
    run_sql(path, "CREATE TABLE invoices (id)", "INSERT INTO invoices VALUES (1)")
    async with opened(path, shared=True) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
    assert run_sql(path, "SELECT id FROM invoices") == [(1,)]
    async with opened(path):  # it is ours now, too
        pass


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["TABLE {} (a)", "VIEW {} AS SELECT 1"])
async def test_a_name_that_is_taken_is_left_alone(path, name, kind):
    run_sql(path, "CREATE " + kind.format(name.upper()))
    before = path.read_bytes()
    with pytest.raises(ForeignTable, match=name):
        await SQLiteAdapter(path, shared=True).open()
    assert path.read_bytes() == before


async def test_tables_under_other_names_are_explained(path):
    async with opened(path, tables={"messages": "texts"}):
        pass
    with pytest.raises(ForeignTable, match=r"turnkeep_messages.*tables="):
        await SQLiteAdapter(path).open()


class Failing(sqlite3.Connection):
    """Fails at the n-th statement."""

    left = 0

    def execute(self, *args):
        Failing.left -= 1
        if Failing.left == 0:
            raise RuntimeError("pulled the plug")
        return super().execute(*args)


def test_a_migration_that_fails_at_any_statement_leaves_the_old_or_the_new_version(tmp_path):
    old = tmp_path / "old.db"
    migrations = (*MIGRATIONS, ANOTHER)
    with closing(sqlite3.connect(old, isolation_level=None)) as connection:
        Schema(Tables(), "x", shared=False).migrate(connection)
    new = tmp_path / "new.db"
    shutil.copy(old, new)
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        Schema(Tables(), "x", shared=False, migrations=migrations).migrate(connection)
    for begin, before in ((None, []), (old, structure(old))):
        number, done = 0, False
        while not done:
            number += 1
            path = tmp_path / f"{'old' if begin else 'none'}-{number}.db"
            if begin:
                shutil.copy(begin, path)
            stepwise = Schema(Tables(), "x", shared=False, migrations=migrations)
            Failing.left = number
            with closing(sqlite3.connect(path, isolation_level=None, factory=Failing)) as connection:
                try:
                    stepwise.migrate(connection)
                    done = True
                except RuntimeError:
                    pass  # closing the connection is what the end of the process would be
            assert structure(path) in (before, structure(new))
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                stepwise.migrate(connection)
                assert structure(path) == structure(new)
                assert stepwise.migrate(connection) == []
        assert number > 5


def test_many_threads_that_start_at_once(tmp_path):
    """As the processes of test_crash, but often."""

    async def main(path):
        adapters = [SQLiteAdapter(path) for _ in range(4)]
        await asyncio.gather(*(adapter.open() for adapter in adapters))
        await asyncio.gather(*(adapter.aclose() for adapter in adapters))

    for number in range(15):
        asyncio.run(main(tmp_path / f"{number}.db"))
