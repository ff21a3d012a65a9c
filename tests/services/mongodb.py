"""SecantusDB, which speaks MongoDB's protocol.

It shows what an adapter and MongoDB say to each other, not what MongoDB keeps when the power fails. To test on MongoDB
itself, set `TURNKEEP_TEST_MONGODB_URL`.
"""

import sys
from pathlib import Path

from . import packages, pings
from .ports import free_port, port_of
from .server import Server

WHEEL = "SecantusDB==0.7.0b3"


class MongoDB(Server):
    """A replica set of one. `configureFailPoint` is allowed; name your client in it: others use the server too."""

    name = "mongodb"
    topology: tuple[str, ...] = ()

    def find(self) -> Path | None:
        return packages.wheel(WHEEL)

    def prepare(self, program: Path) -> str:
        # Without settings of its own it would look for some in the user's home.
        (self.directory / "secantusd.toml").touch()
        return f"mongodb://127.0.0.1:{free_port()}/turnkeep"

    def launch(self, program: Path, url: str) -> None:
        settings = [
            *("--config", self.directory / "secantusd.toml"),
            *("--host", "127.0.0.1", "--port", str(port_of(url))),
            *("--storage-path", self.directory / "data", "--cache-size", "256M"),
            *("--sync-on-commit", "--enable-test-commands", *self.topology),
        ]
        self.processes.spawn([sys.executable, "-m", "secantus", *settings], env={"PYTHONPATH": str(program)})

    def answers(self, url: str) -> bool:
        return pings.mongodb(url)


class MongoDBStandalone(MongoDB):
    """No replica set, hence no transactions."""

    name = "mongodb_standalone"
    topology = ("--standalone",)
