"""The list of servers, and starting and ending them together."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from .server import Server, ServiceError

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".services"
ENV_FILE = ROOT / ".services.env"

# No test needs a server yet; each later one is a module beside this file.
SERVERS: tuple[type[Server], ...] = ()


def up(*, required: bool = False) -> list[str]:
    """Start every server that is neither given by its variable nor running; return the names of those started.

    A server that cannot be had is named and left out; if `required`, it raises `ServiceError` and those just started
    are ended.
    """
    started: list[str] = []
    if not SERVERS:
        print("services: no test needs a server yet, nothing to start", flush=True)
    for server in _servers():
        try:
            if os.environ.get(server.variable):
                state = f"given by {server.variable}"
            elif url := server.address():
                state = f"running at {url}"
            else:
                state = f"started at {server.start()}"
                started.append(server.name)
        except ServiceError as error:
            if required:
                down(started)
                raise
            state = f"left out, its tests are skipped: {error}"
        print(f"services: {server.name}: {state}", flush=True)
    _write_env_file()
    return started


def down(names: Iterable[str] | None = None) -> None:
    """End the servers with these names (None: all) that were started here."""
    for server in _servers():
        if names is None or server.name in names:
            server.stop()
    _write_env_file()


def addresses() -> dict[str, str]:
    """Return `TURNKEEP_TEST_<NAME>_URL` of each server that runs; what the user set is left as it is."""
    found = {server.variable: server.address() for server in _servers() if not os.environ.get(server.variable)}
    return {variable: url for variable, url in found.items() if url}


def _servers() -> list[Server]:
    return [kind(HOME) for kind in SERVERS]


def _write_env_file() -> None:
    lines = [f"{variable}={shlex.quote(url)}\n" for variable, url in sorted(addresses().items())]
    ENV_FILE.write_text("".join(lines), encoding="utf-8")
