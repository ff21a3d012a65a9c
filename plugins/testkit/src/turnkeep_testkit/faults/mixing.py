"""T6: an answer that comes after its caller has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnkeep.contract import Expect, LoadQuery, MessagePage, MessageQuery, SessionQuery, StoredSession
from turnkeep_testkit.faults.through import ThroughProxy
from turnkeep_testkit.honesty import expect_honest, outcome_of
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import texts

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from turnkeep.contract import SessionKey


class MixedReplySuite(ThroughProxy):
    """The answer to a cancelled call never reaches the next caller.

    ChatGPT's incident of 2023: a cancelled request left its answer in a pooled connection, and the next user read it.
    """

    async def test_t6_the_answer_of_a_cancelled_read_reaches_nobody(self) -> None:
        """Of two owners in turn, one's call is cancelled while its answer is on its way; the other gets her own.

        On failure: do not use a connection again whose answer was not read to its end.
        """
        keys = [await self._tell(owner) for owner in ("ana", "bob")]
        rounds = self.size("T6")
        for number in range(rounds):
            mine, hers = keys[number % 2], keys[1 - number % 2]
            cancelled = await self._answered_late(self._read(mine, number))
            await self._expect_own(hers)
            await self._expect_own(mine)
            outcome = await outcome_of(cancelled)
            assert isinstance(outcome, asyncio.CancelledError) or not isinstance(outcome, BaseException), repr(outcome)
        self.figure("T6", "calls cancelled with the answer on its way", rounds)
        self.figure("T6", "answers that reached another caller", 0)

    async def test_t6_the_answer_of_a_cancelled_commit_reaches_nobody(self) -> None:
        """A commit is cancelled while its answer is on its way: its outcome is honest, and others get their own.

        On failure: settle before the connection is handed on: read the answer, or close it.
        """
        keys = [await self._tell(owner) for owner in ("ana", "bob")]
        for number in range(max(4, self.size("T6") // 10)):
            mine, hers = keys[number % 2], keys[1 - number % 2]
            said = f"{mine.scope.owner} again {number}"
            commit = new_commit(mine, said, expect=Expect.ANY)
            cancelled = await self._answered_late(self.adapter.commit(commit))
            await self._expect_own(hers)
            await expect_honest(commit, await outcome_of(cancelled), self.adapter, witness=self.direct)

    async def test_t6_calls_that_wait_together_get_their_own_answers(self) -> None:
        """Many calls wait for answers, every other one is cancelled, then all answers come: each caller gets his own.

        On failure: answers are matched with calls by their order, and the cancelled ones were taken out of the line.
        """
        keys = [await self._tell(f"owner {number}") for number in range(8)]
        for _ in range(max(2, self.size("T6") // 40)):
            self.proxy.hold()
            tasks = [asyncio.create_task(self.adapter.load(key, LoadQuery())) for key in keys]
            await self.proxy.held()
            for task in tasks[::2]:
                task.cancel()
            self.proxy.heal()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for key, outcome in zip(keys, outcomes, strict=True):
                if isinstance(outcome, asyncio.CancelledError):
                    continue
                assert not isinstance(outcome, BaseException), repr(outcome)
                assert outcome is not None
                assert (outcome.head.user_id, texts(outcome.messages)) == (key.scope.owner, [f"of {key.scope.owner}"])
            for key in keys:
                await self._expect_own(key)

    async def _tell(self, owner: str) -> SessionKey:
        key, _ = await self.create(f"of {owner}", key=self.new_key(owner), user_id=owner)
        return key

    def _read(self, key: SessionKey, number: int) -> Coroutine[Any, Any, object]:
        kinds = (
            self.adapter.load(key, LoadQuery()),
            self.adapter.read_messages(key, MessageQuery(10)),
            self.adapter.find_sessions(SessionQuery(key.scope, 10)),
        )
        chosen = kinds[number % len(kinds)]
        for other in kinds:
            if other is not chosen:
                other.close()
        return chosen

    async def _answered_late(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """The call, cancelled while the proxy holds its answer, which then comes."""
        self.proxy.hold()
        task = asyncio.create_task(call)
        waiting = asyncio.create_task(self.proxy.held())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=self.patience)
        assert not task.done(), "the call ended without an answer from the server"
        assert waiting.done(), "nothing of the call came through the proxy: does the adapter go around it?"
        task.cancel()
        self.proxy.heal()
        return task

    async def _expect_own(self, key: SessionKey) -> None:
        """Two different questions: an answer to another one is often of another kind."""
        stored, page = await self.load(key), await self.page(key)
        assert isinstance(stored, StoredSession), f"a load was answered with {stored!r}"
        assert isinstance(page, MessagePage), f"a page was answered with {page!r}"
        assert (stored.head.session_id, stored.head.user_id) == (key.session_id, key.scope.owner)
        assert texts(page.items) == texts(stored.messages)
        assert all(str(key.scope.owner) in text for text in texts(page.items))
