"""Windows and pages of a session's history."""

from __future__ import annotations

import pytest

from turnkeep.contract import WIDEN_LIMIT, SessionKey
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, seqs, texts


class HistorySuite(Suite):
    """A window begins where a commit began; pages meet without gap or overlap."""

    async def test_window_none_is_all_and_zero_is_none(self) -> None:
        """`window=None` brings the whole history, `window=0` none of it, and the head is whole in both.

        On failure: 0 and None are taken for the same.
        """
        key = await self._turns(2, 2, 1)
        everything = await self.load(key)
        assert seqs(everything.messages) == [1, 2, 3, 4, 5]
        nothing = await self.load(key, window=0)
        assert nothing.messages == ()
        assert nothing.head == everything.head
        assert nothing.head.message_count == 5

    @pytest.mark.parametrize(
        ("window", "first"), [(1, 10), (2, 6), (4, 6), (5, 6), (6, 5), (7, 3), (8, 3), (9, 1), (10, 1), (1000, 1)]
    )
    async def test_window_widens_to_whole_turns(self, window: int, first: int) -> None:
        """Turns of 2, 2, 1, 4 and 1 messages: a window begins with the turn of its oldest message.

        On failure: a tool's result would be loaded without its call; widen back to the oldest message's `turn_seq`.
        """
        key = await self._turns(2, 2, 1, 4, 1)
        stored = await self.load(key, window=window)
        assert seqs(stored.messages) == list(range(first, 11))
        assert stored.head.message_count == 10
        assert stored.messages == (await self.load(key)).messages[first - 1 :]

    async def test_window_widens_by_200_at_most(self) -> None:
        """A turn that begins exactly 200 messages before the window is brought whole.

        On failure: compare with `WIDEN_LIMIT`; an off-by-one shows here.
        """
        key = await self._turns(1, WIDEN_LIMIT + 1)
        assert seqs((await self.load(key, window=1)).messages) == list(range(2, WIDEN_LIMIT + 3))

    async def test_window_of_a_huge_turn_is_bounded(self) -> None:
        """A turn that begins further back is not brought whole: at most 200 more than asked for, the newest ones.

        On failure: one long turn makes every load as large as itself.
        """
        size = WIDEN_LIMIT * 2
        key = await self._turns(1, size)
        found = seqs((await self.load(key, window=3)).messages)
        assert 3 <= len(found) <= 3 + WIDEN_LIMIT
        assert found == list(range(size + 2 - len(found), size + 2))

    async def test_window_stops_at_the_floor(self) -> None:
        """A window that is larger than what is left brings what is left.

        On failure: the window is counted from seq 1 and not from the floor.
        """
        key = await self._turns(2, 2)
        await self.append(key, "new 1", "new 2", drop_history=True)
        for window in (1, 2, 3, 100, None):
            assert texts((await self.load(key, window=window)).messages) == ["new 1", "new 2"]
        await self.append(key, drop_history=True)
        for window in (0, 1, None):
            assert (await self.load(key, window=window)).messages == ()

    async def test_page_newest_by_default(self) -> None:
        """`limit` alone gives the newest messages, oldest of them first, and says whether there are older ones.

        On failure: the newest are lost beyond a limit, or the page is not turned into reading order.
        """
        key = await self._turns(*[1] * 7)
        page = await self.page(key, 3)
        assert (seqs(page.items), page.more) == ([5, 6, 7], True)
        page = await self.page(key, 7)
        assert (seqs(page.items), page.more) == ([1, 2, 3, 4, 5, 6, 7], False)
        page = await self.page(key, 100)
        assert (len(page.items), page.more) == (7, False)

    async def test_page_backwards(self) -> None:
        """`before=` gives what precedes a seq, exclusive; walking back meets every message once.

        On failure: an off-by-one at a page's edge, or `more` looks in the wrong direction.
        """
        key = await self._turns(3, 3, 1)
        walked: list[int] = []
        before: int | None = None
        for expected, more in (([6, 7], True), ([4, 5], True), ([2, 3], True), ([1], False)):
            page = await self.page(key, 2, before=before)
            assert (seqs(page.items), page.more) == (expected, more)
            walked = seqs(page.items) + walked
            before = page.items[0].seq
        assert walked == [1, 2, 3, 4, 5, 6, 7]
        page = await self.page(key, 2, before=1)
        assert (page.items, page.more) == ((), False)

    async def test_page_forwards(self) -> None:
        """`after=` gives what follows a seq, exclusive; walking forwards meets every message once.

        On failure: an off-by-one at a page's edge, or `more` looks in the wrong direction.
        """
        key = await self._turns(3, 3, 1)
        after = 0
        for expected, more in (([1, 2], True), ([3, 4], True), ([5, 6], True), ([7], False)):
            page = await self.page(key, 2, after=after)
            assert (seqs(page.items), page.more) == (expected, more)
            after = page.items[-1].seq
        page = await self.page(key, 2, after=7)
        assert (page.items, page.more) == ((), False)
        assert seqs((await self.page(key, 3, after=4)).items) == [5, 6, 7]
        assert (await self.page(key, 3, after=4)).more is False

    @pytest.mark.parametrize("edge", [10**6, 2**31, 2**53, 2**63 - 1])
    async def test_page_edges_far_away(self, edge: int) -> None:
        """A `before` far beyond the end is the newest page, an `after` there an empty one.

        On failure: the number overflows a column type or a double.
        """
        key = await self._turns(2)
        assert seqs((await self.page(key, 10, before=edge)).items) == [1, 2]
        page = await self.page(key, 10, after=edge)
        assert (page.items, page.more) == ((), False)

    async def test_page_respects_the_floor(self) -> None:
        """Pages show nothing at or below the floor, in both directions.

        On failure: the statement for pages has no condition on the floor.
        """
        key = await self._turns(2, 2)
        await self.append(key, "new", drop_history=True)
        for page in (
            await self.page(key, 10),
            await self.page(key, 10, before=6),
            await self.page(key, 10, after=0),
            await self.page(key, 10, after=4),
        ):
            assert (texts(page.items), page.more) == (["new"], False)
        page = await self.page(key, 10, before=5)
        assert (page.items, page.more) == ((), False)
        page = await self.page(key, 1)
        assert (texts(page.items), page.more) == (["new"], False)

    async def test_pages_and_load_show_the_same_messages(self) -> None:
        """A message is the same whether it came by `load` or by `read_messages`.

        On failure: one of the two statements lacks a column.
        """
        key = await self._turns(2, 3, 1)
        assert (await self.page(key)).items == (await self.load(key)).messages

    async def test_walking_back_while_messages_arrive(self) -> None:
        """Appends during a walk backwards neither repeat nor hide a message that was there.

        On failure: pages are cut by offset and not by seq.
        """
        key = await self._turns(*[1] * 9)
        walked: list[int] = []
        before: int | None = None
        for _ in range(20):
            page = await self.page(key, 2, before=before)
            walked = seqs(page.items) + walked
            await self.append(key, "late 1", "late 2")
            if not page.more:
                break
            before = page.items[0].seq
        assert walked == list(range(1, 10))

    async def test_walking_forwards_while_messages_arrive(self) -> None:
        """A walk forwards sees each message once, those that arrive during it included.

        On failure: pages are cut by offset and not by seq.
        """
        key = await self._turns(*[1] * 5)
        walked: list[int] = []
        after = 0
        for turn in range(20):
            page = await self.page(key, 2, after=after)
            walked += seqs(page.items)
            if turn < 3:
                await self.append(key, "late")
            if not page.more:
                break
            after = page.items[-1].seq
        assert walked == list(range(1, 9))

    async def test_long_histories(self) -> None:
        """2,500 messages: all are loaded, the newest 50 are the newest 50, and pages meet.

        On failure: a driver or server limit (1,000 rows, 1 MB replies) cuts the answer silently.
        """
        key, last = await self.create(*[str(number) for number in range(1, 501)])
        for start in range(501, 2501, 500):
            batch = [str(number) for number in range(start, start + 500)]
            last = await self.adapter.commit(new_commit(key, *batch, expect=last.token))
        await self.append(key, *[f"end {number}" for number in range(50)])
        stored = await self.load(key)
        assert seqs(stored.messages) == list(range(1, 2551))
        assert texts((await self.load(key, window=50)).messages) == [f"end {number}" for number in range(50)]
        newest = await self.page(key, 1000)
        older = await self.page(key, 1000, before=newest.items[0].seq)
        oldest = await self.page(key, 1000, before=older.items[0].seq)
        assert oldest.items + older.items + newest.items == stored.messages
        assert (newest.more, older.more, oldest.more) == (True, True, False)

    async def _turns(self, *sizes: int) -> SessionKey:
        """A session with turns of these sizes."""
        key, _ = await self.create(*_batch(sizes[0]))
        for size in sizes[1:]:
            await self.append(key, *_batch(size))
        return key


def _batch(size: int) -> list[str]:
    return [f"message {number}" for number in range(size)]
