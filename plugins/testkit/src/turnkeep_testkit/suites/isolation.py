"""G13: nobody sees or changes what is somebody else's, by no method of the contract.

The matrix is made from the contract itself: a method that is added to ``StorageAdapter`` and not to ``PROBES`` or
``WITHOUT_SCOPE`` fails the first test.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from turnkeep.contract import (
    ANYONE,
    Expect,
    HeadChange,
    LoadQuery,
    MessageQuery,
    Owner,
    Scope,
    SearchQuery,
    SessionKey,
    SessionQuery,
    StatsQuery,
    StorageAdapter,
    StoredSession,
    Token,
)
from turnkeep.errors import NotSupported, SessionConflict, SessionExists, SessionNotFound
from turnkeep.words import Terms
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Probe = Callable[[StorageAdapter, SessionKey, StoredSession], Awaitable[None]]

WITHOUT_SCOPE: Final = {"open", "aclose", "check", "migrate", "sweep", "supports"}
"""Methods that concern the store as a whole, or no store at all."""


async def _load(adapter: StorageAdapter, key: SessionKey, owned: StoredSession) -> None:
    for query in (
        LoadQuery(),
        LoadQuery(window=0),
        LoadQuery(window=1, commit_id=owned.head.token.commit_id),
    ):
        assert await adapter.load(key, query) is None


async def _commit(adapter: StorageAdapter, key: SessionKey, owned: StoredSession) -> None:
    token = owned.head.token
    known = token.commit_id
    for commit in (
        new_commit(key, "foreign", expect=Expect.ANY),
        new_commit(key, "foreign", expect=Expect.ANY, drop_history=True),
        new_commit(key, "foreign", expect=token, data="{}"),
        new_commit(key, expect=Expect.ANY, head=HeadChange(status="abandoned")),
        # Neither the commit id of a foreign session nor its digest opens it.
        new_commit(key, "foreign", expect=Expect.ANY, commit_id=known, digest=f"digest of {known}"),
        new_commit(key, "foreign", expect=token, commit_id=known, digest=f"digest of {known}"),
        new_commit(key, "foreign", expect=Expect.ANY, commit_id=known, digest="another"),
    ):
        with pytest.raises(SessionNotFound):
            await adapter.commit(commit)
    if key.scope.owner is None:
        with pytest.raises(SessionNotFound):
            await adapter.commit(new_commit(key, expect=Expect.ANY, claim="eve"))


async def _read_messages(adapter: StorageAdapter, key: SessionKey, _: StoredSession) -> None:
    for query in (MessageQuery(10), MessageQuery(10, before=5), MessageQuery(10, after=0)):
        with pytest.raises(SessionNotFound):
            await adapter.read_messages(key, query)


async def _find_sessions(adapter: StorageAdapter, key: SessionKey, _: StoredSession) -> None:
    for order in ("activity", "created"):
        query = SessionQuery(key.scope, 100, order=order)
        for conditions in ({}, {"status": "active"}, {"agent_name": "desk"}, {"route": "booking"}):
            page = await adapter.find_sessions(replace(query, **conditions))
            assert (page.items, page.next_cursor) == ((), None)


async def _delete(adapter: StorageAdapter, key: SessionKey, owned: StoredSession) -> None:
    assert await adapter.delete(key) is False
    assert await adapter.delete(key, expect=owned.head.token) is False
    assert await adapter.delete(key, expect=Token("0" * 32, 1, "c")) is False


async def _delete_owner(adapter: StorageAdapter, key: SessionKey, _: StoredSession) -> None:
    if isinstance(key.scope.owner, str):
        erased = await adapter.delete_owner(key.scope)
        assert (erased.sessions, erased.messages) == (0, 0)


async def _stats(adapter: StorageAdapter, key: SessionKey, _: StoredSession) -> None:
    try:
        stats = await adapter.stats(StatsQuery(key.scope))
    except NotSupported:
        return
    assert (stats.sessions, stats.messages, stats.bytes) == (0, 0, 0)
    assert (dict(stats.by_status), dict(stats.by_agent), dict(stats.by_route)) == ({}, {}, {})
    assert (stats.oldest, stats.newest) == (None, None)


async def _search_messages(adapter: StorageAdapter, key: SessionKey, _: StoredSession) -> None:
    for session_id in (None, key.session_id):
        try:
            page = await adapter.search_messages(
                SearchQuery(key.scope, Terms.parse("secret"), 10, session_id=session_id)
            )
        except NotSupported:
            return
        assert (page.items, page.next_cursor) == ((), None)


PROBES: Final[dict[str, Probe]] = {
    "load": _load,
    "commit": _commit,
    "read_messages": _read_messages,
    "find_sessions": _find_sessions,
    "delete": _delete,
    "delete_owner": _delete_owner,
    "stats": _stats,
    "search_messages": _search_messages,
}
"""By method: what a scope that does not see the session must be answered."""

METHODS: Final = sorted(
    name
    for name, member in vars(StorageAdapter).items()
    if inspect.isfunction(member) and not name.startswith("_") and name not in WITHOUT_SCOPE
)
"""Every method of the contract by which a caller could reach somebody else's session."""

