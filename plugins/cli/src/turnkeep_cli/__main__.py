"""``turnkeep`` and ``python -m turnkeep_cli``."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Runs the command line, and exits with one of the codes that ``turnkeep --help`` lists."""
    # Any text may have been stored, and any bytes may be piped in: neither may end in an encoding error.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    from turnkeep_cli.commands import app

    app(prog_name="turnkeep")


if __name__ == "__main__":
    main()
