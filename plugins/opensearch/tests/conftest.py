"""Indices of their own for every test or module, on the server that the environment names."""

import asyncio
import os
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from .kit import absent, client_of, remove

# Lets the processes that tests start import the tests' own functions, and tests the servers of the repository.
_ROOT = Path(__file__).parents[3]
sys.path += [str(_ROOT), str(_ROOT / "tests")]

URL = "TURNKEEP_TEST_OPENSEARCH_URL"


HABITS = (
    # On newer Pythons it is not needed any more.
    "ignore:enable_cleanup_closed ignored:DeprecationWarning",
    # It takes bytes only; Python shows such a warning to nobody who does not ask for it.
    "ignore:Sending a large body directly:ResourceWarning",
)
"""What opensearch-py does, and aiohttp warns of."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for habit in HABITS:
                item.add_marker(pytest.mark.filterwarnings(habit))


@pytest.fixture(scope="session")
def cluster_url():
    """Where the server is."""
    url = os.environ.get(URL)
    if not url:
        absent(f"no OpenSearch server: set {URL}, for example with `make services`")
    return url


@contextmanager
def _new_names(url):
    stem = f"turnkeep_test_{uuid.uuid4().hex}"
    yield {"sessions": f"{stem}_sessions", "messages": f"{stem}_messages"}
    asyncio.run(remove(url, stem))


@pytest.fixture
def names(cluster_url):
    """The names of indices that are not there yet, and are removed afterwards."""
    with _new_names(cluster_url) as found:
        yield found


@pytest.fixture(scope="module")
def shared_names(cluster_url):
    """The same for all tests of a module: making indices takes longer than most tests."""
    with _new_names(cluster_url) as found:
        yield found


@pytest.fixture
async def client(cluster_url):
    """A client of the test's own."""
    async with client_of(cluster_url) as found:
        yield found
