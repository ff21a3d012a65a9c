"""Cleans up once, at the end; lets the processes that tests start import the tests' own functions."""

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from .kit import RUN, VARIABLES, address, connected, remove

sys.path.append(str(Path(__file__).parents[3]))


@pytest.fixture(scope="session", autouse=True)
def _leave_nothing_behind():
    yield

    async def clean(url):
        async with connected(url) as client:
            await remove(client, RUN)

    for variable in VARIABLES.values():
        if os.environ.get(variable):
            asyncio.run(clean(os.environ[variable]))


@pytest.fixture(scope="session")
def old_program():
    """The oldest redis-server that is supported, which runs as the service of that name."""
    return _program("old")


@pytest.fixture(scope="session")
def valkey_program():
    """The valkey-server that runs as a service."""
    return _program("valkey")


def _program(server):
    name = urlsplit(address(server))
    with Redis(host=name.hostname, port=name.port, protocol=2) as client:
        return str(Path(f"/proc/{client.info('server')['process_id']}/exe").readlink())
