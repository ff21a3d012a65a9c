import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from turnkeep_cli.sessions import parse_age

from .conftest import COMMAND, environ, stored

KEYS = [
    *["id", "user_id", "agent_name", "status", "current_route", "current_step", "message_count", "last_message_at"],
    *["completed_at", "created_at", "updated_at", "expires_at"],
]
MESSAGE_KEYS = [
    *["seq", "id", "role", "name", "content", "route", "step", "tool_calls", "tool_call_id", "event", "metadata"],
    *["created_at", "commit_id"],
]


def test_list(invoke, full):
    done = invoke("sessions", "list", full)
    lines = done.out.splitlines()
    assert lines[0].split() == ["id", "status", "user", "agent", "route", "messages", "last", "commit"]
    assert len(lines) == 21
    assert "These are 20 of more; --limit N or --all shows the others." in done.err
    assert len(invoke("sessions", "list", full, "--all").out.splitlines()) == 31
    exact = invoke("sessions", "list", full, "--limit", "30")
    assert len(exact.out.splitlines()) == 31
    assert exact.err == ""


def test_list_as_json_is_one_object_per_line(invoke, full):
    done = invoke("sessions", "list", full, "--all", "--order", "created", "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["id"] for one in found] == [f"s{number:02}" for number in range(30)]
    assert list(found[0]) == KEYS
    assert datetime.fromisoformat(found[0]["updated_at"]).tzinfo is not None


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["--status", "completed"], 5),
        (["--user", "ana"], 20),
        (["--user", "ana", "--status", "completed"], 3),
        (["--older-than", "1d"], 0),
        (["--older-than", "2999-01-01"], 30),
        (["--agent", "Front desk"], 0),
        (["--route", "book-a-table"], 0),
        (["--namespace", "other"], 0),
    ],
)
def test_conditions(invoke, full, conditions, expected):
    done = invoke("sessions", "list", full, "--all", "--json", *conditions)
    assert (done.code, len(done.out.splitlines())) == (0, expected)
    assert ("No sessions" in done.err) == (expected == 0)


def test_show(invoke):
    invoke("chat", "--session", "t1", "--user", "ana", stdin="table\nAna\n")
    done = invoke("sessions", "show", "chat.db", "t1")
    assert done.code == 0
    for line in ("user          ana", "step          guests", "messages      4", "data.name     Ana"):
        assert line in done.out
    assert "    3 user: Ana\n    4 assistant: For how many guests?\n" in done.out
    document = invoke("sessions", "show", "chat.db", "t1", "--messages", "3", "--json").json()
    extra = ["data", "collected_by", "data_version", "metadata", "route_history", "messages"]
    assert list(document) == KEYS + extra
    assert [message["seq"] for message in document["messages"]] == [2, 3, 4]
    assert list(document["messages"][0]) == MESSAGE_KEYS
    assert document["data"] == {"name": "Ana"}
    assert invoke("sessions", "show", "chat.db", "t1", "--messages", "0", "--json").json()["messages"] == []


def test_show_a_long_one(invoke):
    invoke("chat", stdin="hello\n" * 120)
    document = invoke("sessions", "show", "chat.db", "demo", "--messages", "230", "--json").json()
    assert [message["seq"] for message in document["messages"]] == list(range(11, 241))


def test_show_what_is_not_there(invoke, full):
    done = invoke("sessions", "show", full, "nobody")
    assert (done.code, done.out) == (1, "")
    assert f"there is no session 'nobody' in {full}; those there are: turnkeep sessions list {full}" in done.err


def test_delete_by_id(invoke, full):
    assert invoke("sessions", "delete", full, "s01", "s02", "s01", "--yes").out == "Deleted 2 sessions.\n"
    assert stored(full, "s01") is None
    done = invoke("sessions", "delete", full, "s01", "s03", "--yes", "--json")
    assert done.code == 1
    assert done.json() == {"deleted": 1, "not_found": ["s01"]}
    assert "there is no session 's01'" in done.err


def test_delete_by_condition(invoke, full):
    assert invoke("sessions", "delete", full, "--status", "completed", "-y").out == "Deleted 5 sessions.\n"
    assert (
        invoke("sessions", "delete", full, "--status", "completed", "-y").out == "No session meets these conditions.\n"
    )
    assert invoke("sessions", "delete", full, "--user", "ana", "--yes", "--json").json() == {
        "deleted": 17,
        "not_found": [],
    }
    assert len(invoke("sessions", "list", full, "--all", "--json").out.splitlines()) == 8


def test_delete_does_not_guess(invoke, full):
    done = invoke("sessions", "delete", full, "s01")
    assert done.code == 2
    assert "this would delete 1 session with all messages, and there is no terminal to ask on: add --yes" in done.err
    done = invoke("sessions", "delete", full, "--older-than", "2999-01-01")
    assert done.code == 2
    assert "30 sessions with 90 messages" in done.err
    assert invoke("sessions", "delete", full, "--yes").code == 2
    assert invoke("sessions", "delete", full, "s01", "--user", "ana", "--yes").code == 2
    assert len(invoke("sessions", "list", full, "--all", "--json").out.splitlines()) == 30


def test_a_reader_that_has_seen_enough(full):
    command = [*COMMAND, "sessions", "list", str(full), "--all", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_ages():
    assert parse_age("30d") == timedelta(days=30)
    assert parse_age(" 2 W ") == timedelta(weeks=2)
    assert parse_age("90s") == timedelta(seconds=90)
    assert parse_age("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_age("2026-01-31T12:00:00+02:00") == datetime(2026, 1, 31, 10, tzinfo=UTC)
    for wrong in ("", "30", "3y", "-3d", "d", "999999999w", "2026-13-01"):
        with pytest.raises(ValueError, match="neither an age such as"):
            parse_age(wrong)
