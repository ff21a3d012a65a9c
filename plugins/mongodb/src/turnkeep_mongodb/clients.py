"""Where the client comes from: a URL that is opened here, or a client that was handed in."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import quote

from pymongo import AsyncMongoClient
from pymongo.driver_info import DriverInfo
from pymongo.errors import PyMongoError
from pymongo.uri_parser import split_options

from turnkeep.errors import ConfigurationError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnkeep.urls import StorageURL
    from turnkeep_mongodb.names import Document

_DEFAULTS: Final = {"serverSelectionTimeoutMS": "5000", "connectTimeoutMS": "5000"}
"""Time to reach a server; the driver's own are 30 and 20 s, in which an application seems to hang."""

_REFUSED: Final = {"w": {"0"}, "journal": {"false"}}
_UNSAFE: Final = (
    "an unacknowledged write may be lost without a word, so turnkeep does not work with {}; leave it out: "
    "every write is acknowledged by a majority, in its journal (w=majority, j=true)"
)


class Source(Protocol):
    """Where a client comes from."""

    where: str
    """What to call the server in messages; without a secret."""

    def connect(self) -> AsyncMongoClient[Document]:
        """A client; nothing is sent yet."""
        ...

    async def release(self, client: AsyncMongoClient[Document]) -> None:
        """Closes it, if it was opened here."""
        ...


class Address:
    """A server, or several, named by a URL.

    Raises:
        InvalidArgument: the driver does not take one of the options.
        ConfigurationError: it asks for writes that nobody acknowledges.
    """

    def __init__(self, url: StorageURL, database: str) -> None:
        if not url.host:
            raise InvalidArgument(f"a MongoDB URL names its hosts: {url.scheme}://host:27017/{database}")
        self.where = f"{url.scheme}://{_hosts(url)}"
        self._credentials = {
            name: text for name, text in (("username", url.username), ("password", url.password)) if text is not None
        }
        options = dict(url.rest())
        _check_options(options)
        names = {name.lower() for name in options}
        options |= {name: value for name, value in _DEFAULTS.items() if name.lower() not in names}
        query = "&".join(_pair(name, value) for name, value in options.items())
        # The path names the database that knows the user, unless authSource does: the driver must see it.
        self._uri = f"{self.where}{quote(url.path or '/')}?{query}"

    def connect(self) -> AsyncMongoClient[Document]:
        """As ``Source`` says."""
        info = DriverInfo("turnkeep", version("turnkeep-mongodb"))
        try:
            return AsyncMongoClient(self._uri, driver=info, **cast("dict[str, Any]", self._credentials))
        except PyMongoError as error:
            # The driver's own message may quote what is in the URL.
            raise ConfigurationError(
                f"the driver cannot make a client for {self.where} ({type(error).__name__}); "
                "look at the hosts and options of the URL"
            ) from None

    async def release(self, client: AsyncMongoClient[Document]) -> None:
        """As ``Source`` says."""
        await client.close()


class HandedIn:
    """A client of the caller's, which stays open.

    Raises:
        InvalidArgument: it is not an ``AsyncMongoClient``.
        ConfigurationError: it is set up for writes that nobody acknowledges.
    """

    def __init__(self, client: AsyncMongoClient[Any]) -> None:
        if not isinstance(client, AsyncMongoClient):
            raise InvalidArgument(
                f"the client must be a pymongo.AsyncMongoClient, not {type(client).__name__}; "
                "with a URL turnkeep makes one itself: connect('mongodb://…')"
            )
        if client.write_concern.document.get("w") == 0:
            raise ConfigurationError(_UNSAFE.format("a client that has w=0"))
        self.where = "the client's server"
        self._client: AsyncMongoClient[Document] = client

    def connect(self) -> AsyncMongoClient[Document]:
        """As ``Source`` says."""
        return self._client

    async def release(self, client: AsyncMongoClient[Document]) -> None:
        """As ``Source`` says."""


def _check_options(options: Mapping[str, str]) -> None:
    """Lets the driver judge each option by itself, so that a message can name it without quoting a value."""
    for name, value in options.items():
        if value.lower() in _REFUSED.get(name.lower(), ()):
            raise ConfigurationError(_UNSAFE.format(f"{name}={value}"))
        try:
            split_options(_pair(name, value))
        except (PyMongoError, ValueError, TypeError):
            raise InvalidArgument(
                f"the option {name!r:.80} of the URL is none of turnkeep's (database, collections.sessions, "
                "collections.messages), or the driver does not take its value"
            ) from None


def _pair(name: str, value: str) -> str:
    return f"{quote(name)}={quote(value, safe=',:')}"


def _hosts(url: StorageURL) -> str:
    """Host and port, or the list of them, as the URL had it."""
    host = url.host or ""
    if "," in host:
        return host
    return f"{f'[{host}]' if ':' in host else host}{f':{url.port}' if url.port else ''}"
