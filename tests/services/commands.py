"""Programs that are run to their end."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SHOWN = 2000


class ServiceError(Exception):
    """A server that was asked for cannot be had; the message says why."""


def run(command: Sequence[str | Path], log: Path, *, text: str = "", env: Mapping[str, str] | None = None) -> None:
    """Run a program in the folder of this log, its output in it; `env` is added to the environment.

    Raises:
        ServiceError: there is no such program, or it failed; the end of the log is in the message.
    """
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                cwd=log.parent,
                env={**os.environ, **(env or {})},
                input=text.encode(),
                stdout=output,
                stderr=output,
                check=False,
            )
        except FileNotFoundError as error:
            raise ServiceError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise ServiceError(f"status {done.returncode} of {shlex.join(map(str, command))}\n{tail(log)}")


def tail(log: Path) -> str:
    """Return the end of a log; nothing if there is none."""
    return log.read_text(encoding="utf-8", errors="replace")[-SHOWN:] if log.exists() else ""
