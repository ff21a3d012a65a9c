"""G14: what goes in comes out, bit by bit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeep.contract import UNCHANGED, HeadChange, NewMessage
from turnkeep.errors import CorruptRecord
from turnkeep_testkit import hostile
from turnkeep_testkit.hostile import Hostile, Place
from turnkeep_testkit.making import document, new_commit, new_message, read_document
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from turnkeep.contract import Commit, SessionKey

MOMENTS = {
    "year 1": datetime(1, 1, 1, tzinfo=UTC),
    "year 9999": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "before the epoch": datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "microsecond": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    "odd microseconds": datetime(2026, 6, 15, 12, 34, 56, 999999, tzinfo=UTC),
    "beyond 32 bits": datetime(2038, 1, 19, 3, 14, 8, 123457, tzinfo=UTC),
    "beyond a double": datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC),
}


class ExactnessSuite(Suite):
    """Every text and every instant comes back as it was; ids find what they named."""

    async def lose_message(self, key: SessionKey, seq: int) -> None:
        """Override it to remove one message of a session from the raw store, as damage would, leaving the rest."""
        pytest.skip("override lose_message() to show that a damaged history is told")

    @pytest.mark.parametrize("seq", [1, 2, 3])
    async def test_g14_a_lost_message_is_told(self, seq: int) -> None:
        """A history that lacks a message which the head counts is `CorruptRecord`, never a shorter history.

        On failure: compare what was read with floor and last seq of the head; do not skip a row that cannot be read.
        """
        key, _ = await self.create("one", "two", "three")
        await self.lose_message(key, seq)
        with pytest.raises(CorruptRecord):
            await self.load(key)
        with pytest.raises(CorruptRecord):
            await self.page(key)

    @pytest.mark.parametrize("case", hostile.adapter_ids(), ids=str)
    async def test_g14_hostile_ids(self, case: Hostile) -> None:
        """The id is kept in every position, and finds its session, its owner's list, agent and route.

        On failure: an id was put into a statement, key or pattern instead of being bound or encoded; or a collation,
        trimming or case folding is at work.
        """
        value: str = case.value
        key = self.new_key(value, value)
        message = new_message(id=value, name=value, tool_call_id=value, route=value, step=value)
        head = HeadChange(agent_name=value, current_route=value, current_step=value)
        commit = new_commit(key, message, user_id=value, head=head)
        await self.adapter.commit(commit)
        await self._expect_exact(commit)
        await self.append(key, "more")
        await self.lists_settle()
        searches: list[dict[str, Any]] = [{}, {"agent_name": value}, {"route": value}]
        for conditions in searches:
            assert await self.listed(self.owned(value), **conditions) == [value]
        assert await self.listed(self.owned(value + "x")) == []
        assert await self.listed(self.owned(value), agent_name=value + "x") == []
        assert await self.adapter.delete(self.new_key(value, value + "x")) is False
        assert await self.adapter.delete(key) is True
        assert not await self.is_there(key)

    @pytest.mark.parametrize("pair", hostile.NEAR_IDS, ids=repr)
    async def test_g14_ids_that_look_alike(self, pair: tuple[str, str]) -> None:
        """Two ids that are easily taken for one name two sessions, two owners, two routes.

        On failure: ids are folded, trimmed or normalised, or keys are joined without a separator.
        """
        for value in pair:
            head = HeadChange(agent_name=value, current_route=value)
            await self.create(value, key=self.new_key(value, value), user_id=value, head=head)
        await self.lists_settle()
        for value in pair:
            stored = await self.load(self.new_key(value, value))
            assert [message.content for message in stored.messages] == [value]
            assert await self.listed(self.owned(value)) == [value]
            assert await self.listed(agent_name=value) == await self.listed(route=value) == [value]

    @pytest.mark.parametrize("case", hostile.adapter_texts(), ids=str)
    async def test_g14_hostile_texts(self, case: Hostile) -> None:
        """The text, or the document with the value or key in it, is kept in every position.

        On failure: a document column is not plain text (jsonb, BSON or a mapping change it), or a text is cut.
        """
        value = case.value
        within: Any = {value: value} if Place.KEY in case.places else {"value": value}
        text = document(within)
        content = value if Place.CONTENT in case.places else "content"
        message = new_message(content, tool_calls=text, event=document(value), metadata=text, reply=text)
        commit = new_commit(self.new_key(), message, data=text, state=document({"nested": [within]}))
        await self.adapter.commit(commit)
        await self._expect_exact(commit)
        stored = await self.load(commit.key)
        assert document(read_document(stored.data)) == text

    @pytest.mark.parametrize("moment", MOMENTS)
    async def test_g14_instants(self, moment: str) -> None:
        """Instants the caller gives come back to the microsecond, in UTC, from year 1 to year 9999.

        On failure: a column type with milliseconds, a range, or a zone; store microseconds or text.
        """
        instant = MOMENTS[moment]
        head = HeadChange(status="completed", completed_at=instant)
        commit = new_commit(self.new_key(), new_message(created_at=instant), head=head)
        await self.adapter.commit(commit)
        stored = await self.load(commit.key)
        assert stored.messages[0].created_at == instant
        assert stored.messages[0].created_at.utcoffset() == timedelta(0)
        assert stored.head.completed_at == instant
        assert (await self.page(commit.key)).items[0].created_at == instant
        await self.lists_settle()
        assert (await self.heads())[0].completed_at == instant

    @pytest.mark.parametrize(
        "field", ["name", "tool_calls", "tool_call_id", "route", "step", "event", "metadata", "reply"]
    )
    async def test_g14_absent_is_not_empty(self, field: str) -> None:
        """None comes back as None and "" as "", in every field that may be either.

        On failure: the database takes "" for NULL, or a `or None` does.
        """
        for value in (None, "", "null", "{}", "None"):
            message = new_message()._replace(**{field: value})
            key, _ = await self.create(message)
            assert getattr((await self.load(key)).messages[0], field) == value

    async def test_g14_absent_head_fields_are_not_empty(self) -> None:
        """An agent, route or step named "" is not none.

        On failure: the database takes "" for NULL, or a `or None` does.
        """
        empty, _ = await self.create(head=HeadChange(agent_name="", current_route="", current_step=""))
        none, _ = await self.create()
        head = (await self.load(empty)).head
        assert (head.agent_name, head.current_route, head.current_step) == ("", "", "")
        head = (await self.load(none)).head
        assert (head.agent_name, head.current_route, head.current_step) == (None, None, None)
        await self.lists_settle()
        assert await self.listed(agent_name="") == await self.listed(route="") == [empty.session_id]

    @pytest.mark.parametrize("role", ["user", "assistant", "system", "tool"])
    @pytest.mark.parametrize("encoding", ["plain", "json", "sealed"])
    async def test_g14_roles_and_encodings(self, role: str, encoding: Any) -> None:
        """Each role and each encoding is kept; the adapter never looks into the content.

        On failure: an encoding is undone or guessed.
        """
        message = replace_encoding(new_message('"looks like JSON"', role=role), encoding)
        commit = new_commit(self.new_key(), message)
        await self.adapter.commit(commit)
        await self._expect_exact(commit)

    async def test_g14_documents_are_texts(self) -> None:
        """Blanks, key order, duplicate keys and numbers of a document come back character by character.

        On failure: the document was parsed and written anew (jsonb, BSON).
        """
        text = ' { "b" : 1.10 ,  "a":1e2, "a": [ ] , "n": 10000000000000000000000.0 } \n'
        commit = new_commit(self.new_key(), new_message(event=text, metadata=text), data=text, state=text)
        await self.adapter.commit(commit)
        await self._expect_exact(commit)

    async def test_g14_large_documents(self) -> None:
        """A document of 900 KB and one with 20,000 keys are kept.

        On failure: a column type cuts (TEXT of MySQL ends at 64 KB), or fields are indexed one by one.
        """
        wide = document({f"key {number}": number for number in range(20_000)})
        commit = new_commit(self.new_key(), new_message(event="[" + "1," * 450_000 + "1]"), data=wide, state=wide)
        await self.adapter.commit(commit)
        await self._expect_exact(commit)

    async def test_g14_digests_and_commit_ids(self) -> None:
        """Commit ids of every printable character, 64 of them, and long digests are told apart.

        On failure: they are folded, trimmed or cut.
        """
        printable = "".join(map(chr, range(33, 127)))
        for commit_id in (printable[:64], printable[30:], "x", "X", "%", "''"):
            key, _ = await self.create("one", commit_id=commit_id, digest="d" * 128)
            stored = await self.load(key, commit_id=commit_id)
            assert stored.head.token.commit_id == stored.messages[0].commit_id == commit_id
            assert stored.replay is not None
            assert stored.replay.digest == "d" * 128
            assert (await self.load(key, commit_id=commit_id.swapcase() + "~")).replay is None

    def test_g14_any_text_round_trips(self) -> None:
        """Whatever text Hypothesis finds is kept in every position, and ids made of it find their session.

        On failure: the falsifying example is at the end of the output.
        """
        with self.running(self.test_g14_any_text_round_trips) as loop:

            @self.examples(40, 2000)
            @given(
                ids=st.lists(_ID, min_size=6, max_size=6), texts=st.lists(_TEXT, min_size=7, max_size=7), at=_INSTANT
            )
            def round_trips(ids: list[str], texts: list[str], at: datetime) -> None:
                loop.run(self._round_trip(ids, texts, at), deadline=self.deadline)

            round_trips()

    async def _round_trip(self, ids: list[str], texts: list[str], at: datetime) -> None:
        key = self.new_key(ids[0], ids[1])
        await self.adapter.delete(key)
        message = new_message(
            texts[0],
            id=ids[2],
            name=ids[3],
            route=ids[4],
            step=ids[5],
            tool_calls=document(texts[1]),
            event=document(texts[2]),
            metadata=document({"texts": [texts[3], texts[4]]}),
            reply=document(texts[5]),
            created_at=at,
        )
        commit = new_commit(
            key,
            message,
            message,
            user_id=ids[0],
            data=document({"texts": [texts[3], texts[6]]}),
            state=document(texts),
            head=HeadChange(agent_name=ids[3], current_route=ids[4], current_step=ids[5]),
        )
        await self.adapter.commit(commit)
        await self._expect_exact(commit)
        assert await self.adapter.delete(key) is True

    async def _expect_exact(self, commit: Commit) -> None:
        """What a commit stored comes back as it is, by every read."""
        stored = await self.load(commit.key, commit_id=commit.commit_id)
        head = stored.head
        assert (head.namespace, head.session_id, head.user_id) == (
            commit.key.scope.namespace,
            commit.key.session_id,
            commit.user_id,
        )
        expected = [tuple(message) for message in commit.messages]
        for messages in (stored.messages, (await self.page(commit.key)).items):
            assert [tuple(message)[: len(NewMessage._fields)] for message in messages] == expected
        assert stored.data == (commit.data or "{}")
        assert stored.state == (commit.state or "{}")
        change = commit.head
        for field in ("agent_name", "current_route", "current_step"):
            wanted = getattr(change, field)
            assert getattr(head, field) == (None if wanted is UNCHANGED else wanted)
        assert head.token.commit_id == commit.commit_id
        assert stored.replay is not None
        assert stored.replay.messages == stored.messages
        assert stored.replay.digest == commit.digest


def replace_encoding(message: NewMessage, encoding: Any) -> NewMessage:
    """The message with another encoding."""
    return message._replace(encoding=encoding)


# What `turnkeep.ids.check_id` lets through.
_ID = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60).filter(
    lambda text: len(text.encode()) <= 512
)
_TEXT = st.text(st.characters(exclude_categories=[]), max_size=80)
_INSTANT = st.datetimes(timezones=st.just(UTC))
