"""Which form the statements of a commit take on which database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnkeep_sqlalchemy.mariadb import MariaDBStore
from turnkeep_sqlalchemy.postgresql import PostgreSQLStore
from turnkeep_sqlalchemy.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Dialect

    from turnkeep_sqlalchemy.statements import Statements


def make_store(statements: Statements, dialect: Dialect, clock: Callable[[], datetime] | None) -> Store:
    """The store for this database, in as few statements as it can be asked in."""
    if dialect.name == "postgresql":
        return PostgreSQLStore(statements, dialect, clock)
    if getattr(dialect, "is_mariadb", False):
        return MariaDBStore(statements, dialect, clock)
    return Store(statements, clock)
