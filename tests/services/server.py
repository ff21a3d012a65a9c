"""What every server has in common: its address, its folder, how it is started and ended.

A new server is one module with one subclass of `Server`, listed in `registry.SERVERS`.
"""

import os
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

from . import packages
from .commands import ServiceError, tail
from .processes import Processes, read_json, write_json

# Of starts that end before they answer: the port that was free may have been taken, the old processes may not be gone.
ATTEMPTS = 3
REMOVE_SECONDS = 5.0


class Server(ABC):
    """One server. Everything it writes is below `directory`; only processes recorded there are ever ended.

    In `environment` stand the addresses of the user's own.
    """

    name: ClassVar[str]
    # The packages that bring the program on Debian; installed only where servers are promised.
    debian: ClassVar[tuple[str, ...]] = ()
    # Servers that must run before this one is started.
    needs: ClassVar[tuple[type["Server"], ...]] = ()
    start_seconds: ClassVar[float] = 60.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, home: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.home = home
        self.environment = environment
        self.directory = home / self.name
        self.processes = Processes(self.directory)
        self.log = self.processes.log
        self._facts = self.directory / "facts"

    @property
    def variable(self) -> str:
        """The name of the environment variable with the address."""
        return f"TURNKEEP_TEST_{self.name.upper()}_URL"

    @property
    def given(self) -> str | None:
        """The address that the user set, or None. It wins: nothing is started, nothing ended."""
        return self.environment.get(self.variable) or None

    @abstractmethod
    def find(self) -> Path | None:
        """Return the program of this machine, or the folder of a package that brings it, or None.

        Raises:
            ServiceError: the package cannot be had.
        """

    def at_hand(self) -> bool:
        """Whether its program is on this machine. In tests' own environments, which cannot install: by now."""
        try:
            return self.find() is not None
        except ServiceError:
            return False

    @abstractmethod
    def prepare(self, program: Path) -> str:
        """Make the data and the settings in `directory`, which is empty; return the address it will have."""

    @abstractmethod
    def launch(self, program: Path, url: str) -> None:
        """Start the process or processes on what is in `directory`: right after `prepare`, or after a kill."""

    @abstractmethod
    def answers(self, url: str) -> bool:
        """Return whether it does what tests need; an accepted connection alone says little."""

    def variables(self, url: str) -> dict[str, str]:
        """Return the variables that tests read for the server at this address, with their values."""
        return {self.variable: url}

    def start(self) -> str:
        """Start it anew and return its address once it answers; leave no process behind if it does not."""
        program = self.find()
        if program is None:
            raise ServiceError(self._absent())
        url = self._retried(partial(self._start_once, program))
        write_json(self._facts, {"program": str(program), "url": url})
        return url

    def address(self) -> str | None:
        """Return the address if the server started here is still running."""
        facts = read_json(self._facts)
        return facts["url"] if facts and self.processes.running() else None

    def kill(self) -> None:
        """End it with no time to write anything; `resume` starts it again on what the disk holds."""
        self.processes.end(signal.SIGKILL)

    def resume(self) -> str:
        """Start it again, after `kill` or a crash, at the same address and with the data it had."""
        facts = read_json(self._facts)
        if facts is None:
            raise ServiceError(f"{self.name}: never started in {self.directory}, so there is nothing to resume")
        return self._retried(partial(self._resume_once, Path(facts["program"]), facts["url"]))

    def stop(self, *, keep_files: bool = False) -> None:
        """End what `start` started, gently and then not. Doing it twice is harmless."""
        self.processes.end(self.stop_signal, signal.SIGKILL)
        if not keep_files:
            _remove(self.directory)

    def _start_once(self, program: Path) -> str:
        self.stop()
        self.directory.mkdir(parents=True)
        try:
            url = self.prepare(program)
            self._run(program, url)
        except BaseException:
            self.stop(keep_files=True)
            raise
        return url

    def _resume_once(self, program: Path, url: str) -> str:
        self.kill()
        self._run(program, url)
        return url

    def _retried(self, once: Callable[[], str]) -> str:
        for _ in range(ATTEMPTS - 1):
            with suppress(_Ended):
                return once()
        return once()

    def _run(self, program: Path, url: str) -> None:
        self.launch(program, url)
        deadline = time.monotonic() + self.start_seconds
        while not self.answers(url):
            if not self.processes.running():
                raise _Ended(f"{self.name}: ended while starting\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name}: no answer in {self.start_seconds:g} s\n{tail(self.log)}")
            time.sleep(0.05)

    def _absent(self) -> str:
        reason = f"{self.name}: no such server on this machine, and {self.variable} is not set"
        return f"{reason}; on Debian: {packages.apt_line(self.debian)}" if self.debian else reason


class _Ended(ServiceError):
    """It ended before it answered; another try may go better."""


def _remove(directory: Path) -> None:
    # What the ended processes started may write a moment longer.
    deadline = time.monotonic() + REMOVE_SECONDS
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
