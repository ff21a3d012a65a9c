"""`python -m services up|down|kill|resume [NAME …]`: what `make services` and `make services-down` run.

A test that kills servers takes some of its own with `--home FOLDER`, whatever the environment gives; their addresses
are in `FOLDER/env`. `kill` leaves them no time to write anything, `resume` starts them again at the same addresses,
with the data on the disk.
"""

import argparse
import os
import sys
from pathlib import Path

from .commands import ServiceError
from .registry import Registry


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="services", description="Start or end the servers that tests use.")
    parser.add_argument("action", choices=["up", "down", "kill", "resume"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which servers; those of `make services` if none")
    parser.add_argument("--home", type=lambda text: Path(text).absolute(), help="a folder with servers of its own")
    given = parser.parse_args()
    registry = Registry(given.home, given.home / "env", environment={}) if given.home else Registry()
    try:
        _act(registry, given.action, given.names)
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    return 0


def _act(registry: Registry, action: str, names: list[str]) -> None:
    if action == "up":
        registry.up(names, required=os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"})
        print(f"services: {len(registry.addresses())} address(es) in {registry.env_file}")
    elif action == "down":
        ended = registry.down(names or None)
        print(f"services: {', '.join(ended)} ended" if ended else "services: none was running")
    elif action == "kill":
        registry.kill(names)
    else:
        registry.resume(names)


if __name__ == "__main__":
    sys.exit(main())
