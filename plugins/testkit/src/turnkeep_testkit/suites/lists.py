"""Lists of sessions: filters, order, keyset pages."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from turnkeep.contract import ANYONE, HeadChange, SessionKey, SessionQuery
from turnkeep.cursors import make_cursor
from turnkeep.errors import InvalidArgument
from turnkeep_testkit.suites.base import Suite

ORDERS = ("activity", "created")

HOSTILE_CURSORS = {
    "empty": "",
    "blank": " ",
    "no base64": "!!!",
    "not ascii": "čursor",
    "lone surrogate": "\ud800",
    "NUL": "\0",
    "SQL": "' OR 1=1;--",
    "no JSON": base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    "no list": base64.urlsafe_b64encode(b'{"a":1}').decode(),
    "deep": base64.urlsafe_b64encode(b"[" * 5000).decode(),
    "long": "A" * 100_000,
    "other kind": make_cursor("messages", 1, "x"),
    "too short": make_cursor("activity"),
    "wrong types": make_cursor("activity", "1", "x"),
    "operator": base64.urlsafe_b64encode(json.dumps(["activity", {"$gt": ""}, "x"]).encode()).decode(),
}

FORGED_POSITIONS: list[tuple[int, str]] = [
    (2**63, "x"),
    (-(2**70), "x"),
    (10**30, "x"),
    (0, "\ud800"),
    (0, "nul\0"),
    (0, "' OR 1=1;--"),
    (0, ""),
]


class ListSuite(Suite):
    """Lists show heads, filtered, in a stable order, each session once."""

    async def test_list_conditions_all_hold(self) -> None:
        """Status, agent and route narrow a list, alone and together; owners are the isolation suite's.

        On failure: a condition is dropped, or joined by OR.
        """
        made: dict[str, SessionKey] = {}
        for status in ("active", "completed", "abandoned"):
            for agent in ("desk", None):
                for route in ("booking", None):
                    change = HeadChange(status=status, agent_name=agent, current_route=route)
                    made[f"{status} {agent} {route}"], _ = await self.create(head=change)
        await self.lists_settle()

        async def found(**conditions: Any) -> set[str]:
            ids = set(await self.listed(**conditions))
            return {name for name, key in made.items() if key.session_id in ids}

        assert await found() == set(made)
        assert await found(status="completed") == {name for name in made if name.startswith("completed")}
        assert await found(agent_name="desk") == {name for name in made if " desk " in name}
        assert await found(route="booking") == {name for name in made if name.endswith("booking")}
        assert await found(status="abandoned", agent_name="desk", route="booking") == {"abandoned desk booking"}
        assert await found(agent_name="Desk") == set()
        assert await found(route="desk") == set()

    async def test_list_owner(self) -> None:
        """A scope lists its owner's sessions; None those without an owner; ANYONE all.

        On failure: None is taken for "no condition".
        """
        ana, _ = await self.create(key=self.new_key("ana"), user_id="ana")
        bob, _ = await self.create(key=self.new_key("bob"), user_id="bob")
        nobody, _ = await self.create(key=self.new_key(None))
        await self.lists_settle()
        assert await self.listed(self.owned("ana")) == [ana.session_id]
        assert await self.listed(self.owned("bob")) == [bob.session_id]
        assert await self.listed(self.owned(None)) == [nobody.session_id]
        assert await self.listed(self.owned("")) == []
        assert set(await self.listed(self.owned(ANYONE))) == {ana.session_id, bob.session_id, nobody.session_id}

    async def test_list_heads_are_the_loaded_heads(self) -> None:
        """A listed head equals the head a load gives.

        On failure: an index holds a copy that was not brought up to date.
        """
        keys = [(await self.create("one", user_id="ana", head=HeadChange(agent_name="desk")))[0] for _ in range(3)]
        await self.append(keys[0], "two", "three", head=HeadChange(status="completed"))
        await self.append(keys[1], drop_history=True, ttl=timedelta(days=1))
        await self.lists_settle()
        listed = {head.session_id: head for head in await self.heads()}
        for key in keys:
            assert listed[key.session_id] == (await self.load(key)).head

    async def test_list_by_activity_is_newest_first(self) -> None:
        """The session committed to last comes first; a later commit moves a session to the front.

        On failure: the order is by creation, or `updated_at` is not set by every commit.
        """
        keys: list[SessionKey] = []
        for _ in range(4):
            keys.append((await self.create())[0])
            await self.tick()
        a, b, c, d = (key.session_id for key in keys)
        await self.lists_settle()
        assert await self.listed() == [d, c, b, a]
        await self.append(keys[1], head=HeadChange(status="completed"))
        await self.tick()
        await self.append(keys[0], "more")
        await self.lists_settle()
        assert await self.listed() == [a, b, d, c]
        assert await self.listed(limit=1) == [a, b, d, c]
        assert await self.listed(order="created") == [a, b, c, d]
        assert await self.listed(order="created", limit=3) == [a, b, c, d]

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    async def test_list_pages_at_equal_times(self, order: str, limit: int) -> None:
        """Sessions of the same instant appear once each, whatever the page size; ties are broken by session id.

        On failure: the cursor holds the time only and pages skip or repeat at equal times.
        """
        ids = [f"s{number}" for number in (3, 1, 10, 2, 7, 5, 4)]
        for session_id in ids:
            await self.create(key=self.new_key(session_id=session_id))
        await self.lists_settle()
        found = await self.listed(limit=limit, order=order)
        assert sorted(found) == sorted(ids)
        if self.clock:
            assert found == sorted(ids)

    @pytest.mark.parametrize("order", ORDERS)
    async def test_list_ties_are_broken_byte_by_byte(self, order: str) -> None:
        """At equal times ids are in the order of their code points, and pages agree with that order.

        On failure: a collation (case, accents, locale) orders or compares ids; use a binary one.
        """
        if self.clock is None:
            pytest.skip("two commits have the same time only on a fake clock; override fake_clock")
        ids = ["a", "B", "A", "b", "é", "e", "z", "Z", "_", "10", "9", "😀", "\uffee"]
        for session_id in ids:
            await self.create(key=self.new_key(session_id=session_id))
        await self.lists_settle()
        assert await self.listed(order=order) == sorted(ids)
        assert await self.listed(order=order, limit=2) == sorted(ids)

    async def test_list_last_page_has_no_cursor(self) -> None:
        """The walk ends: a list that is read to its end has `next_cursor` None, an empty one from the start.

        On failure: a cursor is given although nothing follows, for ever.
        """
        page = await self.adapter.find_sessions(SessionQuery(self.scope, 10))
        assert (page.items, page.next_cursor) == ((), None)
        for _ in range(3):
            await self.create()
        await self.lists_settle()
        page = await self.adapter.find_sessions(SessionQuery(self.scope, 2))
        assert page.next_cursor is not None
        assert type(page.items) is tuple
        assert len(await self.listed(limit=3)) == 3

    async def test_list_by_activity_while_sessions_are_touched(self) -> None:
        """During a walk by activity an untouched session appears exactly once, a touched one at most once.

        On failure: pages are cut by offset, or the cursor does not hold both time and id.
        """
        keys: dict[str, SessionKey] = {}
        for number in range(10):
            key, _ = await self.create(key=self.new_key(session_id=f"s{number}"))
            keys[key.session_id] = key
            await self.tick()
        await self.lists_settle()
        touched = {"s0", "s5", "s9"}
        walked = await self._walk(
            "activity",
            [
                lambda: self.append(keys["s9"]),
                lambda: self.append(keys["s0"]),
                lambda: self.append(keys["s5"]),
                self.create,
            ],
        )
        for session_id in keys:
            assert walked.count(session_id) == 1 or (session_id in touched and walked.count(session_id) == 0)

    async def test_list_by_creation_while_everything_changes(self) -> None:
        """During a walk by creation all that existed throughout appears exactly once, whatever is touched.

        On failure: the order is not by `created_at` and id alone.
        """
        keys: dict[str, SessionKey] = {}
        for number in range(10):
            key, _ = await self.create(key=self.new_key(session_id=f"s{number}"))
            keys[key.session_id] = key
        await self.lists_settle()
        walked = await self._walk(
            "created",
            [
                lambda: self.append(keys["s9"]),
                lambda: self.adapter.delete(keys["s7"]),
                self.create,
                lambda: self.append(keys["s0"]),
            ],
        )
        for session_id in keys:
            assert walked.count(session_id) == 1 or (session_id == "s7" and walked.count(session_id) == 0)

    async def test_list_shows_nothing_deleted(self) -> None:
        """A session deleted between two pages is not on the second.

        On failure: pages come from an index without a look at the heads.
        """
        keys = [(await self.create(key=self.new_key(session_id=f"s{number}")))[0] for number in range(4)]
        await self.lists_settle()
        page = await self.adapter.find_sessions(SessionQuery(self.scope, 2, order="created"))
        assert [head.session_id for head in page.items] == ["s0", "s1"]
        await self.adapter.delete(keys[2])
        rest = await self.adapter.find_sessions(SessionQuery(self.scope, 2, order="created", cursor=page.next_cursor))
        assert [head.session_id for head in rest.items] == ["s3"]

    async def test_list_older_than_an_instant(self) -> None:
        """`older_than` an instant: last committed to before it, exclusive.

        On failure: the comparison is on creation, or includes the instant itself.
        """
        old, _ = await self.create()
        await self.tick()
        _, committed = await self.create()
        await self.tick()
        young, _ = await self.create()
        await self.lists_settle()
        assert await self.listed(older_than=committed.time) == [old.session_id]
        assert len(await self.listed(older_than=committed.time + timedelta(microseconds=1000))) == 2
        assert await self.listed(older_than=datetime(1, 1, 1, tzinfo=UTC)) == []
        assert len(await self.listed(older_than=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))) == 3
        await self.tick()
        await self.append(old)
        await self.lists_settle()
        assert await self.listed(older_than=committed.time) == []
        assert (await self.listed())[0] == old.session_id != young.session_id

    async def test_list_older_than_a_duration(self) -> None:
        """`older_than` a duration counts by the server's clock.

        On failure: the client's clock is asked, or the duration is taken for an instant.
        """
        old, _ = await self.create()
        await self.wait(self.moment)
        young, _ = await self.create()
        await self.lists_settle()
        assert await self.listed(older_than=self.moment) == [old.session_id]
        assert await self.listed(older_than=timedelta(days=3000)) == []
        if self.clock:
            await self.tick()
            assert set(await self.listed(older_than=timedelta(0))) == {old.session_id, young.session_id}

    async def test_list_of_one_order_refuses_a_cursor_of_the_other(self) -> None:
        """A cursor of another order raises `InvalidArgument`.

        On failure: the cursor does not say what it is a cursor of.
        """
        for _ in range(3):
            await self.create()
        await self.lists_settle()
        for order, other in (ORDERS, ORDERS[::-1]):
            page = await self.adapter.find_sessions(SessionQuery(self.scope, 1, order=order))  # pyright: ignore[reportArgumentType] - a tuple of literals
            with pytest.raises(InvalidArgument):
                await self.listed_once(other, page.next_cursor)

    @pytest.mark.parametrize("name", HOSTILE_CURSORS)
    @pytest.mark.parametrize("order", ORDERS)
    async def test_list_refuses_what_is_no_cursor(self, order: str, name: str) -> None:
        """A text that is not a cursor of this list raises `InvalidArgument`.

        On failure: use `turnkeep.cursors.read_cursor`; a cursor comes from a web client and may hold anything.
        """
        await self.create()
        with pytest.raises(InvalidArgument):
            await self.listed_once(order, HOSTILE_CURSORS[name])

    @pytest.mark.parametrize("order", ORDERS)
    async def test_list_survives_forged_cursors(self, order: str) -> None:
        """A well-formed cursor with a wild position gives a page of this scope or `InvalidArgument`, nothing else.

        On failure: a driver error (overflow, encoding) leaves the adapter, or the cursor can widen what is seen.
        """
        key, _ = await self.create(key=self.new_key("ana"), user_id="ana")
        await self.create(key=self.new_key("bob"), user_id="bob")
        await self.lists_settle()
        for position in FORGED_POSITIONS:
            cursor = make_cursor(order, *position)
            try:
                page = await self.adapter.find_sessions(
                    SessionQuery(self.owned("ana"), 10, order=order, cursor=cursor)  # pyright: ignore[reportArgumentType] - a tuple of literals
                )
            except InvalidArgument:
                continue
            assert {head.session_id for head in page.items} <= {key.session_id}

    async def listed_once(self, order: str, cursor: str | None) -> None:
        """Asks for one page."""
        await self.adapter.find_sessions(SessionQuery(self.scope, 10, order=order, cursor=cursor))  # pyright: ignore[reportArgumentType] - parametrized

    async def _walk(self, order: str, changes: list[Any]) -> list[str]:
        """The ids of a walk with pages of two; one change happens after each page."""
        walked: list[str] = []
        cursor: str | None = None
        for _ in range(50):
            page = await self.adapter.find_sessions(SessionQuery(self.scope, 2, order=order, cursor=cursor))  # pyright: ignore[reportArgumentType] - a literal at each call
            walked += [head.session_id for head in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return walked
            await self.tick()
            if changes:
                await changes.pop(0)()
            await self.lists_settle()
        raise AssertionError("the walk did not end")
