"""Programs that refuse to be run by root."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .commands import ServiceError
from .packages import program

USER = "nobody"


def unprivileged(command: Sequence[str | Path]) -> list[str | Path]:
    """Return the command as it is, or for root one that runs it as `nobody`.

    It keeps one right of root's: to pass folders such as /root, in which the checkout may lie. (Without the secure bit
    it would pass them, but be told when it asks that it cannot; PostgreSQL asks.)
    """
    if os.geteuid() != 0:
        return list(command)
    setpriv = program("setpriv")
    if setpriv is None:
        raise ServiceError(f"{Path(command[0]).name} refuses to be run by root, and there is no setpriv to leave it by")
    rights = "-all,+dac_override"
    return [
        *(setpriv, f"--reuid={USER}", "--regid=nogroup", "--clear-groups"),
        *("--securebits=+no_setuid_fixup", f"--inh-caps={rights}", f"--ambient-caps={rights}", "--"),
        *command,
    ]


def give(path: Path) -> None:
    """Make the folder and what is in it the property of the user that `unprivileged` commands run as."""
    if os.geteuid() == 0:
        for each in (path, *path.rglob("*")):
            shutil.chown(each, USER, "nogroup")
