"""The n-th statement fails, for every n: what is stored is the old or the new, and the adapter goes on."""

import sqlite3

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery, Scope, SessionQuery, StatsQuery
from turnkeep.errors import CommitOutcomeUnknown, StorageUnavailable
from turnkeep_sqlite import connections
from turnkeep_testkit import FakeClock, new_commit, new_key

from .kit import opened, run_sql


class Failing(sqlite3.Connection):
    """Fails at the n-th statement from now on, once."""

    left = 0
    failed = ""

    def _count(self, sql):
        Failing.left -= 1
        if Failing.left == 0:
            Failing.failed = sql
            error = sqlite3.OperationalError("made up")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    def execute(self, sql, *parameters):
        self._count(sql)
        return super().execute(sql, *parameters)

    def executemany(self, sql, *parameters):
        self._count(sql)
        return super().executemany(sql, *parameters)


SCOPE = Scope("faults", "u")
KEY = new_key(SCOPE, "s")
CALLS = {
    "create": lambda adapter, token: adapter.commit(
        new_commit(new_key(SCOPE, "other"), "a", user_id="u", commit_id="n")
    ),
    "commit": lambda adapter, token: adapter.commit(
        new_commit(KEY, "b", "c", expect=token, data="[2]", state="[2]", commit_id="n")
    ),
    "append": lambda adapter, token: adapter.commit(new_commit(KEY, "b", expect=Expect.ANY, commit_id="n")),
    "clear": lambda adapter, token: adapter.commit(
        new_commit(KEY, expect=Expect.ANY, drop_history=True, commit_id="n")
    ),
    "delete": lambda adapter, token: adapter.delete(KEY),
    "erase": lambda adapter, token: adapter.delete_owner(SCOPE),
    "load": lambda adapter, token: adapter.load(KEY, LoadQuery(1, "first")),
    "read": lambda adapter, token: adapter.read_messages(KEY, MessageQuery(5)),
    "list": lambda adapter, token: adapter.find_sessions(SessionQuery(SCOPE, 5)),
    "count": lambda adapter, token: adapter.stats(StatsQuery(SCOPE)),
    "sweep": lambda adapter, token: adapter.sweep(5),
}


def dump(path):
    tables = ("sessions ORDER BY id", "messages ORDER BY seq", "commits ORDER BY commit_id")
    return [run_sql(path, f"SELECT * FROM turnkeep_{table}") for table in tables]


@pytest.mark.parametrize("call", CALLS)
async def test_every_statement_may_fail(tmp_path, monkeypatch, call):
    connect = sqlite3.connect
    monkeypatch.setattr(
        connections.sqlite3, "connect", lambda *args, **options: connect(*args, **options | {"factory": Failing})
    )
    number, done = 0, False
    while not done:
        number += 1
        path = tmp_path / f"{number}.db"
        async with opened(path, clock=FakeClock(), durability="normal") as adapter:
            token = (await adapter.commit(new_commit(KEY, "a", user_id="u", data="[1]", commit_id="first"))).token
            before = dump(path)
            Failing.left = number
            try:
                await CALLS[call](adapter, token)
                done = True
            except (StorageUnavailable, CommitOutcomeUnknown) as error:
                assert isinstance(error.__cause__, sqlite3.OperationalError)  # noqa: PT017 - the old or the new, both fine
                assert dump(path) == before, Failing.failed
            finally:
                Failing.left = 0
            await CALLS[call](adapter, token)
            assert run_sql(path, "PRAGMA foreign_key_check") == []
            assert (await adapter.commit(new_commit(new_key(SCOPE), "afterwards"))).created
    assert number > 3
