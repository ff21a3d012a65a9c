"""Turnkeep's conversations in PostgreSQL: one statement loads a turn, one commits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_postgres.adapter import PostgreSQLAdapter

__all__ = ["PostgreSQLAdapter"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; the driver only by who uses it.
    if name == "PostgreSQLAdapter":
        from turnkeep_postgres.adapter import PostgreSQLAdapter

        return PostgreSQLAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
