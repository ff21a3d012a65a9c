"""How a command ends: its exit code, and what is said to the person where it did not go well."""

from __future__ import annotations

import re
import traceback
from typing import Final

from turnkeep.errors import ConfigurationError, SessionNotFound, StorageError, TurnkeepError
from turnkeep_cli.output import complain

OK: Final = 0
WRONG: Final = 1
USAGE: Final = 2
DATABASE: Final = 3
INTERRUPTED: Final = 130

_LOGIN = re.compile(r"(?<=://)\S*@")
_OPTIONS = re.compile(r"(?<=://)([^\s?]*\?)[^\s)']*")


class Problem(TurnkeepError):
    """What a command found out by itself; the message names the fix."""

    def __init__(self, message: str, *, code: int = WRONG) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: TurnkeepError) -> int:
    """The code that an error ends the command with."""
    if isinstance(error, Problem):
        return error.code
    if isinstance(error, ConfigurationError):
        return USAGE
    if isinstance(error, StorageError) and not isinstance(error, SessionNotFound):
        return DATABASE
    return WRONG


def report(error: TurnkeepError, *, in_full: bool = False) -> int:
    """Says what went wrong, with ``in_full`` where in the code, and returns the exit code."""
    if in_full:
        complain("".join(traceback.format_exception(error)))
        return exit_code(error)
    complain("\n".join([str(error), *getattr(error, "__notes__", [])]))
    return exit_code(error)


def mask(text: str) -> str:
    """The text without the logins and options of URLs in it: a mistyped command line is quoted back as it is."""
    return _OPTIONS.sub(r"\1***", _LOGIN.sub("***@", text))
