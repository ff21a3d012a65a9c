"""The URL of a server, led through a proxy."""

from __future__ import annotations

from urllib.parse import urlsplit


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
