"""G12: one expiry for all parts, and messages that leave by age."""

from __future__ import annotations

from datetime import timedelta

import pytest

from turnkeep.contract import Expect, HeadChange, LoadQuery
from turnkeep.errors import SessionNotFound
from turnkeep.retention import MAX_MARKS
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, seqs, texts

DAY = timedelta(days=1)


class ExpirySuite(Suite):
    """Expired is absent, to the instant; every commit renews, a load never."""

    async def test_g12_expiry_counts_from_the_commit(self) -> None:
        """`expires_at` is the server's time of the commit plus the ttl; None without one.

        On failure: the client's clock made the instant, or the ttl was rounded.
        """
        key, first = await self.create(ttl=DAY)
        assert first.expires_at is not None
        assert abs(first.expires_at - first.time - DAY) < timedelta(milliseconds=2)
        assert (await self.load(key)).head.expires_at == first.expires_at
        await self.lists_settle()
        assert [head.expires_at for head in await self.heads()] == [first.expires_at]

    async def test_g12_an_expired_session_is_absent_everywhere(self) -> None:
        """Once the ttl has passed: no load, page, list, delete or commit finds it; nothing was purged by hand.

        On failure: that statement does not compare the expiry with the server's clock.
        """
        key, first = await self.create("one", user_id="ana", ttl=self.moment)
        lasting, _ = await self.create("stays", user_id="ana")
        await self.lists_settle()
        await self.wait(self.moment)
        assert await self.adapter.load(key, LoadQuery()) is None
        assert await self.adapter.load(key, LoadQuery(commit_id=first.token.commit_id)) is None
        with pytest.raises(SessionNotFound):
            await self.page(key)
        for expect in (Expect.ANY, first.token):
            with pytest.raises(SessionNotFound):
                await self.adapter.commit(new_commit(key, "late", expect=expect))
        assert await self.listed() == [lasting.session_id]
        assert await self.listed(order="created") == [lasting.session_id]
        assert await self.listed(self.owned("ana")) == [lasting.session_id]
        assert await self.adapter.delete(key) is False

    async def test_g12_alive_to_the_instant(self) -> None:
        """A session lives until its instant and is gone at it.

        On failure: expiry is rounded to seconds, or compared with the wrong relation.
        """
        if self.clock is None:
            pytest.skip("the instant itself can only be met with a fake clock; override fake_clock")
        key, first = await self.create("one", ttl=timedelta(seconds=10))
        assert first.expires_at is not None
        self.clock.set(first.expires_at - timedelta(milliseconds=1))
        assert await self.is_there(key)
        self.clock.set(first.expires_at)
        assert not await self.is_there(key)

    async def test_g12_a_commit_renews(self) -> None:
        """A commit with a ttl counts it anew, for all parts.

        On failure: the expiry is set at creation only, or on one part of the session.
        """
        key, _ = await self.create("one", data='{"a":1}', ttl=self.moment)
        renewed = await self.append(key, "two", ttl=DAY)
        await self.wait(self.moment)
        stored = await self.load(key)
        assert (stored.data, texts(stored.messages)) == ('{"a":1}', ["one", "two"])
        assert stored.head.expires_at == renewed.expires_at

    async def test_g12_a_commit_without_a_ttl_clears_it(self) -> None:
        """A commit with `ttl=None` makes the session last for ever, all parts of it.

        On failure: None is taken for "leave it".
        """
        key, _ = await self.create("one", data='{"a":1}', ttl=self.moment)
        assert (await self.append(key, head=HeadChange(status="completed"))).expires_at is None
        await self.wait(self.moment)
        stored = await self.load(key)
        assert (stored.data, texts(stored.messages), stored.head.expires_at) == ('{"a":1}', ["one"], None)

    async def test_g12_a_ttl_may_come_later(self) -> None:
        """A lasting session gets an expiry with the commit that brings one, older messages included.

        On failure: the ttl is kept per message, or only for new sessions.
        """
        key, _ = await self.create("one")
        await self.append(key, "two", ttl=self.moment)
        await self.wait(self.moment)
        assert not await self.is_there(key)
        assert await self.remains(key) is None or (await self.create(key=key))[1].created

    async def test_g12_a_load_does_not_renew(self) -> None:
        """Reading, listing and refused commits do not lengthen a session's life.

        On failure: a read touches the expiry.
        """
        key, _ = await self.create("one", ttl=self.moment)
        for _ in range(4):
            await self.adapter.load(key, LoadQuery())
            await self.listed()
            if self.clock:
                self.clock.advance(self.moment / 5)
        await self.wait(self.moment)
        assert not await self.is_there(key)

    async def test_g12_a_replay_does_not_renew(self) -> None:
        """Sending a commit again does not lengthen the session's life.

        On failure: the expiry is written before the commit id is recognised.
        """
        commit = new_commit(self.new_key(), "one", ttl=self.moment)
        first = await self.adapter.commit(commit)
        if self.clock:
            self.clock.advance(self.moment / 2)
        again = await self.adapter.commit(commit)
        assert again.replayed
        assert (await self.load(commit.key)).head.expires_at == first.expires_at

    async def test_g12_an_expired_id_can_be_created_again(self) -> None:
        """Creating over an expired session begins a new incarnation with nothing of the old.

        On failure: the expired record is updated instead of replaced, or counts as taken.
        """
        key, first = await self.create("old", data='{"old":1}', user_id="ana", ttl=self.moment)
        await self.append(key, "older", ttl=self.moment)
        await self.wait(self.moment)
        _, second = await self.create("new", key=key, user_id="bob")
        assert (second.created, second.first_seq, second.message_count, second.token.version) == (True, 1, 1, 1)
        assert second.token.incarnation != first.token.incarnation
        stored = await self.load(key, commit_id=first.token.commit_id)
        assert (stored.data, texts(stored.messages), stored.head.user_id) == ("{}", ["new"], "bob")
        assert stored.head.created_at == second.time
        assert stored.replay is None
        await self.lists_settle()
        assert await self.listed() == [key.session_id]
        assert await self.listed(self.owned("ana")) == []

    async def test_g12_an_expired_commit_is_not_replayed(self) -> None:
        """A create sent again after its session expired begins a new life.

        On failure: what was remembered of commits outlives the session.
        """
        commit = new_commit(self.new_key(), "one", ttl=self.moment)
        first = await self.adapter.commit(commit)
        await self.wait(self.moment)
        again = await self.adapter.commit(commit)
        assert (again.replayed, again.created) == (False, True)
        assert again.token.incarnation != first.token.incarnation

    async def test_g12_messages_leave_by_age(self) -> None:
        """Messages older than their `message_ttl` leave the history; the session, its data and its numbers stay.

        On failure: apply `turnkeep.retention.floor_at` to every read and commit. `turnkeep.held` does it; who works on
        a `HeldSession` alone calls its `pass_time` first.
        """
        key, _ = await self.create("old 1", "old 2", data='{"a":1}', message_ttl=self.moment)
        await self.wait(self.moment)
        stored = await self.load(key)
        assert (stored.messages, stored.data) == ((), '{"a":1}')
        assert (stored.head.message_count, stored.head.last_seq, stored.head.floor) == (0, 2, 2)
        assert (await self.page(key)).items == ()
        assert (await self.page(key, after=0)).items == ()
        appended = await self.append(key, "new", message_ttl=DAY)
        assert (appended.first_seq, appended.message_count) == (3, 1)
        assert (texts((await self.load(key)).messages), seqs((await self.page(key)).items)) == (["new"], [3])
        await self.lists_settle()
        assert [head.message_count for head in await self.heads()] == [1]

    async def test_g12_messages_without_an_age_stay(self) -> None:
        """A commit without `message_ttl` after one with it: only the older ones leave.

        On failure: the last commit's ttl is applied to all messages; or reads do not look at the marks at all, and
        nothing left: then see `test_g12_messages_leave_by_age` first.
        """
        key, _ = await self.create("leaves", message_ttl=self.moment)
        await self.append(key, "stays")
        await self.wait(self.moment)
        stored = await self.load(key)
        assert (texts(stored.messages), stored.head.floor) == (["stays"], 1)
        assert texts((await self.load(key, window=1)).messages) == ["stays"]

    async def test_g12_messages_leave_by_whole_commits_from_the_oldest(self) -> None:
        """Each commit's messages leave together when their time has come, older ones first.

        On failure: compare with `turnkeep.retention`.
        """
        if self.clock is None:
            pytest.skip("several instants in a row need a fake clock; override fake_clock")
        hour = timedelta(hours=1)
        key, _ = await self.create("1", "2", message_ttl=3 * hour)
        self.clock.advance(hour)
        await self.append(key, "3", "4", "5", message_ttl=3 * hour)
        self.clock.advance(hour)
        await self.append(key, "6", message_ttl=3 * hour)
        for expected in (["1", "2", "3", "4", "5", "6"], ["3", "4", "5", "6"], ["6"], []):
            stored = await self.load(key)
            assert texts(stored.messages) == expected
            assert stored.head.message_count == len(expected)
            assert texts((await self.page(key)).items) == expected
            assert texts((await self.load(key, window=1)).messages) == expected[-1:]
            self.clock.advance(hour)
        assert (await self.append(key, "7")).first_seq == 7

    async def test_g12_a_shorter_age_does_not_overtake(self) -> None:
        """A later commit with a shorter `message_ttl` leaves no earlier than the older ones before it.

        On failure: history would have a hole; see `turnkeep.retention.add_mark`.
        """
        if self.clock is None:
            pytest.skip("several instants in a row need a fake clock; override fake_clock")
        key, _ = await self.create("1", message_ttl=timedelta(hours=5))
        await self.append(key, "2", message_ttl=timedelta(hours=1))
        self.clock.advance(timedelta(hours=2))
        assert texts((await self.load(key)).messages) == ["1", "2"]
        self.clock.advance(timedelta(hours=4))
        assert texts((await self.load(key)).messages) == []

    async def test_g12_many_ages_leave_in_order(self) -> None:
        """More commits than marks: messages leave from the oldest, none before its time, all in the end.

        On failure: merge marks as `turnkeep.retention.add_mark` does: a message may stay longer, never shorter.
        """
        if self.clock is None:
            pytest.skip("several instants in a row need a fake clock; override fake_clock")
        age, step = timedelta(hours=10), timedelta(minutes=1)
        total = MAX_MARKS + 20
        key, _ = await self.create("1", message_ttl=age)
        for number in range(2, total + 1):
            self.clock.advance(step)
            await self.append(key, str(number), message_ttl=age)
        self.clock.advance(age - total * step)
        for gone in range(0, total, 7):
            found = seqs((await self.load(key)).messages)
            assert found == list(range(total - len(found) + 1, total + 1))
            assert len(found) >= total - gone, "a message left before its time"
            self.clock.advance(step * 7)
        self.clock.advance(age)
        assert (await self.load(key)).messages == ()

    async def test_g12_clearing_and_ages_together(self) -> None:
        """A history that was cleared stays cleared when the marks of its messages pass later.

        On failure: a mark moves the floor backwards, or beyond messages that came after.
        """
        key, _ = await self.create("1", "2", message_ttl=self.moment)
        await self.append(key, "3", drop_history=True)
        assert texts((await self.load(key)).messages) == ["3"]
        await self.wait(self.moment)
        stored = await self.load(key)
        assert (texts(stored.messages), stored.head.floor) == (["3"], 2)

    async def test_g12_sweep_removes_what_is_expired(self) -> None:
        """After a sweep nothing of an expired session remains, and the living are untouched.

        On failure: `sweep` must remove messages with their session, and judge by the server's clock.
        """
        gone, _ = await self.create("one", "two", ttl=self.moment)
        lasting, _ = await self.create("stays", ttl=DAY)
        for_ever, _ = await self.create("stays")
        await self.wait(self.moment)
        before = [await self.load(lasting), await self.load(for_ever)]
        for _ in range(1000):
            swept = await self.adapter.sweep(100)
            assert swept.sessions <= 100
            if not swept.more:
                break
        else:
            raise AssertionError("sweep did not end: `more` stayed true")
        assert [await self.load(lasting), await self.load(for_ever)] == before
        assert not await self.is_there(gone)
        assert await self.remains(gone) in {0, None}

    async def test_g12_an_expired_session_of_an_owner_is_erased_too(self) -> None:
        """`delete_owner` leaves nothing of the owner's expired sessions, but counts the living ones.

        On failure: `delete_owner` skips what is expired and not purged yet, or counts it.
        """
        gone, _ = await self.create("one", key=self.new_key("ana"), user_id="ana", ttl=self.moment)
        alive, _ = await self.create("two", key=self.new_key("ana"), user_id="ana")
        await self.wait(self.moment)
        erased = await self.adapter.delete_owner(self.owned("ana"))
        assert (erased.sessions, erased.messages) == (1, 1)
        assert not await self.is_there(alive)
        for key in (gone, alive):
            assert await self.remains(key) in {0, None}
