"""A machine that does whatever Hypothesis thinks of to an adapter and to ``MemoryAdapter``, and compares them.

Rules must not await: Hypothesis runs them. ``arule`` makes a rule of a coroutine function by running it on the test's
loop. Converting after decoration would come too late.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from turnkeep.contract import (
    ANYONE,
    PAST_COMMITS,
    Commit,
    Committed,
    Expect,
    Head,
    HeadChange,
    LoadQuery,
    MessageQuery,
    Scope,
    SessionKey,
    SessionQuery,
    StatsQuery,
    StoredSession,
    Token,
)
from turnkeep.errors import StorageError
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit.making import FakeClock, new_commit, new_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnkeep.contract import StorageAdapter
    from turnkeep_testkit.bridge import Loop

_IDS = ("a", "b", "A")
_OWNERS = (None, "ana", "bob")
_WINDOWS = (None, 0, 1, 2, 5)

ids = st.sampled_from(("a", "a", "a", "b", "A"))
owners = st.sampled_from((*[ANYONE] * 6, *_OWNERS))
writers = st.integers(0, 1)
contents = st.lists(st.sampled_from(["x", "yy", "", "\u00e4", "zzz"]), max_size=4)
documents = st.sampled_from([None, "{}", '{"a":1}', '{"b":[2]}'])
heads = st.builds(
    HeadChange,
    status=st.sampled_from([HeadChange().status, "active", "completed", "abandoned"]),
    agent_name=st.sampled_from([HeadChange().agent_name, None, "desk"]),
    current_route=st.sampled_from([HeadChange().current_route, None, "booking"]),
    current_step=st.sampled_from([HeadChange().current_step, None, "name"]),
)
hours = st.sampled_from([None, None, None, 1, 3])


def arule(
    kind: Callable[..., Any] = rule, **strategies: Any
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Any]:
    """``rule``, or another ``kind`` of it, for a coroutine function."""
    make_rule = cast("Any", kind)(**strategies)

    def decorate(step: Callable[..., Coroutine[Any, Any, None]]) -> Any:
        @functools.wraps(step)
        def run(self: SessionMachine, **values: Any) -> None:
            self.stage.loop.run(step(self, **values), deadline=self.stage.deadline)

        return make_rule(run)

    return decorate


class Stage(Protocol):
    """What a machine plays on."""

    loop: Loop
    deadline: float
    clock: FakeClock | None
    adapters: list[StorageAdapter]
    immediate_lists: bool
    has_stats: bool

    async def reopen(self, number: int) -> None:
        """Closes an adapter and puts another one, over the same store, in its place."""
        ...


class SessionMachine(RuleBasedStateMachine):
    """Sessions of three ids and three owners in one namespace, written by two writers."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.clock = self.stage.clock or FakeClock()
        self.oracle = MemoryAdapter(clock=self.clock)
        self.namespace = new_namespace()
        self.incarnations: dict[str, str] = {}
        """Of the adapter → of the oracle."""
        self.tokens: dict[str, list[tuple[Token, Token]]] = {}
        """By session id: every token met, as the adapter and as the oracle has it."""
        self.sent: list[tuple[Commit, Commit]] = []

    @arule(initialize)
    async def begin(self) -> None:
        """Most runs would spend their steps on sessions that are not there."""
        for session_id, owner in (("a", "ana"), ("b", None)):
            for number in range(3):
                head = HeadChange(current_route="booking") if number == 1 else HeadChange()
                commit = new_commit(
                    self._key(session_id, ANYONE),
                    "x",
                    str(number),
                    expect=Expect.ANY if number else Expect.NEW,
                    user_id=owner,
                    head=head,
                )
                await self._commit(0, commit, commit)

    # Writing

    @arule(
        writer=writers,
        id=ids,
        owner=owners,
        messages=contents,
        data=documents,
        state=documents,
        head=heads,
        ttl=hours,
        message_ttl=hours,
    )
    async def create(
        self,
        writer: int,
        id: str,
        owner: Any,
        messages: list[str],
        data: str | None,
        state: str | None,
        head: HeadChange,
        ttl: int | None,
        message_ttl: int | None,
    ) -> None:
        """Creates, or finds the id taken."""
        commit = new_commit(
            self._key(id, owner),
            *messages,
            data=data,
            state=state,
            head=head,
            user_id=owner if isinstance(owner, str) else None,
            ttl=self._hours(ttl),
            message_ttl=self._hours(message_ttl),
        )
        await self._commit(writer, commit, commit)

    @arule(
        writer=writers,
        id=ids,
        owner=owners,
        messages=contents,
        head=heads,
        drop=st.sampled_from([False, False, False, True]),
        ttl=hours,
        message_ttl=hours,
        seen=st.integers(0, 3),
    )
    async def append(
        self,
        writer: int,
        id: str,
        owner: Any,
        messages: list[str],
        head: HeadChange,
        drop: bool,
        ttl: int | None,
        message_ttl: int | None,
        seen: int,
    ) -> None:
        """Commits to whatever the session is at."""
        met = self._met(id, seen)
        commit = new_commit(
            self._key(id, owner),
            *messages,
            expect=Expect.ANY,
            head=head,
            drop_history=drop,
            ttl=self._hours(ttl),
            message_ttl=self._hours(message_ttl),
            seen=met[0] if met else None,
        )
        await self._commit(writer, commit, replace(commit, seen=met[1] if met else None))

    @precondition(lambda self: any(self.tokens.values()))
    @arule(
        writer=writers,
        id=ids,
        owner=owners,
        messages=contents,
        data=documents,
        state=documents,
        head=heads,
        drop=st.sampled_from([False, False, False, True]),
        ttl=hours,
        age=st.sampled_from([0, 0, 1, 2]),
    )
    async def swap(
        self,
        writer: int,
        id: str,
        owner: Any,
        messages: list[str],
        data: str | None,
        state: str | None,
        head: HeadChange,
        drop: bool,
        ttl: int | None,
        age: int,
    ) -> None:
        """Commits with the last token met, or an older one."""
        met = self._met(id, age)
        if met is None:
            return
        commit = new_commit(
            self._key(id, owner),
            *messages,
            expect=met[0],
            data=data,
            state=state,
            head=head,
            drop_history=drop,
            ttl=self._hours(ttl),
        )
        await self._commit(writer, commit, replace(commit, expect=met[1]))

    @arule(writer=writers, id=ids)
    async def claim(self, writer: int, id: str) -> None:
        """Gives a session without an owner one."""
        commit = new_commit(self._key(id, None), expect=Expect.ANY, claim="ana")
        await self._commit(writer, commit, commit)

    @precondition(lambda self: self.sent)
    @arule(writer=writers, age=st.integers(0, 6), same=st.sampled_from([True, True, False]))
    async def repeat(self, writer: int, age: int, same: bool) -> None:
        """Sends an earlier commit again, or another request under its id."""
        # Older ones an adapter may know or not.
        if len(self.sent) > PAST_COMMITS - 2:
            self.sent = self.sent[-(PAST_COMMITS - 2) :]
        commit, oracles = self.sent[-1 - age % len(self.sent)]
        if not same:
            commit, oracles = replace(commit, digest="another"), replace(oracles, digest="another")
        await self._commit(writer, commit, oracles)

    @arule(writer=writers, id=ids, owner=owners, age=st.sampled_from([None, None, 0, 1]))
    async def delete(self, writer: int, id: str, owner: Any, age: int | None) -> None:
        """Deletes one session; sometimes only if it is at a token that was met."""
        key = self._key(id, owner)
        found, expected = (age is not None and self._met(id, age)) or (None, None)
        await self._same(self._adapter(writer).delete(key, expect=found), self.oracle.delete(key, expect=expected))

    @arule(writer=writers, owner=st.sampled_from(["ana", "bob", "eve"]))
    async def delete_owner(self, writer: int, owner: str) -> None:
        """Deletes an owner's sessions."""
        if not self.stage.immediate_lists:
            return
        scope = Scope(self.namespace, owner)
        erased, expected = await self._adapter(writer).delete_owner(scope), await self.oracle.delete_owner(scope)
        # Messages that left by age may count or not: they may have been erased before.
        assert erased.sessions == expected.sessions

    # Reading

    @arule(writer=writers, id=ids, owner=owners, window=st.sampled_from(_WINDOWS), asked=st.integers(0, 8))
    async def load(self, writer: int, id: str, owner: Any, window: int | None, asked: int) -> None:
        """Loads, asking for an earlier commit."""
        commit_id = self.sent[-1 - asked][0].commit_id if asked < min(len(self.sent), PAST_COMMITS - 2) else None
        query = LoadQuery(window=window, commit_id=commit_id)
        await self._same_session(writer, self._key(id, owner), query)

    @arule(writer=writers, id=ids, owner=owners, limit=st.integers(1, 4), edge=st.integers(-8, 8))
    async def read(self, writer: int, id: str, owner: Any, limit: int, edge: int) -> None:
        """Reads a page of history: the newest, before a seq, or after one."""
        before, after = (edge if edge > 0 else None), (-edge if edge < 0 else None)
        query = MessageQuery(limit, before=before, after=after)
        key = self._key(id, owner)
        await self._same(self._adapter(writer).read_messages(key, query), self.oracle.read_messages(key, query))

    @arule(
        writer=writers,
        owner=owners,
        limit=st.integers(1, 3),
        order=st.sampled_from(["activity", "created"]),
        status=st.sampled_from([None, None, "active", "completed"]),
        agent=st.sampled_from([None, None, "desk"]),
        route=st.sampled_from([None, None, "booking"]),
    )
    async def find(
        self, writer: int, owner: Any, limit: int, order: Any, status: Any, agent: str | None, route: str | None
    ) -> None:
        """Walks a list."""
        if not self.stage.immediate_lists:
            return
        query = SessionQuery(
            Scope(self.namespace, owner), limit, status=status, agent_name=agent, route=route, order=order
        )
        found = [self._plain_head(head) for head in await _walk(self._adapter(writer), query)]
        expected = [self._oracle_head(head) for head in await _walk(self.oracle, query)]
        if self.stage.clock is None:  # two commits of the same instant are in another order there
            found.sort(key=repr)
            expected.sort(key=repr)
        assert found == expected

    @arule(writer=writers, owner=owners)
    async def stats(self, writer: int, owner: Any) -> None:
        """Counts."""
        if not (self.stage.has_stats and self.stage.immediate_lists):
            return
        query = StatsQuery(Scope(self.namespace, owner))
        found, expected = await self._adapter(writer).stats(query), await self.oracle.stats(query)
        assert (found.sessions, found.messages) == (expected.sessions, expected.messages)
        assert (dict(found.by_status), dict(found.by_agent), dict(found.by_route)) == (
            dict(expected.by_status),
            dict(expected.by_agent),
            dict(expected.by_route),
        )
        if self.stage.clock is not None:
            assert (found.oldest, found.newest) == (expected.oldest, expected.newest)

    # Time and trouble

    @precondition(lambda self: self.stage.clock is not None)
    @arule(minutes=st.sampled_from([1, 30, 60, 90, 200, -10]))
    async def time_passes(self, minutes: int) -> None:
        """Moves the clock; sometimes backwards."""
        if minutes < 0:
            # What has passed must have left for good: a store may show it again as long as it was not purged.
            await self._purge(0)
        self.clock.advance(timedelta(minutes=minutes))

    @arule(writer=writers)
    async def sweep(self, writer: int) -> None:
        """Purges: nobody must notice."""
        await self._purge(writer)

    async def _purge(self, writer: int) -> None:
        """Sweeps both stores, so that neither keeps what the other has forgotten."""
        while (await self._adapter(writer).sweep(1000)).more:
            pass
        while (await self.oracle.sweep(1000)).more:
            pass

    @arule(writer=writers)
    async def reopen(self, writer: int) -> None:
        """Goes on with another adapter."""
        await self.stage.reopen(writer)

    def teardown(self) -> None:
        """At the end of a run everything visible is compared, and removed."""
        self.stage.loop.run(self._finish(), deadline=self.stage.deadline)

    async def _finish(self) -> None:
        for session_id in _IDS:
            key = self._key(session_id, ANYONE)
            await self._same_session(0, key, LoadQuery())
            await self._adapter(0).delete(key)

    # How it is done

    def _adapter(self, writer: int) -> StorageAdapter:
        return self.stage.adapters[writer]

    def _key(self, id: str, owner: Any) -> SessionKey:
        return SessionKey(Scope(self.namespace, owner), id)

    def _hours(self, count: int | None) -> timedelta | None:
        # Without a common clock nothing may expire: the two would not agree when.
        return timedelta(hours=count) if count and self.stage.clock is not None else None

    def _met(self, id: str, age: int) -> tuple[Token, Token] | None:
        known = self.tokens.get(id, [])
        return known[-1 - age] if age < len(known) else None

    async def _commit(self, writer: int, commit: Commit, oracles: Commit) -> None:
        found = await self._same(self._adapter(writer).commit(commit), self.oracle.commit(oracles))
        if found is not None and not found[0].replayed:
            self.sent.append((commit, oracles))
            self._meet(commit.key.session_id, found[0].token, found[1].token)
        await self._same_session(writer, self._key(commit.key.session_id, ANYONE), LoadQuery())

    def _meet(self, session_id: str, found: Token, expected: Token) -> None:
        known = self.tokens.setdefault(session_id, [])
        if (found, expected) not in known:
            known.append((found, expected))

    async def _same_session(self, writer: int, key: SessionKey, query: LoadQuery) -> None:
        found = await self._same(self._adapter(writer).load(key, query), self.oracle.load(key, query))
        if found is not None:
            self._meet(key.session_id, found[0].head.token, found[1].head.token)

    async def _same(
        self, ask: Coroutine[Any, Any, Any], ask_oracle: Coroutine[Any, Any, Any]
    ) -> tuple[Any, Any] | None:
        """Both answers, if they are answers; they, or the errors, have to be the same."""
        expected, expected_error = await _outcome(ask_oracle)
        found, error = await _outcome(ask)
        assert type(error) is type(expected_error), f"{error!r} instead of {expected_error!r}"
        if expected_error is not None:
            assert error is not None
            assert self._plain_error(error) == _oracle_error(expected_error)
            return None
        if isinstance(expected, Committed):
            self._expect_incarnation(found.token, expected.token)
        if isinstance(expected, StoredSession) and found is not None:
            self._expect_incarnation(found.head.token, expected.head.token)
        assert self._plain(found) == self._oracle_plain(expected)
        return (found, expected) if found is not None else None

    def _expect_incarnation(self, found: Token, expected: Token) -> None:
        known = self.incarnations.setdefault(found.incarnation, expected.incarnation)
        assert known == expected.incarnation, "two lives share an incarnation"

    def _plain_error(self, error: StorageError) -> dict[str, Any]:
        plain = _oracle_error(error)
        for name in ("expected", "actual"):
            if plain.get(name) is not None:
                plain[name] = self._plain_token(plain[name])
        return plain

    def _plain_token(self, token: Token) -> Token:
        return replace(token, incarnation=self.incarnations.get(token.incarnation, token.incarnation))

    def _plain(self, value: Any) -> Any:
        """An answer of the adapter with the oracle's incarnations, and without times if the clocks differ."""
        match value:
            case Committed():
                return self._timeless(replace(value, token=self._plain_token(value.token)))
            case Head():
                return self._plain_head(value)
            case StoredSession():
                replay = value.replay and replace(value.replay, committed=self._plain(value.replay.committed))
                return replace(value, head=self._plain_head(value.head), replay=replay)
            case _:
                return value

    def _oracle_plain(self, value: Any) -> Any:
        match value:
            case Committed():
                return self._timeless(value)
            case Head():
                return self._oracle_head(value)
            case StoredSession():
                replay = value.replay and replace(value.replay, committed=self._timeless(value.replay.committed))
                return replace(value, head=self._oracle_head(value.head), replay=replay)
            case _:
                return value

    def _plain_head(self, head: Head) -> Head:
        return self._oracle_head(replace(head, token=self._plain_token(head.token)))

    def _oracle_head(self, head: Head) -> Head:
        if self.stage.clock is not None:
            return head
        now = self.clock.now
        return replace(
            head,
            created_at=now,
            updated_at=now,
            last_message_at=head.last_message_at and now,
            completed_at=head.completed_at and now,
        )

    def _timeless(self, committed: Committed) -> Committed:
        return committed if self.stage.clock is not None else replace(committed, time=self.clock.now)


async def _outcome(ask: Coroutine[Any, Any, Any]) -> tuple[Any, StorageError | None]:
    try:
        return await ask, None
    except StorageError as error:
        return None, error


def _oracle_error(error: StorageError) -> dict[str, Any]:
    facts = dict(vars(error))
    for name in ("adapter", "operation"):
        facts.pop(name, None)
    return facts


async def _walk(adapter: StorageAdapter, query: SessionQuery) -> list[Head]:
    found: list[Head] = []
    for _ in range(100):
        page = await adapter.find_sessions(query)
        assert len(page.items) <= query.limit
        found += page.items
        if page.next_cursor is None:
            return found
        query = replace(query, cursor=page.next_cursor)
    raise AssertionError("a list did not end within 100 pages")
