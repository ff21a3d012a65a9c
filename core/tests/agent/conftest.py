from __future__ import annotations

import asyncio

import pytest

from turnkeep.turn import open_turns

from .kit import STORES, Store, memory_store, settle, tasks_but_me


@pytest.fixture(params=STORES)
async def store(request, tmp_path):
    if request.param == "memory":
        made = memory_store()
    else:
        sqlite = pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")
        made = Store(lambda: sqlite.SQLiteAdapter(tmp_path / "store.db", durability="normal"))
    yield made
    await made.aclose()


@pytest.fixture
async def memory():
    made = memory_store()
    yield made
    await made.aclose()


@pytest.fixture
async def persistence(store):
    return await store.connect()


@pytest.fixture(autouse=True)
async def nothing_left():
    """Every test ends with no task and no open turn left over."""
    before = asyncio.all_tasks()
    yield
    await settle(3)
    assert open_turns() == ()
    left = {task for task in tasks_but_me() - before if not task.done()}
    assert not left, f"tasks left over: {left}"
