"""Which form the statements of a commit take on which database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep_sqlalchemy.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

    from turnkeep_sqlalchemy.statements import Statements


def make_store(statements: Statements, engine: AsyncEngine, clock: Callable[[], datetime] | None) -> Store:
    """The store for this database: in as few statements as it can be asked in."""
    return Store(statements, clock)
