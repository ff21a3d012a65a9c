"""A held session as lines: added up they give the session, and what is no line, or not the next one, is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from turnkeep.contract import Expect, HeadChange
from turnkeep.errors import CorruptRecord, DataTooNew
from turnkeep.held import commit_to
from turnkeep.lines import add_line, write_line
from turnkeep_testkit import FakeClock, new_commit, new_key

KEY = new_key()
COMMITS = [
    new_commit(KEY, "one", "two\nlines\u2028", user_id="ana", data='{"a":1}', head=HeadChange(agent_name="")),
    new_commit(KEY, "three", expect=Expect.ANY, ttl=timedelta(days=1), message_ttl=timedelta(hours=1)),
    new_commit(KEY, expect=Expect.ANY, head=HeadChange(status="completed")),
    new_commit(KEY, "four", expect=Expect.ANY, drop_history=True, message_ttl=timedelta(hours=2)),
    *(new_commit(KEY, str(number), expect=Expect.ANY) for number in range(40)),
]


def test_lines_add_up_to_the_session():
    clock = FakeClock()
    session = added = None
    for commit in COMMITS:
        session, result = commit_to(session, commit, clock.advance(1), adapter="mine")
        line = write_line(session, result)
        assert b"\n" not in line
        added = add_line(added, line, adapter="mine")
        assert added == session
        assert list(added.past) == list(session.past)
        assert add_line(None, write_line(session), adapter="mine") == session


@pytest.fixture
def lines():
    """A line for each of six commits, the first of which brings no message."""
    clock, session, written = FakeClock(), None, []
    for commit in [new_commit(KEY), *(new_commit(KEY, text, expect=Expect.ANY) for text in "abcde")]:
        session, result = commit_to(session, commit, clock.advance(1), adapter="mine")
        written.append(write_line(session, result))
    return written


def add_up(lines):
    session = None
    for line in lines:
        session = add_line(session, line, adapter="mine")
    return session


@pytest.mark.parametrize("at", range(5))
def test_a_line_that_is_missing_is_told(lines, at):
    with pytest.raises(CorruptRecord):
        add_up(lines[:at] + lines[at + 1 :])


@pytest.mark.parametrize("at", range(6))
def test_a_line_that_is_there_twice_is_told(lines, at):
    with pytest.raises(CorruptRecord):
        add_up(lines[: at + 1] + lines[at:])


@pytest.mark.parametrize("at", range(5))
def test_lines_in_another_order_are_told(lines, at):
    with pytest.raises(CorruptRecord):
        add_up([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])


def test_lines_of_two_lives_do_not_add_up(lines):
    other = None
    for commit in [new_commit(KEY), new_commit(KEY, "a", expect=Expect.ANY)]:
        other, result = commit_to(other, commit, FakeClock().advance(1), adapter="mine")
    with pytest.raises(CorruptRecord):
        add_up([lines[0], write_line(other, result)])


def test_all_of_a_session_does_not_follow_a_line(lines):
    with pytest.raises(CorruptRecord):
        add_up([*lines, write_line(add_up(lines))])


def test_a_history_with_a_hole_is_told(lines):
    session = add_up(lines)
    whole = list(session.messages)
    for at in range(len(whole)):
        session.messages = whole[:at] + whole[at + 1 :]
        with pytest.raises(CorruptRecord):
            add_up([write_line(session)])


def test_messages_that_left_by_age_are_not_missing():
    clock = FakeClock()
    session, first = commit_to(None, new_commit(KEY, "old", message_ttl=timedelta(1)), clock(), adapter="mine")
    line = write_line(session, first)
    session, second = commit_to(
        session, new_commit(KEY, "new", expect=Expect.ANY), clock.advance(timedelta(1)), adapter="mine"
    )
    added = add_up([line, write_line(session, second)])
    assert added == session
    assert [message.content for message in added.messages] == ["new"]


def test_a_floor_does_not_sink(lines):
    session = add_up(lines)
    session.head = replace(session.head, floor=2)
    session.messages = session.messages[2:]
    line = write_line(session)
    session, result = commit_to(session, new_commit(KEY, "f", expect=Expect.ANY), FakeClock()(), adapter="mine")
    session.head = replace(session.head, floor=1)
    with pytest.raises(CorruptRecord):
        add_up([line, write_line(session, result)])


def test_a_line_without_a_part_is_corrupt(lines):
    for part in (b'"data"', b'"marks"', b'"state"', b'"past"'):
        with pytest.raises(CorruptRecord):
            add_line(None, lines[0].replace(part, b'"x"'), adapter="mine")


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"7", b'"v"', b'{"v":1}', b'{"v":1,"head":{}}', b'{"v":"1"}', b"\xff", b'{"v":1,"head":3}'],
)
def test_what_is_no_line_is_corrupt(line):
    with pytest.raises(CorruptRecord) as caught:
        add_line(None, line, adapter="mine")
    assert caught.value.adapter == "mine"


def test_a_line_of_a_later_version_is_refused():
    with pytest.raises(DataTooNew, match="upgrade"):
        add_line(None, b'{"v":2}', adapter="mine")
