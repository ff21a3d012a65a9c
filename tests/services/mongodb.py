"""SecantusDB, which speaks MongoDB's protocol: the commands and transactions of a replica set of one.

It shows what the adapter says to MongoDB, not what MongoDB keeps when the power fails. To test on MongoDB itself, set
`TURNKEEP_TEST_MONGODB_URL`.
"""

import sys
from pathlib import Path

from . import packages, pings
from .ports import free_port, port_of
from .server import Server

WHEEL = "SecantusDB==0.7.0b3"


class MongoDB(Server):
    name = "mongodb"

    def find(self) -> Path | None:
        return packages.wheel(WHEEL)

    def prepare(self, program: Path) -> str:
        # Without it the server would look for settings in the user's home.
        (self.directory / "secantusd.toml").touch()
        return f"mongodb://127.0.0.1:{free_port()}/turnkeep"

    def launch(self, program: Path, url: str) -> None:
        settings = [
            *("--config", self.directory / "secantusd.toml"),
            *("--host", "127.0.0.1", "--port", str(port_of(url))),
            *("--storage-path", self.directory / "data"),
            *("--cache-size", "256M", "--sync-on-commit"),
        ]
        self.processes.spawn([sys.executable, "-m", "secantus", *settings], env={"PYTHONPATH": str(program)})

    def answers(self, url: str) -> bool:
        return pings.mongodb(url)