OWNERS: Final[dict[str, tuple[str | None, Owner]]] = {
    "another": ("ana", "bob"),
    "nobody": ("ana", None),
    "of nobody's": (None, "ana"),
    "empty of nobody's": (None, ""),
    "upper case": ("ana", "Ana"),
    "trailing blank": ("ana", "ana "),
    "prefix": ("ana", "an"),
    "longer": ("ana", "anaa"),
    "pattern": ("ana", "a%"),
    "star": ("ana", "*"),
    "underscore": ("ana", "_na"),
    "composed": ("jos\u00e9", "jose\u0301"),
    "the word None": (None, "None"),
    "the word anyone": ("ana", "anyone"),
    "SQL": ("ana", "' OR 1=1;--"),
    "session's id": ("ana", "s1"),
}
"""Name → (owner of the session, owner of the scope that must not see it)."""


class IsolationSuite(Suite):
    """Foreign is absent, by every method."""

    def test_g13_the_matrix_covers_the_contract(self) -> None:
        """Every public method of `StorageAdapter` is either probed here or concerns the store as a whole.

        On failure: the contract has grown; add a probe for the new method to `PROBES`.
        """
        assert set(METHODS) == set(PROBES)
        assert set(vars(StorageAdapter)) >= WITHOUT_SCOPE

    @pytest.mark.parametrize("owners", OWNERS)
    @pytest.mark.parametrize("method", METHODS)
    async def test_g13_foreign_owner(self, method: str, owners: str) -> None:
        """To a scope of another owner the session is absent, and stays as it was.

        On failure: that method's statement lacks the owner's condition, or compares owners by a collation.
        """
        owner, foreign = OWNERS[owners]
        await self._probe(method, owner, Scope(self.scope.namespace, foreign))

    @pytest.mark.parametrize("foreign", ["", "-other", ".", "_"])
    @pytest.mark.parametrize("method", METHODS)
    async def test_g13_foreign_namespace(self, method: str, foreign: str) -> None:
        """To another namespace the session is absent, whatever the owner.

        On failure: that method's statement lacks the namespace, or joins names without a separator.
        """
        namespace = f"{self.scope.namespace}{foreign}" if foreign else self.scope.namespace[:-1]
        for owner in (ANYONE, "ana"):
            await self._probe(method, "ana", Scope(namespace, owner))

    async def test_g13_only_creating_tells(self) -> None:
        """A scope that does not see a session learns of it only by creating its id.

        On failure: see the create suite; there the rest of the promise is tested.
        """
        key = self.new_key("ana", "taken")
        await self.create("secret", key=key, user_id="ana")
        for owner in ("bob", None):
            with pytest.raises(SessionExists):
                await self.create("mine", key=self.new_key(owner, "taken"))

    async def test_g13_the_owner_sees_and_writes(self) -> None:
        """The owner's own scope, and one of the whole namespace, reach the session.

        On failure: the condition on the owner is too narrow.
        """
        key = self.new_key("ana")
        await self.create("one", key=key, user_id="ana")
        whole = SessionKey(self.owned(ANYONE), key.session_id)
        await self.append(key, "two")
        await self.append(whole, "three")
        assert texts((await self.load(key)).messages) == ["one", "two", "three"]
        assert await self.load(whole) == await self.load(key)
        nobodys = self.new_key(None)
        await self.create("one", key=nobodys)
        await self.append(nobodys, "two")
        assert await self.load(nobodys) == await self.load(SessionKey(self.owned(ANYONE), nobodys.session_id))
        assert await self.adapter.delete(nobodys) is True
        assert await self.adapter.delete(whole) is True

    async def test_g13_a_session_without_an_owner_can_be_claimed_once(self) -> None:
        """`claim` gives an owner; from then on the session is his, and nobody claims it again.

        On failure: the claim is not part of the commit, or does not look for a session without an owner.
        """
        key = self.new_key(None)
        _, first = await self.create("one", key=key, data='{"a":1}')
        claimed = await self.adapter.commit(new_commit(key, expect=first.token, claim="ana"))
        assert claimed.token.version == 2
        assert await self.adapter.load(key, LoadQuery()) is None
        with pytest.raises(SessionNotFound):
            await self.adapter.commit(new_commit(key, expect=Expect.ANY, claim="eve"))
        mine = self.new_key("ana", key.session_id)
        stored = await self.load(mine)
        assert (stored.head.user_id, stored.data, texts(stored.messages)) == ("ana", '{"a":1}', ["one"])
        await self.lists_settle()
        assert await self.listed(self.owned("ana")) == [key.session_id]
        assert await self.listed(self.owned(None)) == []
        await self.append(mine, "two")
        assert (await self.adapter.delete_owner(self.owned("ana"))).sessions == 1

    async def test_g13_a_stale_claim_conflicts(self) -> None:
        """A claim with a stale token is refused like any other commit.

        On failure: the claim is written before the token is compared.
        """
        key = self.new_key(None)
        _, first = await self.create("one", key=key)
        await self.append(key, "two")
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, expect=first.token, claim="eve"))
        assert (await self.load(key)).head.user_id is None

    async def test_g13_ids_are_compared_byte_by_byte(self) -> None:
        """Ids that look alike are different sessions.

        On failure: ids are folded, trimmed or normalised, by the code or by a collation.
        """
        ids = ["bob", "Bob", "bob ", " bob", "bob\t", "b\u00f6b", "bo\u0308b", "bo\u200db", "b\u043eb", "bob\u202e"]
        ids += ["caf\u00e9", "cafe\u0301", "stra\u00dfe", "strasse", "\u0130", "i\u0307", "\uff42ob"]
        for number, session_id in enumerate(ids):
            await self.create(f"of {number}", key=self.new_key(session_id=session_id))
        for number, session_id in enumerate(ids):
            assert texts((await self.load(self.new_key(session_id=session_id))).messages) == [f"of {number}"]
        await self.lists_settle()
        assert sorted(await self.listed(order="created", limit=5)) == sorted(ids)
        assert await self.adapter.delete(self.new_key(session_id="BOB")) is False

    async def _probe(self, method: str, owner: str | None, foreign: Scope) -> None:
        key = self.new_key(session_id="s1")
        await self.adapter.delete(key)
        head = HeadChange(agent_name="desk", current_route="booking")
        await self.create("my secret", "two", key=key, user_id=owner, data='{"a":1}', head=head)
        await self.lists_settle()
        before = await self.load(key)
        await PROBES[method](self.adapter, SessionKey(foreign, key.session_id), before)
        assert await self.load(key) == before
        await self.lists_settle()
        assert await self.heads() == [before.head]
