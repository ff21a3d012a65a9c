"""Turnkeep's conversations in Redis: one server, Sentinel or a cluster, one script per turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnkeep_redis.adapter import RedisAdapter

__all__ = ["RedisAdapter"]


def __getattr__(name: str) -> object:
    # The plugin lies in this package and is imported by whoever looks for adapters; the driver only by who uses it.
    if name == "RedisAdapter":
        from turnkeep_redis.adapter import RedisAdapter

        return RedisAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
