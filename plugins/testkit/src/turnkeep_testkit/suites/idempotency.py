"""G3: a commit sent again takes effect once."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from turnkeep.contract import PAST_COMMITS, Capability, Commit, Committed, Expect, HeadChange, Level
from turnkeep.errors import CommitIdReused, SessionConflict, SessionExists
from turnkeep.ids import new_id
from turnkeep_testkit.making import new_commit, new_message, new_messages
from turnkeep_testkit.suites.base import Suite, proves, texts


class IdempotencySuite(Suite):
    """The reply may be lost, the request repeated by a driver or a client: it is applied once."""

    async def test_g3_a_create_sent_again_gives_the_first_result(self) -> None:
        """The same `Expect.NEW` commit twice: one session, one turn, the first result.

        On failure: the commit id has to be looked up before the session is found to exist.
        """
        commit = new_commit(self.new_key(), "one", "two", data='{"a":1}')
        first = await self.adapter.commit(commit)
        again = await self.adapter.commit(commit)
        _expect_replay(again, first)
        assert again.created is True
        assert texts((await self.load(commit.key)).messages) == ["one", "two"]

    async def test_g3_a_swap_sent_again_gives_the_first_result(self) -> None:
        """The same commit with a token twice: no conflict with itself.

        On failure: the commit id has to be looked up before the token is compared.
        """
        key, first = await self.create("one")
        commit = new_commit(key, "two", expect=first.token, data='{"a":1}')
        second = await self.adapter.commit(commit)
        _expect_replay(await self.adapter.commit(commit), second)
        stored = await self.load(key)
        assert (stored.head.token, texts(stored.messages)) == (second.token, ["one", "two"])

    async def test_g3_an_append_sent_again_lands_once(self) -> None:
        """The same `Expect.ANY` commit twice appends once.

        On failure: nothing recognises the commit id; a reply that was lost doubles messages.
        """
        key, _ = await self.create("one")
        commit = new_commit(key, "two", expect=Expect.ANY)
        first = await self.adapter.commit(commit)
        _expect_replay(await self.adapter.commit(commit), first)
        _expect_replay(await self.adapter.commit(commit), first)
        assert texts((await self.load(key)).messages) == ["one", "two"]

    async def test_g3_a_commit_is_recognised_by_another_adapter(self) -> None:
        """The commit id is kept in the store, not in a process.

        On failure: idempotency lives in the memory of one adapter.
        """
        key, _ = await self.create("one")
        commit = new_commit(key, "two", expect=Expect.ANY)
        first = await self.adapter.commit(commit)
        other = await self.another()
        _expect_replay(await other.commit(commit), first)
        assert (await self.load(key)).head.message_count == 2

    async def test_g3_the_first_result_survives_later_commits(self) -> None:
        """A repeated commit gives what it gave, not what the session is at by now.

        On failure: numbers, count or token are taken from the head instead of from what was remembered.
        """
        key, _ = await self.create("one")
        commit = new_commit(key, "two", "three", expect=Expect.ANY)
        first = await self.adapter.commit(commit)
        await self.tick()
        await self.append(key, "four", drop_history=True)
        await self.append(key, head=HeadChange(status="completed"))
        before = await self.load(key)
        _expect_replay(await self.adapter.commit(commit), first)
        assert await self.load(key) == before

    async def test_g3_a_repeated_commit_may_carry_another_outcome(self) -> None:
        """The digest is of the request: the same id and digest replay, whatever else the commit carries.

        On failure: the payload is compared. A model that is asked again answers differently.
        """
        key, first = await self.create("one")
        commit = new_commit(key, "two", expect=first.token, data='{"a":1}')
        second = await self.adapter.commit(commit)
        other = replace(commit, messages=new_messages(["2", "3"]), data='{"a":2}', expect=second.token)
        _expect_replay(await self.adapter.commit(other), second)
        stored = await self.load(key)
        assert (stored.data, texts(stored.messages)) == ('{"a":1}', ["one", "two"])

    @pytest.mark.parametrize("expect", ["new", "token", "any"])
    async def test_g3_another_request_under_a_used_id_is_refused(self, expect: str) -> None:
        """The same commit id with another digest: `CommitIdReused`, nothing written.

        On failure: the digest is not compared, and a new request would be answered with an old result.
        """
        key, _ = await self.create("one")
        used = await self.append(key, "two")
        before = await self.load(key)
        expected = {"new": Expect.NEW, "token": before.head.token, "any": Expect.ANY}[expect]
        again = new_commit(key, "three", expect=expected, commit_id=used.token.commit_id, digest="of another request")
        with pytest.raises(CommitIdReused) as caught:
            await self.adapter.commit(again)
        assert caught.value.commit_id == used.token.commit_id
        assert caught.value.adapter == self.adapter.name
        assert not caught.value.retryable
        assert await self.load(key) == before

    async def test_g3_sessions_do_not_share_commit_ids(self) -> None:
        """The same commit id on two sessions: two commits.

        On failure: a replay is answered from another session.
        """
        commit_id = new_id()
        one, other = self.new_key(), self.new_key()
        await self.adapter.commit(new_commit(one, "one", commit_id=commit_id, digest="d"))
        second = await self.adapter.commit(new_commit(other, "two", "three", commit_id=commit_id, digest="d"))
        assert (second.replayed, second.last_seq) == (False, 2)
        assert texts((await self.load(one)).messages) == ["one"]
        assert texts((await self.load(other)).messages) == ["two", "three"]

    async def test_g3_a_new_life_does_not_know_old_commits(self) -> None:
        """After delete and re-create, a commit id of the former life is unknown.

        On failure: what a session remembers has to go with it.
        """
        key, _ = await self.create("one")
        late = new_commit(key, "two", expect=Expect.ANY)
        await self.adapter.commit(late)
        await self.adapter.delete(key)
        await self.create("new", key=key)
        stored = await self.load(key, commit_id=late.commit_id)
        assert stored.replay is None
        applied = await self.adapter.commit(late)
        assert (applied.replayed, applied.first_seq) == (False, 2)

    @proves(Capability.IDEMPOTENT_FOREVER)
    async def test_g3_at_least_32_commits_are_recognised(self) -> None:
        """The oldest of the last 32 commits is still recognised.

        On failure: the ring of remembered commits is too short, or forgets the wrong end.
        """
        key, _ = await self.create("zero")
        oldest = new_commit(key, "oldest", expect=Expect.ANY)
        first = await self.adapter.commit(oldest)
        for number in range(PAST_COMMITS - 1):
            await self.append(key, str(number))
        _expect_replay(await self.adapter.commit(oldest), first)
        assert (await self.load(key)).head.message_count == PAST_COMMITS + 1

    async def test_g3_an_old_swap_never_lands_twice(self) -> None:
        """A commit with a token that the session has forgotten conflicts; it is never applied again.

        On failure: a session that forgets a commit id must still compare the token; or IDEMPOTENT_FOREVER is declared
        FULL, and is not: see `test_g3_forever_means_for_ever`.
        """
        key, first = await self.create("zero")
        oldest = new_commit(key, "oldest", expect=first.token)
        done = await self.adapter.commit(oldest)
        for number in range(PAST_COMMITS + 8):
            await self.append(key, str(number))
        before = await self.load(key)
        if self.level(Capability.IDEMPOTENT_FOREVER) is Level.FULL:
            _expect_replay(await self.adapter.commit(oldest), done)
        else:
            with contextlib.suppress(SessionConflict):
                _expect_replay(await self.adapter.commit(oldest), done)
        assert await self.load(key) == before

    @proves(Capability.IDEMPOTENT_FOREVER)
    async def test_g3_forever_means_for_ever(self) -> None:
        """Where IDEMPOTENT_FOREVER is FULL, an append is recognised after more than 32 commits.

        On failure: declare it PARTIAL, or look the commit id up in the messages, too.
        """
        self.needs(Capability.IDEMPOTENT_FOREVER)
        key, _ = await self.create("zero")
        commits = [new_commit(key, f"message {number}", expect=Expect.ANY) for number in range(PAST_COMMITS + 10)]
        empty = new_commit(key, expect=Expect.ANY, head=HeadChange(status="completed"))
        results = [await self.adapter.commit(commit) for commit in [empty, *commits]]
        for commit, result in zip([empty, *commits[:10]], results, strict=False):
            _expect_replay(await self.adapter.commit(commit), result)
        assert (await self.load(key)).head.message_count == len(commits) + 1

    async def test_g3_load_tells_what_a_commit_did(self) -> None:
        """`LoadQuery.commit_id` brings result, digest and messages of that commit.

        On failure: see `Replay`; a caller whose reply was lost asks this way.
        """
        key, _ = await self.create("one")
        commit = new_commit(key, "two", new_message("three", role="assistant", reply='{"a":1}'), expect=Expect.ANY)
        done = await self.adapter.commit(commit)
        await self.append(key, "four")
        stored = await self.load(key, window=1, commit_id=commit.commit_id)
        assert texts(stored.messages) == ["four"]
        assert stored.replay is not None
        _expect_replay(stored.replay.committed, done)
        assert stored.replay.digest == commit.digest
        assert texts(stored.replay.messages) == ["two", "three"]
        assert [message.reply for message in stored.replay.messages] == [None, '{"a":1}']
        assert stored.replay.messages == (await self.load(key)).messages[1:3]

    async def test_g3_load_of_an_unknown_commit_brings_no_replay(self) -> None:
        """A commit id that took no effect on this session: `replay` is None.

        On failure: a commit of another session is found.
        """
        key, _ = await self.create("one")
        _, other = await self.create("two")
        assert (await self.load(key, commit_id=new_id())).replay is None
        assert (await self.load(key, commit_id=other.token.commit_id)).replay is None
        assert (await self.load(key)).replay is None

    async def test_g3_a_replay_has_only_messages_still_in_the_history(self) -> None:
        """A cleared history is not brought back by asking for its commit.

        On failure: `Replay.messages` are read without looking at the floor.
        """
        key, first = await self.create("one")
        await self.append(key, drop_history=True)
        stored = await self.load(key, commit_id=first.token.commit_id)
        assert stored.replay is not None
        assert stored.replay.messages == ()
        assert (stored.replay.committed.first_seq, stored.replay.committed.message_count) == (1, 1)

    async def test_g3_a_replay_does_not_pretend_to_be_contiguous(self) -> None:
        """An append that was not contiguous is not so when its result is asked for again.

        On failure: the writer would adopt a token it never read and overwrite what is in between. Work `contiguous`
        out of the `seen` token and the remembered version, or answer False.
        """
        key, first = await self.create("one")
        await self.append(key, "of somebody else")
        commit = new_commit(key, "two", expect=Expect.ANY, seen=first.token)
        assert (await self.adapter.commit(commit)).contiguous is False
        assert (await self.adapter.commit(commit)).contiguous is False

    async def test_g3_creating_again_under_a_new_id_is_refused(self) -> None:
        """Another commit id is another request: `SessionExists`.

        On failure: a create is recognised by its content.
        """
        commit = new_commit(self.new_key(), "one")
        await self.adapter.commit(commit)
        with pytest.raises(SessionExists):
            await self.adapter.commit(_renamed(commit))


def _renamed(commit: Commit) -> Commit:
    return replace(commit, commit_id=new_id())


def _expect_replay(again: Committed, first: Committed) -> None:
    assert again.replayed is True
    # Expiry may have moved since; `contiguous` has a test of its own.
    assert replace(again, replayed=False, contiguous=True, expires_at=None) == replace(
        first, contiguous=True, expires_at=None
    )
