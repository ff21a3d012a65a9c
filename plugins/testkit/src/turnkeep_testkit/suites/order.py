"""G4: order is by number, never by clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from turnkeep_testkit.making import SOME_DAY, new_commit, new_message
from turnkeep_testkit.suites.base import Suite, seqs, texts


class OrderSuite(Suite):
    """Messages are numbered 1 to n without gaps, in the order of commits."""

    async def test_g4_numbers_have_no_gaps(self) -> None:
        """Over commits of every size, the numbers are 1 to n.

        On failure: numbers come from a counter that moves although the commit failed, or restart per commit.
        """
        key, _ = await self.create("1")
        expected = ["1"]
        for size in (0, 3, 1, 0, 2, 5):
            batch = [str(len(expected) + index + 1) for index in range(size)]
            committed = await self.append(key, *batch)
            assert committed.first_seq == (len(expected) + 1 if batch else None)
            expected += batch
            assert committed.last_seq == (len(expected) if batch else None)
        stored = await self.load(key)
        assert texts(stored.messages) == expected
        assert seqs(stored.messages) == list(range(1, len(expected) + 1))

    async def test_g4_messages_know_their_turn(self) -> None:
        """`turn_seq` is the first seq of the message's commit, `commit_id` that commit's id.

        On failure: windows cannot be widened to whole turns without it.
        """
        key, first = await self.create("1", "2")
        second = await self.append(key, "3", "4", "5")
        stored = await self.load(key)
        assert [message.turn_seq for message in stored.messages] == [1, 1, 3, 3, 3]
        expected = [first.token.commit_id] * 2 + [second.token.commit_id] * 3
        assert [message.commit_id for message in stored.messages] == expected

    async def test_g4_client_clocks_order_nothing(self) -> None:
        """Messages stamped backwards, equal, in year 1 and in year 9999 stay in the order of their commits.

        On failure: something sorts by `created_at`.
        """
        moments = [
            SOME_DAY,
            SOME_DAY - timedelta(hours=1),
            SOME_DAY,
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            SOME_DAY,
        ]
        key, _ = await self.create(new_message("0", created_at=moments[0]))
        for number, moment in enumerate(moments[1:], start=1):
            await self.append(key, new_message(str(number), created_at=moment))
        expected = [str(number) for number in range(len(moments))]
        assert texts((await self.load(key)).messages) == expected
        assert texts((await self.page(key)).items) == expected
        assert [message.created_at for message in (await self.load(key)).messages] == moments

    async def test_g4_message_ids_order_nothing(self) -> None:
        """Ids that sort backwards leave the order alone, and the same id may occur again.

        On failure: something sorts by message id, or takes it for a key.
        """
        key, _ = await self.create(new_message("1", id="z"), new_message("2", id="a"))
        await self.append(key, new_message("3", id="m"), new_message("4", id="a"))
        stored = await self.load(key)
        assert texts(stored.messages) == ["1", "2", "3", "4"]
        assert [message.id for message in stored.messages] == ["z", "a", "m", "a"]

    async def test_g4_numbers_do_not_restart(self) -> None:
        """After a history was cleared, even twice, numbers go on.

        On failure: the next number is worked out from the messages that are left.
        """
        key, _ = await self.create("1", "2")
        await self.append(key, drop_history=True)
        await self.append(key, drop_history=True)
        assert (await self.append(key, "3")).first_seq == 3
        assert (await self.append(key, "4", drop_history=True)).first_seq == 4
        stored = await self.load(key)
        assert (texts(stored.messages), stored.head.floor) == (["4"], 3)

    async def test_g4_a_new_life_starts_at_one(self) -> None:
        """After delete and re-create, numbers start at 1 and no older message shows.

        On failure: the key of a message lacks the incarnation, or delete leaves messages.
        """
        key, _ = await self.create("old 1", "old 2", "old 3")
        await self.adapter.delete(key)
        _, again = await self.create("new 1", key=key)
        assert (again.first_seq, again.message_count) == (1, 1)
        assert texts((await self.load(key)).messages) == ["new 1"]
        assert texts((await self.page(key)).items) == ["new 1"]

    async def test_g4_time_never_runs_backwards_within_a_session(self) -> None:
        """Later commits have later times, also where the server's clock is stepped back.

        On failure: take the larger of the clock and the last time; see `turnkeep.judge.next_head`.
        """
        key, last = await self.create("1")
        for step in (0, -3600, 0, 5, -86400, 1):
            if self.clock:
                self.clock.advance(step)
            committed = await self.append(key, str(step))
            assert committed.time >= last.time
            head = (await self.load(key)).head
            assert head.updated_at == head.last_message_at == committed.time
            last = committed
        stored = await self.load(key)
        assert seqs(stored.messages) == [1, 2, 3, 4, 5, 6, 7]

    async def test_g4_two_adapters_share_one_order(self) -> None:
        """Commits by turns through two adapters are numbered as one sequence.

        On failure: the next number is kept in the process.
        """
        key, last = await self.create("1")
        adapters = [await self.another(), self.adapter]
        for number in range(2, 12):
            commit = new_commit(key, str(number), expect=last.token)
            last = await adapters[number % 2].commit(commit)
        assert texts((await self.load(key)).messages) == [str(number) for number in range(1, 12)]
