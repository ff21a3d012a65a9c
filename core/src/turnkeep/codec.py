"""Values to JSON text and back, bit-exact or refused.

The text is JSON with one addition: a value JSON cannot hold is written as ``{"$tk": tag, "v": …}``. The set of tags is
closed, decoding imports nothing and builds nothing but these types:

========== ===================================================== ==========================================
tag        value                                                 ``v``
========== ===================================================== ==========================================
dict       a dict that itself has the key ``$tk``                its items as [key, value] pairs
datetime   an aware ``datetime``; its offset is kept             ISO 8601
date       ``date``                                              ISO 8601
time       ``time``                                              ISO 8601
timedelta  ``timedelta``                                         [days, seconds, microseconds]
bytes      ``bytes``, ``memoryview``                             base64
bytearray  ``bytearray``                                         base64
decimal    ``Decimal``                                           its text
uuid       ``UUID``                                              32 hexadecimal digits
tuple      ``tuple``                                             list of items
set        ``set``                                               list of items, sorted by their text
frozenset  ``frozenset``                                         list of items, sorted by their text
int        an ``int`` that does not fit in 64 bits               decimal digits (at most 4,300)
float      NaN, Infinity, -Infinity                              ``"nan"``, ``"inf"``, ``"-inf"``
str        text in which two lone surrogates would meet as one   list of parts
========== ===================================================== ==========================================

Everything else is refused with ``NotSerializable`` naming the place: subclasses (an ``Enum`` member is not its value),
naive datetimes, keys that are not ``str``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn, cast
from uuid import UUID

from turnkeep.errors import CorruptRecord, NotSerializable, ValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TAG = "$tk"
MAX_DEPTH = 100
MAX_DIGITS = 4300  # CPython refuses to parse longer decimal integers by default

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATES_MEET = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def encode(value: object, *, what: str = "value", max_depth: int = MAX_DEPTH) -> str:
    """The JSON text of ``value``: always encodable as UTF-8, no line breaks, keys in their own order.

    Raises:
        NotSerializable: a part of the value cannot be kept exactly; ``what`` and the place are in the message.
        ValueTooLarge: it is nested deeper than ``max_depth``.
    """
    return encode_json(_pack(value, what, max_depth))


def encode_json(value: object) -> str:
    """As ``encode``, of a value made here of nothing but what JSON has: not looked at (a third of the time)."""
    text = _ENCODER.encode(value)
    return text if text.isascii() else _LONE_SURROGATE.sub(_escape, text)


def decode(text: str, *, what: str = "value") -> Any:
    """The value whose text this is: a new one at each call.

    Raises:
        CorruptRecord: the text is not what ``encode`` writes.
    """
    try:
        return _DECODER.decode(text)
    except CorruptRecord:
        raise
    except (ValueError, TypeError, RecursionError, InvalidOperation, OverflowError) as error:
        raise CorruptRecord(f"{what}: cannot be decoded: {error}") from error


def is_plain(text: str) -> bool:
    """Whether every database can hold ``text`` as text: it has no NUL and no lone surrogate."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and _LONE_SURROGATE.search(text) is None


_TOO_MANY_DIGITS = 10**MAX_DIGITS


