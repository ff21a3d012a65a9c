"""Types of columns: each holds its values exactly, and ids byte by byte, on every database.

They are ordinary SQLAlchemy types, so a mapped class over one of our tables reads and writes what the adapter does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import BigInteger, Boolean, DateTime, Integer, String, Text, func
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Dialect
    from sqlalchemy.types import TypeEngine

MYSQL: Final = ("mysql", "mariadb")
WIDTH: Final = 27
"""Of an instant as text."""


def to_text(moment: datetime) -> str:
    """An aware instant as ``2026-11-23T16:21:00.123456Z``: exact, of one width, in the order of time."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:26]}Z"


def to_naive(moment: datetime) -> datetime:
    """An aware instant as the UTC time that a column without time zone holds."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def from_naive(moment: datetime) -> datetime:
    """The aware instant of ``to_naive``."""
    return moment.replace(tzinfo=UTC)


def _optional(convert: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: None if value is None else convert(value)


def _as_text(value: Any) -> str | None:
    return value.decode() if isinstance(value, (bytes, bytearray)) else value


class Id(TypeDecorator[str]):
    """Text that is compared byte by byte, whatever the database's collation: ``Bob`` is not ``bob``, nor ``bob ``.

    Bound as text on MySQL and MariaDB too: those store its UTF-8, and compare bytes because the column is binary.

    Args:
        size: bytes of UTF-8 at most, where the database wants to know.
    """

    impl = Text
    cache_ok = True

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        self.size = size

    def __repr__(self) -> str:
        return f"Id({self.size})"  # Alembic writes it into migrations

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As the docstring of the class says."""
        if dialect.name in MYSQL:
            return dialect.type_descriptor(mysql.VARBINARY(self.size))
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TEXT(collation="C"))
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else String(self.size))

    def bind_processor(self, dialect: Dialect) -> Any:
        """None: values go as they are, also where the column is VARBINARY."""
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Bytes become text again."""
        return _as_text if dialect.name in MYSQL else None


class Body(TypeDecorator[str]):
    """Text of any length, kept character for character: content, and documents that no query looks into."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As the docstring of the class says."""
        if dialect.name in MYSQL:  # TEXT ends at 64 KB there, and utf8 at U+FFFF
            return dialect.type_descriptor(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"))
        return dialect.type_descriptor(Text())

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Where such a column of somebody's own is binary, its text all the same."""
        return _as_text if dialect.name in MYSQL else None


class Tokens(TypeDecorator[str]):
    """Words of a message as ``search`` writes them, each with a space behind it: letters and digits of ASCII.

    An array of them on PostgreSQL, which has an index for those.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As the docstring of the class says."""
        if dialect.name in MYSQL:
            return dialect.type_descriptor(mysql.LONGTEXT(charset="ascii", collation="ascii_bin"))
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.ARRAY(Text()))
        return dialect.type_descriptor(Text())

    def bind_processor(self, dialect: Dialect) -> Any:
        """From the text, on every database."""
        return _optional(str.split) if dialect.name == "postgresql" else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """None: nothing reads them back."""
        return None


class Instant(TypeDecorator[datetime]):
    """An aware instant, exact to the microsecond and read back in UTC.

    ``timestamptz`` on PostgreSQL, ``DATETIME(6)`` in UTC on MySQL and MariaDB, elsewhere a text that sorts as the
    instants do.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As the docstring of the class says."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(DateTime(timezone=True))
        if dialect.name in MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else String(WIDTH))

    def bind_processor(self, dialect: Dialect) -> Any:
        """From an aware instant."""
        if dialect.name == "postgresql":
            return None
        return _optional(to_naive if dialect.name in MYSQL else to_text)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """An aware instant in UTC."""
        if dialect.name == "postgresql":
            # The connection's time zone decides what arrives; statements of the adapter ask for UTC (see `utc`).
            return _optional(lambda value: from_naive(value) if value.tzinfo is None else value.astimezone(UTC))
        return _optional(from_naive if dialect.name in MYSQL else datetime.fromisoformat)


def utc(column: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """An instant to be selected, independent of the connection's time zone.

    A driver refuses the year 1 where the time zone of the connection would move it into the year before.
    """
    if dialect != "postgresql":
        return column
    return cast("ColumnElement[Any]", func.timezone("UTC", column, type_=Instant()))


def number() -> TypeEngine[int]:
    """A number of things, or a place: 64 bits."""
    return BigInteger().with_variant(Integer(), "sqlite")


def flag() -> TypeEngine[bool]:
    """True or false; an integer on SQLite, as in the tables of turnkeep-sqlite."""
    return Boolean().with_variant(Integer(), "sqlite")
