"""What Turnkeep logs, as a person at a command line wants to see it: a line each, once, without a traceback."""

from __future__ import annotations

import logging


class Warnings(logging.Handler):
    """Prints warnings and worse on standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints it, unless it was printed before: each use of the plugins says anew which are broken."""
        from turnkeep_cli.output import say

        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            say((f"{record.levelname.lower()}: ", "yellow"), message, stderr=True)


def set_up() -> None:
    """Sends what is logged under ``turnkeep`` here, and nowhere else."""
    logger = logging.getLogger("turnkeep")
    logger.handlers = [Warnings()]
    logger.propagate = False
