"""`python -m services up|down`: what `make services` and `make services-down` run."""

import argparse
import os
import sys

from . import registry
from .server import ServiceError


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="services", description="Start or end the servers that tests use.")
    parser.add_argument("action", choices=["up", "down"])
    if parser.parse_args().action == "down":
        registry.down()
        print("services: none of ours is running")
        return 0
    try:
        registry.up(required=os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"})
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    print(f"services: {len(registry.addresses())} address(es) in {registry.ENV_FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
