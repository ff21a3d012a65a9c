import re
import sqlite3
import subprocess
import sys

import pytest

from turnkeep.contract import YOURS
from turnkeep.memory import MemoryAdapter

from .conftest import install


def test_plugins(invoke):
    done = invoke("plugins")
    assert done.code == 0
    assert "memory://, provider guided" in done.out
    assert "turnkeep-sqlite" in done.out
    reports = {report["name"]: report for report in invoke("plugins", "--json").json()}
    assert reports["sqlite"]["schemes"] == ["sqlite"]
    assert list(reports["sqlite"]) == [
        *["name", "distribution", "version", "kind", "schemes", "providers", "payload_filter", "hooks", "blocked"],
        "error",
    ]


def test_broken_and_blocked_plugins(cli, tmp_path):
    path = install(tmp_path / "site", "broken", "import nowhere_to_be_found")
    done = cli("plugins", path=path, TURNKEEP_BLOCKED_PLUGINS="sqlite")
    assert done.code == 0
    assert re.search(r"turnkeep-broken +2\.5", done.out)
    assert "discovered, broken" in done.out
    assert "discovered, blocked" in done.out
    assert "plugin 'broken' (turnkeep-broken) is broken: ModuleNotFoundError" in done.out
    assert "nowhere_to_be_found" in done.out
    assert done.err == ""
    strict = cli("plugins", "--strict", "--json", path=path)
    assert strict.code == 1
    assert [report["name"] for report in strict.json() if report["error"]] == ["broken"]


def test_a_broken_plugin_hurts_nobody_else(cli, tmp_path):
    path = install(tmp_path / "site", "broken", "raise ValueError('\\x1b[31m')")
    done = cli("chat", stdin="table\n", path=path)
    assert (done.code, done.out) == (0, "Under what name shall I book it?\n")
    assert done.err == "warning: plugin 'broken' (turnkeep-broken) is broken: ValueError: \\x1b[31m\n"


def test_a_broken_plugin_is_red(terminal, tmp_path):
    screen = terminal("plugins", path=install(tmp_path / "site", "broken", "raise ValueError('[/red] \\x1b[0m')"))
    assert screen.end() == 0
    assert "\x1b[1;31mplugin 'broken'" in screen.raw
    assert r"[/red] \x1b[0m" in screen.text


def test_doctor(invoke, full, tmp_path):
    done = invoke("doctor", full)
    assert done.code == 0
    assert "ok       schema: version 2" in done.out
    assert "All is well" in done.out
    report = invoke("doctor", f"sqlite:///{full}", "--json").json()
    assert (report["ok"], report["adapter"]) == (True, "sqlite")
    assert {tuple(check) for check in report["checks"]} == {("name", "status", "detail", "fix")}
    assert {check["status"] for check in report["checks"]} <= {"ok", "warning"}
    before = sorted(tmp_path.iterdir())
    absent = invoke("doctor", "absent.db")
    assert absent.code == 1
    assert "WRONG    file: " in absent.out
    assert "→ make it with: turnkeep migrate" in absent.out
    assert "1 thing wrong: this database cannot be used as it is." in absent.out
    assert invoke("doctor", "absent.db", "--json").json()["ok"] is False
    assert sorted(tmp_path.iterdir()) == before
    assert invoke("doctor", "memory://").code == 0


def test_migrate(invoke, tmp_path):
    dry = invoke("migrate", "new.db", "--dry-run")
    assert dry.code == 0
    assert dry.out.startswith("would do  0001_initial: ")
    assert "Nothing was changed." in dry.out
    assert not (tmp_path / "new.db").exists()
    assert invoke("migrate", "new.db").out.startswith("done  0001_initial: ")
    again = invoke("migrate", "new.db")
    assert (again.code, again.out) == (0, "Nothing to do: the tables are of the version that is installed.\n")
    assert invoke("migrate", "new.db", "--json").json() == {
        "store": "new.db",
        "dry_run": False,
        "steps": [],
        "yours": [],
    }
    assert invoke("sessions", "list", "new.db").code == 0


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_migrate_never_says_done_of_what_it_leaves_to_the_user(invoke, monkeypatch, dry):
    async def migrate(self, *, dry_run=False):
        return ["CREATE TABLE a", f"{YOURS}ALTER TABLE chat ADD COLUMN b TEXT"]

    monkeypatch.setattr(MemoryAdapter, "migrate", migrate)
    left = invoke("migrate", "memory://", *dry)
    assert left.code == 1
    assert left.out.startswith(f"{'would do' if dry else 'done'}  CREATE TABLE a\n")
    assert "not done  ALTER TABLE chat ADD COLUMN b TEXT\n" in left.out
    assert "Yours to run, because it alters tables of your own: 1 step above." in left.out
    found = invoke("migrate", "memory://", "--json", *dry).json()
    assert (found["steps"], found["yours"]) == (["CREATE TABLE a"], ["ALTER TABLE chat ADD COLUMN b TEXT"])


def test_stats(invoke, full):
    done = invoke("stats", full)
    assert done.code == 0
    assert ["status", "active", "25"] in [line.split() for line in done.out.splitlines()]
    found = invoke("stats", full, "--json").json()
    keys = ["sessions", "messages", "bytes", "by_status", "by_agent", "by_route", "by_day", "oldest", "newest"]
    assert list(found) == keys
    (day,) = found["by_day"]
    assert day == {"day": found["oldest"][:10], "sessions": 30, "messages": 90, "bytes": found["bytes"]}
    assert [day["day"], "30", "90"] in [line.split()[:3] for line in done.out.splitlines()]
    assert (found["sessions"], found["messages"]) == (30, 90)
    assert {"status": "completed", "sessions": 5} in found["by_status"]
    assert found["by_agent"] == [{"agent_name": None, "sessions": 30}]
    assert invoke("stats", "memory://", "--json").json()["oldest"] is None


def test_help_and_version(cli):
    done = cli("--help")
    assert done.code == 0
    assert "Exit codes: 0 all is well" in done.out
    assert cli("--version").out.startswith("turnkeep-cli 1.")
    assert cli().code in {0, 2}


def test_help_needs_neither_turnkeep_nor_pydantic(cli):
    code = "import sys, turnkeep_cli.commands; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"'turnkeep'", "'pydantic'", "'sqlite3'"} & set(loaded.strip("[]\n").split(", "))


@pytest.fixture
def newer(full):
    connection = sqlite3.connect(full)
    with connection:
        connection.execute("INSERT INTO turnkeep_schema VALUES (99, '0099_later', '2099-01-01T00:00:00.000000Z')")
    connection.close()
    return full


def test_a_newer_schema(invoke, newer):
    for command in (["sessions", "list"], ["migrate"], ["stats"]):
        done = invoke(*command, newer)
        assert (done.code, done.out) == (3, "")
        assert "pip install --upgrade turnkeep-sqlite" in done.err
    assert invoke("doctor", newer).code == 1
