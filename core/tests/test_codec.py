from __future__ import annotations

import contextlib
import json
import math
import threading
from array import array
from collections import OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeep import codec, errors
from turnkeep.codec import decode, encode, is_plain
from turnkeep.errors import CorruptRecord, NotSerializable, ValueTooLarge
from turnkeep_testkit import hostile
from turnkeep_testkit.hostile import Layer, Place

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
SURROGATES = st.text(st.sampled_from("a\ud800\ud83d\udbff\udc00\ude00\udfff\U0001f600\0$"), max_size=12)
TEXT = st.one_of(ANY_TEXT, SURROGATES, st.sampled_from(["$tk", "v", "datetime", "$tk$tk", ""]))
KEYS = TEXT.filter(lambda text: not codec._SURROGATES_MEET.search(text))
OFFSETS = st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**60), 10**60),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=20),
    st.datetimes(timezones=OFFSETS).map(lambda moment: moment.replace(fold=0)),  # an offset leaves it no meaning
    st.dates(),
    st.times().map(lambda moment: moment.replace(fold=0)),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
VALUES = st.recursive(
    st.one_of(SCALARS, st.sets(HASHABLE, max_size=3), st.frozensets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.fixed_dictionaries({"$tk": inner, "v": inner}),
    ),
    max_leaves=12,
)


