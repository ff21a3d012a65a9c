"""A place of its own for each test that asks for one."""

import asyncio

import pytest

from .kit import Place


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def place(request, tmp_path):
    """A database of each kind, empty."""
    found = Place(request.param, tmp_path)
    asyncio.run(found.make())
    yield found
    asyncio.run(found.remove())
