"""What ``check`` looks at: the server, how it keeps what it acknowledges, the collections and their indexes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from turnkeep.contract import Check
from turnkeep.errors import TurnkeepError
from turnkeep_mongodb._errors import translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from turnkeep_mongodb.names import Collections, Document
    from turnkeep_mongodb.schema import Schema

OLDEST: Final = (4, 4)
"""The first version whose limits and commands this package was written for."""

_ENOUGH_MEMBERS: Final = 3
_FAR_OFF: Final = timedelta(seconds=5)


async def examine(collections: Collections, schema: Schema, where: str) -> AsyncIterator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    try:
        began = time.monotonic()
        hello: Document = await collections.database.command("hello")
        delay = time.monotonic() - began
        build: Document = await collections.database.client.admin.command("buildInfo")
    except PyMongoError as error:
        yield _failed("server", error)
        return
    yield Check("server", ok=True, detail=f"{where} answers in {delay * 1000:.1f} ms")
    yield _version(build)
    yield _primary(hello)
    yield _topology(hello)
    yield Check("write concern", ok=True, detail="w=majority, j=true on every write, whatever the client's own is")
    yield await _engine(collections)
    yield _clock(hello, delay)
    try:
        version = await schema.find_version(collections)
        schema.require(version)
        yield Check("schema", ok=True, detail=f"version {version}")
        yield await _indexes(collections, schema)
    except (PyMongoError, TurnkeepError) as error:
        yield _failed("schema", error)


def _version(build: Document) -> Check:
    text = str(build.get("version", "unknown"))
    number = tuple(build.get("versionArray", ()))[:2]
    if number < OLDEST:
        return Check("version", ok=False, detail=text, fix="use MongoDB 4.4 or newer")
    if _is_genuine(build):
        return Check("version", ok=True, detail=f"MongoDB {text}")
    return Check(
        "version",
        ok=False,
        warning=True,
        detail=f"speaks MongoDB's protocol as of {text}, but is another server",
        fix="how durable a turn is, is that server's own promise: nothing here can prove it; see its documentation",
    )


def _is_genuine(build: Document) -> bool:
    """Whether it is MongoDB's own server: others name themselves, or cannot tell what it was built from."""
    return set(build.get("gitVersion", "")) > {"0"} and "openssl" in build and "ferretdb" not in build


def _primary(hello: Document) -> Check:
    """Whether the server takes writes."""
    writable = bool(hello.get("isWritablePrimary", hello.get("ismaster")))
    return Check(
        "primary",
        ok=writable,
        detail="takes writes" if writable else "is not the writable primary",
        fix="" if writable else "name the replica set in the URL (replicaSet=…), so that the driver finds its primary",
    )


def _topology(hello: Document) -> Check:
    if hello.get("msg") == "isdbgrid":
        return Check("topology", ok=True, detail="sharded cluster, seen through mongos")
    if "setName" not in hello:
        return Check(
            "topology",
            ok=False,
            warning=True,
            detail="standalone: a turn survives a crash of the server, not the loss of its disk",
            fix="a replica set of three keeps turns when a machine is lost",
        )
    members, arbiters = len(hello.get("hosts", ())), len(hello.get("arbiters", ()))
    detail = f"replica set {hello['setName']}, {members} data-bearing members, {arbiters} arbiters"
    enough = members >= _ENOUGH_MEMBERS and not arbiters
    fix = "" if enough else "three data-bearing members and no arbiter: else a majority is few, or cannot acknowledge"
    return Check("topology", ok=enough, warning=True, detail=detail, fix=fix)


async def _engine(collections: Collections) -> Check:
    try:
        status: Document = await collections.database.client.admin.command("serverStatus")
    except OperationFailure as error:
        return Check(
            "journal",
            ok=False,
            warning=True,
            detail=f"cannot be looked at (code {error.code})",
            fix="grant clusterMonitor to let check() see it; a server without a journal refuses j=true by itself",
        )
    engine: dict[str, Any] = status.get("storageEngine", {})
    persistent = bool(engine.get("persistent", True))
    detail = f"{engine.get('name', 'unknown')}, {'persistent' if persistent else 'in memory only'}"
    return Check(
        "journal", ok=persistent, detail=detail, fix="" if persistent else "use a storage engine that writes to disk"
    )


def _clock(hello: Document, delay: float) -> Check:
    told: datetime = hello["localTime"]
    offset = told.replace(tzinfo=UTC) - (datetime.now(UTC) - timedelta(seconds=delay / 2))
    close = abs(offset) < _FAR_OFF
    return Check(
        "clock",
        ok=close,
        warning=True,
        detail=f"the server's is {offset.total_seconds():+.3f} s from this machine's; the server's rules",
        fix="" if close else "let both machines follow the same time server: expiry counts by the server's",
    )


async def _indexes(collections: Collections, schema: Schema) -> Check:
    missing = await schema.missing_indexes(collections)
    return Check(
        "indexes",
        ok=not missing,
        detail="all there" if not missing else f"missing or changed: {', '.join(index.name for index in missing)}",
        fix="" if not missing else "drop what was changed, then: turnkeep migrate URL",
    )


def _failed(name: str, error: Exception) -> Check:
    said, _, fix = str(translate(error, "check")).partition("; ")
    return Check(name, ok=False, detail=said, fix=fix or "look at the server's log")
