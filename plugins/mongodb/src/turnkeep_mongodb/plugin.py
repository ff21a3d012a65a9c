"""What the entry point loads: it names the adapter and imports no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


@hookimpl
def register_adapters(register: Callable[[str, str], None]) -> None:
    """``mongodb://`` and ``mongodb+srv://`` are opened by ``MongoDBAdapter``."""
    register("mongodb", "turnkeep_mongodb.adapter:MongoDBAdapter")
    register("mongodb+srv", "turnkeep_mongodb.adapter:MongoDBAdapter")
