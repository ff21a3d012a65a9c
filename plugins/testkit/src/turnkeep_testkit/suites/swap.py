"""G2: compare-and-swap."""

from __future__ import annotations

from datetime import timedelta

import pytest

from turnkeep.contract import Expect, HeadChange, Token
from turnkeep.errors import SessionConflict, SessionNotFound
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, texts


class CompareAndSwapSuite(Suite):
    """A writer replaces only what it has read."""

    async def test_g2_the_current_token_commits(self) -> None:
        """A commit with the token of the last load takes effect, each time.

        On failure: the token a load gives differs from the one that is compared.
        """
        key, _ = await self.create(data="1")
        for number in range(2, 6):
            token = (await self.load(key)).head.token
            committed = await self.adapter.commit(new_commit(key, expect=token, data=str(number)))
            assert committed.token.version == number
            assert committed.contiguous
        assert (await self.load(key)).data == "5"

    async def test_g2_a_stale_token_conflicts(self) -> None:
        """The second of two writers that read the same version is refused, and told where the session is.

        On failure: last writer wins; compare the token in the same statement that writes.
        """
        key, first = await self.create(data='{"a":0}')
        winner = await self.adapter.commit(new_commit(key, "won", expect=first.token, data='{"a":1}'))
        with pytest.raises(SessionConflict) as caught:
            await self.adapter.commit(new_commit(key, "lost", expect=first.token, data='{"a":2}'))
        error = caught.value
        assert (error.session_id, error.expected, error.actual) == (key.session_id, first.token, winner.token)
        assert error.retryable
        assert error.adapter == self.adapter.name
        stored = await self.load(key)
        assert (stored.data, texts(stored.messages)) == ('{"a":1}', ["won"])

    @pytest.mark.parametrize("part", ["incarnation", "version", "commit_id"])
    async def test_g2_every_part_of_the_token_counts(self, part: str) -> None:
        """A token that differs in one part only is stale.

        On failure: that part is not compared. A version alone comes again after delete and re-create, or a failover.
        """
        key, first = await self.create("one")
        token = first.token
        wrong = {
            "incarnation": Token(token.incarnation + "x", token.version, token.commit_id),
            "version": Token(token.incarnation, token.version + 1, token.commit_id),
            "commit_id": Token(token.incarnation, token.version, token.commit_id + "x"),
        }[part]
        with pytest.raises(SessionConflict) as caught:
            await self.adapter.commit(new_commit(key, "two", expect=wrong))
        assert caught.value.actual == token
        assert texts((await self.load(key)).messages) == ["one"]

    async def test_g2_a_token_of_a_former_life_conflicts(self) -> None:
        """After delete and re-create, a token of the same version from before is stale.

        On failure: compare-and-swap looks at the version only, or the incarnation is not new.
        """
        key, first = await self.create("old")
        await self.adapter.delete(key)
        _, second = await self.create("new", key=key)
        assert second.token.version == first.token.version
        assert second.token.incarnation != first.token.incarnation
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, "late", expect=first.token))
        assert texts((await self.load(key)).messages) == ["new"]

    async def test_g2_a_token_of_another_session_conflicts(self) -> None:
        """A token is good for its own session only.

        On failure: the incarnation is not unique per session.
        """
        key, _ = await self.create("one")
        _, other = await self.create("two")
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, expect=other.token))

    @pytest.mark.parametrize("change", ["append", "status", "clear", "nothing"])
    async def test_g2_any_commit_makes_a_token_stale(self, change: str) -> None:
        """Whatever was committed in between, the older token conflicts.

        On failure: that kind of commit does not raise the version or does not change the last commit id.
        """
        key, first = await self.create("one")
        match change:
            case "append":
                await self.append(key, "two")
            case "status":
                await self.append(key, head=HeadChange(status="completed"))
            case "clear":
                await self.append(key, drop_history=True)
            case _:
                await self.append(key)
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, expect=first.token))

    async def test_g2_appends_never_conflict(self) -> None:
        """`Expect.ANY` appends to whatever the session is at.

        On failure: an append compares a token.
        """
        key, first = await self.create("one")
        await self.append(key, "two", seen=first.token)
        third = await self.append(key, "three", seen=first.token)
        assert third.token.version == 3
        assert texts((await self.load(key)).messages) == ["one", "two", "three"]

    async def test_g2_an_append_tells_whether_something_was_in_between(self) -> None:
        """`contiguous` is true exactly where the session was still at the token the writer had seen.

        On failure: a session that appended while others wrote would adopt a token it never read, and then overwrite
        what it has not seen; compare `seen` with the token before the commit.
        """
        key, first = await self.create("one")
        near = await self.append(key, "two", seen=first.token)
        assert near.contiguous is True
        far = await self.append(key, "three", seen=first.token)
        assert far.contiguous is False
        blind = await self.append(key, "four")
        assert blind.contiguous is False
        assert (await self.append(key, "five", seen=blind.token)).contiguous is True

    async def test_g2_an_absent_session_is_not_a_conflict(self) -> None:
        """A token on a session that is not there: `SessionNotFound`, and nothing is created.

        On failure: "absent" and "stale" are two answers; a caller repeats one and not the other.
        """
        key, first = await self.create("one")
        await self.adapter.delete(key)
        with pytest.raises(SessionNotFound):
            await self.adapter.commit(new_commit(key, expect=first.token))
        assert not await self.is_there(key)

    async def test_g2_a_failed_writer_can_load_and_repeat(self) -> None:
        """After a conflict, load and commit succeed.

        On failure: the conflict left a lock or an open transaction behind.
        """
        key, first = await self.create(data="0")
        await self.append(key)
        for _ in range(3):
            with pytest.raises(SessionConflict):
                await self.adapter.commit(new_commit(key, expect=first.token, data="1"))
        stored = await self.load(key)
        await self.adapter.commit(new_commit(key, expect=stored.head.token, data="2", ttl=timedelta(days=1)))
        assert (await self.load(key)).data == "2"

    async def test_g2_a_conflict_on_one_session_leaves_others_alone(self) -> None:
        """Sessions do not share a version.

        On failure: the statement that raises the version has too wide a condition.
        """
        key, first = await self.create("one")
        other, untouched = await self.create("other")
        await self.adapter.commit(new_commit(key, "two", expect=first.token))
        assert (await self.load(other)).head.token == untouched.token
        assert (await self.adapter.commit(new_commit(other, "more", expect=untouched.token))).token.version == 2

    async def test_g2_expect_any_cannot_replace_data(self) -> None:
        """The contract itself refuses `data` or `state` with `Expect.ANY`.

        On failure: `Commit.__post_init__` was bypassed.
        """
        key = self.new_key()
        with pytest.raises(ValueError, match="cannot replace"):
            new_commit(key, expect=Expect.ANY, data="{}")
        with pytest.raises(ValueError, match="cannot replace"):
            new_commit(key, expect=Expect.ANY, state="{}")
