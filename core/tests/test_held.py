"""A session held in Python: what the kit cannot see of it through an adapter."""

from datetime import timedelta

import pytest

from turnkeep.contract import Erased, Expect, LoadQuery, MessageQuery, SessionKey, Swept
from turnkeep.errors import SessionConflict, SessionNotFound
from turnkeep.held import HeldSession, commit_to, erased, load_from, may_delete, read_from, swept
from turnkeep_testkit import FakeClock, new_commit, new_key, new_scope

HOUR = timedelta(hours=1)


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
    assert [message.content for message in session.messages] == ["one", "two"]


def test_over_an_expired_session_there_is_a_new_one(clock):
    commit = new_commit(new_key(), "one", ttl=HOUR)
    expired, _ = hold(commit, clock)
    clock.advance(HOUR)
    session, result = hold(new_commit(commit.key, "two"), clock, expired)
    assert session is not expired
    assert result.created
    assert [message.content for message in expired.messages] == ["one"]


def test_a_replay_changes_nothing(clock):
    commit = new_commit(new_key(), "one")
    session, _ = hold(commit, clock)
    before = load_from(session, commit.key, LoadQuery(), clock())
    same, result = hold(commit, clock, session)
    assert (same, result.replayed) == (session, True)
    assert load_from(session, commit.key, LoadQuery(), clock()) == before


def test_what_is_refused_changes_nothing(clock):
    with pytest.raises(SessionNotFound) as caught:
        hold(new_commit(new_key(), "one", expect=Expect.ANY), clock)
    assert caught.value.adapter == "mine"


def test_sessions_share_nothing(clock):
    one, two = (hold(new_commit(new_key(), "x"), clock)[0] for _ in range(2))
    assert one.messages is not two.messages
    assert HeldSession(one.head).past is not HeldSession(one.head).past


@pytest.fixture
def aged(clock):
    """A session whose first two messages have left by age, though nothing was called since."""
    commit = new_commit(new_key(), "one", "two", message_ttl=HOUR)
    session, _ = hold(commit, clock)
    session, _ = hold(new_commit(commit.key, "three", expect=Expect.ANY), clock, session)
    clock.advance(HOUR)
    assert len(session.messages) == 3
    return session, commit.key


def contents(messages):
    return [message.content for message in messages]


def test_time_passes_before_a_load(aged, clock):
    session, key = aged
    assert contents(load_from(session, key, LoadQuery(), clock()).messages) == ["three"]


def test_time_passes_before_a_page(aged, clock):
    session, key = aged
    assert contents(read_from(session, key, MessageQuery(10), clock(), adapter="mine").items) == ["three"]


def test_time_passes_before_a_commit(aged, clock):
    session, key = aged
    _, result = hold(new_commit(key, "four", expect=Expect.ANY), clock, session)
    assert (contents(session.messages), session.head.floor, result.message_count) == (["three", "four"], 2, 2)


def test_nobody_is_shown_what_is_absent_expired_or_foreign(clock):
    commit = new_commit(new_key(), "one", user_id="ana", ttl=HOUR)
    session, _ = hold(commit, clock)
    foreign = SessionKey(new_scope("eve"), commit.key.session_id)
    cases = [(None, commit.key, clock()), (session, foreign, clock()), (session, commit.key, clock.advance(HOUR))]
    for held, key, now in cases:
        assert load_from(held, key, LoadQuery(), now) is None
        assert may_delete(held, key, None, now, adapter="mine") is False
        with pytest.raises(SessionNotFound) as caught:
            read_from(held, key, MessageQuery(10), now, adapter="mine")
        assert (caught.value.adapter, caught.value.operation) == ("mine", "read_messages")


def test_a_delete_may_expect_a_token(clock):
    key = new_key()
    session, first = hold(new_commit(key), clock)
    session, second = hold(new_commit(key, "one", expect=Expect.ANY), clock, session)
    assert may_delete(session, key, second.token, clock(), adapter="mine")
    assert may_delete(session, key, None, clock(), adapter="mine")
    with pytest.raises(SessionConflict) as caught:
        may_delete(session, key, first.token, clock(), adapter="mine")
    assert (caught.value.actual, caught.value.operation) == (second.token, "delete")


def test_an_erasure_counts_what_had_not_expired_with_the_messages_of_its_history(aged, clock):
    expired, _ = hold(new_commit(new_key(), "one", ttl=HOUR), clock)
    clock.advance(HOUR)
    assert erased([aged[0], expired], clock()) == Erased(1, 1)


def test_a_sweep_counts_sessions_that_go_and_all_messages_that_go(aged, clock):
    expired, _ = hold(new_commit(new_key(), "one", "two", "three", ttl=HOUR), clock)
    other, _ = hold(new_commit(new_key(), "one", ttl=HOUR), clock)
    now = clock.advance(HOUR)
    assert swept([aged[0], expired, other], 2, now) == Swept(1, 5, more=True)
    assert contents(aged[0].messages) == ["three"]
    assert swept([], 2, now) == Swept(0, 0, more=False)
