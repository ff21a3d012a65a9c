"""Whether a database's collections are ours, of which version, and how they become this one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure

from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_mongodb._errors import NAME

if TYPE_CHECKING:
    from turnkeep_mongodb.names import Collections, Document, Names

GRACE: Final = timedelta(days=7)
"""How long after its expiry the TTL index removes a head that no sweep has removed."""

_RECORD: Final = "turnkeep"
"""The ``_id`` of the version record, which is what makes the collections ours."""

_NAMESPACE_EXISTS: Final = 48


@dataclass(frozen=True, slots=True)
class Index:
    """An index: of which of our collections, its name, its keys, its options."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    seconds: int | None = None
    """For a TTL index: how long after the date the document is removed."""

    @property
    def options(self) -> dict[str, Any]:
        """As the driver takes them."""
        return {"name": self.name} | ({} if self.seconds is None else {"expireAfterSeconds": self.seconds})


INDEXES: Final = (
    # Two move with every commit, the two of creation never.
    Index(
        "sessions",
        "turnkeep_activity",
        (("namespace", ASCENDING), ("status", ASCENDING), ("updated_us", DESCENDING), ("session_id", ASCENDING)),
    ),
    Index(
        "sessions",
        "turnkeep_owner_activity",
        (
            ("namespace", ASCENDING),
            ("user_id", ASCENDING),
            ("status", ASCENDING),
            ("updated_us", DESCENDING),
            ("session_id", ASCENDING),
        ),
    ),
    Index(
        "sessions",
        "turnkeep_created",
        (("namespace", ASCENDING), ("created_us", ASCENDING), ("session_id", ASCENDING)),
    ),
    Index(
        "sessions",
        "turnkeep_owner_created",
        (("namespace", ASCENDING), ("user_id", ASCENDING), ("created_us", ASCENDING), ("session_id", ASCENDING)),
    ),
    Index("sessions", "turnkeep_expiry", (("expires_at", ASCENDING),), int(GRACE.total_seconds())),
    Index("sessions", "turnkeep_sweep", (("sweep_at", ASCENDING),)),
    Index(
        "messages",
        "turnkeep_history",
        (("session", ASCENDING), ("incarnation", ASCENDING), ("seq", ASCENDING)),
    ),
)
"""Every index beside those of ``_id``."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A step to the next version. Each part of it can be repeated: a step that was cut off is taken again."""

    version: int
    name: str
    purpose: str
    indexes: tuple[Index, ...]


MIGRATIONS: Final = (Migration(1, "0001_initial", "Makes the collections and their indexes.", INDEXES),)


class Schema:
    """The collections of these names in one database.

    Args:
        names: their names.
        where: what to call the database in messages.
        migrations: the steps from nothing to the newest version; those of this package unless given.
    """

    def __init__(self, names: Names, where: str, *, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        self._names = names
        self._where = where
        self._migrations = migrations

    async def find_version(self, collections: Collections) -> int:
        """The version of our collections, 0 where there are none, or only what a migration that was cut off has made.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: one of our names is taken.
        """
        there = {
            found["name"]: found.get("type", "collection")
            async for found in await collections.database.list_collections()
        }
        # The record is read after the names: whoever makes the collections makes it first.
        version = await self._read_version(collections, there)
        ours = (self._names.sessions, self._names.messages)
        if version is None:
            for name in (*ours, self._names.schema):
                if name in there:
                    raise ForeignTable(
                        f"{self._where} has a collection {name!r} that turnkeep did not make; "
                        "choose other names with collections=, or another database",
                        adapter=NAME,
                    )
            return 0
        missing = [name for name in ours if there.get(name) != "collection"]
        if version and missing:
            raise ForeignTable(
                f"{self._where} has collections of turnkeep, but none named {missing[0]!r}; "
                "were they made with other names? pass the same collections=",
                adapter=NAME,
            )
        return version

    def require(self, version: int) -> None:
        """Refuses to work with collections of this version.

        Raises:
            SchemaMissing, SchemaOutdated: they are not of the newest one; the message names the command.
        """
        if version == 0:
            raise SchemaMissing(
                f"{self._where} has no collections of turnkeep; make them with: turnkeep migrate URL", adapter=NAME
            )
        if version < len(self._migrations):
            raise SchemaOutdated(
                f"{self._where} has collections of version {version}, this package works with "
                f"{len(self._migrations)}; make a backup, then run: turnkeep migrate URL",
                adapter=NAME,
            )

    def steps(self, version: int) -> list[str]:
        """What ``migrate`` does to collections of this version."""
        return [f"{step.name}: {step.purpose}" for step in self._migrations[version:]]

    async def missing_indexes(self, collections: Collections) -> list[Index]:
        """Indexes that a migration has made and somebody dropped, or changed."""
        missing: list[Index] = []
        for name in ("sessions", "messages"):
            found = await getattr(collections, name).index_information()
            for index in (index for step in self._migrations for index in step.indexes if index.collection == name):
                is_there = found.get(index.name, {})
                as_made = ([tuple(key) for key in is_there.get("key", ())], is_there.get("expireAfterSeconds"))
                if as_made != (list(index.keys), index.seconds):
                    missing.append(index)
        return missing

    async def migrate(self, collections: Collections, *, dry_run: bool = False) -> list[str]:
        """Brings the collections to the newest version and makes lost indexes again; returns the steps taken.

        There is no lock to leave behind: every part of a step can be repeated and done by several at once, and the
        record moves last, from exactly the version before. Who moves it has taken the step.
        """
        version = await self.find_version(collections)
        ahead = self.steps(version)
        if not ahead:
            lost = await self.missing_indexes(collections)
            for index in lost if not dry_run else ():
                await _make(collections, index)
            return [f"index {index.name}: Makes it again." for index in lost]
        if dry_run:
            return ahead
        taken: list[str] = []
        await self._make_record(collections)
        for step, said in zip(self._migrations[version:], ahead, strict=True):
            for name in (self._names.sessions, self._names.messages):
                await _make_collection(collections, name)
            for index in step.indexes:
                await _make(collections, index)
            moved = await collections.schema.update_one(
                {"_id": _RECORD, "version": step.version - 1},
                {"$set": {"version": step.version, "name": step.name, "applied_at": datetime.now(UTC)}},
            )
            if moved.modified_count:
                taken.append(said)
        return taken

    async def _read_version(self, collections: Collections, there: dict[str, str]) -> int | None:
        """What our record says; None if there is no such record."""
        if there.get(self._names.schema) != "collection":
            return None
        record = await collections.schema.find_one({"_id": _RECORD})
        version = None if record is None else record.get("version")
        if type(version) is not int:
            return None
        if version > len(self._migrations):
            raise SchemaTooNew(
                f"{self._where} has collections of version {version}, this package knows {len(self._migrations)}; "
                "upgrade it: pip install --upgrade turnkeep-mongodb",
                adapter=NAME,
            )
        return version

    async def _make_record(self, collections: Collections) -> None:
        record: Document = {"_id": _RECORD, "version": 0, "name": "", "applied_at": datetime.now(UTC)}
        with suppress(DuplicateKeyError):  # somebody else is at it, or was
            await collections.schema.insert_one(record)


async def _make_collection(collections: Collections, name: str) -> None:
    try:
        await collections.database.create_collection(name)
    except CollectionInvalid:
        pass  # the driver looked first
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise


async def _make(collections: Collections, index: Index) -> None:
    await getattr(collections, index.collection).create_index(list(index.keys), **index.options)
