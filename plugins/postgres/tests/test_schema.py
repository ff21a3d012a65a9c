"""Making, checking and migrating the tables, as owner and as a role that may not."""

import asyncio
import re
import secrets
from importlib.resources import files

import pytest

from turnkeep.contract import LoadQuery
from turnkeep.errors import (
    ConfigurationError,
    ForeignTable,
    InvalidArgument,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
    StorageRefused,
)
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_postgres.schema import MIGRATIONS, _columns_wanted
from turnkeep_postgres.statements import Migration, Tables
from turnkeep_testkit import new_commit, new_key

from .kit import OLD, fresh_schema, opened, replaced, run_sql, schema, server_url

__all__ = ["schema"]

SQL = files("turnkeep_postgres") / "sql"
NEXT = Migration(
    len(MIGRATIONS) + 1, "0003_test", "A further step.", "ALTER TABLE turnkeep_messages ADD COLUMN x text;"
)
STRUCTURE = """
    SELECT table_name, column_name, data_type, collation_name, is_nullable, ordinal_position,
        replace(generation_expression, '{0}', '')
    FROM information_schema.columns WHERE table_schema = '{0}' ORDER BY table_name, ordinal_position
""", """
    SELECT indexname, replace(indexdef, '{0}', '') FROM pg_indexes WHERE schemaname = '{0}' ORDER BY 1
""", """
    SELECT conname, replace(pg_get_constraintdef(oid), '{0}', '') FROM pg_constraint
    WHERE connamespace = '{0}'::regnamespace AND contype <> 'n' ORDER BY 1
""", """
    SELECT viewname, replace(definition, '{0}', '') FROM pg_views WHERE schemaname = '{0}' ORDER BY 1
""", """
    SELECT proname, proargnames, replace(prosrc, '{0}', ''), provolatile, proparallel FROM pg_proc
    WHERE pronamespace = '{0}'::regnamespace ORDER BY 1
"""  # fmt: skip
STATEMENT_END = re.compile(r";\n(?=\n|--|\Z)")  # those within the function are followed by more of it


def structure(url, schema):
    """Everything that is defined in a schema, without its name."""
    return [run_sql(url, query.format(schema)) for query in STRUCTURE]


def adapter_at(schema, **options):
    return PostgreSQLAdapter(server_url(), schema=schema, **options)


async def migrate(schema, migrations):
    adapter = adapter_at(schema)
    adapter._schema._migrations = migrations
    return await adapter.migrate()


async def test_the_picture_equals_the_migrations(schema):
    url = server_url()
    picture = Tables(namespace=schema).fill((SQL / "schema.sql").read_text())
    with fresh_schema() as migrated:
        run_sql(url, picture.encode())
        await adapter_at(migrated).migrate()
        assert structure(url, schema) == structure(url, migrated)
    assert structure(url, schema)[0]


async def test_the_steps_of_a_dry_run_are_sql_that_a_dba_can_run(schema):
    adapter = adapter_at(schema)
    first, second = await adapter.migrate(dry_run=True)
    assert first.startswith("-- 0001_initial\nBEGIN;\n-- The first tables.\n")
    assert second.startswith("-- 0002_search\n-- Words of messages")
    assert second.endswith("COMMIT;\n")
    with pytest.raises(SchemaMissing, match="turnkeep migrate"):
        await adapter.open(auto_create=False)
    run_sql(server_url(), (first + second).encode())
    assert await adapter.migrate() == []
    await adapter.open(auto_create=False)
    await adapter.aclose()


async def test_starters_at_once_make_the_tables_once(schema):
    adapters = [adapter_at(schema, max_size=1) for _ in range(6)]
    await asyncio.gather(*(adapter.open() for adapter in adapters))
    assert run_sql(server_url(), f"SELECT count(*) FROM {schema}.turnkeep_schema") == [(len(MIGRATIONS),)]
    for adapter in adapters:
        await adapter.aclose()


async def test_killed_at_any_statement_a_migration_is_completed_by_the_next(schema):
    """The server process is ended after each statement of the script in turn, as a kill would."""
    for step in MIGRATIONS:
        statements = STATEMENT_END.split(step.sql)
        assert len(statements) > 3
        for count in range(1, len(statements)):
            sql = ";\n".join(statements[:count]) + ";\nSELECT pg_terminate_backend(pg_backend_pid());\n"
            broken = (*MIGRATIONS[: step.version - 1], step._replace(purpose="Broken off.", sql=sql))
            with pytest.raises(Exception, match=r"terminat|closed") as caught:
                await migrate(schema, broken)
            assert caught.value.adapter == "postgres"
            assert structure(server_url(), schema) == [[]] * len(STRUCTURE), "something of it stayed"
    assert len(await migrate(schema, MIGRATIONS)) == len(MIGRATIONS)
    assert await migrate(schema, MIGRATIONS) == []


async def test_an_older_schema_is_explained_and_a_newer_one_refused(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "kept"))
    newer = adapter_at(schema)
    newer._schema._migrations = (*MIGRATIONS, NEXT)
    with pytest.raises(SchemaOutdated, match=r"version 2.*works with 3.*turnkeep migrate"):
        await newer.open()
    assert [step.partition("\n")[0] for step in await newer.migrate(dry_run=True)] == ["-- 0003_test"]
    assert len(await newer.migrate()) == 1
    older = adapter_at(schema)
    for call in (older.open, older.migrate):
        with pytest.raises(SchemaTooNew, match="pip install --upgrade turnkeep-postgres"):
            await call()
    await newer.open()
    assert (await newer.load(key, LoadQuery())).messages[0].content == "kept"
    await newer.aclose()


