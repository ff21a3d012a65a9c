"""G1, G9: a turn takes effect whole, or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from turnkeep.contract import Capability, Expect, HeadChange, LoadQuery, StoredSession, Token
from turnkeep.errors import SessionConflict
from turnkeep_testkit.making import SOME_DAY, document, new_commit, new_message, read_document
from turnkeep_testkit.suites.base import Suite, proves, seqs, texts


@proves(Capability.ATOMIC_TURN)
class AtomicTurnSuite(Suite):
    """Everything of a commit becomes visible together."""

    async def test_g1_a_turn_lands_whole(self) -> None:
        """Messages, data, state and head of the first commit are all there.

        On failure: look at which part `load` brings back; a part that is missing was not written by `commit`.
        """
        message = new_message(
            "Hello",
            role="assistant",
            name="Ana",
            tool_calls='[{"id":"c1"}]',
            tool_call_id="c0",
            route="booking",
            step="name",
            event='{"a":1}',
            metadata='{"b":2}',
            reply='{"c":3}',
            created_at=SOME_DAY,
        )
        key, committed = await self.create(
            message,
            data='{"guests":4}',
            state='{"custom":{}}',
            user_id="ana",
            head=HeadChange(agent_name="Front desk", current_route="booking", current_step="name"),
        )
        stored = await self.load(key)
        assert (stored.data, stored.state) == ('{"guests":4}', '{"custom":{}}')
        assert [tuple(item) for item in stored.messages] == [(*message, 1, 1, committed.token.commit_id)]
        head = stored.head
        assert (head.namespace, head.session_id, head.user_id) == (key.scope.namespace, key.session_id, "ana")
        assert (head.agent_name, head.current_route, head.current_step) == ("Front desk", "booking", "name")
        assert (head.token, head.status, head.last_seq, head.floor) == (committed.token, "active", 1, 0)
        assert head.created_at == head.updated_at == head.last_message_at == committed.time
        assert (head.completed_at, head.expires_at) == (None, None)

    async def test_g1_the_result_says_what_happened(self) -> None:
        """`Committed` carries token, numbers, count and time of the commit.

        On failure: compare with `turnkeep.judge.committed`, which every adapter's result must equal.
        """
        key, first = await self.create("one", "two")
        assert first.token.version == 1
        assert (first.created, first.replayed, first.contiguous) == (True, False, True)
        assert (first.first_seq, first.last_seq, first.message_count) == (1, 2, 2)
        assert first.expires_at is None
        assert first.time.utcoffset() == timedelta(0)
        second = await self.adapter.commit(new_commit(key, "three", expect=first.token))
        assert second.token == Token(first.token.incarnation, 2, second.token.commit_id)
        assert (second.created, second.first_seq, second.last_seq, second.message_count) == (False, 3, 3, 3)
        third = await self.append(key, data=None)
        assert (third.first_seq, third.last_seq, third.message_count) == (None, None, 3)
        assert third.token.version == 3

    async def test_g1_a_commit_without_messages_keeps_the_rest(self) -> None:
        """What a commit does not mention stays as it was.

        On failure: `data=None`, `state=None` and `UNCHANGED` must leave the stored value alone, not clear it.
        """
        head = HeadChange(agent_name="desk", current_route="booking", current_step="name")
        key, first = await self.create("one", data='{"a":1}', state='{"b":2}', head=head)
        await self.tick()
        second = await self.adapter.commit(new_commit(key, expect=first.token))
        stored = await self.load(key)
        assert (stored.data, stored.state, texts(stored.messages)) == ('{"a":1}', '{"b":2}', ["one"])
        assert (stored.head.agent_name, stored.head.current_route, stored.head.current_step) == (
            "desk",
            "booking",
            "name",
        )
        assert stored.head.last_message_at == first.time
        assert stored.head.updated_at == second.time > first.time
        assert stored.head.created_at == first.time

    async def test_g1_head_fields_can_be_cleared(self) -> None:
        """None in a `HeadChange` clears a field; `UNCHANGED` leaves it.

        On failure: None and `UNCHANGED` are not told apart.
        """
        key, _ = await self.create(head=HeadChange(agent_name="desk", current_route="booking", current_step="name"))
        await self.append(key, head=HeadChange(current_step=None))
        head = (await self.load(key)).head
        assert (head.agent_name, head.current_route, head.current_step) == ("desk", "booking", None)
        await self.append(key, head=HeadChange(agent_name=None, current_route=None))
        head = (await self.load(key)).head
        assert (head.agent_name, head.current_route, head.current_step) == (None, None, None)

    async def test_g1_status_decides_completed_at(self) -> None:
        """Completing stamps the server's time unless an instant is given; any other status clears or sets it.

        On failure: see `HeadChange` and `turnkeep.judge.next_head`.
        """
        key, _ = await self.create()
        done = await self.append(key, head=HeadChange(status="completed"))
        head = (await self.load(key)).head
        assert (head.status, head.completed_at) == ("completed", done.time)
        await self.append(key, "more")
        assert (await self.load(key)).head.completed_at == done.time, "a commit without a status changes neither"
        await self.append(key, head=HeadChange(status="active"))
        head = (await self.load(key)).head
        assert (head.status, head.completed_at) == ("active", None)
        await self.append(key, head=HeadChange(status="completed", completed_at=SOME_DAY))
        assert (await self.load(key)).head.completed_at == SOME_DAY
        await self.append(key, head=HeadChange(status="abandoned", completed_at=SOME_DAY + timedelta(days=1)))
        head = (await self.load(key)).head
        assert (head.status, head.completed_at) == ("abandoned", SOME_DAY + timedelta(days=1))
        await self.append(key, head=HeadChange(completed_at=SOME_DAY))
        head = (await self.load(key)).head
        assert head.completed_at == SOME_DAY + timedelta(days=1), "without a status the instant is not looked at"

    async def test_g1_a_status_change_raises_the_version(self) -> None:
        """Every commit that takes effect raises the version by one, whatever it carries.

        On failure: a commit of head fields alone skips the counter; a writer with an older token would not notice it.
        """
        key, first = await self.create("one", data="{}")
        changed = await self.append(key, head=HeadChange(status="abandoned"))
        assert changed.token.version == first.token.version + 1
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, expect=first.token, data='{"late":1}'))

    async def test_g1_a_refused_turn_leaves_nothing(self) -> None:
        """A commit that conflicts changes no part of the session.

        On failure: the decision and the writes are not one atomic step; look for a write before the check.
        """
        key, first = await self.create("one", data='{"a":1}')
        await self.append(key, "two")
        before = await self.load(key)
        late = new_commit(
            key,
            "lost",
            expect=first.token,
            data='{"a":2}',
            state='{"b":2}',
            head=HeadChange(status="completed", agent_name="x"),
            drop_history=True,
            ttl=timedelta(hours=1),
        )
        with pytest.raises(SessionConflict):
            await self.adapter.commit(late)
        assert await self.load(key) == before

    async def test_g1_history_can_be_replaced_in_one_commit(self) -> None:
        """`drop_history` with messages: the old ones go and the new ones come, together; numbers go on.

        On failure: the floor must move to the last seq before the new messages are numbered.
        """
        key, _ = await self.create("one", "two")
        replaced = await self.append(key, "three", "four", drop_history=True)
        assert (replaced.first_seq, replaced.last_seq, replaced.message_count) == (3, 4, 2)
        stored = await self.load(key)
        assert (texts(stored.messages), seqs(stored.messages)) == (["three", "four"], [3, 4])
        assert (stored.head.floor, stored.head.last_seq, stored.head.message_count) == (2, 4, 2)

    async def test_g1_history_can_be_cleared(self) -> None:
        """`drop_history` alone: no messages are left, the rest stays, numbers go on.

        On failure: look at what `load`, `read_messages` and the head say of messages at or below the floor.
        """
        key, first = await self.create("one", "two", data='{"a":1}')
        cleared = await self.append(key, drop_history=True)
        assert (cleared.first_seq, cleared.message_count) == (None, 0)
        stored = await self.load(key)
        assert (stored.messages, stored.data) == ((), '{"a":1}')
        assert (stored.head.floor, stored.head.last_seq, stored.head.message_count) == (2, 2, 0)
        assert stored.head.last_message_at == first.time
        assert (await self.page(key)).items == ()
        assert (await self.page(key, after=0)).items == ()
        appended = await self.append(key, "three")
        assert (appended.first_seq, appended.message_count) == (3, 1)
        assert texts((await self.load(key)).messages) == ["three"]

    async def test_g1_a_session_may_have_no_messages(self) -> None:
        """A session can be created, loaded and listed without any message; data and state start as `{}`.

        On failure: the session must not be made up from its messages.
        """
        key, created = await self.create()
        assert (created.first_seq, created.last_seq, created.message_count) == (None, None, 0)
        stored = await self.load(key)
        assert (stored.data, stored.state, stored.messages) == ("{}", "{}", ())
        assert stored.head.last_message_at is None
        await self.lists_settle()
        assert await self.listed() == [key.session_id]

    async def test_g1_many_messages_land_in_one_commit(self) -> None:
        """A commit of 1,000 messages is one turn.

        On failure: a batch that is split into several statements needs a transaction around all of them; look also
        for a limit on bound parameters.
        """
        contents = [f"message {number}" for number in range(1000)]
        key, committed = await self.create(*contents)
        assert (committed.first_seq, committed.last_seq) == (1, 1000)
        stored = await self.load(key)
        assert texts(stored.messages) == contents
        assert {message.turn_seq for message in stored.messages} == {1}

    async def test_g1_readers_never_see_half_a_turn(self) -> None:
        """While turns are committed, every load shows messages, data and version of the same commit.

        On failure: `load` reads head and messages at different moments; read both in one statement or snapshot.
        """
        key, last = await self.create("0 user", "0 assistant", data=document(0))
        done = asyncio.Event()
        loads = 0

        async def read() -> None:
            nonlocal loads
            while not done.is_set():
                _expect_one_version(await self.load(key))
                _expect_one_version(await self.load(key, window=3))
                loads += 1
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(3)]
        try:
            for turn in range(1, 25):
                commit = new_commit(key, f"{turn} user", f"{turn} assistant", expect=last.token, data=document(turn))
                last = await self.adapter.commit(commit)
                await asyncio.sleep(0)
        finally:
            done.set()
            await asyncio.gather(*readers)
        assert loads

    async def test_g9_a_second_adapter_sees_whole_turns(self) -> None:
        """Another adapter over the same store reads what this one committed.

        On failure: what was acknowledged is still in this process only (an open transaction, a cache).
        """
        key, first = await self.create("one", data='{"a":1}')
        other = await self.another()
        assert await self.load(key, adapter=other) == await self.load(key)
        await other.commit(new_commit(key, "two", expect=first.token, data='{"a":2}'))
        assert await self.load(key) == await self.load(key, adapter=other)
        assert texts((await self.load(key)).messages) == ["one", "two"]

    async def test_answers_have_the_types_of_the_contract(self) -> None:
        """What an adapter hands out is immutable and of the contract's own types.

        On failure: convert driver rows before they leave the adapter; a list that is shared can be changed by callers.
        """
        key, committed = await self.create("one", user_id="ana")
        stored = await self.load(key, commit_id=committed.token.commit_id)
        assert type(stored.messages) is tuple
        assert type(stored.messages[0]).__name__ == "StoredMessage"
        assert stored.replay is not None
        assert type(stored.replay.messages) is tuple
        assert type((await self.page(key)).items) is tuple
        head = stored.head
        assert (type(head.token.version), type(head.last_seq), type(head.floor)) == (int, int, int)
        for moment in (head.created_at, head.updated_at, head.last_message_at, stored.messages[0].created_at):
            assert moment is not None
            assert moment.utcoffset() == timedelta(0), "times are in UTC"

    async def test_nothing_is_shared_between_two_loads(self) -> None:
        """Two loads give equal values, before and after other commits.

        On failure: a value that was handed out is changed by a later commit.
        """
        key, _ = await self.create("one")
        first = await self.adapter.load(key, LoadQuery())
        again = await self.adapter.load(key, LoadQuery())
        assert first == again
        await self.append(key, "two", head=HeadChange(status="completed"))
        assert first == again
        assert first is not None
        assert texts(first.messages) == ["one"]

    async def test_commits_need_a_session(self) -> None:
        """`Expect.ANY` and a token commit to sessions only; see the create suite for what they must not do.

        On failure: an upsert is used where an update is meant.
        """
        key, first = await self.create("one")
        assert first.token.version == 1
        assert (await self.append(key, "two")).created is False
        assert (await self.adapter.commit(new_commit(key, expect=Expect.ANY))).message_count == 2


def _expect_one_version(stored: StoredSession) -> None:
    turn = read_document(stored.data)
    assert stored.head.token.version == turn + 1
    assert stored.head.last_seq == 2 * turn + 2
    assert [message.content for message in stored.messages[-2:]] == [f"{turn} user", f"{turn} assistant"]
    assert [message.seq for message in stored.messages] == list(
        range(stored.head.last_seq - len(stored.messages) + 1, stored.head.last_seq + 1)
    )
