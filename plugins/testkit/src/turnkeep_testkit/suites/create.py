"""G16: create is create, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery, Scope, SessionKey, Token
from turnkeep.errors import SessionExists, SessionNotFound
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, texts


class CreateSuite(Suite):
    """Only `Expect.NEW` begins a session, and only where there is none."""

    async def test_g16_an_id_is_taken_once(self) -> None:
        """Creating an id that is taken raises `SessionExists` and changes nothing.

        On failure: an upsert is used; a reader's outage must not end in a blank session over the real one.
        """
        key, _ = await self.create("one", data='{"a":1}')
        before = await self.load(key)
        with pytest.raises(SessionExists) as caught:
            await self.adapter.commit(new_commit(key, "two", data="{}"))
        assert (caught.value.session_id, caught.value.adapter) == (key.session_id, self.adapter.name)
        assert not caught.value.retryable
        assert await self.load(key) == before

    async def test_g16_a_foreign_id_is_taken_too(self) -> None:
        """Creating an id that somebody else has raises `SessionExists`.

        On failure: the owner is part of the key, or the session of another owner was overwritten.
        """
        key = self.new_key("ana")
        await self.create("of Ana", key=key, user_id="ana")
        before = await self.load(key)
        for owner in ("bob", None):
            with pytest.raises(SessionExists):
                await self.adapter.commit(new_commit(self.new_key(owner, key.session_id), "mine", user_id=owner))
        assert await self.load(key) == before

    async def test_g16_the_same_id_in_two_namespaces_is_two_sessions(self) -> None:
        """A namespace is part of the identity.

        On failure: the primary key lacks the namespace.
        """
        key, _ = await self.create("one")
        other = SessionKey(Scope(f"{self.scope.namespace}.b"), key.session_id)
        await self.create("two", key=other)
        assert texts((await self.load(key)).messages) == ["one"]
        assert texts((await self.load(other)).messages) == ["two"]

    async def test_g16_load_creates_nothing(self) -> None:
        """A load of an absent id gives None, and so does the next; nothing is listed.

        On failure: `load` writes.
        """
        key = self.new_key()
        for _ in range(2):
            assert await self.adapter.load(key, LoadQuery()) is None
            assert await self.adapter.load(key, LoadQuery(window=0, commit_id="x")) is None
        await self.lists_settle()
        assert await self.listed() == []
        assert (await self.create(key=key))[1].created

    @pytest.mark.parametrize("expect", ["any", "token"])
    async def test_g16_only_new_creates(self, expect: str) -> None:
        """`Expect.ANY` and a token on an absent id raise `SessionNotFound` and create nothing.

        On failure: the write is an upsert.
        """
        key = self.new_key()
        expected = Expect.ANY if expect == "any" else Token("0" * 32, 1, "c" * 32)
        with pytest.raises(SessionNotFound) as caught:
            await self.adapter.commit(new_commit(key, "one", expect=expected, user_id="ana"))
        assert (caught.value.session_id, caught.value.adapter) == (key.session_id, self.adapter.name)
        assert not caught.value.retryable
        assert not await self.is_there(key)
        await self.lists_settle()
        assert await self.listed() == []

    async def test_g16_reading_messages_of_nobody_raises(self) -> None:
        """`read_messages` of an absent session raises `SessionNotFound`: an empty page means an empty history.

        On failure: "absent" is answered with "empty".
        """
        with pytest.raises(SessionNotFound):
            await self.adapter.read_messages(self.new_key(), MessageQuery(10))

    async def test_g16_create_carries_the_first_turn(self) -> None:
        """Session and first turn are one commit: version 1, seq 1.

        On failure: creating is a commit of its own.
        """
        key, first = await self.create("one", "two", data='{"a":1}', user_id="ana", ttl=timedelta(days=1))
        assert (first.token.version, first.first_seq, first.created) == (1, 1, True)
        head = (await self.load(key)).head
        assert (head.user_id, head.token) == ("ana", first.token)
        assert first.token.commit_id == head.token.commit_id

    async def test_g16_user_id_counts_at_creation_only(self) -> None:
        """A later commit's `user_id` is ignored: an owner does not change.

        On failure: mass assignment; write `user_id` only where the session is created.
        """
        key, _ = await self.create("one", user_id="ana")
        await self.append(key, "two", user_id="eve")
        assert (await self.load(key)).head.user_id == "ana"
        other, _ = await self.create("one")
        await self.append(other, "two", user_id="eve")
        assert (await self.load(other)).head.user_id is None

    async def test_g16_each_life_has_its_own_incarnation(self) -> None:
        """Sessions and their later lives never share an incarnation.

        On failure: make it of random bits, in the statement that creates.
        """
        seen: set[str] = set()
        key = self.new_key()
        for _ in range(3):
            seen.add((await self.create(key=key))[1].token.incarnation)
            seen.add((await self.create())[1].token.incarnation)
            await self.adapter.delete(key)
        assert len(seen) == 6
