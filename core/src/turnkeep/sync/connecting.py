"""Opening a store from blocking code."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from turnkeep import connecting
from turnkeep._threads import run_in_thread
from turnkeep.contract import StorageAdapter
from turnkeep.sync._bound import Made
from turnkeep.sync.persistence import Persistence
from turnkeep.urls import anchored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import timedelta

    from turnkeep import persistence
    from turnkeep.limits import Limits
    from turnkeep.policy import UpgradeData
    from turnkeep.sync._door import Door

    Store = str | StorageAdapter | Callable[[], StorageAdapter | Awaitable[StorageAdapter]]


def connect(
    url_or_adapter: Store,
    *,
    user_id: str | None = None,
    namespace: str = "default",
    plugins: Iterable[object] = (),
    session_ttl: float | timedelta | None = None,
    message_ttl: float | timedelta | None = None,
    limits: Limits | None = None,
    timeout: float = 5.0,
    slow_threshold: float = 1.0,
    auto_create: bool = True,
    window: int | None = None,
    data_version: int | None = None,
    upgrade_data: UpgradeData | None = None,
) -> Persistence:
    """As ``turnkeep.connect``: opens a store, and returns it open; also usable with ``with``.

    ``url_or_adapter`` is a URL, or a function, plain or async, that makes the adapter: it is called on the door's loop,
    where the clients of an adapter must be made. An adapter made elsewhere is taken too, if it opens its own client.
    """
    settings: dict[str, Any] = {
        "user_id": user_id,
        "namespace": namespace,
        "plugins": tuple(plugins),
        "session_ttl": session_ttl,
        "message_ttl": message_ttl,
        "limits": limits,
        "timeout": timeout,
        "slow_threshold": slow_threshold,
        "auto_create": auto_create,
        "window": window,
        "data_version": data_version,
        "upgrade_data": upgrade_data,
    }

    store = anchored(url_or_adapter) if isinstance(url_or_adapter, str) else url_or_adapter

    async def make(door: Door, before: persistence.Persistence | None) -> persistence.Persistence:
        made = await built_here(store, door, **settings)
        if before is not None and before._gateway.closed:
            await made.aclose()
        else:
            await made._gateway.open()
        return made

    return Persistence(Made(make, what="Persistence", again=can_be_made_again(url_or_adapter)))


async def built_here(store: Store, door: Door, **settings: Any) -> persistence.Persistence:
    """A persistence on the running loop of the door, which closes it at exit if nobody did. It opens on first use."""
    adapter = store
    if callable(store):
        adapter = store()
        if inspect.isawaitable(adapter):
            adapter = await adapter
    made = connecting.build(cast("str | StorageAdapter", adapter), **settings)
    made._gateway.plugins.offload = run_in_thread
    door.close_at_exit(made)
    return made


def can_be_made_again(store: object) -> bool:
    """Whether a forked child can open the same store: not one in the parent's memory, nor one around its client."""
    return not isinstance(store, StorageAdapter) and not (isinstance(store, str) and store.startswith("memory:"))
