"""Where the client comes from: a URL that is opened here, or a client that was handed in."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from opensearchpy import AsyncOpenSearch

from turnkeep.errors import InvalidArgument
from turnkeep.urls import parse_count, parse_flag, parse_seconds, parse_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnkeep.urls import StorageURL

PORT: Final = 9200

_TRIES: Final = 3
"""How often a request is sent unless the URL says otherwise, if there was no connection or it was lost."""


def _seconds(text: str) -> float:
    return parse_seconds(text).total_seconds()


DRIVER_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "timeout": _seconds,
    "maxsize": parse_count,
    "http_compress": parse_flag,
    "opaque_id": parse_text,
    "verify_certs": parse_flag,
    "ca_certs": parse_text,
    "client_cert": parse_text,
    "client_key": parse_text,
    "ssl_assert_hostname": parse_flag,
    "ssl_assert_fingerprint": parse_text,
    "ssl_show_warn": parse_flag,
    "sniff_on_start": parse_flag,
    "sniff_on_connection_fail": parse_flag,
    "sniffer_timeout": _seconds,
    "trust_env": parse_flag,
}
"""The driver's options that a URL may carry."""


class Source(Protocol):
    """Where a client comes from."""

    where: str
    """What to call the cluster in messages; without a secret."""
    tries: int
    """How often a request is sent, if there was no connection or it was lost."""

    def connect(self) -> AsyncOpenSearch:
        """A client; nothing is sent yet."""
        ...

    async def release(self, client: AsyncOpenSearch) -> None:
        """Closes it, if it was opened here."""
        ...


class Address:
    """A node, or several of one cluster, named by a URL.

    Raises:
        InvalidArgument: it names no host, or an option makes no sense.
    """

    def __init__(self, url: StorageURL) -> None:
        if not url.host:
            raise InvalidArgument(f"an OpenSearch URL names its hosts: {url.scheme}://host:{PORT}")
        secure = url.scheme.endswith("+https")
        hosts = _hosts(url)
        named = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
        self.where = f"{url.scheme}://{named}"
        self.tries = 1 + url.take("max_retries", parse_count, _TRIES - 1)
        prefix = {"url_prefix": url.path.strip("/")} if url.path.strip("/") else {}
        self._hosts = [{"host": host, "port": port, "use_ssl": secure, **prefix} for host, port in hosts]
        options = {name: url.take(name, parse, None) for name, parse in DRIVER_OPTIONS.items()}
        self._options = {name: value for name, value in options.items() if value is not None}
        if url.username is not None or url.password is not None:
            # The driver would encode it in Latin-1, and quote all of it in the error if that cannot be.
            pair = f"{url.username or ''}:{url.password or ''}".encode()
            self._options["headers"] = {"authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}

    def connect(self) -> AsyncOpenSearch:
        """As ``Source`` says. The driver repeats nothing by itself, so that it is known what was sent."""
        return AsyncOpenSearch(hosts=self._hosts, max_retries=0, **self._options)

    async def release(self, client: AsyncOpenSearch) -> None:
        """As ``Source`` says."""
        await client.close()
        await asyncio.sleep(0)  # the loop closes sockets in its next round, which may be its last


class HandedIn:
    """A client of the caller's, which stays open.

    Raises:
        InvalidArgument: it is not an ``AsyncOpenSearch``.
    """

    def __init__(self, client: AsyncOpenSearch) -> None:
        if not isinstance(client, AsyncOpenSearch):
            raise InvalidArgument(
                f"the client must be an opensearchpy.AsyncOpenSearch, not {type(client).__name__}; "
                "with a URL turnkeep makes one itself: connect('opensearch://…')"
            )
        self.where = "the client's cluster"
        self.tries = 1
        self._client = client

    def connect(self) -> AsyncOpenSearch:
        """As ``Source`` says."""
        return self._client

    async def release(self, client: AsyncOpenSearch) -> None:
        """As ``Source`` says."""


def _hosts(url: StorageURL) -> list[tuple[str, int]]:
    """Host and port of each node."""
    if "," not in (url.host or ""):
        return [(url.host or "", url.port or PORT)]
    try:
        parts = [urlsplit(f"//{host}") for host in (url.host or "").split(",")]
        found = [(part.hostname or "", part.port or PORT) for part in parts]
    except ValueError:
        found = [("", 0)]
    if not all(host for host, _ in found):
        raise InvalidArgument(f"an OpenSearch URL lists its hosts as {url.scheme}://a:{PORT},b:{PORT}")
    return found
