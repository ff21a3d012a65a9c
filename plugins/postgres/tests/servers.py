"""Servers of a test's own: to be killed, to ask for passwords, to follow another."""

import os
from contextlib import contextmanager

import psycopg
import pytest

from .kit import replaced, run_sql


def _services():
    return pytest.importorskip("tests.services.postgres", reason="this checkout cannot start servers of its own")


@contextmanager
def private_server(directory, kind="PostgreSQL"):
    """A server, or the one of the system (``PostgreSQLOld``); without its program the test is skipped."""
    server = getattr(_services(), kind)(directory, environment={})
    if not server.at_hand():
        if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
            pytest.fail(f"TURNKEEP_REQUIRE_SERVICES=1 promises the program of {kind}")
        pytest.skip(f"this machine has no program of {kind} to start")
    with _running(server):
        yield server


@contextmanager
def standby_of(server, directory):
    """A server that replays what this one writes, and only reads."""
    services = _services()

    class Standby(services.PostgreSQL):
        name = "standby"

        def find(self):
            return server.find()

        def prepare(self, program):
            data = self.directory / "data"
            data.mkdir(mode=0o700)
            services.give(data)
            copy = [program.with_name("pg_basebackup"), "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]
            source = as_superuser(server.address())
            self.processes.run(services.unprivileged([*copy, "--pgdata", data, "--dbname", source]))
            return f"postgresql://turnkeep@127.0.0.1:{services.free_port()}/turnkeep"

    with _running(Standby(directory, environment={})) as standby:
        yield standby


@contextmanager
def _running(server):
    try:
        server.start()
        yield server
    finally:
        server.stop()


def ask_for_password(server, role, password):
    """Makes a role that the server lets in by this password only; the address with it."""
    address = as_superuser(server.address())
    rules = server.directory / "data" / "pg_hba.conf"
    rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    run_sql(
        address,
        psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(psycopg.sql.Identifier(role), password),
        f"GRANT turnkeep TO {role}",
        "SELECT pg_reload_conf()",
    )
    return replaced(server.address(), user=role, password=password)


def as_superuser(url):
    """The same database as its server's first role."""
    return replaced(url, user="postgres")
