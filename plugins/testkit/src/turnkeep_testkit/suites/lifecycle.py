"""Opening, closing, checking, migrating."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnkeep.contract import (
    CONTRACT_VERSION,
    Expect,
    HealthReport,
    LoadQuery,
    MessageQuery,
    SearchQuery,
    SessionQuery,
    StatsQuery,
)
from turnkeep.errors import ConfigurationError, NotSupported, SchemaMissing
from turnkeep.words import Terms
from turnkeep_testkit.making import new_commit
from turnkeep_testkit.suites.base import Suite, starts_closed, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class LifecycleSuite(Suite):
    """Open and close as often as you like; check and migrate need neither."""

    async def test_open_twice(self) -> None:
        """A second `open` changes nothing.

        On failure: a second pool, thread or connection replaces the first, which then leaks.
        """
        key, _ = await self.create("one")
        await self.adapter.open()
        await self.adapter.open(auto_create=False)
        assert texts((await self.load(key)).messages) == ["one"]
        await self.append(key, "two")

    async def test_open_many_at_once(self) -> None:
        """Tasks that open the same adapter at once all succeed.

        On failure: opening is not guarded by a lock, and a schema is made twice.
        """
        adapter = await self.unopened()
        await asyncio.gather(*(adapter.open() for _ in range(5)))
        key = self.new_key()
        await adapter.commit(new_commit(key, "one"))
        assert await adapter.load(key, LoadQuery()) is not None

    @starts_closed
    async def test_open_by_many_adapters_at_once(self) -> None:
        """Adapters that start at the same time over an empty store all succeed.

        On failure: two starters race for the schema; make it under a lock, or with IF NOT EXISTS.
        """
        self.adapter = await self.unopened()
        others = [await self.unopened() for _ in range(3)]
        await asyncio.gather(self.adapter.open(), *(other.open() for other in others))
        key, _ = await self.create("one")
        for other in others:
            assert texts((await self.load(key, adapter=other)).messages) == ["one"]

    @starts_closed
    async def test_open_without_creating(self) -> None:
        """`auto_create=False` on an empty store: `SchemaMissing`, or a store that needs no schema.

        On failure: the schema is made although it was told not to.
        """
        self.adapter = await self.unopened()
        for _ in range(2):
            try:
                await self.adapter.open(auto_create=False)
            except SchemaMissing:
                continue
            assert await self.adapter.migrate(dry_run=True) == []
            return
        await self.adapter.open()
        await self.create("one")

    async def test_close_twice(self) -> None:
        """A second `aclose`, and one of an adapter that was never opened, do nothing.

        On failure: what was closed must be forgotten.
        """
        await self.create("one")
        await self.adapter.aclose()
        await self.adapter.aclose()
        await (await self.unopened()).aclose()

    async def test_reopen(self) -> None:
        """After `aclose` the adapter can be opened again and finds what was stored.

        On failure: a closed pool or thread is kept.
        """
        key, _ = await self.create("one")
        for number in range(3):
            await self.adapter.aclose()
            await self.adapter.open()
            await self.append(key, str(number))
        assert texts((await self.load(key)).messages) == ["one", "0", "1", "2"]

    @starts_closed
    async def test_a_call_before_open_or_after_close_is_told(self) -> None:
        """A call of an adapter that is not open raises `ConfigurationError`; or works, where there is nothing to open.

        On failure: a client is used that is not there (`None` has no attribute …); ask for it in one place, which
        raises `ConfigurationError`.
        """
        self.adapter = await self.another()
        key, _ = await self.create("one")
        adapter = await self.unopened()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: adapter.load(key, LoadQuery()),
            lambda: adapter.read_messages(key, MessageQuery(10)),
            lambda: adapter.find_sessions(SessionQuery(self.scope, 10)),
            lambda: adapter.stats(StatsQuery(self.scope)),
            lambda: adapter.search_messages(SearchQuery(self.scope, Terms.parse("one"), 10)),
            lambda: adapter.commit(new_commit(key, "two", expect=Expect.ANY)),
            lambda: adapter.sweep(10),
            lambda: adapter.delete(self.new_key()),
            lambda: adapter.delete_owner(self.owned("nobody")),
        ]
        for _ in range(2):
            for call in calls:
                try:
                    await call()
                except (ConfigurationError, NotSupported):
                    continue
                except Exception as error:
                    raise AssertionError(f"what it raises is ConfigurationError, not {error!r}") from error
            await adapter.open()
            await adapter.aclose()

    async def test_close_lets_pending_work_end(self) -> None:
        """Commits that were begun before `aclose` either end well or fail; none hangs, none is half done.

        On failure: work that waits in a queue is forgotten when the queue is closed.
        """
        key, _ = await self.create()
        commits = [new_commit(self.new_key(), "one", "two") for _ in range(8)]
        tasks = [asyncio.create_task(self.adapter.commit(commit)) for commit in commits]
        await asyncio.sleep(0)
        await self.adapter.aclose()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await self.adapter.open()
        for commit, outcome in zip(commits, outcomes, strict=True):
            stored = await self.adapter.load(commit.key, LoadQuery())
            if isinstance(outcome, BaseException):
                assert stored is None or len(stored.messages) == 2
            else:
                assert stored is not None
                assert len(stored.messages) == 2
        assert await self.is_there(key)

    @starts_closed
    async def test_check_needs_no_open(self) -> None:
        """`check` of an adapter that is not open gives a report with at least one line, and changes nothing.

        On failure: `check` must connect for itself, and close what it opened.
        """
        adapter = await self.unopened()
        for _ in range(2):
            report = await adapter.check()
            assert isinstance(report, HealthReport)
            assert report.adapter == adapter.name
            assert report.checks
            assert str(report)

    async def test_check_of_a_healthy_store_is_ok(self) -> None:
        """The report of a store that works is ok, open or not; each line says what was looked at.

        On failure: read the line that is marked WRONG. Settings that cannot be had in a test should be warnings.
        """
        report = await self.adapter.check()
        assert report.ok, str(report)
        for check in report.checks:
            assert check.name
            assert check.detail
            assert check.ok or check.fix, f"{check.name} does not say what to do"
        other = await self.unopened()
        assert (await other.check()).ok

    async def test_migrate_of_a_current_store_does_nothing(self) -> None:
        """`migrate` where the schema is current: no steps, nothing changed, as often as it is called.

        On failure: a step is not recognised as done.
        """
        key, _ = await self.create("one")
        before = await self.load(key)
        for dry_run in (True, False, False):
            assert await self.adapter.migrate(dry_run=dry_run) == []
        assert await self.load(key) == before

    @starts_closed
    async def test_migrate_needs_no_open(self) -> None:
        """`migrate` makes the schema of an empty store; before it, a dry run says the steps and takes none.

        On failure: `migrate` must connect for itself, and close what it opened.
        """
        adapter = await self.unopened()
        steps = await adapter.migrate(dry_run=True)
        assert await adapter.migrate(dry_run=True) == steps
        assert await adapter.migrate() == steps
        assert await adapter.migrate() == []
        self.adapter = adapter
        await adapter.open(auto_create=False)
        await self.create("one")

    async def test_what_was_committed_is_there_after_reopening(self) -> None:
        """A new adapter over the same store shows the same sessions, messages and lists.

        On failure: something is kept in the process only.
        """
        key, _ = await self.create("one", "two", data='{"a":1}', user_id="ana")
        before = await self.load(key)
        heads = await self.heads()
        await self.adapter.aclose()
        self.adapter = await self.another()
        assert await self.load(key) == before
        assert await self.heads() == heads

    async def test_the_contract_version(self) -> None:
        """The adapter was made for this version of the contract and has a short name.

        On failure: the adapter and Turnkeep are of different generations; install matching versions.
        """
        assert self.adapter.contract_version == CONTRACT_VERSION
        assert self.adapter.name
        assert self.adapter.name == self.adapter.name.lower()
        assert " " not in self.adapter.name

    async def test_an_unknown_id_is_no_error_on_an_empty_store(self) -> None:
        """On an empty store a load gives None and a list is empty.

        On failure: tables are made with the first commit only.
        """
        assert await self.adapter.load(self.new_key(), LoadQuery()) is None
        assert (await self.adapter.find_sessions(SessionQuery(self.scope, 10))).items == ()

    @starts_closed
    async def test_repr_shows_no_secret(self) -> None:
        """`repr` and `str` of the adapter exist and are short.

        On failure: a repr with a URL or a DSN in it ends in logs; leave them out.
        """
        adapter = await self.unopened()
        for text in (repr(adapter), str(adapter)):
            assert "password" not in text.lower()
            assert len(text) < 500
