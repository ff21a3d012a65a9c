"""A place of its own for each test that asks for one."""

import pytest

from .kit import Place


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def place(request, tmp_path):
    """A database of each kind, empty."""
    with Place(request.param, tmp_path) as found:
        yield found
