"""What an adapter does about a schema that is missing, older, newer or somebody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest

from turnkeep.contract import StorageAdapter
from turnkeep.errors import ForeignTable, SchemaError, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_testkit.suites.base import Suite, starts_closed
from turnkeep_testkit.together import Together

if TYPE_CHECKING:
    from turnkeep.contract import SessionKey, StoredSession


class SchemaSuite(Suite):
    """`open` makes what is missing and upgrades nothing; `migrate` upgrades; neither touches what is not ours.

    The author says how the states come about (``make_schema_older`` and its neighbours), while no adapter of the test
    is open; a state that cannot be made is skipped and shows in the report. A store without a schema sets
    ``no_schema``.
    """

    no_schema: ClassVar[str] = ""
    """Why there is no schema, where there is none: for example "keys need no declaration"."""

    async def make_schema_older(self) -> None:
        """Override it to leave the store, which holds a session, one version behind the code.

        Undo the last migration; or, where there is one version only, teach the code another migration for this test.
        """
        pytest.skip("override make_schema_older() to show what becomes of an older schema")

    async def make_schema_newer(self) -> None:
        """Override it to have the store, which holds a session, say that a version made it that is still to come."""
        pytest.skip("override make_schema_newer() to show what becomes of a newer schema")

    async def make_schema_foreign(self) -> None:
        """Override it to put something into the empty store, under a name the adapter uses, that it did not make."""
        pytest.skip("override make_schema_foreign() to show what becomes of somebody else's tables")

    async def fingerprint(self) -> object:
        """Override it to look behind the contract: a value that is equal as long as the raw store is the same.

        The catalogue and the rows, or the bytes of the files. Called while no adapter of the test is open. None: it is
        not looked at.
        """
        return None

    @starts_closed
    async def test_schema_missing_is_told(self) -> None:
        """`open(auto_create=False)` on an empty store: `SchemaMissing` that names the command, and nothing is made.

        On failure: the schema is made although it was told not to; or the message does not hold `turnkeep migrate`; or
        `check` finds nothing wrong. If the store has no schema, set `no_schema` to why.
        """
        if self.no_schema:
            await (await self.unopened()).open(auto_create=False)  # and if it has one after all, this raises
            pytest.skip(self.no_schema)
        adapter = await self._closed()
        before = await self.fingerprint()
        for _ in range(2):
            error = await self._open_without_making(adapter)
            assert error is not None, "open(auto_create=False) made a schema; or there is none: then set no_schema"
            assert "turnkeep migrate" in str(error)
            assert error.adapter == adapter.name
        await self._expect_report_of_trouble(adapter)
        assert await self.fingerprint() == before
        await adapter.open()
        self.adapter = adapter
        await self.create("one")

    @starts_closed
    async def test_schema_dry_run_changes_nothing(self) -> None:
        """`migrate(dry_run=True)` on an empty store says each step, as often as it is asked, and takes none.

        On failure: a dry run must read only; it may not even make the file, the schema or the version record.
        """
        adapter = await self._closed()
        before = await self.fingerprint()
        steps = await adapter.migrate(dry_run=True)
        assert steps, "there is nothing to migrate on an empty store: if it has no schema, set no_schema to why"
        assert all(isinstance(step, str) and step for step in steps)
        assert await adapter.migrate(dry_run=True) == steps
        assert await self.fingerprint() == before
        with pytest.raises(SchemaMissing):
            await adapter.open(auto_create=False)

    @starts_closed
    async def test_schema_migrate_twice_does_nothing(self) -> None:
        """`migrate` takes the steps that its dry run told; the second time there are none, by any adapter.

        On failure: a step is not recorded in the transaction that takes it.
        """
        adapter = await self._closed()
        steps = await adapter.migrate(dry_run=True)
        assert await adapter.migrate() == steps
        before = await self.fingerprint()
        for again in (adapter, await self.unopened()):
            assert await again.migrate(dry_run=True) == []
            assert await again.migrate() == []
        assert await self.fingerprint() == before
        await adapter.open(auto_create=False)
        self.adapter = adapter
        await self.create("one")

    @starts_closed
    async def test_schema_migrate_makes_what_open_makes(self) -> None:
        """`open` on an empty store leaves nothing for `migrate` to do, and nothing for `check` to complain about.

        On failure: the schema is written down twice, and the two differ.
        """
        adapter = await self._closed()
        await adapter.open()
        assert await adapter.migrate(dry_run=True) == []
        report = await adapter.check()
        assert report.ok, str(report)

    @pytest.mark.parametrize("attempt", range(3))
    @starts_closed
    async def test_schema_two_migrate_at_once(self, attempt: int) -> None:
        """Of several that migrate an empty store at once each step is taken by one; all end well.

        On failure: two starters race; take a lock before the version is read, and read it again behind the lock. What
        makes a thing only where there is none (`CREATE`, `mkdir`, `open("x")`) has to tell who made it.
        """
        threads = Together(4)
        asyncio.get_running_loop().set_default_executor(threads)
        adapter = await self._closed()
        steps = await adapter.migrate(dry_run=True)
        others = [await self.unopened() for _ in range(3)]
        with threads.in_step():
            taken = await asyncio.gather(adapter.migrate(), *(other.migrate() for other in others))
        assert sorted(step for some in taken for step in some) == sorted(steps)
        await adapter.open(auto_create=False)
        self.adapter = adapter
        await self.create("one")

    async def test_schema_older_is_explained(self) -> None:
        """`open` on an older schema: `SchemaOutdated` that names the command, whatever `auto_create`; nothing changed.

        On failure: `open` upgrades by itself, behind the backs of other processes that still run the older version; or
        the message does not hold `turnkeep migrate`.
        """
        await self._session()
        await self.make_schema_older()
        before = await self.fingerprint()
        adapter = await self.unopened()
        for auto_create in (True, False):
            with pytest.raises(SchemaOutdated, match="turnkeep migrate"):
                await adapter.open(auto_create=auto_create)
        await self._expect_report_of_trouble(adapter)
        assert await adapter.migrate(dry_run=True)
        assert await self.fingerprint() == before

    async def test_schema_older_is_migrated_and_keeps_the_data(self) -> None:
        """`migrate` of an older schema takes the steps its dry run told, once; every session is as it was.

        On failure: a migration loses or rewrites rows; or its record and its work are two transactions.
        """
        key, stored = await self._session()
        await self.make_schema_older()
        adapter, other = await self.unopened(), await self.unopened()
        steps = await adapter.migrate(dry_run=True)
        assert steps
        taken = await asyncio.gather(adapter.migrate(), other.migrate())
        assert sorted(step for some in taken for step in some) == sorted(steps)
        assert await adapter.migrate() == []
        await adapter.open(auto_create=False)
        self.adapter = adapter
        assert await self.load(key) == stored
        await self.append(key, "after")
        assert (await adapter.check()).ok

    async def test_schema_newer_is_left_alone(self) -> None:
        """A newer schema: `open` and `migrate` raise `SchemaTooNew` that says to upgrade; not one byte is changed.

        On failure: compare the version in the store with the newest this code knows before anything is written. The
        message has to say "upgrade".
        """
        await self._session()
        await self.make_schema_newer()
        await self._expect_left_alone(SchemaTooNew, "upgrade")

    @starts_closed
    async def test_schema_foreign_is_left_alone(self) -> None:
        """Something of ours by name and not by make: `open` and `migrate` raise `ForeignTable`; nothing is changed.

        On failure: what is there is taken for ours by its name. Ours is what our version record says.
        """
        await self._closed()
        await self.make_schema_foreign()
        await self._expect_left_alone(ForeignTable, "")

    async def _closed(self) -> StorageAdapter:
        """An adapter that is not open, over the store as it is."""
        if self.no_schema:
            pytest.skip(self.no_schema)
        made = self.make()
        if not isinstance(made, StorageAdapter):
            pytest.skip("make_adapter gives adapters that are open: no other state of the schema can be looked at")
        self._stack.push_async_callback(made.aclose)
        return made

    async def _session(self) -> tuple[SessionKey, StoredSession]:
        """A session that every state of the schema has to keep; no adapter is open any more."""
        await self._closed()
        key, _ = await self.create("one", "two", data='{"a":1}', user_id="ana")
        stored = await self.load(key)
        await self.adapter.aclose()
        return key, stored

    async def _open_without_making(self, adapter: StorageAdapter) -> SchemaMissing | None:
        try:
            await adapter.open(auto_create=False)
        except SchemaMissing as error:
            return error
        return None

    async def _expect_left_alone(self, error: type[SchemaError], fix: str) -> None:
        before = await self.fingerprint()
        adapter = await self.unopened()
        for _ in range(2):
            for call in (adapter.open, adapter.migrate, lambda: adapter.migrate(dry_run=True)):
                with pytest.raises(error) as caught:
                    await call()
                assert fix in str(caught.value).lower()
                assert caught.value.adapter == adapter.name
                assert not caught.value.retryable
        await self._expect_report_of_trouble(adapter)
        assert await self.fingerprint() == before

    async def _expect_report_of_trouble(self, adapter: StorageAdapter) -> None:
        report = await adapter.check()
        assert not report.ok, f"check() finds nothing wrong:\n{report}"
