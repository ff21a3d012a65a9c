"""G5, G6: a read shows every commit acknowledged before it began."""

from __future__ import annotations

import asyncio

from turnkeep.contract import Capability, HeadChange
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, proves, texts


class ReadYourWritesSuite(Suite):
    """By-id reads are linearizable per session."""

    async def test_g6_every_read_by_id_shows_the_last_commit(self) -> None:
        """After each commit, `load` and `read_messages` show it, through every adapter.

        On failure: a read goes to a replica, a cache, or a search index.
        """
        key, last = await self.create("0")
        other = await self.another()
        for number in range(1, 15):
            last = await self.adapter.commit(new_commit(key, str(number), expect=last.token, data=str(number)))
            for adapter in (self.adapter, other):
                stored = await self.load(key, window=1, adapter=adapter)
                assert (stored.head.token, stored.data, texts(stored.messages)) == (
                    last.token,
                    str(number),
                    [str(number)],
                )
            assert texts((await self.page(key, 1)).items) == [str(number)]

    async def test_g6_a_delete_shows_at_once(self) -> None:
        """After a delete no adapter shows the session.

        On failure: a read goes to a replica or a cache.
        """
        key, _ = await self.create("one")
        other = await self.another()
        await self.load(key, adapter=other)
        await self.adapter.delete(key)
        assert await other.delete(key) is False
        assert not await self.is_there(key)

    async def test_g5_reads_never_go_back(self) -> None:
        """Versions read by one reader only rise, and none is older than what was acknowledged before the read.

        On failure: reads are served from somewhere that lags behind.
        """
        key, first = await self.create("1")
        acknowledged = first.token.version
        done = asyncio.Event()
        other = await self.another()

        async def read(adapter_number: int) -> None:
            seen = 0
            while not done.is_set():
                at_least = acknowledged
                head = (await self.load(key, window=0, adapter=(self.adapter, other)[adapter_number])).head
                assert head.token.version >= max(at_least, seen)
                seen = head.token.version
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read(number % 2)) for number in range(4)]
        try:
            for number in range(2, 40):
                acknowledged = (await self.append(key, str(number))).token.version
                await asyncio.sleep(0)
        finally:
            done.set()
            await asyncio.gather(*readers)

    @proves(Capability.IMMEDIATE_LISTS)
    async def test_g6_lists_show_a_commit_at_once(self) -> None:
        """Where IMMEDIATE_LISTS is FULL, a list shows each acknowledged commit.

        On failure: declare the capability PARTIAL with the reason, or make the index part of the commit.
        """
        self.needs(Capability.IMMEDIATE_LISTS)
        key, _ = await self.create("one", user_id="ana")
        assert [head.token.version for head in await self.heads()] == [1]
        await self.append(key, head=HeadChange(status="completed", agent_name="desk"))
        assert [(head.token.version, head.status, head.agent_name) for head in await self.heads()] == [
            (2, "completed", "desk")
        ]
        assert await self.listed(status="active") == []
        assert await self.listed(status="completed") == [key.session_id]
        await self.adapter.delete(key)
        assert await self.listed() == []

    async def test_g6_lists_show_a_commit_in_the_end(self) -> None:
        """Whatever IMMEDIATE_LISTS says, a list shows a commit after `lists_delay`; a deleted session at no time.

        On failure: raise `lists_delay` if the store is slower by design; else an index entry was lost.
        """
        key, _ = await self.create("one")
        gone, _ = await self.create("two")
        await self.lists_settle()
        assert set(await self.listed()) == {key.session_id, gone.session_id}
        await self.adapter.delete(gone)
        assert await self.listed() == [key.session_id]
