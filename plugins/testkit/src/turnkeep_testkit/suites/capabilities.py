"""What is declared is done; statistics and sweeping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from turnkeep.contract import Capability, HeadChange, Level, SearchPage, SearchQuery, Stats, StatsQuery, Support
from turnkeep.errors import NotSupported
from turnkeep.words import Terms
from turnkeep_testkit.suites.base import Suite, proves


class CapabilitySuite(Suite):
    """NONE refuses with `NotSupported`, FULL works; nothing in between is silent."""

    @pytest.mark.parametrize("capability", list(Capability))
    async def test_capability_is_declared_with_a_reason(self, capability: Capability) -> None:
        """Every capability has a level; what is not FULL says why.

        On failure: give `Support` a reason that a person can act on.
        """
        support = self.adapter.supports(capability)
        assert isinstance(support, Support)
        assert support.level is Level.FULL or support.reason

    async def test_capability_names_are_known(self) -> None:
        """The adapter declares capabilities of the closed list only.

        On failure: a capability is not a free text.
        """
        assert set(self.adapter.capabilities) <= set(Capability)
        assert all(isinstance(support, Support) for support in self.adapter.capabilities.values())

    @proves(Capability.STATS)
    async def test_capability_stats(self) -> None:
        """STATS FULL: counts over the scope's sessions; NONE: `NotSupported` with capability and reason.

        On failure: compare with `MemoryAdapter.stats`.
        """
        if self.level(Capability.STATS) is Level.NONE:
            with pytest.raises(NotSupported) as caught:
                await self.adapter.stats(StatsQuery(self.scope))
            self._expect_refusal(caught.value, Capability.STATS)
            return
        empty = await self.adapter.stats(StatsQuery(self.scope))
        assert empty == Stats(0, 0, 0, {}, {}, {}, None, None, {})
        desk = HeadChange(agent_name="desk", current_route="booking")
        one, _ = await self.create("1", "2", "3", head=desk, user_id="ana")
        await self.tick()
        two, _ = await self.create("1", head=HeadChange(agent_name="desk", status="completed"))
        await self.append(one, "4", drop_history=True)
        await self.lists_settle()
        stats = await self.adapter.stats(StatsQuery(self.scope))
        assert (stats.sessions, stats.messages) == (2, 2)
        assert dict(stats.by_status) == {"active": 1, "completed": 1}
        assert dict(stats.by_agent) == {"desk": 2}
        assert dict(stats.by_route) == {"booking": 1, None: 1}
        assert stats.bytes > 0
        heads = [(await self.load(key)).head for key in (one, two)]
        assert stats.oldest == min(head.created_at for head in heads)
        assert stats.newest == max(head.updated_at for head in heads)
        assert list(stats.by_day) == sorted({head.created_at.date() for head in heads})
        assert sum(day.bytes for day in stats.by_day.values()) == stats.bytes
        assert sum(day.sessions for day in stats.by_day.values()) == 2
        assert sum(day.messages for day in stats.by_day.values()) == 2
        mine = await self.adapter.stats(StatsQuery(self.owned("ana")))
        assert (mine.sessions, mine.messages, dict(mine.by_status)) == (1, 1, {"active": 1})
        await self.append(two, "x" * 10_000)
        await self.lists_settle()
        grown = await self.adapter.stats(StatsQuery(self.scope))
        assert grown.bytes >= stats.bytes + 10_000

    @proves(Capability.STATS)
    async def test_capability_stats_leave_out_what_is_gone(self) -> None:
        """Expired and deleted sessions, and messages that left by age, are not counted.

        On failure: statistics need the same conditions as reads.
        """
        if self.level(Capability.STATS) is Level.NONE:
            pytest.skip(self.adapter.supports(Capability.STATS).reason)
        await self.create("1", ttl=self.moment)
        deleted, _ = await self.create("1")
        aged, _ = await self.create("1", "2", message_ttl=self.moment)
        await self.append(aged, "3")
        await self.adapter.delete(deleted)
        await self.wait(self.moment)
        await self.lists_settle()
        stats = await self.adapter.stats(StatsQuery(self.scope))
        assert (stats.sessions, stats.messages) == (1, 1)

    @proves(Capability.STATS)
    async def test_capability_stats_by_day(self) -> None:
        """Each session counts on the day, in UTC, on which it was created, with all that is in it now.

        On failure: the day is that of `created_at` in UTC, not of the message nor of the server's time zone.
        """
        if self.level(Capability.STATS) is Level.NONE:
            pytest.skip(self.adapter.supports(Capability.STATS).reason)
        if self.clock is None:
            pytest.skip("it would take days without a clock")
        self.clock.set(datetime(2026, 3, 14, 23, 59, 59, 999_999, tzinfo=UTC))
        one, _ = await self.create("1", "2")
        self.clock.advance(timedelta(microseconds=1))
        await self.create("1")
        await self.create("1")
        self.clock.advance(timedelta(days=2))
        await self.append(one, "3")
        await self.lists_settle()
        days = (await self.adapter.stats(StatsQuery(self.scope))).by_day
        assert [(str(day), count.sessions, count.messages) for day, count in days.items()] == [
            ("2026-03-14", 1, 3),
            ("2026-03-15", 2, 2),
        ]
        assert all(count.bytes > 0 for count in days.values())

    @proves(Capability.SEARCH)
    async def test_capability_search(self) -> None:
        """SEARCH NONE: `NotSupported` that says why; else an empty store has nothing, and `SearchSuite` looks closer.

        On failure: do not answer an empty page where nothing was searched.
        """
        query = SearchQuery(self.scope, Terms.parse("refund"), 10)
        if self.level(Capability.SEARCH) is Level.NONE:
            with pytest.raises(NotSupported) as caught:
                await self.adapter.search_messages(query)
            self._expect_refusal(caught.value, Capability.SEARCH)
            return
        assert await self.adapter.search_messages(query) == SearchPage((), None)

    @proves(Capability.LARGE_VALUES)
    async def test_capability_large_values(self) -> None:
        """LARGE_VALUES FULL: a message of 4 MiB and data of 1 MiB come back as they went in.

        On failure: declare it PARTIAL with the size that fits.
        """
        self.needs(Capability.LARGE_VALUES)
        content, data = "x" * (4 * 2**20 - 1000), '"' + "ä" * (2**19 - 100) + '"'
        key, _ = await self.create(content, "small", data=data)
        stored = await self.load(key)
        assert stored.messages[0].content == content
        assert stored.data == data
        assert (await self.page(key, 1, before=2)).items[0].content == content

    async def test_sweep_is_bounded_and_ends(self) -> None:
        """`sweep(limit)` removes at most so many sessions at a time and comes to an end; the living stay.

        On failure: a clean-up job would hold its locks too long, or run for ever.
        """
        for number in range(5):
            await self.create("gone", key=self.new_key(session_id=f"gone {number}"), ttl=self.moment)
        alive, _ = await self.create("stays", ttl=timedelta(days=1))
        await self.wait(self.moment)
        for _ in range(1000):
            swept = await self.adapter.sweep(2)
            assert 0 <= swept.sessions <= 2
            assert swept.messages >= 0
            if not swept.more:
                break
        else:
            raise AssertionError("sweep did not end: `more` stayed true")
        again = await self.adapter.sweep(100)
        assert (again.sessions, again.more) == (0, False)
        assert await self.is_there(alive)
        for number in range(5):
            assert await self.remains(self.new_key(session_id=f"gone {number}")) in {0, None}

    async def test_sweep_counts_what_it_removes(self) -> None:
        """`sweep` counts the expired sessions that it removed, their messages, and messages that left by age.

        On failure: who calls it learns nothing; count what was removed in every way out of it, also in the last.
        """
        gone = [(await self.create("one", "two", ttl=self.moment))[0] for _ in range(3)]
        aged, _ = await self.create("one", "two", message_ttl=self.moment)
        await self.append(aged, "three")
        await self.wait(self.moment)
        found = [await self.remains(key) for key in gone]
        if not all(found):
            pytest.skip("override remains() to let the kit look at the raw store; or it removes by itself what expired")
        sessions = messages = 0
        for _ in range(1000):
            swept = await self.adapter.sweep(2)
            sessions, messages = sessions + swept.sessions, messages + swept.messages
            if not swept.more:
                break
        assert sessions >= 3
        assert messages > 0  # not each: a database may have let some go by itself

    async def test_sweep_erases_below_the_floor(self) -> None:
        """After a sweep nothing below a floor remains in the raw store (`remains` of the suite looks).

        On failure: history that was cleared, or left by age, is invisible but still there.
        """
        key, _ = await self.create("one", "two", "three")
        if await self.remains(key) is None:
            pytest.skip("override remains() to let the kit look at the raw store")
        other, _ = await self.create()
        for cleared in (key, other):
            await self.append(cleared, drop_history=True)
        await self.adapter.sweep(1000)
        assert await self.remains(key) == await self.remains(other)

    async def test_sweep_erases_what_left_by_age(self) -> None:
        """After a sweep nothing that left by `message_ttl` remains in the raw store, though nobody has read since.

        On failure: the floor is moved by reads and commits only; a session that nobody opens again keeps its messages.
        """
        key, _ = await self.create("one", "two", message_ttl=self.moment)
        if await self.remains(key) is None:
            pytest.skip("override remains() to let the kit look at the raw store")
        other, _ = await self.create()
        await self.wait(self.moment)
        await self.adapter.sweep(1000)
        assert await self.remains(key) == await self.remains(other)

    def _expect_refusal(self, error: NotSupported, capability: Capability) -> None:
        assert error.capability is capability
        assert error.reason == self.adapter.supports(capability).reason
        assert error.adapter == self.adapter.name
        assert not error.retryable
