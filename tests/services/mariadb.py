"""MariaDB."""

import subprocess
from pathlib import Path

from . import packages
from .commands import run
from .ports import free_port, port_of
from .server import Server
from .unprivileged import give, unprivileged

# Rights of an application that owns its databases; tests that need more connect as `root`.
ROLE = """\
CREATE USER IF NOT EXISTS turnkeep@'127.0.0.1';
GRANT ALL PRIVILEGES ON `turnkeep%`.* TO turnkeep@'127.0.0.1';
GRANT PROCESS, CONNECTION ADMIN ON *.* TO turnkeep@'127.0.0.1';
CREATE DATABASE IF NOT EXISTS turnkeep;
"""


class MariaDB(Server):
    """The system's, with its own defaults: the character set of a new database is not UTF-8."""

    name = "mariadb"
    debian = ("mariadb-server",)

    def find(self) -> Path | None:
        return packages.program("mariadbd")

    def prepare(self, program: Path) -> str:
        install = packages.program("mariadb-install-db") or program.with_name("mariadb-install-db")
        data = self.directory / "data"
        data.mkdir()
        give(data)
        options = [f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        run(unprivileged([install, "--no-defaults", *options]), self.log)
        (self.directory / "role.sql").write_text(ROLE, encoding="utf-8")
        return f"sqlalchemy+mariadb+asyncmy://turnkeep@127.0.0.1:{free_port()}/turnkeep"

    def launch(self, program: Path, url: str) -> None:
        data = self.directory / "data"
        settings = [
            f"--datadir={data}",
            f"--port={port_of(url)}",
            "--bind-address=127.0.0.1",
            # Relative to the data: the path of a socket must be short, that of a checkout may be long.
            "--socket=socket",
            "--pid-file=pid",
            f"--init-file={self.directory / 'role.sql'}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--max-connections=300",
        ]
        self.processes.spawn(unprivileged([program, "--no-defaults", *settings]))

    def answers(self, url: str) -> bool:
        client = packages.program("mariadb") or "mariadb"
        login = ["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port_of(url)}", "--user=turnkeep"]
        query = [client, *login, "--connect-timeout=2", "--execute=SELECT 1", "turnkeep"]
        return subprocess.run(query, capture_output=True, check=False).returncode == 0
