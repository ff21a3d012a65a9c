"""What a turn costs on the wire: round trips and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from turnkeep.contract import Expect, LoadQuery
from turnkeep_testkit.faults.through import ThroughProxy
from turnkeep_testkit.making import new_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from turnkeep.contract import Commit, Token
    from turnkeep_testkit.faults.traffic import Traffic

_HISTORIES = (10, 10_000)
_AT_ONCE = 500
_TRIES = 5
_APART = 0.005


class WireCostSuite(ThroughProxy):
    """A turn is one round trip to load and one to commit, and sends little more than what is new.

    The least of several tries counts: a driver may ask after its server's health in between.
    """

    load_round_trips: ClassVar[int] = 1
    """How many a load takes at most. The contract asks for 1."""
    commit_round_trips: ClassVar[int] = 1
    """How many a commit takes at most. The contract asks for 1; a database that cannot do it says so in its docs."""
    head_bytes: ClassVar[int] = 0
    """How many bytes a commit sends at most beside its own, for a store that rewrites a bounded head."""

    async def test_a_load_takes_one_round_trip(self) -> None:
        """With a history of 50 messages, head, data, state, messages and replay come in one round trip.

        On failure: a pool that asks `SELECT 1` first, a transaction that is begun and ended by itself, a second query.
        """
        key, last = await self.create(*(str(number) for number in range(50)), state='{"s":1}')
        query = LoadQuery(window=50, commit_id=last.token.commit_id)
        cost = await self._least(lambda: self.adapter.load(key, query))
        self.figure("wire", "round trips of a load", cost.round_trips)
        assert cost.round_trips <= self.load_round_trips
        assert cost.connections == 0, "a connection for each call"

    async def test_a_commit_takes_one_round_trip(self) -> None:
        """Two messages and a new state, compared and swapped, take one round trip.

        On failure: as for a load; BEGIN and COMMIT as messages of their own, or a script that is sent each time.
        """
        key, last = await self.create("start")
        token = last.token

        async def turn() -> None:
            nonlocal token
            token = (await self.adapter.commit(_turn(key, token))).token

        cost = await self._least(turn)
        self.figure("wire", "round trips of a commit", cost.round_trips)
        assert cost.round_trips <= self.commit_round_trips
        assert cost.connections == 0, "a connection for each call"

    async def test_what_a_commit_sends_does_not_grow_with_the_history(self) -> None:
        """A commit sends at most 1.5 times what is new and 4 KB, after 10 messages as after 10,000.

        On failure: the history is written again with each turn.
        """
        payload = _payload(_turn(self.new_key(), Expect.NEW))
        for length in _HISTORIES:
            key, token = await self._with_history(length)

            async def turn(key: Any = key) -> None:
                nonlocal token
                token = (await self.adapter.commit(_turn(key, token))).token

            sent = (await self._least(turn)).sent
            self.figure("wire", f"bytes sent to commit {payload:,} after {length:,} messages", sent)
            assert sent <= 1.5 * payload + 4096 + self.head_bytes

    async def _with_history(self, length: int) -> tuple[Any, Token]:
        """A session of so many messages, written around the proxy."""
        key, left = self.new_key(), length
        expect: Token | Expect = Expect.NEW
        while left:
            count = min(left, _AT_ONCE)
            commit = new_commit(key, *("x" * 200 for _ in range(count)), expect=expect)
            expect = (await self.direct.commit(commit)).token
            left -= count
        assert not isinstance(expect, Expect)
        return key, expect

    async def _least(self, call: Callable[[], Coroutine[Any, Any, object]]) -> Traffic:
        """The traffic of the cheapest of several calls, when connections, scripts and plans are already made."""
        # What a client sends in one go must arrive in one go, or it would count as several round trips.
        self.proxy.delay(_APART)
        seen: list[Traffic] = []
        for _ in range(_TRIES + 2):
            before = self.proxy.traffic
            await call()
            seen.append(self.proxy.traffic - before)
        self.proxy.heal()
        return min(seen[2:], key=lambda cost: (cost.round_trips, cost.sent))


def _turn(key: Any, expect: Token | Expect) -> Commit:
    return new_commit(key, "q" * 500, "a" * 1500, expect=expect, state='{"s":"' + "s" * 900 + '"}')


def _payload(commit: Commit) -> int:
    texts = [commit.data, commit.state, *(message.content for message in commit.messages)]
    return sum(len(text.encode()) for text in texts if text is not None)
