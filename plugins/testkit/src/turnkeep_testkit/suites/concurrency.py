"""Many tasks and several adapters on one session."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from turnkeep.contract import Committed, Expect, LoadQuery, MessageQuery
from turnkeep.errors import SessionConflict, SessionExists
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, seqs, texts

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey, StorageAdapter


class ConcurrencySuite(Suite):
    """Sizes are small enough for every day; `--turnkeep-campaign` multiplies them."""

    @property
    def tasks(self) -> int:
        """How many tasks write at once."""
        return 40 if self.campaign else 12

    async def test_g2_of_many_swaps_exactly_one_wins(self) -> None:
        """Tasks that commit with the same token: one succeeds, all others conflict, only the winner's turn is there.

        On failure: two writers passed the comparison before either wrote; compare and write in one atomic step.
        """
        adapters = await self._adapters()
        for _ in range(3):
            key, first = await self.create("start", data="-1")
            results = await asyncio.gather(
                *(
                    adapters[number % len(adapters)].commit(
                        new_commit(key, f"by {number}", expect=first.token, data=str(number))
                    )
                    for number in range(self.tasks)
                ),
                return_exceptions=True,
            )
            won = [number for number, result in enumerate(results) if isinstance(result, Committed)]
            assert Counter(map(type, results)) == {Committed: 1, SessionConflict: self.tasks - 1}
            stored = await self.load(key)
            assert (stored.data, texts(stored.messages)) == (str(won[0]), ["start", f"by {won[0]}"])
            assert stored.head.token.version == 2

    async def test_g16_of_many_creates_exactly_one_wins(self) -> None:
        """Tasks that create the same id: one succeeds, all others find it taken.

        On failure: "is it there?" and "make it" are two steps.
        """
        adapters = await self._adapters()
        for _ in range(3):
            key = self.new_key()
            results = await asyncio.gather(
                *(
                    adapters[number % len(adapters)].commit(new_commit(key, str(number)))
                    for number in range(self.tasks)
                ),
                return_exceptions=True,
            )
            assert Counter(map(type, results)) == {Committed: 1, SessionExists: self.tasks - 1}
            won = next(number for number, result in enumerate(results) if isinstance(result, Committed))
            assert texts((await self.load(key)).messages) == [str(won)]

    async def test_g4_concurrent_appends_all_land(self) -> None:
        """Appends of many tasks all land, each once and whole, numbered without gaps, in the order of their versions.

        On failure: two commits took the same number, or a lock was given up between numbering and writing.
        """
        adapters = await self._adapters()
        key, _ = await self.create()
        rounds = 5

        async def append(number: int) -> list[Committed]:
            adapter = adapters[number % len(adapters)]
            return [
                await adapter.commit(new_commit(key, *_turn(number, turn), expect=Expect.ANY)) for turn in range(rounds)
            ]

        results = await asyncio.gather(*(append(number) for number in range(self.tasks)))
        commits = sorted((result for by_task in results for result in by_task), key=lambda result: result.token.version)
        assert [commit.token.version for commit in commits] == list(range(2, 2 + self.tasks * rounds))
        stored = await self.load(key)
        assert seqs(stored.messages) == list(range(1, stored.head.last_seq + 1))
        expected = Counter(
            text for number in range(self.tasks) for turn in range(rounds) for text in _turn(number, turn)
        )
        assert Counter(texts(stored.messages)) == expected
        last = 0
        for commit in commits:
            if commit.first_seq is None or commit.last_seq is None:
                continue
            assert commit.first_seq == last + 1
            last = commit.last_seq
            turn = stored.messages[commit.first_seq - 1 : commit.last_seq]
            assert {message.commit_id for message in turn} == {commit.token.commit_id}
            assert commit.message_count == commit.last_seq

    async def test_g3_the_same_commit_from_many_tasks_lands_once(self) -> None:
        """One commit sent by many tasks at once takes effect once; all get the same result.

        On failure: the commit id is looked up outside the atomic step.
        """
        adapters = await self._adapters()
        key, first = await self.create("start")
        for commit in (
            new_commit(key, "append", expect=Expect.ANY),
            new_commit(self.new_key(), "create"),
            new_commit(key, expect=Expect.ANY),
        ):
            results = await asyncio.gather(*(adapters[n % len(adapters)].commit(commit) for n in range(self.tasks)))
            assert Counter(result.replayed for result in results) == {False: 1, True: self.tasks - 1}
            assert len({(result.token, result.first_seq, result.message_count) for result in results}) == 1
        assert texts((await self.load(key)).messages) == ["start", "append"]
        assert (await self.load(key)).head.token.version == first.token.version + 2

    async def test_g2_writers_that_retry_all_succeed(self) -> None:
        """Tasks that load, commit and repeat after a conflict: every increment counts, nobody starves.

        On failure: an update is lost, or a writer is refused for ever.
        """
        adapters = await self._adapters()
        key, _ = await self.create(data="0")
        rounds = 4

        async def increment(number: int) -> None:
            for _ in range(rounds):
                await _increment(adapters[number % len(adapters)], key)

        await asyncio.gather(*(increment(number) for number in range(self.tasks)))
        stored = await self.load(key)
        assert stored.data == str(self.tasks * rounds)
        assert stored.head.token.version == self.tasks * rounds + 1
        assert stored.head.message_count == self.tasks * rounds

    async def test_g5_readers_see_prefixes_only(self) -> None:
        """While many append, each load is a prefix of the final history that ends with a whole turn.

        On failure: messages become visible before their head, or out of order.
        """
        adapters = await self._adapters()
        key, _ = await self.create()
        seen: list[list[str]] = []
        done = asyncio.Event()

        async def read(number: int) -> None:
            while not done.is_set():
                stored = await self.load(key, adapter=adapters[number % len(adapters)])
                assert seqs(stored.messages) == list(range(1, stored.head.last_seq + 1))
                page = await adapters[number % len(adapters)].read_messages(key, _everything())
                assert len(page.items) >= len(stored.messages)
                assert page.items[: len(stored.messages)] == stored.messages
                seen.append(texts(stored.messages))
                await asyncio.sleep(0)

        async def write(number: int) -> None:
            for turn in range(4):
                await adapters[number % len(adapters)].commit(
                    new_commit(key, f"{number} {turn} user", f"{number} {turn} assistant", expect=Expect.ANY)
                )
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read(number)) for number in range(3)]
        try:
            await asyncio.gather(*(write(number) for number in range(self.tasks)))
        finally:
            done.set()
            await asyncio.gather(*readers)
        final = texts((await self.load(key)).messages)
        assert len(final) == self.tasks * 8
        assert seen
        for history in seen:
            assert history == final[: len(history)]
            assert len(history) % 2 == 0

    async def test_many_sessions_at_once(self) -> None:
        """Tasks that each work on a session of their own do not disturb each other.

        On failure: a connection, a cursor or a transaction is shared without a lock.
        """

        async def live(number: int) -> None:
            key, last = await self.create(f"{number} 0", key=self.new_key(f"owner {number}"), user_id=f"owner {number}")
            for turn in range(1, 6):
                commit = new_commit(key, f"{number} {turn}", expect=last.token, data=str(number))
                last = await self.adapter.commit(commit)
                stored = await self.load(key)
                assert (stored.data, stored.head.user_id) == (str(number), f"owner {number}")
                assert texts(stored.messages) == [f"{number} {turn}" for turn in range(turn + 1)]
            if number % 2:
                assert await self.adapter.delete(key)

        await asyncio.gather(*(live(number) for number in range(self.tasks * 2)))
        await self.lists_settle()
        assert len(await self.listed()) == self.tasks

    async def _adapters(self) -> list[StorageAdapter]:
        return [self.adapter, await self.another()]


async def _increment(adapter: StorageAdapter, key: SessionKey) -> None:
    for _ in range(1000):
        stored = await adapter.load(key, LoadQuery(window=0))
        assert stored is not None
        number = int(stored.data) + 1
        try:
            await adapter.commit(new_commit(key, str(number), expect=stored.head.token, data=str(number)))
        except SessionConflict:
            await asyncio.sleep(0)
        else:
            return
    raise AssertionError("a writer was refused 1,000 times in a row")


def _turn(number: int, turn: int) -> list[str]:
    """Turns of none to three messages."""
    return [f"{number} {turn} {index}" for index in range((number + turn) % 4)]


def _everything() -> MessageQuery:
    return MessageQuery(100_000, after=0)
