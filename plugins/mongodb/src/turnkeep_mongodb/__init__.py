"""Turnkeep's conversations in MongoDB: one document per session, one per older message, no transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_mongodb.adapter import MongoDBAdapter

__all__ = ["MongoDBAdapter"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; the driver only by who uses it.
    if name == "MongoDBAdapter":
        from turnkeep_mongodb.adapter import MongoDBAdapter

        return MongoDBAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
