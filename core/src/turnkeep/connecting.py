"""From a URL, or an adapter, to an open persistence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnkeep.contract import StorageAdapter
from turnkeep.errors import InvalidArgument
from turnkeep.gateway import Gateway
from turnkeep.limits import Limits
from turnkeep.persistence import Persistence
from turnkeep.plugins import Plugins
from turnkeep.policy import Policy, check_window
from turnkeep.urls import StorageURL, duration, parse_count, parse_seconds, parse_text

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from datetime import timedelta

    from turnkeep.policy import UpgradeData


class Connecting:
    """What ``connect`` returns: await it, or use it with ``async with``."""

    def __init__(self, persistence: Persistence) -> None:
        self._persistence = persistence

    def __await__(self) -> Generator[Any, None, Persistence]:
        return self._open().__await__()

    async def __aenter__(self) -> Persistence:
        return await self._open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._persistence.aclose()

    async def _open(self) -> Persistence:
        await self._persistence._gateway.open()
        return self._persistence


def connect(
    url_or_adapter: str | StorageAdapter,
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
) -> Connecting:
    """Opens a store; await it, or use it with ``async with``, which closes it.

    Args:
        url_or_adapter: ``scheme://…``, with the adapter's options and, where the arguments here are not given,
            ``namespace``, ``session_ttl``, ``message_ttl``, ``timeout`` and ``window`` as query parameters; or an
            adapter built by hand, whose client stays the caller's.
        user_id: binds the persistence to one owner: it sees that owner's sessions only.
        namespace: keeps applications that share a database apart; ``[a-z0-9_.-]``, at most 64 characters.
        plugins: objects with hooks, beside those found by entry point.
        session_ttl: seconds or ``timedelta`` of idle time after which a session goes, with all that belongs to it.
            Every commit renews it, a load never. None: the adapter's own default, or else for ever.
        message_ttl: age at which a message leaves the history of a session that lives on. None: likewise.
        limits: sizes beyond which values are refused.
        timeout: seconds that one call to the database may take.
        slow_threshold: seconds from which a call is logged as slow.
        auto_create: make the tables where there are none. Older ones are never upgraded by opening.
        window: how many messages a load brings, the newest, widened to whole commits; None: all.
        data_version: version of the application's collected data, noted with it.
        upgrade_data: ``upgrade_data(data, from_version)`` returns data of an older version (0 where none was noted) as
            this version has it; plain or async. Runs on reads; the next commit that writes data stores the result.

    Raises:
        AdapterNotFound: no installed adapter answers to the URL; the message names what to install.
        InvalidArgument: an argument or an option of the URL makes no sense.
        SchemaError, StorageError: when awaited: the database cannot be used as it is.
    """
    return Connecting(
        build(
            url_or_adapter,
            auto_create=auto_create,
            plugins=plugins,
            user_id=user_id,
            namespace=namespace,
            session_ttl=session_ttl,
            message_ttl=message_ttl,
            limits=limits,
            timeout=timeout,
            slow_threshold=slow_threshold,
            window=window,
            data_version=data_version,
            upgrade_data=upgrade_data,
        )
    )


def build(
    url_or_adapter: str | StorageAdapter, *, auto_create: bool = True, plugins: Iterable[object] = (), **settings: Any
) -> Persistence:
    """A persistence that opens itself on first use. Takes what ``connect`` takes."""
    found = Plugins(plugins)
    if isinstance(url_or_adapter, StorageAdapter):
        adapter = url_or_adapter
    else:
        url = StorageURL(url_or_adapter)
        settings = _from_url(url) | {name: value for name, value in settings.items() if value != _DEFAULTS.get(name)}
        adapter = found.adapter_class(url.scheme).from_url(url)
        url.finish()
    for name in ("session_ttl", "message_ttl"):
        if settings.get(name) is not None:
            settings[name] = duration(settings[name], name)
    if settings.get("limits") is None:
        settings["limits"] = Limits()
    elif not isinstance(settings["limits"], Limits):
        raise InvalidArgument(f"limits must be a turnkeep.Limits, not {settings['limits']!r:.80}")
    gateway = Gateway(adapter, Policy(**settings), found, auto_create=auto_create)
    return Persistence(gateway)


_DEFAULTS: dict[str, Any] = {"namespace": "default", "timeout": 5.0}


def _from_url(url: StorageURL) -> dict[str, Any]:
    """The settings that stand in the URL; the arguments given to ``connect`` win over them."""
    found = {
        "namespace": url.take("namespace", parse_text, None),
        "session_ttl": url.take("session_ttl", parse_seconds, None),
        "message_ttl": url.take("message_ttl", parse_seconds, None),
        "timeout": url.take("timeout", lambda text: parse_seconds(text).total_seconds(), None),
        "window": check_window(url.take("window", parse_count, None)),
    }
    return {name: value for name, value in found.items() if value is not None}
