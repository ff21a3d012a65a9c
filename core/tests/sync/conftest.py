from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from turnkeep.sync import _door

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package", autouse=True)
def door_is_closed_behind_us() -> Iterator[None]:
    """Other tests of this process fork: a thread of ours must not live on."""
    yield
    door, _door._Process.door = _door._Process.door, None
    if door is not None:
        door.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("turnkeep-door")]
