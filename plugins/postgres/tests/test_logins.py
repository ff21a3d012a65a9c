"""A server that asks for passwords: what a wrong one is told, and that a right one is told to nobody."""

import asyncio
import logging
import traceback

import psycopg
import pytest

from turnkeep.contract import Expect, LoadQuery, SessionQuery
from turnkeep.errors import InvalidArgument, StorageRefused, TurnkeepError
from turnkeep.urls import StorageURL
from turnkeep_postgres import PostgreSQLAdapter
from turnkeep_testkit import new_commit, new_key
from turnkeep_testkit.faults import FaultProxy, address_of

from .kit import fresh_schema, opened, replaced, run_sql
from .servers import as_superuser, ask_for_password, private_server

CANARY = "c4nary p4ssword"
"""Of the role `guarded`; with a blank, which a connection string quotes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with private_server(tmp_path_factory.mktemp("server")) as server:
        yield ask_for_password(server, "guarded", CANARY)


@pytest.fixture
def schema(server):
    with fresh_schema(url=server) as name:
        yield name


async def test_a_wrong_password_is_refused(server, schema):
    async with opened(server, schema=schema):
        pass
    for wrong in ("wrong", ""):
        adapter = PostgreSQLAdapter(replaced(server, password=wrong), schema=schema)
        for call in (adapter.open, adapter.migrate):
            with pytest.raises(StorageRefused, match=r"look at user, password and pg_hba\.conf") as caught:
                await asyncio.wait_for(call(), 10)
            assert not caught.value.retryable
        report = await adapter.check()
        assert not report.ok
        assert "password" in str(report)


async def test_a_password_that_is_changed_while_the_store_is_open(server, schema):
    """What the pool cannot open any more is told as what it is, not as a full pool."""
    url = replaced(server, application_name=schema)
    async with opened(url, schema=schema, pool_timeout=0.2) as adapter:
        key = new_key()
        first = await adapter.commit(new_commit(key, "one"))
        boss = as_superuser(replaced(server, password=""))
        run_sql(boss, "ALTER ROLE guarded PASSWORD 'another'")
        try:
            ended = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = '{schema}'"
            run_sql(boss, ended)
            for call in (
                lambda: adapter.load(key, LoadQuery()),
                lambda: adapter.commit(new_commit(key, "two", expect=first.token)),
            ):
                with pytest.raises(TurnkeepError, match="user, password"):
                    await asyncio.wait_for(call(), 10)
        finally:
            run_sql(boss, psycopg.sql.SQL("ALTER ROLE guarded PASSWORD {}").format(CANARY))


class Told:
    """Everything that anybody could read."""

    def __init__(self):
        self.texts = []

    def hear(self, thing):
        self.texts += [str(thing), repr(thing)]
        while isinstance(thing, BaseException):  # an error reporter walks attributes, too
            self.texts += traceback.format_exception(thing)
            self.texts += [str(value) for value in vars(thing).values()]
            thing = thing.__cause__

    async def hear_calls(self, adapter):
        """Results and errors of everything an adapter can be asked."""
        key = new_key()
        self.hear(adapter)
        self.hear(adapter._source)
        for call in (
            adapter.open,
            adapter.check,
            adapter.migrate,
            lambda: adapter.commit(new_commit(key, "one")),
            lambda: adapter.commit(new_commit(key, "two", expect=Expect.NEW)),
            lambda: adapter.load(key, LoadQuery()),
            lambda: adapter.find_sessions(SessionQuery(key.scope, 1)),
            lambda: adapter.delete(key),
        ):
            try:
                self.hear(await call())
            except TurnkeepError as error:
                self.hear(error)


async def test_no_password_is_told_to_anybody(server, schema, caplog):
    """The server's own password, right and with a wrong one of two, is looked for in all that is said and logged."""
    caplog.set_level(logging.DEBUG)
    told = Told()
    wrong = f"{CANARY}!"
    for dsn in (
        server,
        replaced(server, password=wrong),
        replaced(server, password=wrong, dbname="nothing"),
        replaced(server, port="1"),
        replaced(server, host="unknown.invalid"),
        replaced(server, dbname="nothing"),
        replaced(server, user="nobody"),
        replaced(server, options="-c default_transaction_read_only=on"),
    ):
        adapter = PostgreSQLAdapter(dsn, schema=schema, pool_timeout=0.2)
        await told.hear_calls(adapter)
        await adapter.aclose()
    for text in (f"postgresql://u:{CANARY}@h/d?nonsense=1", f"host=h password='{CANARY}' nonsense=1", f"{CANARY} x"):
        for make in (PostgreSQLAdapter, lambda text: PostgreSQLAdapter.from_url(StorageURL(text))):
            try:
                told.hear(make(text))
            except InvalidArgument as error:
                told.hear(error)
    await _lose_connections(server, schema, told)
    told.texts += [record.getMessage() for record in caplog.records]
    told.texts += [str(record.exc_text) for record in caplog.records]
    said = "\n".join(told.texts)
    for expected in ("refused the login", "createdb", "cannot be reached", "target_session_attrs", "discarding closed"):
        assert expected in said, "this was to be looked at, too"
    for secret in (CANARY, CANARY.replace(" ", "%20"), CANARY.partition(" ")[2]):
        assert not [text for text in told.texts if secret in text]


async def _lose_connections(server, schema, told):
    """The server goes away under an open store, and comes back."""
    async with FaultProxy(*address_of(f"postgresql://{_place(server)}")) as proxy:
        url = replaced(server, host=proxy.host, port=str(proxy.port))
        async with opened(url, schema=schema, pool_timeout=0.2) as adapter:
            proxy.cut_all()
            await told.hear_calls(adapter)
            proxy.refuse()
            proxy.cut_all()
            await told.hear_calls(adapter)
            proxy.heal()


def _place(url):
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return f"{parts['host']}:{parts['port']}"
