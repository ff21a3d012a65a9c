"""Turnkeep's conversations in any SQL database that SQLAlchemy knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_sqlalchemy.adapter import SQLAlchemyAdapter
    from turnkeep_sqlalchemy.tables import Tables, make_tables

__all__ = ["SQLAlchemyAdapter", "Tables", "make_tables"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; SQLAlchemy only by who uses it.
    if name == "SQLAlchemyAdapter":
        from turnkeep_sqlalchemy.adapter import SQLAlchemyAdapter

        return SQLAlchemyAdapter
    if name in {"Tables", "make_tables"}:
        from turnkeep_sqlalchemy import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
