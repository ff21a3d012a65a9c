"""PgBouncer before the new PostgreSQL, one server connection per transaction: how many teams meet their database."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import packages, pings
from .ports import free_port
from .postgres import PostgreSQL
from .server import Server
from .unprivileged import give, unprivileged

SETTINGS = """\
[databases]
* = {target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = users
admin_users = turnkeep
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
"""


class PgBouncer(Server):
    name = "pgbouncer"
    debian = ("pgbouncer",)
    needs = (PostgreSQL,)

    def find(self) -> Path | None:
        return packages.program("pgbouncer")

    def prepare(self, program: Path) -> str:
        backend = PostgreSQL(self.home)
        parts = urlsplit(os.environ.get(backend.variable) or backend.address() or "")
        target = f"host={parts.hostname} port={parts.port or 5432} user={unquote(parts.username or 'turnkeep')}"
        if parts.password:
            target += f" password={unquote(parts.password)}"
        port = free_port()
        (self.directory / "users").write_text('"turnkeep" ""\n', encoding="utf-8")
        (self.directory / "pgbouncer.ini").write_text(SETTINGS.format(target=target, port=port), encoding="utf-8")
        return f"postgresql://turnkeep@127.0.0.1:{port}{parts.path or '/turnkeep'}"

    def launch(self, program: Path, url: str) -> None:
        give(self.directory)
        self.processes.spawn(unprivileged([program, "pgbouncer.ini"]))

    def answers(self, url: str) -> bool:
        return pings.postgres(url)
