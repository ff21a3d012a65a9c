"""The schema suite fails adapters that are careless with a schema; memory has none, so a small one is made here."""

from __future__ import annotations

import asyncio

import pytest

from turnkeep.contract import Check, HealthReport
from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import SchemaSuite

NEWEST = 2


class Catalogue:
    """The schema of a store, beside the store."""

    def __init__(self):
        self.version = 0
        self.foreign = False
        self.newest = NEWEST
        self.lock = asyncio.Lock()


class Careful(MemoryAdapter):
    """A memory adapter with a schema of numbered steps."""

    catalogue: Catalogue

    def trouble(self):
        at = self.catalogue
        if at.foreign:
            return ForeignTable("somebody else's", adapter=self.name)
        if at.version > at.newest:
            return SchemaTooNew("upgrade the package", adapter=self.name)
        if at.version == 0:
            return SchemaMissing("run: turnkeep migrate", adapter=self.name)
        if at.version < at.newest:
            return SchemaOutdated("run: turnkeep migrate", adapter=self.name)
        return None

    async def open(self, *, auto_create=True):
        trouble = self.trouble()
        if isinstance(trouble, SchemaMissing) and auto_create:
            await self.migrate()
        elif trouble:
            raise trouble

    async def check(self):
        trouble = self.trouble()
        return HealthReport(self.name, (Check("schema", ok=trouble is None, detail="looked at", fix="see open()"),))

    async def migrate(self, *, dry_run=False):
        async with self.catalogue.lock:
            return await self.steps(dry_run)

    async def steps(self, dry_run):
        trouble = self.trouble()
        if isinstance(trouble, (ForeignTable, SchemaTooNew)):
            raise trouble
        steps = [f"step {number}" for number in range(self.catalogue.version + 1, self.catalogue.newest + 1)]
        await asyncio.sleep(0)
        if not dry_run:
            self.catalogue.version = self.catalogue.newest
        return steps


class UpgradesWhenOpened(Careful):
    async def open(self, *, auto_create=True):
        if isinstance(self.trouble(), SchemaOutdated):
            await self.migrate()
        await super().open(auto_create=auto_create)


class MakesWhatItWasToldNotTo(Careful):
    async def open(self, *, auto_create=True):
        await super().open()


class DryRunsForReal(Careful):
    async def migrate(self, *, dry_run=False):
        return await super().migrate()


class MigratesWithoutALock(Careful):
    async def migrate(self, *, dry_run=False):
        return await self.steps(dry_run)


class ForgetsItsSteps(Careful):
    async def migrate(self, *, dry_run=False):
        return await super().migrate(dry_run=dry_run) or ["make everything new"]


class MigrationLosesRows(Careful):
    async def steps(self, dry_run):
        if self.catalogue.version and not dry_run:
            self.clear()
        return await super().steps(dry_run)


class TakesNewerForItsOwn(Careful):
    def trouble(self):
        return None if self.catalogue.version > self.catalogue.newest else super().trouble()


class DowngradesTheNewer(Careful):
    async def migrate(self, *, dry_run=False):
        if self.catalogue.version > self.catalogue.newest:
            self.catalogue.version = self.catalogue.newest
        return await super().migrate(dry_run=dry_run)


class TakesForeignForItsOwn(Careful):
    def trouble(self):
        return None if self.catalogue.foreign else super().trouble()


class FindsNothingWrong(Careful):
    async def check(self):
        return await MemoryAdapter.check(self)


class OpensWithAnotherSchema(Careful):
    async def open(self, *, auto_create=True):
        if auto_create and self.catalogue.version == 0:
            self.catalogue.version = 1
        else:
            await super().open(auto_create=auto_create)


CAUGHT_BY = {
    UpgradesWhenOpened: "test_schema_older_is_explained",
    MakesWhatItWasToldNotTo: "test_schema_missing_is_told",
    DryRunsForReal: "test_schema_dry_run_changes_nothing",
    MigratesWithoutALock: "test_schema_two_migrate_at_once",
    ForgetsItsSteps: "test_schema_migrate_twice_does_nothing",
    MigrationLosesRows: "test_schema_older_is_migrated_and_keeps_the_data",
    TakesNewerForItsOwn: "test_schema_newer_is_left_alone",
    DowngradesTheNewer: "test_schema_newer_is_left_alone",
    TakesForeignForItsOwn: "test_schema_foreign_is_left_alone",
    FindsNothingWrong: "test_schema_missing_is_told",
    OpensWithAnotherSchema: "test_schema_migrate_makes_what_open_makes",
}


def suite_of(kind):
    class Suite(SchemaSuite):
        deadline = 5.0

        async def fingerprint(self):
            return catalogue.version, catalogue.foreign, store.snapshot()

        async def make_schema_older(self):
            catalogue.newest = NEWEST + 1

        async def make_schema_newer(self):
            catalogue.version = NEWEST + 5

        async def make_schema_foreign(self):
            catalogue.foreign = True

    store, catalogue = kind(), Catalogue()
    store.catalogue = catalogue
    suite = Suite()
    suite.prepare(lambda: store)
    return suite


TESTS = sorted(name for name in vars(SchemaSuite) if name.startswith("test_"))


@pytest.mark.parametrize("test", TESTS)
def test_a_careful_adapter_passes(test):
    getattr(suite_of(Careful), test)()


@pytest.mark.parametrize("kind", CAUGHT_BY, ids=lambda kind: kind.__name__)
def test_a_careless_adapter_is_caught(kind):
    with pytest.raises((AssertionError, pytest.fail.Exception, SchemaMissing, SchemaOutdated)):
        getattr(suite_of(kind), CAUGHT_BY[kind])()


def test_every_test_catches_something():
    assert sorted(set(CAUGHT_BY.values())) == TESTS


@pytest.mark.parametrize("test", TESTS)
def test_a_store_without_a_schema_says_so_with_a_reason(test):
    class Suite(SchemaSuite):
        no_schema = "a process has no schema"

    store = MemoryAdapter()
    suite = Suite()
    suite.prepare(lambda: store)
    with pytest.raises(pytest.skip.Exception, match="a process has no schema"):
        getattr(suite, test)()


def test_who_has_no_schema_and_does_not_say_so_is_told():
    class Suite(SchemaSuite):
        pass

    store = MemoryAdapter()
    suite = Suite()
    suite.prepare(lambda: store)
    with pytest.raises(AssertionError, match="then set no_schema"):
        suite.test_schema_missing_is_told()
