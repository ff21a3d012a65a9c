"""What ``check`` looks at: the cluster, how it keeps what it acknowledges, the indices, how far searches lag."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from turnkeep.contract import Check
from turnkeep.errors import StorageRefused, TurnkeepError
from turnkeep.outbox.tail import Bounds
from turnkeep_opensearch._errors import FAILURES, NAME, as_object, translate
from turnkeep_opensearch.names import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from turnkeep.outbox.items import Document
    from turnkeep_opensearch.calls import Calls
    from turnkeep_opensearch.names import Indices
    from turnkeep_opensearch.schema import Index, Schema
    from turnkeep_opensearch.sessions import Sessions

OLDEST: Final = (2, 8)
"""The first version that can be asked to search the primary."""

BOUNDS: Final = Bounds(kept_bytes=48 * 1024, outbox_bytes=32 * 1024, overhead=300)
"""A commit writes the head anew on the server: up to 64 KB, unless single messages are larger."""

_FAR_OFF: Final = timedelta(seconds=5)
_READ_ONLY: Final = ("read_only", "read_only_allow_delete", "write", "metadata")


async def require_server(calls: Calls, where: str) -> str:
    """The version of the server.

    Raises:
        StorageRefused: it is another server, or too old.
    """
    told = as_object(as_object(await calls.send("GET", "/")).get("version"))
    if told.get("distribution") != "opensearch":
        raise StorageRefused(f"{where} is no OpenSearch server; look at the address", adapter=NAME, operation="open")
    number = str(told.get("number"))
    parts = number.split(".")
    if not all(part.isdigit() for part in parts[:2]) or tuple(map(int, parts[:2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise StorageRefused(
            f"{where} is OpenSearch {number:.40}; turnkeep needs {oldest} or newer", adapter=NAME, operation="open"
        )
    return number


async def examine(
    calls: Calls, indices: Indices, schema: Schema, sessions: Sessions, where: str
) -> AsyncIterator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    try:
        began = time.monotonic()
        number = await require_server(calls, where)
        delay = time.monotonic() - began
    except (*FAILURES, TurnkeepError) as error:
        yield _failed("server", error)
        return
    yield Check("server", ok=True, detail=f"{where} answers in {delay * 1000:.1f} ms, OpenSearch {number}")
    try:
        if len(await schema.find_indices(calls)) == len(KINDS):
            yield await _health(calls, indices)  # of indices that are not there it would be waited for
        found = await schema.find(calls)
        schema.require(found.version)
        yield Check("schema", ok=True, detail=f"version {found.version}")
        yield _mapping(schema.lost(found))
        yield _durability(found.indices)
        yield _blocks(found.indices)
        yield _copies(found.indices)
        yield await _clock(sessions)
        yield await _lag(calls, indices.sessions)
    except (*FAILURES, TurnkeepError) as error:
        yield _failed("indices", error)


def _mapping(lost: Mapping[str, list[str]]) -> Check:
    said = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in lost.items())
    return Check(
        "mapping",
        ok=not lost,
        detail=f"missing or changed: {said}" if lost else "all there",
        fix="run turnkeep migrate URL; a field of another type needs a new index and a reindex" if lost else "",
    )


async def _health(calls: Calls, indices: Indices) -> Check:
    found: Document = await calls.send("GET", f"/_cluster/health/{indices.sessions},{indices.messages}")
    status = str(found["status"])
    fixes = {
        "yellow": "a replica has no place: add a node, or set index.number_of_replicas to what there are nodes for",
        "red": "a primary is missing: see _cluster/allocation/explain",
    }
    detail = (
        f"{status}, {found['number_of_data_nodes']} data nodes, {found['unassigned_shards']} shards without a place"
    )
    return Check("cluster", ok=status == "green", warning=status == "yellow", detail=detail, fix=fixes.get(status, ""))


def _durability(indices: Mapping[str, Index]) -> Check:
    lax = [kind for kind, index in indices.items() if index.settings.get("index.translog.durability") == "async"]
    return Check(
        "durability",
        ok=not lax,
        warning=True,
        detail=f"async: {', '.join(lax)} may lose the last seconds" if lax else "each write is on disk (request)",
        fix="set index.translog.durability to request" if lax else "",
    )


def _blocks(indices: Mapping[str, Index]) -> Check:
    blocked = [
        f"{kind}: {name}"
        for kind, index in indices.items()
        for name in _READ_ONLY
        if str(index.settings.get(f"index.blocks.{name}", "false")).lower() == "true"
    ]
    return Check(
        "writable",
        ok=not blocked,
        detail=f"blocked ({', '.join(blocked)})" if blocked else "no block",
        fix="make room on the disk if it is full; then set index.blocks.… to null" if blocked else "",
    )


def _copies(indices: Mapping[str, Index]) -> Check:
    said: list[str] = []
    alone = False
    for kind, index in indices.items():
        replicas = int(index.settings.get("index.number_of_replicas", 1))
        shards = index.settings.get("index.number_of_shards", 1)
        said.append(f"{kind}: {shards} shards, {replicas} replicas")
        alone = alone or replicas == 0
    return Check(
        "copies",
        ok=not alone,
        warning=True,
        detail="; ".join(said),
        fix="with two nodes or more, a replica keeps turns when a machine is lost" if alone else "",
    )


async def _clock(sessions: Sessions) -> Check:
    began = datetime.now(UTC)
    told = await sessions.tell_time()
    ended = datetime.now(UTC)
    if told is None:
        said = "the server does not tell its time: this machine's rules"
        return Check("clock", ok=False, warning=True, detail=said, fix="let the role write to the index of sessions")
    offset = told - (began + (ended - began) / 2)
    close = abs(offset) < _FAR_OFF
    return Check(
        "clock",
        ok=close,
        warning=True,
        detail=f"the server's is {offset.total_seconds():+.3f} s from this machine's; the server's rules",
        fix="" if close else "let both machines follow the same time server: expiry counts by the server's",
    )


async def _lag(calls: Calls, index: str) -> Check:
    """How many messages have no document yet, as of the last refresh."""
    waiting: Document = {"range": {"waiting": {"gt": 0}}}
    sums = {"messages": {"sum": {"field": "waiting"}}, "sessions": {"value_count": {"field": "waiting"}}}
    found = await calls.search(index, {"size": 0, "query": waiting, "aggs": sums})
    messages, sessions = (int(found["aggregations"][name]["value"]) for name in ("messages", "sessions"))
    said = f"{messages} messages of {sessions} sessions have no document of their own yet; a search writes them first"
    return Check("lag", ok=True, detail=said)


def _failed(name: str, error: Exception) -> Check:
    said, _, fix = str(translate(error, "check")).partition("; ")
    return Check(name, ok=False, detail=said, fix=fix or "look at the server's log")
