"""G11: what is deleted is gone, all of it, for good."""

from __future__ import annotations

import asyncio

import pytest

from turnkeep.contract import Committed, Expect, LoadQuery, Scope, SessionKey
from turnkeep.errors import SessionConflict, SessionNotFound, StorageError
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, texts


class DeleteSuite(Suite):
    """Deleting is complete, and a late writer cannot undo it."""

    async def test_g11_a_deleted_session_is_absent_everywhere(self) -> None:
        """After `delete`: no load, no messages, no list shows it; deleting again says False.

        On failure: one of the reads does not look at the head.
        """
        key, _ = await self.create("one", "two", data='{"a":1}', user_id="ana")
        other, _ = await self.create("stays")
        await self.lists_settle()
        assert await self.adapter.delete(key) is True
        assert await self.adapter.load(key, LoadQuery()) is None
        with pytest.raises(SessionNotFound):
            await self.page(key)
        assert await self.listed() == [other.session_id]
        assert await self.listed(order="created") == [other.session_id]
        assert await self.adapter.delete(key) is False
        assert texts((await self.load(other)).messages) == ["stays"]

    async def test_g11_deleting_nothing_says_false(self) -> None:
        """`delete` of an absent session is False, not an error.

        On failure: see `StorageAdapter.delete`.
        """
        assert await self.adapter.delete(self.new_key()) is False

    async def test_g11_a_delete_may_expect_a_token(self) -> None:
        """With the current token `delete` removes; with a stale one it conflicts and removes nothing; absent is False.

        On failure: compare the token in the statement that deletes.
        """
        key, first = await self.create("one")
        second = await self.append(key, "two")
        before = await self.load(key)
        with pytest.raises(SessionConflict) as caught:
            await self.adapter.delete(key, expect=first.token)
        assert (caught.value.expected, caught.value.actual) == (first.token, second.token)
        assert await self.load(key) == before
        foreign = self.new_key("eve", key.session_id)
        assert await self.adapter.delete(foreign, expect=second.token) is False
        assert await self.adapter.delete(key, expect=second.token) is True
        assert await self.adapter.delete(key, expect=second.token) is False
        await self.create("new", key=key)
        with pytest.raises(SessionConflict):
            await self.adapter.delete(key, expect=second.token)
        assert texts((await self.load(key)).messages) == ["new"]

    async def test_g11_of_a_delete_and_a_swap_one_wins(self) -> None:
        """A delete and a commit that expect the same token, at once: one of the two takes effect, not both.

        On failure: the token is compared before the deleting statement, and a turn committed in between is lost.
        """
        other = await self.another()
        for number in range(8):
            key, first = await self.create("one")
            commit = other.commit(new_commit(key, "two", expect=first.token))
            delete = self.adapter.delete(key, expect=first.token)
            deleted, committed = await asyncio.gather(delete, commit, return_exceptions=True)
            if deleted is True:
                assert isinstance(committed, SessionNotFound), f"round {number}: both took effect"
                assert not await self.is_there(key)
            else:
                assert isinstance(deleted, SessionConflict)
                assert isinstance(committed, Committed)
                assert texts((await self.load(key)).messages) == ["one", "two"]

    async def test_g11_nothing_of_it_remains(self) -> None:
        """The raw store holds nothing of a deleted session (`remains` of the suite looks).

        On failure: messages, index entries or documents stay behind; delete them in the same transaction, or say why
        not and let `sweep` do it.
        """
        key, _ = await self.create("one", "two", data='{"a":1}', user_id="ana")
        await self.append(key, "three")
        if await self.remains(key) is None:
            pytest.skip("override remains() to let the kit look at the raw store")
        assert await self.remains(key) != 0, "remains() does not see a session that is there"
        await self.adapter.delete(key)
        assert await self.remains(key) == 0

    async def test_g11_a_new_life_inherits_nothing(self) -> None:
        """A session re-created under a deleted id is new: no data, no messages, no status, version 1.

        On failure: delete leaves messages or documents, and the next life finds them.
        """
        key, first = await self.create("old", "older", data='{"old":1}', state='{"old":2}', user_id="ana")
        await self.append(key, "oldest", drop_history=True)
        await self.adapter.delete(key)
        _, second = await self.create("new", key=key)
        stored = await self.load(key)
        assert (stored.data, stored.state, texts(stored.messages)) == ("{}", "{}", ["new"])
        assert (stored.head.user_id, stored.head.floor, stored.head.message_count) == (None, 0, 1)
        assert stored.head.token == second.token
        assert second.token.incarnation != first.token.incarnation
        assert (await self.load(key, commit_id=first.token.commit_id)).replay is None

    @pytest.mark.parametrize("kind", ["token", "any"])
    async def test_g11_a_late_commit_cannot_resurrect(self, kind: str) -> None:
        """A commit that arrives after the delete raises `SessionNotFound`; the session stays absent.

        On failure: the write is an upsert, or a tombstone is taken for a session.
        """
        key, first = await self.create("one")
        late = new_commit(key, "late", expect=first.token if kind == "token" else Expect.ANY)
        await self.adapter.delete(key)
        for _ in range(2):
            with pytest.raises(SessionNotFound):
                await self.adapter.commit(late)
        assert not await self.is_there(key)
        await self.lists_settle()
        assert await self.listed() == []

    async def test_g11_a_late_commit_cannot_enter_the_next_life(self) -> None:
        """A commit with a token of the former life conflicts with the next one.

        On failure: the token is compared without its incarnation.
        """
        key, first = await self.create("one")
        await self.adapter.delete(key)
        await self.create("two", key=key)
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, "late", expect=first.token, data="{}"))
        assert texts((await self.load(key)).messages) == ["two"]

    async def test_g11_repeating_a_commit_after_a_delete_brings_nothing_back(self) -> None:
        """A commit that had taken effect is not replayed once its session is gone.

        On failure: what was remembered of commits outlives the session.
        """
        key, _ = await self.create("one")
        commit = new_commit(key, "two", expect=Expect.ANY)
        await self.adapter.commit(commit)
        await self.adapter.delete(key)
        with pytest.raises(SessionNotFound):
            await self.adapter.commit(commit)
        assert not await self.is_there(key)

    async def test_g11_an_owner_can_be_erased(self) -> None:
        """`delete_owner` removes every session of one owner, counts them, and touches nobody else's.

        On failure: only the first page of the owner's sessions was looked at, or the condition is too wide.
        """
        mine = [self.new_key("ana", f"a{number}") for number in range(12)]
        for number, key in enumerate(mine):
            await self.create(*["x"] * number, key=key, user_id="ana")
        others = [
            self.new_key("an", "b0"),
            self.new_key("ana ", "b1"),
            self.new_key("Ana", "b2"),
            self.new_key(None, "b3"),
        ]
        for key in others:
            owner = key.scope.owner
            await self.create("stays", key=key, user_id=owner if isinstance(owner, str) else None)
        elsewhere = SessionKey(Scope(f"{self.scope.namespace}.b", "ana"), "a0")
        await self.create("stays", key=elsewhere, user_id="ana")
        await self.lists_settle()
        erased = await self.adapter.delete_owner(self.owned("ana"))
        assert (erased.sessions, erased.messages) == (12, sum(range(12)))
        for key in mine:
            assert not await self.is_there(key)
        for key in [*others, elsewhere]:
            assert texts((await self.load(key)).messages) == ["stays"]
        assert await self.listed(self.owned("ana")) == []
        again = await self.adapter.delete_owner(self.owned("ana"))
        assert (again.sessions, again.messages) == (0, 0)

    async def test_g11_nothing_of_an_owner_remains(self) -> None:
        """The raw store holds nothing of an erased owner's sessions (`remains` of the suite looks).

        On failure: `delete_owner` must remove what `delete` removes.
        """
        key, _ = await self.create("one", "two", key=self.new_key("ana"), user_id="ana")
        if await self.remains(key) is None:
            pytest.skip("override remains() to let the kit look at the raw store")
        await self.lists_settle()
        await self.adapter.delete_owner(self.owned("ana"))
        assert await self.remains(key) == 0

    async def test_g11_delete_against_commits(self) -> None:
        """Whoever commits while the session is deleted either was before, or finds it absent; it stays deleted.

        On failure: a commit in flight brings back the head, or leaves messages for the next life.
        """
        other = await self.another()
        for _ in range(10):
            key, _ = await self.create("one")

            async def write(key: SessionKey = key) -> None:
                for number in range(5):
                    try:
                        await (self.adapter, other)[number % 2].commit(
                            new_commit(key, f"late {number}", expect=Expect.ANY)
                        )
                    except StorageError as error:
                        assert type(error) is SessionNotFound  # noqa: PT017 - it may as well succeed
                        return
                    await asyncio.sleep(0)

            writers = [asyncio.create_task(write()) for _ in range(3)]
            await asyncio.sleep(0)
            assert await self.adapter.delete(key) is True
            await asyncio.gather(*writers)
            assert not await self.is_there(key)
            assert await self.remains(key) in {0, None}
            await self.create("new", key=key)
            assert texts((await self.load(key)).messages) == ["new"]