def shape(value):
    """The value with the type of every part: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    match value:
        case dict():
            return dict, [(key, shape(item)) for key, item in value.items()]
        case list() | tuple():
            return type(value), [shape(item) for item in value]
        case set() | frozenset():
            return type(value), sorted(repr(shape(item)) for item in value)
        case datetime():
            return datetime, value.replace(tzinfo=None), value.utcoffset()
        case float():
            return float, repr(value)
        case _:
            return type(value), value


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_every_value_comes_back_exactly(value):
    text = encode(value)
    assert shape(decode(text)) == shape(value)
    assert encode(decode(text)) == text
    text.encode("utf-8")
    assert is_plain(text)
    assert "\n" not in text
    assert "\r" not in text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_decoded_or_corrupt(text):
    try:
        value = decode(text)
    except CorruptRecord:
        return
    encode(value)


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            '{"$tk":"',
            '","v":',
            "[",
            "]",
            "}",
            "{",
            '"',
            ",",
            "datetime",
            "set",
            "int",
            "str",
            "1",
            "null",
            '"a"',
            "tuple",
        ]
        + [f'{{"$tk":"{tag}","v":' for tag in codec._UNPACKERS]
    ),
    max_size=12,
).map("".join)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(), inner, max_size=3),
        st.fixed_dictionaries({"$tk": st.sampled_from([*codec._UNPACKERS, "object"]), "v": inner}),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(FRAGMENTS, JSON.map(json.dumps)))
def test_any_tag_is_decoded_or_corrupt(text):
    with contextlib.suppress(CorruptRecord):
        decode(text)


@pytest.mark.parametrize("case", hostile.cases(Place.VALUE, Place.CONTENT, expect="exact"), ids=str)
def test_hostile_values_come_back(case):
    assert shape(decode(encode({"x": [case.value]}))["x"][0]) == shape(case.value)


@pytest.mark.parametrize("case", hostile.cases(Place.KEY, expect="exact"), ids=str)
def test_hostile_keys_come_back(case):
    for value in ({case.value: case.value}, {"$tk": {case.value: 1}}):
        assert shape(decode(encode(value))) == shape(value)


@pytest.mark.parametrize("case", hostile.cases(Place.VALUE, Place.KEY, Place.STORED, expect="refuse"), ids=str)
def test_hostile_values_are_refused(case):
    if case.layer is not Layer.CODEC:
        pytest.skip(f"refused by {case.layer.value}")
    error = getattr(errors, case.error)
    for place in case.places:
        with pytest.raises(error) as caught:
            _use(case.value, place)
        assert len(str(caught.value)) < 1000


def _use(value, place):
    match place:
        case Place.STORED:
            decode(value, what="the data")
        case Place.KEY:
            encode({"x": {value: 1}})
        case Place.VALUE:
            encode({"x": [value]})


WRITTEN = [
    (None, "null"),
    (True, "true"),
    (-7, "-7"),
    (2**63 - 1, "9223372036854775807"),
    (-(2**63), "-9223372036854775808"),
    (2**63, '{"$tk":"int","v":"9223372036854775808"}'),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (math.inf, '{"$tk":"float","v":"inf"}'),
    (-math.inf, '{"$tk":"float","v":"-inf"}'),
    ("é", '"é"'),
    ("\0", '"\\u0000"'),
    ("\ud800", '"\\ud800"'),
    ("\ud83d\ude00", '{"$tk":"str","v":["\\ud83d","\\ude00"]}'),
    ({"b": 1, "a": [2]}, '{"b":1,"a":[2]}'),
    ({"$tk": 1}, '{"$tk":"dict","v":[["$tk",1]]}'),
    ((1, [2]), '{"$tk":"tuple","v":[1,[2]]}'),
    ({3, 1, 2}, '{"$tk":"set","v":[1,2,3]}'),
    (frozenset({"b", "a"}), '{"$tk":"frozenset","v":["a","b"]}'),
    (b"\0\xff", '{"$tk":"bytes","v":"AP8="}'),
    (bytearray(b"a"), '{"$tk":"bytearray","v":"YQ=="}'),
    (Decimal("1.10"), '{"$tk":"decimal","v":"1.10"}'),
    (UUID(int=255), '{"$tk":"uuid","v":"000000000000000000000000000000ff"}'),
    (date(2026, 1, 2), '{"$tk":"date","v":"2026-01-02"}'),
    (time(1, 2, 3, 4), '{"$tk":"time","v":"01:02:03.000004"}'),
    (timedelta(days=-1, seconds=2), '{"$tk":"timedelta","v":[-1,2,0]}'),
    (datetime(2026, 1, 2, tzinfo=UTC), '{"$tk":"datetime","v":"2026-01-02T00:00:00+00:00"}'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_what_is_written_stays_the_same(value, text):
    """Bytes at rest are an interface: a change here needs a document version."""
    assert encode(value) == text
    assert shape(decode(text)) == shape(value)


def test_every_tag_has_an_example():
    used = {text.split('"')[3] for _, text in WRITTEN if text.startswith('{"$tk"')}
    assert used == set(codec._UNPACKERS)


def test_every_tag_is_in_the_table():
    table = codec.__doc__.split("==========")[2:-1]
    named = {line.split()[0] for part in table for line in part.splitlines() if line[:1].isalpha()}
    assert named - {"tag"} == set(codec._UNPACKERS)


def test_nan_comes_back():
    assert encode(math.nan) == '{"$tk":"float","v":"nan"}'
    assert math.isnan(decode('{"$tk":"float","v":"nan"}'))


def test_decimals_that_are_no_numbers_come_back():
    for text in ("NaN", "sNaN", "-NaN123", "Infinity", "-0", "0E-10"):
        assert str(decode(encode(Decimal(text)))) == text


def test_keys_keep_their_order_and_sets_are_sorted():
    assert list(decode(encode({"z": 1, "a": 2, "m": 3}))) == ["z", "a", "m"]
    many = {f"{number}" for number in range(50)}
    assert encode(many) == encode({f"{number}" for number in reversed(range(50))})


def test_memoryviews_become_bytes():
    assert decode(encode(memoryview(b"ab"))) == b"ab"
    assert decode(encode(memoryview(array("H", [1])))) == array("H", [1]).tobytes()


def test_memoryviews_with_gaps_become_bytes():
    assert decode(encode(memoryview(b"abcd")[::2])) == b"ac"


def test_decoding_gives_new_values():
    text = encode({"a": [1]})
    first, second = decode(text), decode(text)
    first["a"].append(2)
    assert second == {"a": [1]}


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        defaultdict(int, a=1),
        namedtuple("Point", "x")(1),
        ZoneInfo("UTC"),
        threading.Lock(),
        {"a": {"b": [1, {"c": object()}]}},
        iter([]),
        range(3),
        NotImplemented,
        int,
        True.__class__,
    ],
    ids=repr,
)
def test_other_types_are_refused(value):
    with pytest.raises(NotSerializable):
        encode(value)


def test_a_refusal_names_the_place_and_the_fix():
    with pytest.raises(NotSerializable, match=r"^data\.a\.b\[1\]\.c: builtins\.object cannot be stored exactly"):
        encode({"a": {"b": [1, {"c": object()}]}}, what="data")
    with pytest.raises(NotSerializable, match="convert it to dict first"):
        encode(OrderedDict())
    with pytest.raises(NotSerializable, match="convert it to str first"):
        encode(hostile.SomeEnum.MEMBER)
    with pytest.raises(NotSerializable, match="give it a timezone"):
        encode([datetime(2026, 1, 1)])  # noqa: DTZ001 - that is the point
    with pytest.raises(NotSerializable, match="keys must be str"):
        encode({1: 2})


def test_depth_is_counted_in_containers():
    def nested(depth, make):
        value = 1
        for _ in range(depth):
            value = make(value)
        return value

    for make in (
        lambda value: [value],
        lambda value: {"a": value},
        lambda value: (value,),
        lambda value: {"$tk": value},
    ):
        assert shape(decode(encode(nested(100, make)))) == shape(nested(100, make))
        with pytest.raises(ValueTooLarge):
            encode(nested(101, make))
    assert encode(nested(3, lambda value: [value]), max_depth=3) == "[[[1]]]"
    with pytest.raises(ValueTooLarge, match="flatten the value"):
        encode(nested(3, lambda value: [value]), max_depth=2)
    assert encode(1, max_depth=0) == "1"


def test_long_integers():
    assert decode(encode(10**4299)) == 10**4299
    assert decode(encode(-(10**4299))) == -(10**4299)
    for value in (10**4300, -(10**4300), 10**5000, 2**100_000):
        with pytest.raises(NotSerializable, match="4300 digits"):
            encode(value)


def test_the_longest_integer():
    assert decode(encode(10**4300 - 1)) == 10**4300 - 1


def test_a_huge_integer_as_key_is_refused():
    with pytest.raises(NotSerializable):
        encode({10**5000: 1})


def test_a_time_of_a_zone_is_refused_or_kept():
    value = time(12, tzinfo=ZoneInfo("Europe/Berlin"))
    try:
        text = encode(value)
    except NotSerializable:
        return
    assert decode(text).tzinfo == value.tzinfo


def test_an_offset_of_a_microsecond_is_refused_or_kept():
    value = datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))
    try:
        text = encode(value)
    except NotSerializable:
        return
    assert decode(text).utcoffset() == value.utcoffset()


def test_a_time_with_an_offset_comes_back():
    value = time(12, tzinfo=timezone(timedelta(hours=2)))
    assert decode(encode(value)) == value
    assert decode(encode(value)).utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nul",
        "{",
        "[1,]",
        "{'a':1}",
        "1 2",
        "NaN",
        "Infinity",
        "[-Infinity]",
        "1e999",
        "-1e999",
        "9" * 5000,
        "[" * 100_000,
        '"\n"',
        '"\\ud83d"x',
        '{"a":1,"a":1}',
        '{"$tk":"object","v":1}',
        '{"$tk":"Set","v":[]}',
        '{"$tk":"set"}',
        '{"v":[],"$tk":null}',
        '{"$tk":"set","v":[],"w":1}',
        '{"$tk":"set","v":[[]]}',
        '{"$tk":"set","v":5}',
        '{"$tk":"frozenset","v":[{}]}',
        '{"$tk":"tuple","v":null}',
        '{"$tk":"str","v":[1]}',
        '{"$tk":"str","v":null}',
        '{"$tk":"int","v":5}',
        '{"$tk":"int","v":"0x5"}',
        '{"$tk":"int","v":"' + "9" * 5000 + '"}',
        '{"$tk":"float","v":"1.5"}',
        '{"$tk":"float","v":[]}',
        '{"$tk":"decimal","v":"one"}',
        '{"$tk":"decimal","v":null}',
        '{"$tk":"uuid","v":"x"}',
        '{"$tk":"uuid","v":7}',
        '{"$tk":"bytes","v":"A"}',
        '{"$tk":"bytes","v":"é"}',
        '{"$tk":"bytes","v":[1]}',
        '{"$tk":"bytearray","v":"*"}',
        '{"$tk":"date","v":"2026-13-01"}',
        '{"$tk":"date","v":7}',
        '{"$tk":"time","v":"25:00"}',
        '{"$tk":"datetime","v":"2026-01-01T00:00:00"}',
        '{"$tk":"datetime","v":"yesterday"}',
        '{"$tk":"timedelta","v":"1"}',
        '{"$tk":"timedelta","v":[999999999999,0,0]}',
        '{"$tk":"timedelta","v":[1,2,3,4,5,6,7,8]}',
        '{"$tk":"dict","v":[["a"]]}',
        '{"$tk":"dict","v":[[1,2]]}',
        '{"$tk":"dict","v":[["a",1],["a",1]]}',
        '{"$tk":"dict","v":7}',
        '{"$tk":{"$tk":"str","v":["set"]},"v":[["a"]]}',
    ],
    ids=lambda text: text[:40],
)
def test_corrupt_texts_are_told(text):
    with pytest.raises(CorruptRecord) as caught:
        decode(text, what="data")
    assert len(str(caught.value)) < 500


def test_a_decoded_tag_cannot_be_a_tag_again():
    """Only text that ``encode`` wrote as a tag is one: decoded parts are not looked at again."""
    value = {"$tk": "dict", "v": [["$tk", "set"], ["v", [1]]]}
    assert decode(encode(value)) == value
    assert decode('{"$tk":"dict","v":[["$tk","set"],["v",[1]]]}') == {"$tk": "set", "v": [1]}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", True),
        ("a", True),
        ("é😀\u2028\x7f\x01", True),
        ("\0", False),
        ("é\0", False),
        ("\ud800", False),
        ("a\udfff", False),
    ],
)
def test_what_every_database_can_hold(text, plain):
    assert is_plain(text) is plain


def test_uuids_of_every_version():
    for value in (uuid4(), UUID(int=0), UUID(int=2**128 - 1)):
        assert decode(encode(value)) == value
