"""Tables and columns of the user's: what fits, what does not, and that nothing of theirs is touched."""

import re

import pytest
from sqlalchemy import text

from turnkeep.contract import YOURS, Expect, HeadChange, LoadQuery, Scope, SessionQuery
from turnkeep.errors import ConfigurationError, ForeignTable, InvalidArgument, SchemaMissing, SchemaTooNew
from turnkeep_testkit import new_commit, new_key

from .kit import connected, opened

MAPPED = {
    "tables": {"sessions": "chats", "messages": "entries"},
    "field_mappings": {"sessions": {"user_id": "uid", "id": "chat_id"}, "messages": {"content": "body"}},
}


async def grow(place, *statements):
    """Makes the mapped tables, then changes them as a user would."""
    async with opened(place.adapter(**MAPPED)):
        pass
    await place.run(
        *(
            statement.format(chats=place.qualified("chats"), lines=place.qualified("entries"))
            for statement in statements
        )
    )


async def test_columns_of_theirs_are_left_alone(place):
    await grow(
        place,
        "ALTER TABLE {chats} ADD COLUMN team INTEGER DEFAULT 7 NOT NULL",
        "ALTER TABLE {chats} ADD COLUMN note VARCHAR(20)",
        "ALTER TABLE {lines} ADD COLUMN flagged INTEGER",
    )
    key = new_key()
    async with opened(place.adapter(**MAPPED)) as adapter:
        created = await adapter.commit(new_commit(key, "hello", user_id="ana"))
        await place.run(f"UPDATE {place.qualified('chats')} SET note = 'kept', team = 9")
        await adapter.commit(new_commit(key, "again", expect=created.token, state='{"s":1}'))
        assert [m.content for m in (await adapter.load(key, LoadQuery())).messages] == ["hello", "again"]
    assert await place.rows(f"SELECT team, note, uid FROM {place.qualified('chats')}") in (
        [(9, "kept", "ana")],
        [(9, "kept", b"ana")],
    )
    assert await place.rows(f"SELECT body FROM {place.qualified('entries')} ORDER BY seq") == [("hello",), ("again",)]


async def test_a_column_that_is_missing_is_named_with_the_statement_that_adds_it(place):
    await grow(place, "ALTER TABLE {chats} DROP COLUMN state", "ALTER TABLE {lines} DROP COLUMN reply")
    adapter = place.adapter(**MAPPED)
    with pytest.raises(ForeignTable, match=r"chats has no column 'state'; entries has no column 'reply'") as caught:
        await adapter.open()
    statements = [line for line in str(caught.value).splitlines() if line.startswith("ALTER TABLE")]
    assert len(statements) == 2
    before = await place.rows(f"SELECT count(*) FROM {place.qualified('chats')}")
    steps = await adapter.migrate()
    assert [step for step in steps if step.startswith(f"{YOURS}ALTER TABLE")] == steps
    assert await adapter.migrate(dry_run=True) == steps  # nothing was done
    assert not (await adapter.check()).ok
    assert await place.rows(f"SELECT count(*) FROM {place.qualified('chats')}") == before
    if place.kind == "sqlite":  # adds NOT NULL columns with a default only
        statements = [line.replace("NOT NULL", "NOT NULL DEFAULT '{}'") for line in statements]
    await place.run(*(line.rstrip(";") for line in statements))
    async with opened(place.adapter(**MAPPED)) as adapter:
        await adapter.commit(new_commit(new_key(), "hello"))


async def test_a_type_that_does_not_fit_is_explained(place):
    wrong = {"postgresql": "jsonb", "mariadb": "VARCHAR(255) CHARACTER SET utf8mb4", "sqlite": "INTEGER"}[place.kind]
    column = "state" if place.kind == "postgresql" else "uid"
    await grow(place, f"ALTER TABLE {{chats}} ADD COLUMN other {wrong}")
    field = {"state": "state", "uid": "user_id"}[column]
    options = {
        "tables": MAPPED["tables"],
        "field_mappings": MAPPED["field_mappings"]
        | {"sessions": MAPPED["field_mappings"]["sessions"] | {field: "other"}},
    }
    with pytest.raises(ForeignTable, match=r"chats\.other is .* it has to be"):
        await place.adapter(**options).open()
    steps = await place.adapter(**options).migrate()
    assert all(step.startswith(YOURS) for step in steps)
    assert re.match(rf"{YOURS}-- chats\.other is .* it has to be ", steps[0])


async def test_a_column_that_no_insert_could_fill_is_explained(place):
    await grow(place)
    if place.kind == "sqlite":
        pytest.skip("SQLite adds no NOT NULL column without a default")
    await place.run(f"ALTER TABLE {place.qualified('chats')} ADD COLUMN tenant INTEGER NOT NULL")
    if place.kind == "mariadb":
        await place.run(f"ALTER TABLE {place.qualified('chats')} ALTER COLUMN tenant DROP DEFAULT")
    with pytest.raises(ForeignTable, match=r"chats\.tenant is NOT NULL and has no default"):
        await place.adapter(**MAPPED).open()


