"""What every server has in common: its address, its folder, its processes.

A new server is one module with one subclass of `Server`, listed in `registry.SERVERS`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

STOP_SECONDS = 10.0


class ServiceError(Exception):
    """A server that was asked for cannot be had; the message says why."""


class Server(ABC):
    """One server. Everything it writes is below `directory`; only processes recorded there are ever ended."""

    name: ClassVar[str]
    start_seconds: ClassVar[float] = 60.0

    def __init__(self, home: Path) -> None:
        self.directory = home / self.name

    @property
    def variable(self) -> str:
        """The environment variable with the address. Set by the user, it wins: nothing is started, nothing ended."""
        return f"TURNKEEP_TEST_{self.name.upper()}_URL"

    @abstractmethod
    def find(self) -> str | None:
        """Return the program to run (a container engine, a program of this machine, one inside a package), or None."""

    @abstractmethod
    def launch(self, program: str) -> str:
        """Start the process or processes with `spawn` and return the address."""

    @abstractmethod
    def answers(self, url: str) -> bool:
        """Return whether it does what tests need; an accepted connection alone says little."""

    def start(self) -> str:
        """Start it and return its address once it answers; leave nothing behind if it does not."""
        program = self.find()
        if program is None:
            raise ServiceError(f"{self.name}: no such server on this machine, and {self.variable} is not set")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        try:
            url = self.launch(program)
            self._wait(url)
        except BaseException:
            self.stop(keep_files=True)
            raise
        (self.directory / "url").write_text(url, encoding="utf-8")
        return url

    def address(self) -> str | None:
        """Return the address if the server started here is still running."""
        records = self._records()
        path = self.directory / "url"
        if records and path.exists() and all(self._alive(record) for record in records):
            return path.read_text(encoding="utf-8")
        return None

    def stop(self, *, keep_files: bool = False) -> None:
        """End what `start` started, gently and then not. Doing it twice is harmless."""
        records = self._records()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for record in filter(self._alive, records):
                os.kill(record["pid"], number)
            deadline = time.monotonic() + STOP_SECONDS
            while any(self._alive(record) for record in records) and time.monotonic() < deadline:
                time.sleep(0.02)
        (self.directory / "pids").unlink(missing_ok=True)
        if not keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)

    def spawn(self, command: Sequence[str | Path], *, env: dict[str, str] | None = None) -> int:
        """Start one process in a session of its own, its output in `log`, and record it; return its id."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        records = [*self._records(), {"pid": process.pid, "born": _born(process.pid)}]
        (self.directory / "pids").write_text(json.dumps(records), encoding="utf-8")
        return process.pid

    # Held so that a child that ends is reaped while this process lives.
    _children: ClassVar[list[subprocess.Popen[bytes]]] = []

    def _wait(self, url: str) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self.answers(url):
            if not all(self._alive(record) for record in self._records()):
                raise ServiceError(f"{self.name}: ended while starting\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name}: no answer in {self.start_seconds:g} s\n{self._log_tail()}")
            time.sleep(0.05)

    def _records(self) -> list[dict]:
        try:
            return json.loads((self.directory / "pids").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []

    def _alive(self, record: dict) -> bool:
        for child in self._children:
            child.poll()
        # A process id alone may by now be somebody else's.
        return record["born"] is not None and _born(record["pid"]) == record["born"]

    def _log_tail(self) -> str:
        path = self.directory / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _born(pid: int) -> str | None:
    """Return when the process began; None if there is none or it has ended."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, start = fields[0], fields[19]
    else:
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        line = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        state, _, start = line.strip().partition(" ")
    return None if state[:1] in {"", "Z", "X"} else start.strip()
