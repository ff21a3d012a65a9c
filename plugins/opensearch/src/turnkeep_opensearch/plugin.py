"""What the entry point loads: it names the adapter and imports no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


@hookimpl
def register_adapters(register: Callable[[str, str], None]) -> None:
    """``opensearch://`` and ``opensearch+https://`` are opened by ``OpenSearchAdapter``."""
    register("opensearch", "turnkeep_opensearch.adapter:OpenSearchAdapter")
    register("opensearch+https", "turnkeep_opensearch.adapter:OpenSearchAdapter")