async def test_a_plain_message_count_is_kept_up_to_date(place):
    await grow(
        place,
        "ALTER TABLE {chats} DROP COLUMN message_count",
        "ALTER TABLE {chats} ADD COLUMN message_count INTEGER DEFAULT 0 NOT NULL",
    )
    count = f"SELECT message_count FROM {place.qualified('chats')}"
    key = new_key()
    async with opened(place.adapter(**MAPPED)) as adapter:
        created = await adapter.commit(new_commit(key, "1", "2"))
        assert await place.rows(count) == [(2,)]
        await adapter.commit(new_commit(key, "3", expect=created.token))
        assert await place.rows(count) == [(3,)]
        await adapter.commit(new_commit(key, "4", expect=Expect.ANY, drop_history=True))
        assert await place.rows(count) == [(1,)]


async def test_a_table_of_something_else_under_our_name_is_left_alone(place):
    await place.run(f"CREATE TABLE {place.qualified('turnkeep_messages')} (a INTEGER)")
    adapter = place.adapter()
    for call in (adapter.open, adapter.migrate, lambda: adapter.migrate(dry_run=True)):
        with pytest.raises(ForeignTable, match=r"'turnkeep_messages' that turnkeep did not make; choose other names"):
            await call()
    assert not (await adapter.check()).ok
    assert await place.rows(f"SELECT * FROM {place.qualified('turnkeep_messages')}") == []


async def test_a_newer_version_is_refused(place):
    async with opened(place.adapter()):
        pass
    record = place.qualified("turnkeep_schema")
    await place.run(f"INSERT INTO {record} SELECT 7, '0007_later', applied_at FROM {record}")
    adapter = place.adapter()
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(SchemaTooNew, match="pip install --upgrade turnkeep-sqlalchemy"):
            await call()


async def test_making_that_was_killed_halfway_is_completed(place):
    """Where DDL cannot be rolled back, whatever was made before the end is taken up again."""
    async with opened(place.adapter()):
        pass
    await place.run(
        f"DROP VIEW {place.qualified('turnkeep_history')}",
        f"DROP TABLE {place.qualified('turnkeep_commits')}",
        f"DELETE FROM {place.qualified('turnkeep_schema')}",
    )
    with pytest.raises(SchemaMissing):
        await place.adapter().open(auto_create=False)
    async with opened(place.adapter()) as adapter:
        await adapter.commit(new_commit(new_key(), "hello"))
        assert (await adapter.check()).ok


async def test_one_namespace_is_one(place):
    options = {"field_mappings": {kind: {"namespace": None} for kind in ("sessions", "messages")}}
    async with opened(place.adapter(**options)) as adapter:
        key = new_key(Scope("shop"), "s1")
        await adapter.commit(new_commit(key, "hello", head=HeadChange(agent_name="desk")))
        assert (await adapter.load(key, LoadQuery())).head.namespace == "shop"
        assert [h.namespace for h in (await adapter.find_sessions(SessionQuery(Scope("shop"), 5))).items] == ["shop"]
        with pytest.raises(ConfigurationError, match="in use as 'shop'; 'other' needs a table of its own"):
            await adapter.load(new_key(Scope("other"), "s1"), LoadQuery())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tables": {"message": "x"}}, "sessions, messages and commits"),
        ({"tables": {"sessions": "a b"}}, "letters, digits"),
        ({"tables": {"sessions": "x", "messages": "X"}}, "different names"),
        ({"field_mappings": {"commits": {"digest": "x"}}}, "sessions and messages"),
        ({"field_mappings": {"sessions": {"uid": "user_id"}}}, "no field 'uid'"),
        ({"field_mappings": {"sessions": {"user_id": "a;b"}}}, "letters, digits"),
        ({"field_mappings": {"sessions": {"user_id": None}}}, "only namespace"),
        ({"field_mappings": {"sessions": {"user_id": "STATE"}}}, "two fields"),
        ({"field_mappings": {"messages": {"namespace": None}}}, "need sessions without one"),
        ({"schema": "a.b"}, "letters, digits"),
    ],
)
async def test_refused_names(tmp_path, options, says):
    from sqlalchemy.ext.asyncio import create_async_engine

    from turnkeep_sqlalchemy import SQLAlchemyAdapter

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db")
    with pytest.raises(InvalidArgument, match=says):
        SQLAlchemyAdapter(engine, **options)
    await engine.dispose()


async def test_an_engine_that_was_handed_in_stays_open(place):
    from sqlalchemy.ext.asyncio import create_async_engine

    from turnkeep_sqlalchemy import SQLAlchemyAdapter

    engine = create_async_engine(place.url.removeprefix("sqlalchemy+"))
    async with engine.connect() as kept:
        for _ in range(2):
            adapter = SQLAlchemyAdapter(engine, **place.options)
            async with opened(adapter):
                key = new_key()
                created = await adapter.commit(new_commit(key, "hello"))
                await adapter.commit(new_commit(key, "again", expect=created.token))
        assert (await kept.execute(text("SELECT 1"))).scalar_one() == 1
        pool = engine.pool
        assert pool.checkedout() == 1
    await engine.dispose()
    async with connected(place.url) as connection:
        count = await connection.execute(text(f"SELECT count(*) FROM {place.qualified('turnkeep_messages')}"))
        assert count.scalar_one() == 4
