"""Cleans up once, at the end; lets the processes that tests start import the tests' own functions."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from .kit import RUN, VARIABLES, connected, remove

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
