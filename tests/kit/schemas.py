"""Memory has no schema: an adapter with a small one, and adapters that are careless with it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from pathlib import Path

from turnkeep.contract import Check, HealthReport
from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep.memory import MemoryAdapter

from .mutants import Mutant, caught_by

NEWEST = 2


class Catalogue:
    """The schema of a store, beside the store."""

    def __init__(self):
        self.version = 0
        self.foreign = False
        self.newest = NEWEST
        self.lock = asyncio.Lock()


class Careful(Mutant):
    """A memory adapter with a schema of numbered steps."""

    def __init__(self, **options):
        super().__init__(**options)
        self.catalogue = Catalogue()

    def fingerprint(self):
        return self.catalogue.version, self.catalogue.foreign, self.snapshot()

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


Careful.correct = Careful


@caught_by("test_schema_older_is_explained")
class UpgradesWhenOpened(Careful):
    async def open(self, *, auto_create=True):
        if isinstance(self.trouble(), SchemaOutdated):
            await self.migrate()
        await super().open(auto_create=auto_create)


@caught_by("test_schema_missing_is_told")
class MakesWhatItWasToldNotTo(Careful):
    async def open(self, *, auto_create=True):
        await super().open()


@caught_by("test_schema_dry_run_changes_nothing")
class DryRunsForReal(Careful):
    async def migrate(self, *, dry_run=False):
        return await super().migrate()


@caught_by("test_schema_two_migrate_at_once")
class MigratesWithoutALock(Careful):
    async def migrate(self, *, dry_run=False):
        return await self.steps(dry_run)


class InADirectory(Careful):
    """Its schema is a directory, made in a thread."""

    def __init__(self, **options):
        super().__init__(**options)
        home = Path(tempfile.mkdtemp())
        self.root = home / "store"
        weakref.finalize(self, shutil.rmtree, home)

    async def migrate(self, *, dry_run=False):
        return await asyncio.to_thread(self.make, dry_run)

    def make(self, dry_run):
        if self.root.exists():
            return []
        if not dry_run:
            try:
                self.root.mkdir()
            except FileExistsError:
                return []
            self.catalogue.version = self.catalogue.newest
        return ["make the directory"]


InADirectory.correct = InADirectory


@caught_by("test_schema_two_migrate_at_once")
class LooksBeforeItMakes(InADirectory):
    def make(self, dry_run):
        if self.root.exists():
            return []
        if not dry_run:
            self.root.mkdir(exist_ok=True)
            self.catalogue.version = self.catalogue.newest
        return ["make the directory"]


@caught_by("test_schema_migrate_twice_does_nothing")
class ForgetsItsSteps(Careful):
    async def migrate(self, *, dry_run=False):
        return await super().migrate(dry_run=dry_run) or ["make everything new"]


@caught_by("test_schema_older_is_migrated_and_keeps_the_data")
class MigrationLosesRows(Careful):
    async def steps(self, dry_run):
        if self.catalogue.version and not dry_run:
            self.clear()
        return await super().steps(dry_run)


@caught_by("test_schema_newer_is_left_alone")
class TakesNewerForItsOwn(Careful):
    def trouble(self):
        return None if self.catalogue.version > self.catalogue.newest else super().trouble()


@caught_by("test_schema_newer_is_left_alone")
class DowngradesTheNewer(Careful):
    async def migrate(self, *, dry_run=False):
        if self.catalogue.version > self.catalogue.newest:
            self.catalogue.version = self.catalogue.newest
        return await super().migrate(dry_run=dry_run)


@caught_by("test_schema_foreign_is_left_alone")
class TakesForeignForItsOwn(Careful):
    def trouble(self):
        return None if self.catalogue.foreign else super().trouble()


@caught_by("test_schema_missing_is_told")
class FindsNothingWrong(Careful):
    async def check(self):
        return await MemoryAdapter.check(self)


@caught_by("test_schema_migrate_makes_what_open_makes")
class OpensWithAnotherSchema(Careful):
    async def open(self, *, auto_create=True):
        if auto_create and self.catalogue.version == 0:
            self.catalogue.version = 1
        else:
            await super().open(auto_create=auto_create)
