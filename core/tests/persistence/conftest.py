"""A store of each kind behind an adapter that counts and fails on demand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import turnkeep
from turnkeep_testkit.making import FakeClock

KIT = "turnkeep_core_test_kit"
if KIT not in sys.modules:
    # In pytest's importlib mode tests cannot import their neighbours; this makes one module of it for all.
    spec = importlib.util.spec_from_file_location(KIT, Path(__file__).parents[1] / "persistence" / "kit.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[KIT] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[KIT])


@pytest.fixture(params=["memory", "sqlite"])
def make_inner(request, tmp_path):
    """Makes another adapter for one and the same store."""
    if request.param == "memory":
        one = turnkeep.MemoryAdapter()
        return lambda: one
    sqlite = pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")

    return lambda: sqlite.SQLiteAdapter(tmp_path / "store.db", durability="normal")


@pytest.fixture
def adapter(make_inner):
    """Memory and SQLite, counting and failing on demand."""
    return sys.modules[KIT].Wrapped(make_inner())


@pytest.fixture
async def connect():
    """``turnkeep.connect`` whose results are closed at the end."""
    opened = []

    async def connect(*args, **kwargs):
        opened.append(await turnkeep.connect(*args, **kwargs))
        return opened[-1]

    yield connect
    for persistence in reversed(opened):
        await persistence.aclose()


@pytest.fixture
async def persistence(adapter, connect):
    return await connect(adapter)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def memory(clock):
    """Only memory, with a clock that tests move."""
    return sys.modules[KIT].Wrapped(turnkeep.MemoryAdapter(clock=clock))


@pytest.fixture
def live(persistence):
    """Makes a live session on the store."""
    return lambda *args, **kwargs: turnkeep.SessionManager(persistence, *args, **kwargs)
