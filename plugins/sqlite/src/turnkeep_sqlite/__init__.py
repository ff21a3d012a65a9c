"""Turnkeep's conversations in SQLite: one file, nothing to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_sqlite.adapter import SQLiteAdapter

__all__ = ["SQLiteAdapter"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; the driver only by who uses it.
    if name == "SQLiteAdapter":
        from turnkeep_sqlite.adapter import SQLiteAdapter

        return SQLiteAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
