"""What ``check`` looks at: whether the servers' settings keep the promises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import RedisError

from turnkeep.contract import Check
from turnkeep.errors import StorageRefused, TurnkeepError
from turnkeep_redis._errors import DRIVER_ERRORS, NAME, translate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from turnkeep_redis.schema import Schema
    from turnkeep_redis.wire import Wire

OLDEST: Final = (6, 2)
WAITAOF: Final = (7, 2)
_UNREACHABLE: Final = (*DRIVER_ERRORS, TurnkeepError)

# Lua of older ones can be made to run foreign code by who may send scripts (CVE-2025-49844, -46817, -46818, -46819).
_PATCHED: Final = {
    "redis": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
}

Facts = dict[str, str]


async def find_facts(wire: Wire) -> dict[str, Facts]:
    """What each server says of itself, by name; what it does not let us see is left out."""
    facts: dict[str, Facts] = {}
    for name, answer in (await wire.ask_nodes(b"INFO")).items():
        lines = cast("bytes", answer).decode(errors="replace").splitlines()
        facts[name] = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        for name, answer in (await wire.ask_nodes(b"CONFIG", b"GET", b"append*")).items():
            texts = [part.decode() for part in cast("list[bytes]", _flat(answer))]
            facts[name] |= dict(zip(texts[::2], texts[1::2], strict=True))
    except RedisError:
        pass  # managed servers hide CONFIG
    return facts


def require(facts: Mapping[str, Facts], *, is_cluster: bool, waits: bool) -> None:
    """Refuses servers that cannot do what is asked of them.

    Raises:
        StorageRefused: one is a replica, of a cluster, too old, or cannot wait for its disk.
    """
    for fact in facts.values():
        why = ""
        if fact.get("role") == "slave":
            why = "this server is a read-only replica; connect to its master, or through redis+sentinel://"
        elif fact.get("redis_mode") == "cluster" and not is_cluster:
            why = "this server is part of a cluster; write redis+cluster:// in the URL, or hand in a RedisCluster"
        elif _version(fact) < OLDEST:
            why = f"Redis {fact.get('redis_version')} is too old; turnkeep-redis needs 6.2 or newer"
        elif waits and (_version(fact) < WAITAOF or fact.get("aof_enabled") != "1"):
            why = "durability=synced needs Redis 7.2 or newer with appendonly yes; use durability=server without"
        if why:
            raise StorageRefused(why, adapter=NAME, operation="open")


async def examine(wire: Wire, schema: Schema) -> AsyncGenerator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    try:
        facts = await find_facts(wire)
    except _UNREACHABLE as error:
        yield _failed("server", error)
        return
    for name, fact in facts.items():
        prefix = "" if len(facts) == 1 else f"{name} "
        for check in _server(fact, is_cluster=wire.is_cluster):
            yield Check(f"{prefix}{check.name}", check.ok, check.detail, check.fix, check.warning)
    try:
        await schema.require()
        yield Check("schema", ok=True, detail=f"version {await schema.find_version()}")
    except _UNREACHABLE as error:
        yield _failed("schema", error)


def _server(fact: Facts, *, is_cluster: bool) -> Iterator[Check]:
    yield _judge_version(fact)
    master = fact.get("role") == "master"
    fix = "" if master else "connect to the master, or through redis+sentinel://"
    yield Check("role", ok=master, detail="master" if master else "read-only replica", fix=fix)
    fits = (fact.get("redis_mode") == "cluster") == is_cluster
    fix = "" if fits else "write redis+cluster:// in the URL"
    yield Check("mode", ok=fits, detail=fact.get("redis_mode", "unknown"), fix=fix)
    yield _judge_eviction(fact)
    yield _judge_log(fact)
    if fact.get("aof_last_write_status", "ok") != "ok":
        yield Check(
            "disk", ok=False, detail="the last write to the log failed", fix="look at the server's log and disk"
        )


def _judge_version(fact: Facts) -> Check:
    product, version = _product(fact), _version(fact)
    detail = f"{product.capitalize()} {'.'.join(map(str, version))}"
    if version < OLDEST:
        return Check("version", ok=False, detail=detail, fix="use Redis 6.2 or newer, or Valkey")
    lines = [patched for patched in _PATCHED[product] if patched[:2] == version[:2]]
    safe = version >= lines[0] if lines else version > _PATCHED[product][-1]
    if safe:
        return Check("version", ok=True, detail=detail)
    return Check(
        "version",
        ok=False,
        warning=True,
        detail=f"{detail}: who may send scripts can break out of them (CVE-2025-49844), unless your vendor patched it",
        fix="use one of " + ", ".join(".".join(map(str, patched)) for patched in _PATCHED[product]) + ", or newer",
    )


def _judge_eviction(fact: Facts) -> Check:
    policy = fact.get("maxmemory_policy", "unknown")
    kept = policy == "noeviction"
    return Check(
        "maxmemory-policy",
        ok=kept,
        detail=policy if kept else f"{policy}: the server may throw conversations away when memory is short",
        fix="" if kept else "CONFIG SET maxmemory-policy noeviction",
    )


def _judge_log(fact: Facts) -> Check:
    if fact.get("aof_enabled") != "1":
        detail, fix = "off: a crash loses what came after the last snapshot", "appendonly yes, appendfsync always"
    elif "appendfsync" not in fact:
        detail, fix = (
            "on; how often it is synced cannot be seen",
            "allow CONFIG GET, and see that appendfsync is always",
        )
    elif fact["appendfsync"] != "always":
        lost = "about a second of" if fact["appendfsync"] == "everysec" else "some"
        detail, fix = (
            f"appendfsync {fact['appendfsync']}: a power cut may take {lost} turns along",
            "appendfsync always",
        )
    else:
        return Check("appendonly", ok=True, detail="on, appendfsync always")
    return Check("appendonly", ok=False, warning=True, detail=detail, fix=fix)


def _product(fact: Facts) -> str:
    return "valkey" if "valkey_version" in fact else "redis"


def _version(fact: Facts) -> tuple[int, ...]:
    text = fact.get("valkey_version") or fact.get("redis_version") or "0"
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _flat(answer: object) -> list[object]:
    # RESP3 answers with a map.
    if isinstance(answer, dict):
        return [part for pair in cast("dict[object, object]", answer).items() for part in pair]
    return cast("list[object]", answer)


def _failed(name: str, error: Exception) -> Check:
    said, _, fix = str(translate(error, "check")).partition("; ")
    return Check(name, ok=False, detail=said, fix=fix or "see the message")
