"""Programs that are run to their end."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SHOWN = 2000


class ServiceError(Exception):
    """A server that was asked for cannot be had; the message says why."""


def run(command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None) -> None:
    """Run a program, its output in this log; `env` is added to the environment.

    Raises:
        ServiceError: it is not there, or it failed; the end of the log is in the message.
    """
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        except FileNotFoundError as error:
            raise ServiceError(f"there is no {command[0]}") from error
    check(command, done.returncode, log)


def check(command: Sequence[str | Path], status: int, log: Path) -> None:
    """Raise `ServiceError`, with the end of the log, unless the status is that of success."""
    if status:
        raise ServiceError(f"status {status} of {shlex.join(map(str, command))}\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the end of a log; nothing if there is none."""
    return log.read_text(encoding="utf-8", errors="replace")[-SHOWN:] if log.exists() else ""
