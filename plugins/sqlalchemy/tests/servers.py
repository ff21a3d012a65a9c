"""Servers of a test's own, to be killed: those that `tests/services` of the repository knows how to start."""

import importlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[3] / "tests"
KINDS = {"mariadb": "MariaDB", "postgres": "PostgreSQL"}


@contextmanager
def private_server(kind, directory):
    """A server, running; without its program the test is skipped, unless it was promised."""
    if not (TESTS / "services").is_dir():
        pytest.skip("only a checkout of the repository can start a server of its own")
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    server = getattr(importlib.import_module(f"services.{kind}"), KINDS[kind])(directory, environment={})
    if not server.at_hand():
        said = f"this machine has no program of {KINDS[kind]} to start"
        if os.environ.get("TURNKEEP_REQUIRE_SERVICES") == "1":
            pytest.fail(said)
        pytest.skip(said)
    try:
        server.start()
        yield server
    finally:
        server.stop()
