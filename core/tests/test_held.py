"""A session held in Python: what the kit cannot see of it through an adapter."""

from datetime import timedelta

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery
from turnkeep.errors import SessionNotFound
from turnkeep.held import HeldSession, commit_to
from turnkeep_testkit import FakeClock, new_commit, new_key


@pytest.fixture
def clock():
    return FakeClock()


def hold(commit, clock, session=None):
    return commit_to(session, commit, clock(), adapter="mine")


def test_a_commit_changes_the_session_in_place(clock):
    key = new_key()
    session, first = hold(new_commit(key, "one"), clock)
    same, second = hold(new_commit(key, "two", expect=first.token), clock, session)
    assert same is session
    assert (second.created, second.replayed) == (False, False)
    assert [message.content for message in session.read(MessageQuery(10)).items] == ["one", "two"]


def test_over_an_expired_session_there_is_a_new_one(clock):
    commit = new_commit(new_key(), "one", ttl=timedelta(hours=1))
    expired, _ = hold(commit, clock)
    clock.advance(timedelta(hours=1))
    session, result = hold(new_commit(commit.key, "two"), clock, expired)
    assert session is not expired
    assert result.created
    assert [message.content for message in expired.messages] == ["one"]


def test_a_replay_changes_nothing(clock):
    commit = new_commit(new_key(), "one")
    session, _ = hold(commit, clock)
    before = session.load(LoadQuery())
    same, result = hold(commit, clock, session)
    assert (same, result.replayed, session.load(LoadQuery())) == (session, True, before)


def test_what_is_refused_changes_nothing(clock):
    with pytest.raises(SessionNotFound) as caught:
        hold(new_commit(new_key(), "one", expect=Expect.ANY), clock)
    assert caught.value.adapter == "mine"


def test_sessions_share_nothing(clock):
    one, two = (hold(new_commit(new_key(), "x"), clock)[0] for _ in range(2))
    assert one.messages is not two.messages
    assert HeldSession(one.head).past is not HeldSession(one.head).past
