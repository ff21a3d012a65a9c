"""The list of servers, and starting and ending them together."""

import fcntl
import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import packages
from .commands import ServiceError
from .mariadb import MariaDB
from .mongodb import MongoDB, MongoDBStandalone
from .opensearch import OpenSearch
from .pgbouncer import PgBouncer
from .postgres import PostgreSQL, PostgreSQLOld
from .redis import Redis, RedisCluster, RedisOld, Valkey
from .server import Server

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".services"
ENV_FILE = ROOT / ".services.env"

# Those that `TURNKEEP_REQUIRE_SERVICES=1` promises. Each comes after what it needs.
SERVERS: tuple[type[Server], ...] = (
    PostgreSQL,
    PostgreSQLOld,
    PgBouncer,
    MariaDB,
    Redis,
    RedisOld,
    RedisCluster,
    Valkey,
    MongoDB,
    MongoDBStandalone,
    OpenSearch,
)


class Registry:
    """The servers that live below one folder, and the file with their addresses.

    In `environment` stand the addresses of the user's own.
    """

    def __init__(
        self,
        home: Path = HOME,
        env_file: Path = ENV_FILE,
        promised: Sequence[type[Server]] = SERVERS,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.home = home
        self.env_file = env_file
        # As it is now: who makes a registry may go on to set the variables from `addresses`.
        self.environment = dict(environment)
        self.servers = {kind.name: kind(home, self.environment) for kind in promised}
        self._promised = [kind.name for kind in promised]

    def up(self, names: Collection[str] = (), *, required: bool = False) -> list[str]:
        """Start these servers (none named: the promised ones) and what they need; return the names of those started.

        They start side by side. One that is given by its variable, or runs and answers, is left alone. One that cannot
        be had is named with the reason and left out; if `required`, what Debian has is installed first, and what is
        still missing raises `ServiceError`, and those just started are ended.
        """
        chosen = self._with_needs(names or self._promised)
        with self._alone():
            if required:
                self._install(chosen)
            started, failures = self._start(chosen)
            if required and failures:
                self._stop(started)
            self._write_env_file()
        if required and failures:
            raise ServiceError("\n".join(map(str, failures)))
        for failure in failures:
            print(f"services: left out, its tests are skipped: {failure}", flush=True)
        return started

    def down(self, names: Collection[str] | None = None) -> list[str]:
        """End these servers (None: all) that were started here; return the names of those that ran."""
        with self._alone():
            chosen = self.servers if names is None else self._known(names)
            running = [name for name in chosen if self.servers[name].processes.running()]
            self._stop(chosen)
            self._write_env_file()
        return running

    def kill(self, names: Collection[str]) -> None:
        """End these servers with no time to write anything."""
        for name in self._known(names):
            self.servers[name].kill()

    def resume(self, names: Collection[str]) -> None:
        """Start these servers again on what the disk holds, at the addresses that they had."""
        for name in self._known(names):
            self.servers[name].resume()

    def addresses(self) -> dict[str, str]:
        """Return each `TURNKEEP_TEST_…_URL` of the servers that run; what the user set is left as it is."""
        found: dict[str, str] = {}
        for server in self.servers.values():
            if url := server.given or server.address():
                found |= server.variables(url)
        return {variable: url for variable, url in found.items() if not self.environment.get(variable)}

    def _start(self, servers: Sequence[Server]) -> tuple[list[str], list[ServiceError]]:
        """Start them side by side; return the names of those started, and why others are not to be had."""
        started: list[str] = []
        failures: list[ServiceError] = []
        futures: dict[str, Future[None]] = {}
        try:
            with ThreadPoolExecutor(max(1, len(servers))) as threads:
                for server in servers:
                    futures[server.name] = threads.submit(self._start_one, server, dict(futures), started)
            for future in futures.values():
                try:
                    future.result()
                except ServiceError as failure:
                    failures.append(failure)
        except BaseException:
            self._stop(started)
            raise
        return started, failures

    def _start_one(self, server: Server, earlier: Mapping[str, Future[None]], started: list[str]) -> None:
        """Start it unless it is to be had already; wait for what it needs."""
        if server.given:
            state = f"given by {server.variable}"
        else:
            absent = [need.name for need in server.needs if earlier[need.name].exception()]
            if absent:
                raise ServiceError(f"{server.name}: it needs {', '.join(absent)}")
            url = server.address()
            if url and server.answers(url):
                state = f"running at {url}"
            else:
                state = f"started at {server.start()}"
                started.append(server.name)
        print(f"services: {server.name}: {state}", flush=True)

    def _install(self, servers: Sequence[Server]) -> None:
        """Bring in the Debian packages of what is absent."""
        wanted: list[str] = []
        for server in servers:
            if server.debian and not server.given and not server.find():
                wanted += [name for name in server.debian if name not in wanted]
        if wanted:
            packages.apt_install(wanted, self.home / "apt.log")

    def _known(self, names: Collection[str]) -> Collection[str]:
        if unknown := ", ".join(sorted(set(names) - set(self.servers))):
            raise ServiceError(f"there is no server {unknown}; there are {', '.join(self.servers)}")
        return names

    def _with_needs(self, names: Collection[str]) -> list[Server]:
        """Return the servers named and what they need, each after what it needs."""
        chosen = set(self._known(names))
        for server in reversed(self.servers.values()):
            if server.name in chosen:
                chosen.update(need.name for need in server.needs)
        return [server for server in self.servers.values() if server.name in chosen]

    def _stop(self, names: Collection[str]) -> None:
        with ThreadPoolExecutor(max(1, len(names))) as threads:
            list(threads.map(Server.stop, [self.servers[name] for name in names]))

    def _write_env_file(self) -> None:
        lines = [f"{variable}={shlex.quote(url)}\n" for variable, url in sorted(self.addresses().items())]
        self.env_file.write_text("".join(lines), encoding="utf-8")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let another `make services` of this checkout wait until this one is done."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
