"""Everything that a person can get wrong: one line that says what to do, an exit code, nothing made."""

import os
import sqlite3
import sys
from importlib.util import find_spec

import pytest

from turnkeep_cli.__main__ import main
from turnkeep_cli.outcomes import mask


@pytest.fixture
def place(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "letter.txt").write_text("Dear Ana, " * 200)
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE plants (name)")
    connection.close()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["chat", "--db", "folder"], 3, "is a directory; name a file in it"),
        (["chat", "--db", "letter.txt"], 3, "not a SQLite database"),
        (["chat", "--db", "other.db"], 3, "the database of something else"),
        (["chat", "--db", "nowhere/chat.db"], 3, "there is no directory"),
        (["chat", "--db", ""], 2, "name a database"),
        (["chat", "--db", "sqlite:chat.db"], 2, "write sqlite://… for a URL"),
        (["chat", "--db", "sqlite:///chat.db?durabilty=full"], 2, "did you mean durability?"),
        (["chat", "--db", "sqlite://host/chat.db"], 2, "an SQLite URL has no host"),
        (["chat", "--db", "chat\ud800.db"], 2, "is not UTF-8"),
        (["chat", "--session", ""], 2, "--session must be 1 to 512 bytes"),
        (["chat", "--user", "x" * 600], 2, "--user must be 1 to 512 bytes"),
        pytest.param(
            ["doctor", "opensearch://app:secret@db/app"],
            2,
            "pip install turnkeep-opensearch",
            marks=pytest.mark.skipif(find_spec("turnkeep_opensearch") is not None, reason="it is installed"),
        ),
        (["sessions", "list", "absent.db"], 3, "turnkeep migrate"),
        (["sessions", "show", "absent.db", "x"], 3, "turnkeep migrate"),
        (["sessions", "delete", "absent.db", "x", "--yes"], 3, "turnkeep migrate"),
        (["stats", "absent.db"], 3, "turnkeep migrate"),
        (["sessions", "list", "memory://", "--namespace", "No!"], 2, "a namespace is"),
        (["migrate", "other.db"], 3, "the database of something else"),
        (["migrate", "folder"], 3, "is a directory"),
    ],
)
def test_errors_of_ours(invoke, place, arguments, code, says):
    before = sorted(place.iterdir())
    done = invoke(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert "secret" not in done.err
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sessions", "list", "memory://", "--older-than", "3y"], "'3y' is neither an age such as 45m"),
        (["sessions", "list", "memory://", "--status", "gone"], "abandoned"),
        (["sessions", "list", "memory://", "--limit", "0"], "--limit"),
        (["sessions", "delete", "memory://"], "at least one condition"),
        (["doctor"], "URL"),
        (["doctor", "memory://", "postgresql://app:secret@db/app?password=secret"], "postgresql://***@db/app?***"),
        (["chta"], "chta"),
    ],
)
def test_errors_of_typing(invoke, arguments, says):
    done = invoke(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err.replace("\n", "")
    assert "secret" not in done.err


def test_a_read_only_place(invoke, tmp_path, full):
    if os.geteuid() == 0:
        pytest.skip("nothing is read-only for root")
    tmp_path.chmod(0o500)
    try:
        done = invoke("chat", "--db", "chat.db")
    finally:
        tmp_path.chmod(0o700)
    assert done.code == 3
    assert "read-only" in done.err


def test_a_full_disk(cli):
    """A turn that does not fit is refused, said so, and the conversation goes on."""
    done = cli("chat", "--db", "sqlite:///small.db?max_page_count=32", stdin=f"table\n{'long ' * 20000}\nAna\n")
    assert done.code == 1
    assert "max_page_count" in done.err
    assert done.out == "Under what name shall I book it?\nFor how many guests?\n"


def test_a_corrupt_page(invoke, full):
    data = bytearray(full.read_bytes())
    data[4096 : len(data)] = b"\x5a" * (len(data) - 4096)
    full.write_bytes(data)
    done = invoke("sessions", "list", full)
    assert done.code == 3
    assert invoke("doctor", full).code == 1


def test_tracebacks_on_request(cli):
    plain = cli("sessions", "list", "absent.db")
    assert "Traceback" not in plain.err
    for arguments, extra in ((["--traceback"], {}), ([], {"TURNKEEP_TRACEBACK": "1"})):
        done = cli(*arguments, "sessions", "list", "absent.db", **extra)
        assert done.code == 3
        assert "Traceback" in done.err
        assert "SchemaMissing" in done.err


def test_main_may_be_called_where_streams_are_not_files(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["turnkeep", "stats", "memory://"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in {0, None}
    assert "sessions  0" in capsys.readouterr().out


def test_mask():
    assert mask("no (redis://u:p/w@h:1/0?ssl=x&token=y) here") == "no (redis://***@h:1/0?***) here"
    assert mask("sqlite:///a.db") == "sqlite:///a.db"
