"""What the entry point loads: it names the adapter and imports no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


@hookimpl
def register_adapters(register: Callable[[str, str], None]) -> None:
    """``postgresql://`` and ``postgres://`` are opened by ``PostgreSQLAdapter``."""
    for scheme in ("postgresql", "postgres"):
        register(scheme, "turnkeep_postgres.adapter:PostgreSQLAdapter")
