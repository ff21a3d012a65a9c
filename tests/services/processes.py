"""The processes of one server: recorded before they begin, known by more than their id, ended by it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from .commands import check

STOP_SECONDS = 10.0


class Record(TypedDict):
    """What is known of a process: its id alone may by now be somebody else's."""

    pid: int
    born: str | None


class Processes:
    """Those started in this folder. Their records are in the file `pids`, their output is in the file `log`."""

    # Held so that a child that ends is reaped while this process lives.
    _children: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self._file = directory / "pids"

    def spawn(self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        """Start one that stays; `env` is added to the environment."""
        self._begin(command, env or {}, "")

    def run(self, command: Sequence[str | Path], *, text: str = "") -> None:
        """Start one that reads this text, and wait for its end.

        Raises:
            ServiceError: it failed; the end of the log is in the message.
        """
        others = self._records()
        status = self._begin(command, {}, text).wait()
        write_json(self._file, others)
        check(command, status, self.log)

    def _begin(self, command: Sequence[str | Path], env: Mapping[str, str], text: str) -> subprocess.Popen[bytes]:
        """Start one in a session of its own.

        It waits until it is recorded: this process may be killed at any point, and none may be left that nobody knows.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh", *command],
                cwd=self.directory,
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(process)
        assert process.stdin is not None
        with process.stdin as stdin:
            write_json(self._file, [*self._records(), Record(pid=process.pid, born=_born(process.pid))])
            stdin.write(f"go\n{text}".encode())
        return process

    def running(self) -> bool:
        """Return whether there are some and all of them live."""
        records = self._records()
        return bool(records) and all(map(self._alive, records))

    def end(self, *signals: signal.Signals) -> None:
        """Send the first signal, after a while the next; forget the processes. Doing it twice is harmless."""
        records = self._records()
        for number in signals:
            for record in filter(self._alive, records):
                # With it those that it started and that stayed in its group; it may just have ended by itself.
                with suppress(ProcessLookupError):
                    os.killpg(record["pid"], number)
            deadline = time.monotonic() + STOP_SECONDS
            while any(map(self._alive, records)) and time.monotonic() < deadline:
                time.sleep(0.02)
        self._reap()
        self._file.unlink(missing_ok=True)

    def _records(self) -> list[Record]:
        return read_json(self._file) or []

    def _reap(self) -> None:
        for child in self._children:
            child.poll()

    def _alive(self, record: Record) -> bool:
        self._reap()
        return record["born"] is not None and _born(record["pid"]) == record["born"]


def write_json(path: Path, value: Any) -> None:
    """Write a file that a reader finds whole, whenever this process is killed."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(value), encoding="utf-8")
    new.replace(path)


def read_json(path: Path) -> Any:
    """Return what was written; None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


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
