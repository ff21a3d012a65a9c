"""How values travel: in binary, each Python type as one PostgreSQL type.

An instant comes back in UTC whatever the connection's time zone is, and the type of a parameter never depends on its
value, as it does in psycopg's own choice for numbers and lists: each combination would be another statement to prepare.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import psycopg.rows
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.pq import Format
from psycopg.types.datetime import DatetimeBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext, Buffer

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TEXT: Final = 25
_TEXT_ARRAY: Final = 1009
_TIMESTAMPTZ: Final = 1184
_TIMESTAMPTZ_ARRAY: Final = 1185
_HEAD: Final = struct.Struct("!iiIii")  # dimensions, whether there are nulls, type, length, first index
_LENGTH: Final = struct.Struct("!i")
_INSTANT: Final = struct.Struct("!q")
_NULL: Final = _LENGTH.pack(-1)


class Texts(tuple[str | None, ...]):
    """A parameter that is a ``text[]``."""

    __slots__ = ()


class Instants(tuple[datetime | None, ...]):
    """A parameter that is a ``timestamptz[]``."""

    __slots__ = ()


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = _TEXT_ARRAY

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._encoding = context.connection.info.encoding if context and context.connection else "utf-8"

    def dump(self, obj: Texts) -> Buffer:
        encoding = self._encoding
        return _pack(_TEXT, [None if text is None else text.encode(encoding) for text in obj])


class _InstantsDumper(Dumper):
    format = Format.BINARY
    oid = _TIMESTAMPTZ_ARRAY

    def dump(self, obj: Instants) -> Buffer:
        return _pack(
            _TIMESTAMPTZ,
            [None if moment is None else _INSTANT.pack((moment - _EPOCH) // _MICROSECOND) for moment in obj],
        )


class _InstantLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        (stamp,) = _INSTANT.unpack(data)
        try:
            return _EPOCH + timedelta(microseconds=stamp)
        except OverflowError:
            raise psycopg.DataError("a time is infinite or beyond the year 9999") from None


def _pack(oid: int, items: list[bytes | None]) -> bytes:
    packed = [_HEAD.pack(1, 1, oid, len(items), 1)]
    for item in items:
        packed += [_NULL] if item is None else [_LENGTH.pack(len(item)), item]
    return b"".join(packed)


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(datetime, DatetimeBinaryDumper)
    adapters.register_dumper(Texts, _TextsDumper)
    adapters.register_dumper(Instants, _InstantsDumper)
    adapters.register_loader("timestamptz", _InstantLoader)
    return adapters


_ADAPTERS: Final = _adapters()


class Cursor(psycopg.AsyncCursor[tuple[Any, ...]]):
    """A cursor that reads and writes values in our way, whatever was set up for its connection."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, row_factory=psycopg.rows.tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        """Ours."""
        return _ADAPTERS
