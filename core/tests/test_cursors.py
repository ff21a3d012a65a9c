from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnkeep
from turnkeep.contract import Scope, SessionQuery
from turnkeep.cursors import make_cursor, page_of_heads, position_of, read_cursor, read_position
from turnkeep.errors import InvalidArgument
from turnkeep_testkit import new_commit, new_key

PARTS = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(st.characters(exclude_categories=[]))), max_size=4)


@given(st.text(max_size=10), PARTS)
def test_positions_come_back(kind, parts):
    if any("\ud800" <= char <= "\udbff" for part in parts if isinstance(part, str) for char in part):
        return  # two surrogates may meet; no id has any
    cursor = make_cursor(kind, *parts)
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#% ")
    assert read_cursor(cursor, kind, *map(type, parts)) == parts


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_read_or_refused(text):
    try:
        read_cursor(text, "activity", int, str)
    except InvalidArgument:
        return


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "=",
        "====",
        "a",
        "no cursor",
        "ä",
        "\ud800",
        "\0",
        make_cursor("created", 1, "x"),
        make_cursor("activity"),
        make_cursor("activity", 1),
        make_cursor("activity", "x", 1),
        make_cursor("activity", 1, "x", "y"),
        encoded({"activity": 1}),
        encoded("activity"),
        encoded(None),
        encoded(["activity", True, "x"]),
        encoded(["activity", 1.0, "x"]),
        encoded(["activity", None, "x"]),
        encoded(["activity", [1], "x"]),
        encoded([["activity"], 1, "x"]),
        encoded(["activity", {"$gt": 0}, "x"]),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["activity",' + b"9" * 5000 + b',"x"]').decode(),
        base64.urlsafe_b64encode(b'["activity",NaN,"x"]').decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        make_cursor("activity", 1, "x") + "!",
        make_cursor("activity", 1, "x")[:-3],
        7,
        None,
        b"x",
        ["x"],
    ],
    ids=lambda cursor: repr(cursor)[:30],
)
def test_what_is_no_cursor_is_refused(cursor):
    with pytest.raises(InvalidArgument, match="pass next_cursor back") as caught:
        read_cursor(cursor, "activity", int, str)
    assert len(str(caught.value)) < 300


def test_a_cursor_says_its_kind():
    cursor = make_cursor("activity", 5, "x")
    assert read_cursor(cursor, "activity", int, str) == [5, "x"]
    with pytest.raises(InvalidArgument, match=r"\(created\)"):
        read_cursor(cursor, "created", int, str)


def heads(count):
    store = turnkeep.MemoryAdapter()
    for number in range(count):
        asyncio.run(store.commit(new_commit(new_key(Scope("default"), f"s{number}"))))
    found = [record.head for record in store._records.values()]
    return sorted(found, key=lambda head: head.session_id)


@pytest.mark.parametrize("order", ["activity", "created"])
def test_a_page_ends_where_the_next_one_goes_on(order):
    found = sorted(heads(3), key=lambda head: position_of(head, order))
    page = page_of_heads(found, SessionQuery(Scope("default"), 2, order=order))
    assert page.items == tuple(found[:2])
    last = found[1]
    moment = last.updated_at if order == "activity" else last.created_at
    assert read_position(page.next_cursor, order) == (moment, last.session_id)
    assert page_of_heads(found, SessionQuery(Scope("default"), 3, order=order)).next_cursor is None


def test_lists_rise_by_position():
    first, second = heads(2)
    assert position_of(first, "created") < position_of(second, "created")
    assert position_of(first, "activity") > position_of(second, "activity")


@pytest.mark.parametrize("position", [(2**80, "x"), (-(2**80), "x"), (0, "a\0b"), (0, "\udc00"), (0, "x" * 513)])
def test_where_no_session_can_stand_is_refused(position):
    with pytest.raises(InvalidArgument, match="not made here"):
        read_position(make_cursor("activity", *position), "activity")
