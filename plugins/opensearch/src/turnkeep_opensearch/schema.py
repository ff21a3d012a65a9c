"""Whether a cluster's indices are ours, of which version, and how they become this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from turnkeep.errors import ForeignTable, SchemaMissing, SchemaOutdated, SchemaTooNew
from turnkeep_opensearch import scripts
from turnkeep_opensearch._errors import NAME, NO_INDEX, as_object
from turnkeep_opensearch.mappings import properties, words
from turnkeep_opensearch.names import KINDS, RECORD, Indices, concrete

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turnkeep.outbox.items import Document
    from turnkeep_opensearch.calls import Calls
    from turnkeep_opensearch.wording import Wording

DEFAULTS: Final = {"number_of_shards": 1, "translog.durability": "request"}
"""The settings of an index. Every acknowledged write is on the disk of each copy."""

REPLICAS: Final = {"auto_expand_replicas": "0-1"}
"""One replica as soon as there is a second node, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A step to the next version: fields that are added to the mappings, and filled. It can be repeated."""

    version: int
    name: str
    purpose: str
    properties: Mapping[str, Mapping[str, Any]]
    """By kind of index."""
    fill: Callable[[Calls, Indices], Awaitable[None]] | None = None
    """What writes the new fields into the documents there are."""


def migrations(wording: Wording) -> tuple[Migration, ...]:
    """The steps from nothing to the newest version."""

    async def fill_words(calls: Calls, indices: Indices) -> None:
        await wording.fill(calls, indices.messages)

    return (
        Migration(1, "0001_initial", "Makes the indices.", properties(wording.analyzer)),
        Migration(2, "0002_words", "Adds the words that searches look at.", words(wording.analyzer), fill_words),
    )


class Index(NamedTuple):
    """An index of ours, as the cluster has it."""

    version: int
    mapping: Document
    settings: Document


class Found(NamedTuple):
    """What there is of ours."""

    version: int
    """0 where there is nothing, or only what a migration that was cut off has made."""
    indices: dict[str, Index]
    """By kind, as far as they are there."""


class Schema:
    """The indices of these names.

    Args:
        indices: their names.
        where: what to call the cluster in messages.
        steps: from nothing to the newest version.
        settings: of the index, for those that are made.
        templates: whether to keep the form in index templates, too.
    """

    def __init__(
        self,
        indices: Indices,
        where: str,
        *,
        steps: tuple[Migration, ...],
        settings: Mapping[str, Any] | None = None,
        templates: bool = False,
    ) -> None:
        self._indices = indices
        self._where = where
        self._steps = steps
        given = dict(settings or {})
        replicas = {} if {"number_of_replicas", "auto_expand_replicas"} & given.keys() else REPLICAS
        self._settings = {**DEFAULTS, **replicas, **given}
        self._templates = templates

    async def find(self, calls: Calls) -> Found:
        """Our indices and their version: that of the record, which moves last, and of every index.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: one of our names is taken.
        """
        found = await self.find_indices(calls)
        if len(found) < len(KINDS):
            return Found(0, found)
        record = await calls.get(self._indices.sessions, RECORD) or {}
        return Found(min(record.get("version", 0), *(index.version for index in found.values())), found)

    async def find_indices(self, calls: Calls) -> dict[str, Index]:
        """By kind, as ``find`` says; of the cluster alone, so that the shards need not be in service."""
        return {kind: index for kind, name in self._indices if (index := await self._find(calls, kind, name))}

    async def _find(self, calls: Calls, kind: str, name: str) -> Index | None:
        answer = await calls.send(
            "GET", f"/{name}", params={"flat_settings": "true"}, ignore=(404,), expected=(NO_INDEX,)
        )
        if "error" in answer:
            return None
        ours = [index for index in answer.values() if name in index["aliases"]]
        is_one = len(answer) == len(ours) == 1
        mark = as_object(as_object(ours[0]["mappings"].get("_meta")).get("turnkeep")) if is_one else {}
        if mark.get("kind") != kind or type(mark.get("version")) is not int:
            raise ForeignTable(
                f"{self._where} has an index or alias {name!r} that turnkeep did not make; "
                "choose other names with indices=",
                adapter=NAME,
            )
        version: int = mark["version"]
        if version > len(self._steps):
            raise SchemaTooNew(
                f"{self._where} has indices of version {version}, this package knows {len(self._steps)}; "
                "upgrade it: pip install --upgrade turnkeep-opensearch",
                adapter=NAME,
            )
        if mark.get("beside") != self._beside(kind):
            raise ForeignTable(
                f"{self._where} has an index {name!r} of turnkeep beside {mark.get('beside')!r:.200}; "
                "were they made with other names? pass the same indices=",
                adapter=NAME,
            )
        return Index(version, ours[0]["mappings"], ours[0]["settings"])

    def require(self, version: int) -> None:
        """Refuses to work with indices of this version.

        Raises:
            SchemaMissing, SchemaOutdated: they are not of the newest one; the message names the command.
        """
        if version == 0:
            raise SchemaMissing(
                f"{self._where} has no indices of turnkeep; make them with: turnkeep migrate URL", adapter=NAME
            )
        if version < len(self._steps):
            raise SchemaOutdated(
                f"{self._where} has indices of version {version}, this package works with {len(self._steps)}; "
                "make a snapshot, then run: turnkeep migrate URL",
                adapter=NAME,
            )

    def lost(self, found: Found) -> dict[str, list[str]]:
        """By kind of index, the fields that are missing in its mapping, or are of another type."""
        lost: dict[str, list[str]] = {}
        for kind, index in found.indices.items():
            there: Document = index.mapping.get("properties", {})
            wanted = self._properties(kind, index.version)
            names = [name for name, field in wanted.items() if not _same(field, there.get(name))]
            if names:
                lost[kind] = names
        return lost

    async def migrate(self, calls: Calls, *, dry_run: bool = False) -> list[str]:
        """Brings the indices to the newest version and adds lost fields again; returns the steps taken.

        There is no lock to leave behind: every request can be repeated and sent by several at once, and the record
        moves last, once: nobody sees a version in between. Who moves it has taken the steps.
        """
        found = await self.find(calls)
        ahead = [f"{step.name}: {step.purpose}" for step in self._steps[found.version :]]
        if not ahead:
            lost = self.lost(found)
            for kind in lost if not dry_run else ():
                await self._put_mapping(calls, kind, len(self._steps))
            return [f"mapping of {kind}: Adds {', '.join(names)} again." for kind, names in lost.items()]
        if dry_run:
            return ahead
        newest = len(self._steps)
        for kind in KINDS:
            await self._bring(calls, kind, newest)
        for step in self._steps[found.version :]:
            if step.fill is not None:
                await step.fill(calls, self._indices)
        return ahead if await self._move_record(calls, newest) else []

    async def _bring(self, calls: Calls, kind: str, version: int) -> None:
        """Brings one index to a version, unless it is there."""
        name = self._name(kind)
        index = await self._find(calls, kind, name)
        if index is not None and index.version >= version:
            return
        if self._templates:
            await self._put_template(calls, kind, version)
        if index is not None:
            await self._put_mapping(calls, kind, version)
            return
        made = await calls.make_index(concrete(name), {**self._form(kind, version), "aliases": {name: {}}})
        if not made and await self._find(calls, kind, name) is None:
            raise ForeignTable(
                f"{self._where} has an index {concrete(name)!r} that is not behind the alias {name!r}; "
                "remove or rename it, or choose other names with indices=",
                adapter=NAME,
            )

    async def _move_record(self, calls: Calls, version: int) -> bool:
        """Whether it was this call that moved the record."""
        index = self._indices.sessions
        if await calls.create(index, RECORD, {"version": version, "after": None}):
            return True
        return (await calls.update(index, RECORD, scripts.MOVE_RECORD, {"version": version})).done

    async def _put_mapping(self, calls: Calls, kind: str, version: int) -> None:
        await calls.send("PUT", f"/{self._name(kind)}/_mapping", self._mapping(kind, version))

    async def _put_template(self, calls: Calls, kind: str, version: int) -> None:
        """Keeps the form for an index that is made anew, for example by a restore or a reindex."""
        name = self._name(kind)
        template = {"index_patterns": [f"{name}-*"], "template": self._form(kind, version), "version": version}
        await calls.send("PUT", f"/_index_template/{name}", template)

    def _form(self, kind: str, version: int) -> Document:
        return {"settings": {"index": self._settings}, "mappings": self._mapping(kind, version)}

    def _mapping(self, kind: str, version: int) -> Document:
        meta = {"turnkeep": {"version": version, "kind": kind, "beside": self._beside(kind)}}
        return {"dynamic": "false", "_meta": meta, "properties": self._properties(kind, version)}

    def _properties(self, kind: str, version: int) -> Document:
        return {name: field for step in self._steps[:version] for name, field in step.properties.get(kind, {}).items()}

    def _name(self, kind: str) -> str:
        return dict(self._indices)[kind]

    def _beside(self, kind: str) -> str:
        """The name of the other one."""
        return next(name for other, name in self._indices if other != kind)


def _same(wanted: Document, there: Document | None) -> bool:
    """Whether a field is there with its type, and is indexed if it is to be."""
    compared = ("type", "enabled", "index", "analyzer")
    defaults = {"type": "object", "enabled": True, "index": True, "analyzer": "standard"}
    return there is not None and all(
        wanted.get(name, defaults[name]) == there.get(name, defaults[name]) for name in compared
    )
