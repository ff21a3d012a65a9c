from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeep.retention import (
    MAX_MARKS,
    add_mark,
    floor_at,
    from_microseconds,
    read_marks,
    to_microseconds,
    write_marks,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment):
    assert from_microseconds(to_microseconds(moment)) == moment


@pytest.mark.parametrize(
    ("moment", "stamp"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1),
        (datetime(1, 1, 1, tzinfo=UTC), -62135596800000000),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253402300799999999),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
    ],
)
def test_microseconds_since_1970(moment, stamp):
    assert to_microseconds(moment) == stamp
    assert from_microseconds(stamp) == moment


def test_a_mark_moves_the_floor_at_its_instant():
    marks = add_mark((), 0, 3, START)
    assert floor_at(0, marks, START - timedelta(microseconds=1)) == 0
    assert floor_at(0, marks, START) == 3
    assert floor_at(0, marks, START + timedelta(days=1)) == 3


def test_the_last_mark_that_passed_counts():
    marks = ()
    for number in range(1, 5):
        marks = add_mark(marks, 0, number * 2, START + timedelta(hours=number))
    assert [floor_at(0, marks, START + timedelta(hours=hour)) for hour in range(6)] == [0, 2, 4, 6, 8, 8]


def test_no_mark_no_move():
    assert floor_at(7, (), START) == 7


def test_a_floor_never_moves_back():
    marks = add_mark((), 0, 3, START)
    assert floor_at(5, marks, START) == 5


def test_marks_below_the_floor_are_forgotten():
    marks = add_mark(add_mark((), 0, 3, START), 0, 6, START)
    assert [seq for seq, _ in add_mark(marks, 3, 9, START)] == [6, 9]
    assert [seq for seq, _ in add_mark(marks, 6, 9, START)] == [9]


def test_a_shorter_age_waits_for_the_older_messages():
    marks = add_mark((), 0, 1, START + timedelta(hours=5))
    marks = add_mark(marks, 0, 2, START + timedelta(hours=1))
    assert floor_at(0, marks, START + timedelta(hours=2)) == 0
    assert floor_at(0, marks, START + timedelta(hours=5)) == 2


COMMITS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(-3, 60), st.integers(1, 600)), min_size=1, max_size=2 * MAX_MARKS
)


@given(COMMITS, st.lists(st.integers(0, 10_000), max_size=5))
def test_no_message_leaves_early_and_all_leave_in_the_end(commits, asked):
    """Commits of some messages, after some minutes, with some age; the clock may step back."""
    marks, last, now = (), 0, START
    leaves = {}
    for count, minutes, age in commits:
        now += timedelta(minutes=minutes)
        last += count
        leaves[last] = now + timedelta(minutes=age)
        marks = add_mark(marks, 0, last, leaves[last])
    assert len(marks) <= MAX_MARKS
    assert list(marks) == sorted(marks)
    assert [stamp for _, stamp in marks] == sorted(stamp for _, stamp in marks)
    assert len({seq for seq, _ in marks}) == len(marks)
    assert marks[-1][0] == last
    for minute in asked:
        moment = START + timedelta(minutes=minute)
        floor = floor_at(0, marks, moment)
        assert floor == 0 or floor in leaves, "history leaves by whole commits"
        assert all(moment >= instant for seq, instant in leaves.items() if seq <= floor), "a message left early"
    assert floor_at(0, marks, max(leaves.values())) == last


def test_at_most_64_marks_and_the_closest_two_become_one():
    marks = ()
    for number in range(MAX_MARKS):
        marks = add_mark(marks, 0, number + 1, START + timedelta(hours=number))
    close = add_mark(marks, 0, MAX_MARKS + 1, START + timedelta(hours=MAX_MARKS - 1, minutes=1))
    assert len(close) == MAX_MARKS
    assert [seq for seq, _ in close] == [*range(1, MAX_MARKS), MAX_MARKS + 1]


@given(st.lists(st.tuples(st.integers(1), st.integers())).map(tuple))
def test_marks_come_back_from_a_column(marks):
    assert read_marks(write_marks(marks)) == marks
    assert (write_marks(marks) is None) == (marks == ())


@pytest.mark.parametrize("text", ["", "x", "7", "[7]", "[[1]]"])
def test_what_is_no_marks_is_an_error(text):
    with pytest.raises((ValueError, TypeError)):
        read_marks(text)
