"""The client: one that was handed in, or one that is made from a URL and closed again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from redis._parsers import AsyncCommandsParser
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from turnkeep.errors import InvalidArgument
from turnkeep.urls import parse_count, parse_flag, parse_seconds, parse_text
from turnkeep_redis.wire import Cluster, Server, Wire

if TYPE_CHECKING:
    from turnkeep.urls import StorageURL

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_CONNECT_SECONDS: Final = 5.0
_CONNECTIONS: Final = 64


class _NoCommands(AsyncCommandsParser):
    """Spares a cluster's client the table of all commands, 50 ms to read: every call of ours names its slot itself."""

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """Asks for nothing."""


class Source(ABC):
    """Where the client comes from."""

    where: str
    """What to call it in messages; without secrets."""

    @abstractmethod
    def connect(self) -> Wire:
        """A way to the server. Nothing is sent yet."""

    @abstractmethod
    async def release(self) -> None:
        """Closes what ``connect`` made."""

    @abstractmethod
    def copy(self) -> Source:
        """Another one, whose clients are not those of this one; a client that was handed in is the same."""

    @abstractmethod
    def forget(self) -> None:
        """In a child process: lets go of what belongs to the parent, without closing it."""


class HandedIn(Source):
    """A client of the caller's, which is never closed here."""

    where = "the Redis of the client that was handed in"

    def __init__(self, client: Redis | RedisCluster) -> None:
        if not isinstance(client, (Redis, RedisCluster)):
            raise InvalidArgument(
                "RedisAdapter takes a redis.asyncio.Redis or redis.asyncio.RedisCluster, "
                f"not a {type(client).__module__}.{type(client).__name__}; for a URL use turnkeep.connect"
            )
        self._client = client

    def connect(self) -> Wire:
        """As the client that was handed in knows it."""
        return Cluster(self._client) if isinstance(self._client, RedisCluster) else Server(self._client)

    async def release(self) -> None:
        """Does nothing: who opened it closes it."""

    def copy(self) -> Source:
        """Itself: there is only the one client."""
        return self

    def forget(self) -> None:
        """Does nothing: it cannot be replaced."""


@dataclass
class Address(Source):
    """What a URL says.

    Attributes:
        kind: of what the nodes are: ``""`` one server, ``"cluster"``, ``"sentinel"``.
        nodes: host and port of each that is named.
        login: user name and password, as the driver takes them.
        sentinel_login: likewise, for the sentinels.
        service: the name under which the sentinels know the master.
        database: the number of the database.
        tls: the driver's settings for TLS; none: without.
        connections: how many may be open at once.
        connect_timeout: seconds.
    """

    where: str
    kind: str
    nodes: list[tuple[str, int]]
    login: dict[str, str] = field(repr=False)
    sentinel_login: dict[str, str] = field(repr=False)
    service: str
    database: int
    tls: dict[str, Any]
    connections: int
    connect_timeout: float
    _open: list[Redis | RedisCluster] = field(default_factory=list, init=False, repr=False)

    def connect(self) -> Wire:
        """A client of its own, with a connection when the first one is needed."""
        if self.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.nodes]
            cluster = RedisCluster(startup_nodes=nodes, **self._settings(), **self._login())
            cluster.commands_parser = _NoCommands()
            self._open.append(cluster)
            return Cluster(cluster, self.connections)
        client = self._find_master() if self.kind == "sentinel" else self._connect_to_server()
        self._open.append(client)
        return Server(client, self.connections)

    async def release(self) -> None:
        """Closes every client that was made."""
        while self._open:
            await self._open.pop().aclose()

    def copy(self) -> Source:
        """The same address."""
        return replace(self)

    def forget(self) -> None:
        """Leaves the clients as they are."""
        self._open = []

    def _connect_to_server(self) -> Redis:
        ((host, port),) = self.nodes
        return Redis(host=host, port=port, db=self.database, **self._settings(), **self._login())

    def _find_master(self) -> Redis:
        settings = self._settings()
        watch: dict[str, Any] = {**settings, **self.sentinel_login}
        sentinel = Sentinel(self.nodes, sentinel_kwargs=watch, db=self.database, **settings, **self._login())
        self._open += sentinel.sentinels
        return sentinel.master_for(self.service)  # pyright: ignore[reportUnknownMemberType] - the driver's

    def _login(self) -> dict[str, Any]:
        return dict(self.login)

    def _settings(self) -> dict[str, Any]:
        # Who waits how long is the caller's business, and who repeats what is the wire's.
        return {
            "socket_timeout": None,
            "socket_connect_timeout": self.connect_timeout,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            **self.tls,
        }