@pytest.mark.parametrize("name", Tables().relations())
async def test_a_name_that_is_taken_is_left_alone(schema, name):
    run_sql(server_url(), f"CREATE TABLE {schema}.{name} (id text)")
    adapter = adapter_at(schema)
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(ForeignTable, match=f"{name}.*did not make; choose other names with tables="):
            await call()
    assert [row[:2] for row in structure(server_url(), schema)[0]] == [(name, "id")]


async def test_a_column_that_is_missing_is_named_with_the_ddl_that_adds_it(schema):
    await adapter_at(schema).migrate()
    run_sql(server_url(), f"ALTER TABLE {schema}.turnkeep_messages DROP COLUMN reply")
    adapter = adapter_at(schema)
    ddl = f'ALTER TABLE "{schema}"."turnkeep_messages" ADD COLUMN reply text;'
    with pytest.raises(ForeignTable) as caught:
        await adapter.open()
    assert str(caught.value).endswith(ddl)
    run_sql(server_url(), ddl)
    await adapter.open()
    await adapter.aclose()


async def test_a_column_that_goes_missing_while_open(schema):
    async with opened(server_url(), schema=schema) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        run_sql(server_url(), f"ALTER TABLE {schema}.turnkeep_messages DROP COLUMN reply")
        with pytest.raises(ForeignTable, match="reply"):
            await adapter.load(key, LoadQuery())
        run_sql(server_url(), f"DROP TABLE {schema}.turnkeep_messages CASCADE")
        with pytest.raises(SchemaMissing, match="turnkeep migrate"):
            await adapter.load(key, LoadQuery())


async def test_columns_and_tables_of_others_are_left_alone(schema):
    await adapter_at(schema).migrate()
    run_sql(
        server_url(),
        f"ALTER TABLE {schema}.turnkeep_sessions ADD COLUMN tenant int DEFAULT 7",
        f"CREATE TABLE {schema}.invoices (id int)",
    )
    async with opened(server_url(), schema=schema) as adapter:
        await adapter.commit(new_commit(new_key(), "one"))
        assert (await adapter.check()).ok
    assert run_sql(server_url(), f"SELECT tenant FROM {schema}.turnkeep_sessions") == [(7,)]


async def test_names_of_ones_own(schema):
    names = {"sessions": "agent_sessions", "messages": "AgentMessages", "commits": "agent_done"}
    async with opened(server_url(), schema=schema, tables=names) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "one"))
        assert (await adapter.load(key, LoadQuery())).messages[0].content == "one"
        assert (await adapter.check()).ok
    there = run_sql(server_url(), f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace")
    names = {name for (name,) in there}
    assert {"agent_sessions", "AgentMessages", "agent_done", "agent_schema", "agent_history"} <= names
    assert run_sql(server_url(), f"SELECT proname FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace") == [
        ("agent_words",)
    ]
    assert not [name for name in names if name.startswith("turnkeep")]


async def test_other_names_than_at_first_are_explained(schema):
    await adapter_at(schema).migrate()
    with pytest.raises(ForeignTable, match="none named 'chat'"):
        await adapter_at(schema, tables={"messages": "chat"}).open()


@pytest.mark.parametrize(
    "options",
    [
        {"schema": "a b"},
        {"schema": ""},
        {"tables": {"sessions": "x" * 49}},
        {"tables": {"sessions": 'a"b'}},
        {"tables": {"sessions": "x", "messages": "x"}},
        {"tables": {"users": "x"}},
    ],
)
def test_names_that_cannot_be(options):
    with pytest.raises(InvalidArgument):
        PostgreSQLAdapter("dbname=x", **options)


async def test_a_schema_that_is_not_there():
    with pytest.raises(SchemaMissing, match="CREATE SCHEMA"):
        await adapter_at("nobody_made_this").open()


async def test_a_role_without_the_right_to_create_is_told_and_works_with_the_grants(schema):
    url, role = server_url(), f"kit_{secrets.token_hex(6)}"
    run_sql(
        url, f"CREATE ROLE {role} LOGIN", f"GRANT {role} TO CURRENT_USER", f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    )
    try:
        runtime = PostgreSQLAdapter(replaced(url, user=role), schema=schema)
        with pytest.raises(StorageRefused, match=r"DBA.*turnkeep migrate"):
            await runtime.open()
        await adapter_at(schema).migrate()
        with pytest.raises(StorageRefused, match="permission denied"):
            await runtime.open()
        script = (SQL / "grants.sql").read_text()
        run_sql(url, script.replace(':"schema"', schema).replace(':"role"', role).encode())
        await runtime.open(auto_create=False)
        assert (await runtime.check()).ok
        key = new_key()
        await runtime.commit(new_commit(key, "one"))
        assert (await runtime.load(key, LoadQuery())).messages[0].content == "one"
        assert await runtime.delete(key)
        await runtime.aclose()
        run_sql(url, f"REVOKE UPDATE ON {schema}.turnkeep_sessions FROM {role}")
        assert "may not write" in str(await runtime.check())
    finally:
        run_sql(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_database_that_cannot_hold_every_text():
    url, name = server_url(OLD), f"kit_{secrets.token_hex(6)}"
    run_sql(url, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    try:
        adapter = PostgreSQLAdapter(replaced(url, dbname=name))
        with pytest.raises(ConfigurationError, match=r"LATIN1.*ENCODING 'UTF8'"):
            await adapter.open()
        assert not (await adapter.check()).ok
    finally:
        run_sql(url, f"DROP DATABASE {name}")


def test_the_columns_are_those_of_the_picture():
    """What `open` looks for is what the picture defines."""
    wanted = dict(_columns_wanted())
    assert {key: len(columns) for key, columns in wanted.items()} == {"sessions": 22, "messages": 21, "commits": 11}
    assert wanted["messages"]["reply"] == "text"
