"""A replica: reads are served, writes are refused with the way to the writer, and several hosts find it themselves."""

import asyncio

import psycopg
import pytest

from turnkeep.contract import Expect, LoadQuery
from turnkeep.errors import StorageRefused
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit import new_commit, new_key

from .kit import opened, replaced, run_sql
from .servers import private_server, standby_of


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with (
        private_server(tmp_path_factory.mktemp("writer")) as writer,
        standby_of(writer, tmp_path_factory.mktemp("replica")) as replica,
    ):
        yield writer.address(), replica.address()


async def replayed(writer, replica):
    """Waits until the replica has what the writer has."""
    ((place,),) = run_sql(writer, "SELECT pg_current_wal_lsn()")
    while run_sql(replica, f"SELECT pg_last_wal_replay_lsn() >= '{place}'") != [(True,)]:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


async def test_a_replica_without_tables_cannot_be_given_some(servers):
    adapter = PostgreSQLAdapter(servers[1], tables={name: f"no_{name}" for name in ("sessions", "messages", "commits")})
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(StorageRefused, match="target_session_attrs=read-write"):
            await call()


async def test_a_replica_is_read_and_refuses_to_write(servers):
    key = new_key()
    async with opened(servers[0]) as adapter:
        await adapter.commit(new_commit(key, "one"))
    await replayed(*servers)
    async with opened(servers[1]) as adapter:
        assert (await adapter.load(key, LoadQuery())).messages[0].content == "one"
        for call in (
            adapter.commit(new_commit(key, "two", expect=Expect.ANY)),
            adapter.commit(new_commit(new_key(), "two")),
            adapter.delete(key),
            adapter.sweep(10),
        ):
            with pytest.raises(StorageRefused, match="target_session_attrs=read-write") as caught:
                await asyncio.wait_for(call, 10)
            assert not caught.value.retryable
        report = await adapter.check()
        assert not report.ok
        assert "a replica: it only reads" in str(report)


async def test_of_several_hosts_the_writer_is_used(servers):
    writer, replica = (psycopg.conninfo.conninfo_to_dict(url) for url in servers)
    both = replaced(servers[0], host=f"{replica['host']},{writer['host']}", port=f"{replica['port']},{writer['port']}")
    async with opened(both) as adapter:
        await adapter.commit(new_commit(new_key(), "one"))


async def test_only_replicas_are_told_as_that(servers):
    adapter = PostgreSQLAdapter(replaced(servers[1], target_session_attrs="read-write"))
    with pytest.raises(StorageRefused, match="only reads"):
        await asyncio.wait_for(adapter.open(), 10)