def read_address(url: StorageURL) -> Address:
    """The address in a URL.

    Raises:
        InvalidArgument: it makes no sense.
    """
    scheme, _, kind = url.scheme.partition("+")
    service, database = _read_path(url, kind)
    return Address(
        where=f"{url.scheme}://{url.host or 'localhost'}",
        kind=kind,
        nodes=_read_nodes(url, kind),
        login=_login(url.username, url.password),
        sentinel_login=_login(
            url.take("sentinel_username", parse_text, None), url.take("sentinel_password", parse_text, None)
        ),
        service=service,
        database=database,
        tls=_read_tls(url, wanted=scheme == "rediss"),
        connections=_expect_positive(url.take("max_connections", parse_count, _CONNECTIONS), "max_connections"),
        connect_timeout=url.take("connect_timeout", lambda text: parse_seconds(text).total_seconds(), _CONNECT_SECONDS),
    )


def _read_nodes(url: StorageURL, kind: str) -> list[tuple[str, int]]:
    port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    if url.host is None or "," not in url.host:
        return [(url.host or "localhost", url.port or port)]
    if not kind:
        raise InvalidArgument("a redis:// URL names one server; several are redis+cluster:// or redis+sentinel://")
    return [_read_node(node, port) for node in url.host.split(",")]


def _read_node(node: str, default_port: int) -> tuple[str, int]:
    host, colon, port = node.rpartition(":")
    if not colon or node.endswith("]"):
        host, port = node, str(default_port)
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InvalidArgument(f"{node!r:.80} is no host:port; write host:port,host:port")
    return host.strip("[]"), int(port)


def _read_path(url: StorageURL, kind: str) -> tuple[str, int]:
    """The service of a sentinel, and the number of the database."""
    parts = [part for part in url.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not parts:
            raise InvalidArgument("a redis+sentinel:// URL names the service: redis+sentinel://host:26379/mymaster")
        service = parts.pop(0)
    text = parts.pop(0) if parts else "0"
    if parts or not (text.isascii() and text.isdigit()):
        raise InvalidArgument(f"the path of a Redis URL is the number of a database, such as /0, not {url.path!r:.80}")
    if kind == "cluster" and int(text):
        raise InvalidArgument("a Redis cluster has database 0 only; leave the path out, and use another key_prefix")
    return service, int(text)


def _read_tls(url: StorageURL, *, wanted: bool) -> dict[str, Any]:
    given = {
        "ssl_ca_certs": url.take("tls.ca", parse_text, None),
        "ssl_certfile": url.take("tls.cert", parse_text, None),
        "ssl_keyfile": url.take("tls.key", parse_text, None),
    }
    verify = url.take("tls.verify", parse_flag, default=True)
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        if settings or not verify:
            raise InvalidArgument("tls. options are for rediss:// URLs; redis:// is not encrypted")
        return {}
    if not verify:
        settings |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return {"ssl": True, **settings}


def _login(username: str | None, password: str | None) -> dict[str, str]:
    return {name: text for name, text in (("username", username), ("password", password)) if text}


def _expect_positive(count: int, name: str) -> int:
    if count < 1:
        raise InvalidArgument(f"{name} must be 1 or more, not {count}")
    return count