def utf8_length(text: str) -> int:
    """Bytes of ``text`` in UTF-8; a lone surrogate counts as the three it would have."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _pack(value: object, path: str, depth: int) -> object:
    kind = type(value)
    if kind is str:
        return _pack_str(cast("str", value))
    if value is None or kind is bool:
        return value
    if kind is int:
        return _pack_int(cast("int", value), path)
    if kind is float:
        number = cast("float", value)
        return number if math.isfinite(number) else {TAG: "float", "v": repr(number)}
    if depth <= 0:
        raise ValueTooLarge(f"{path[:200]}: nested deeper than the limit allows; flatten the value")
    if kind is dict:
        return _pack_dict(cast("dict[object, object]", value), path, depth - 1)
    if kind is list:
        return [_pack(item, f"{path}[{index}]", depth - 1) for index, item in enumerate(cast("list[object]", value))]
    packer = _PACKERS.get(kind)
    if packer is None:
        _refuse(kind, path)
    return packer(value, path, depth - 1)


def _pack_str(value: str) -> object:
    if not value.isascii() and _SURROGATES_MEET.search(value):
        # Written side by side, two surrogate escapes would be read back as one character.
        return {TAG: "str", "v": _SURROGATES_MEET.split(value)}
    return value


def _pack_int(value: int, path: str) -> object:
    if -(2**63) <= value < 2**63:
        return value
    if abs(value) >= _TOO_MANY_DIGITS:
        raise NotSerializable(
            f"{path}: an integer of more than {MAX_DIGITS} digits cannot be read back; store it as text"
        )
    return {TAG: "int", "v": str(value)}


def _pack_dict(value: dict[object, object], path: str, depth: int) -> object:
    packed: dict[str, object] = {}
    for key, item in value.items():
        if type(key) is not str:
            raise NotSerializable(f"{path}: a key is a {type(key).__name__}; keys must be str")
        if not key.isascii() and _SURROGATES_MEET.search(key):
            raise NotSerializable(
                f"{path}: the key {key!r:.80} has surrogates that would be read back as one character"
            )
        packed[key] = _pack(item, f"{path}.{key}", depth)
    if TAG in packed:
        return {TAG: "dict", "v": [[key, item] for key, item in packed.items()]}
    return packed


def _pack_datetime(value: object, path: str, _depth: int) -> object:
    moment = cast("datetime", value)
    if moment.utcoffset() is None:
        raise NotSerializable(f"{path}: a naive datetime does not say when; give it a timezone")
    _check_offset(moment.utcoffset(), path)
    return {TAG: "datetime", "v": moment.isoformat()}


def _pack_time(value: object, path: str, _depth: int) -> object:
    moment = cast("time", value)
    if moment.tzinfo is not None and moment.utcoffset() is None:
        raise NotSerializable(f"{path}: a time's offset in {moment.tzinfo} depends on the day; give it a fixed one")
    _check_offset(moment.utcoffset(), path)
    return {TAG: "time", "v": moment.isoformat()}


def _check_offset(offset: timedelta | None, path: str) -> None:
    if offset is not None and offset.microseconds:
        raise NotSerializable(f"{path}: an offset of a fraction of a second cannot be read back; round it")


def _pack_date(value: object, _path: str, _depth: int) -> object:
    return {TAG: "date", "v": cast("date", value).isoformat()}


def _pack_timedelta(value: object, _path: str, _depth: int) -> object:
    delta = cast("timedelta", value)
    return {TAG: "timedelta", "v": [delta.days, delta.seconds, delta.microseconds]}


def _pack_bytes(value: object, _path: str, _depth: int) -> object:
    tag = "bytearray" if type(value) is bytearray else "bytes"
    raw = bytes(cast("bytes", value))  # a view may be of every other byte
    return {TAG: tag, "v": base64.b64encode(raw).decode("ascii")}


def _pack_decimal(value: object, _path: str, _depth: int) -> object:
    return {TAG: "decimal", "v": str(value)}


def _pack_uuid(value: object, _path: str, _depth: int) -> object:
    return {TAG: "uuid", "v": cast("UUID", value).hex}


def _pack_tuple(value: object, path: str, depth: int) -> object:
    items = cast("tuple[object, ...]", value)
    return {TAG: "tuple", "v": [_pack(item, f"{path}[{index}]", depth) for index, item in enumerate(items)]}


def _pack_set(value: object, path: str, depth: int) -> object:
    items = [_pack(item, f"{path}{{…}}", depth) for item in cast("Iterable[object]", value)]
    # Sorted by text: the same set gives the same bytes in every process.
    return {TAG: type(value).__name__, "v": sorted(items, key=_ENCODER.encode)}


_PACKERS: dict[type, Callable[[object, str, int], object]] = {
    datetime: _pack_datetime,
    date: _pack_date,
    time: _pack_time,
    timedelta: _pack_timedelta,
    bytes: _pack_bytes,
    bytearray: _pack_bytes,
    memoryview: _pack_bytes,
    Decimal: _pack_decimal,
    UUID: _pack_uuid,
    tuple: _pack_tuple,
    set: _pack_set,
    frozenset: _pack_set,
}


def _refuse(kind: type, path: str) -> NoReturn:
    closest = next((base.__name__ for base in kind.__mro__[1:-1] if base in _EXACT), None)
    hint = f"; convert it to {closest} first" if closest else "; store plain values (dict, list, str, int, …)"
    raise NotSerializable(f"{path[:200]}: {kind.__module__}.{kind.__qualname__} cannot be stored exactly{hint}")


_EXACT = {str, int, float, bool, dict, list, *_PACKERS}


def _unpack_int(value: Any) -> int:
    if not isinstance(value, str):
        raise CorruptRecord("a tagged int is not text")
    return int(value)


def _unpack_datetime(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise CorruptRecord("a stored datetime has no offset")
    return moment


def _unpack_bytes(value: Any) -> bytes:
    return base64.b64decode(value, validate=True)


def _unpack_float(value: Any) -> float:
    if value not in {"nan", "inf", "-inf"}:
        raise CorruptRecord("a tagged float is none of nan, inf, -inf")
    return float(value)


def _unpack_dict(value: Any) -> dict[str, Any]:
    pairs = [(key, item) for key, item in value]
    if any(type(key) is not str for key, _ in pairs):
        raise CorruptRecord("a tagged dict has a key that is not text")
    return _unique(pairs)


def _unpack_str(value: Any) -> str:
    return "".join(value)


_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "dict": _unpack_dict,
    "datetime": _unpack_datetime,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda value: timedelta(*value),
    "bytes": _unpack_bytes,
    "bytearray": lambda value: bytearray(_unpack_bytes(value)),
    "decimal": Decimal,
    "uuid": UUID,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "int": _unpack_int,
    "float": _unpack_float,
    "str": _unpack_str,
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CorruptRecord("a stored object has the same key twice")
    return found


def _from_pairs(pairs: list[tuple[str, Any]]) -> Any:
    found = _unique(pairs)
    if TAG not in found:
        return found
    tag = found[TAG]
    if type(tag) is not str or len(found) != 2 or "v" not in found:
        raise CorruptRecord(f"a stored object misuses the key {TAG!r}")
    unpack = _UNPACKERS.get(tag)
    if unpack is None:
        raise CorruptRecord(f"a stored value has the unknown tag {tag!r:.80}")
    try:
        return unpack(found["v"])
    except CorruptRecord:
        raise
    except (ValueError, TypeError, AttributeError, ArithmeticError, binascii.Error) as error:
        raise CorruptRecord(f"a stored {tag} cannot be read: {error}") from error


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise CorruptRecord(f"a stored number is beyond a float: {text:.40}")
    return number


def _no_constant(text: str) -> NoReturn:
    raise CorruptRecord(f"{text} is not JSON")


# Depth was checked and every container was rebuilt by _pack, so no cycle can reach the encoder.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(object_pairs_hook=_from_pairs, parse_float=_finite, parse_constant=_no_constant)
