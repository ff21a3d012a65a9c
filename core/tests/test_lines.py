"""A held session as lines: added up they give the session, and what is no line is told."""

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
