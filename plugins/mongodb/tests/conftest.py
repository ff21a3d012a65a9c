"""A database of its own for every test, on the server that the environment names."""

import os
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient, MongoClient

from .kit import absent, watched

# Lets the processes that tests start import the tests' own functions, and tests the servers of the repository.
_ROOT = Path(__file__).parents[3]
sys.path += [str(_ROOT), str(_ROOT / "tests")]

URL = "TURNKEEP_TEST_MONGODB_URL"
STANDALONE_URL = "TURNKEEP_TEST_MONGODB_STANDALONE_URL"


def pytest_collection_modifyitems(items):
    """Lets PyMongo drop the socket of a connection that is refused, or cancelled while it is made, without closing it.

    Being dropped closes it; when that is, and so in which test, is up to the garbage collector.
    """
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))


def _address(variable):
    url = os.environ.get(variable)
    if not url:
        absent(f"no MongoDB server: set {variable}, for example with `make services`")
    return watched(url)


@pytest.fixture(scope="session")
def replica_url():
    """Where a server with a replica set is."""
    return _address(URL)


@pytest.fixture(scope="session")
def standalone_url():
    """Where a server without one is."""
    return _address(STANDALONE_URL)


def _drop(url, name):
    # Collection by collection: even here, nothing destroys a whole database.
    client = MongoClient(url)
    database = client[name]
    for collection in database.list_collection_names():
        database[collection].drop()
    client.close()


@contextmanager
def _new_database(url):
    name = f"turnkeep_test_{uuid.uuid4().hex}"
    yield name
    _drop(url, name)


@pytest.fixture
def database(replica_url):
    """The name of an empty database, emptied again afterwards."""
    with _new_database(replica_url) as name:
        yield name


@pytest.fixture(scope="module")
def shared_database(replica_url):
    """The same for all tests of a module: making collections and indexes takes longer than most tests."""
    with _new_database(replica_url) as name:
        yield name


@pytest.fixture(scope="module")
def standalone_database(standalone_url):
    """As ``shared_database``, on a server without a replica set."""
    with _new_database(standalone_url) as name:
        yield name


@pytest.fixture
async def client(replica_url):
    """A client of the test's own."""
    found = AsyncMongoClient(replica_url)
    yield found
    await found.close()
