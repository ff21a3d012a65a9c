"""What the entry point loads: it names the adapter and imports no driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from turnkeep.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")


@hookimpl
def register_adapters(register: Callable[[str, str], None]) -> None:
    """Redis URLs, with TLS (``rediss``) and without, are opened by ``RedisAdapter``."""
    for scheme in SCHEMES:
        register(scheme, "turnkeep_redis.adapter:RedisAdapter")
