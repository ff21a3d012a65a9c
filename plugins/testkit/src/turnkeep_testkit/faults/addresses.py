"""URLs: of a server, led through a proxy, and of an adapter, for another process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from turnkeep.contract import StorageAdapter


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a URL.

    Raises:
        ValueError: it does not name one host and its port.
    """
    parts = urlsplit(url)
    if "," in parts.netloc or parts.hostname is None or parts.port is None:
        raise ValueError("the URL of a server behind a proxy names one host and its port, as in redis://127.0.0.1:6379")
    return parts.hostname, parts.port


def redirected(url: str, host: str, port: int) -> str:
    """The URL with another host and port; everything else stays."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{host}:{port}").geturl()


def adapter_at(url: str) -> StorageAdapter:
    """The adapter that the installed plugins have for a URL, not open. ``partial(adapter_at, url)`` can be pickled."""
    from turnkeep.plugins import Plugins
    from turnkeep.urls import StorageURL

    parsed = StorageURL(url)
    adapter = Plugins().adapter_class(parsed.scheme).from_url(parsed)
    parsed.finish()
    return adapter
