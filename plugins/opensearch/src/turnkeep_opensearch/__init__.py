"""Turnkeep's conversations in OpenSearch: one document per session, one per older message, no search in a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_opensearch.adapter import OpenSearchAdapter

__all__ = ["OpenSearchAdapter"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; the driver only by who uses it.
    if name == "OpenSearchAdapter":
        from turnkeep_opensearch.adapter import OpenSearchAdapter

        return OpenSearchAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
