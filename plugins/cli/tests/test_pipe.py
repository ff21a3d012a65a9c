"""The main job: lines piped into one process, then into another."""

import os
import signal
import subprocess

import pytest

from .conftest import COMMAND, environ, stored


def test_two_processes_one_conversation(cli, tmp_path):
    first = cli("chat", "--db", "two words #1%20?.db", "--session", "t1", stdin="A table please\n\n   \nAna\n")
    assert (first.code, first.err) == (0, "")
    assert first.out == "Under what name shall I book it?\nFor how many guests?\n"
    second = cli("chat", "--db", "two words #1%20?.db", "--session", "t1", stdin="4\n")
    assert (second.code, second.out) == (0, "Thank you, that is all I need: name Ana, guests 4.\n")
    state = stored(f"{tmp_path}/two words %231%2520%3F.db", "t1")
    assert [message.role for message in state.history] == ["user", "assistant"] * 3
    assert state.data == {"name": "Ana", "guests": 4}
    assert [(visit.route, visit.completed) for visit in state.route_history] == [("book-a-table", True)]
    assert state.current_route is None


def test_killed_between_turns(cli, tmp_path):
    arguments = ["chat", "--db", "killed.db", "--session", "t1"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, cwd=tmp_path, env=environ()) as process:
        for line, reply in [(b"A table please\n", b"Under what name"), (b"Ana\n", b"For how many")]:
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().startswith(reply)
        os.kill(process.pid, signal.SIGKILL)
    second = cli(*arguments, stdin="4\n")
    assert second.out == "Thank you, that is all I need: name Ana, guests 4.\n"
    state = stored(tmp_path / "killed.db", "t1")
    assert len(state.history) == 6
    assert state.data == {"name": "Ana", "guests": 4}


def test_wrong_answers_are_asked_again(invoke):
    lines = ["table", "4711", "Ana", "many", "13", "0", "two"]
    done = invoke("chat", stdin="\n".join(lines))
    assert done.out.splitlines() == [
        "Under what name shall I book it?",
        "That does not fit: a name has letters. Under what name shall I book it?",
        "For how many guests?",
        "I need a whole number. For how many guests?",
        "That does not fit: our tables seat 1 to 12. For how many guests?",
        "That does not fit: our tables seat 1 to 12. For how many guests?",
        "Thank you, that is all I need: name Ana, guests 2.",
    ]


def test_the_other_route(invoke, tmp_path):
    lines = ["a party", "Ana", "31.2.2027", "1999-01-01", "9999-12-31", "tomorrow", "4", "40"]
    done = invoke("chat", stdin="\n".join(lines))
    replies = done.out.splitlines()
    assert replies[:6] == [
        "Whose party is it?",
        "On which day?",
        "There is no such day. On which day?",
        "That does not fit: that day is over. On which day?",
        "That does not fit: we plan no more than a year ahead. On which day?",
        "How many people will come?",
    ]
    assert replies[6].startswith("That does not fit: parties here are for 13 to 80 people.")
    assert replies[7].endswith("people 40.")
    # What is known is not asked again.
    assert invoke("chat", stdin="a table\n").out == "For how many guests?\n"


def test_a_slash_is_a_message_in_a_pipe(invoke, tmp_path):
    assert invoke("chat", stdin="/quit\n").out == "What can I do for you? Book a table or Plan a party?\n"
    assert stored(tmp_path / "chat.db", "demo").history[0].content == "/quit"


def test_a_failed_turn_is_reported_and_the_next_one_taken(cli, providers, tmp_path):
    done = cli("chat", "--provider", "failing", stdin="one\nfail\ntwo\n", path=providers)
    assert done.code == 1
    assert done.out == "heard one\nheard two\n"
    assert done.err.splitlines() == [
        r"error: the model [bold]is\x1b[31m out[/bold]; try again in a minute",
        "Nothing of this turn was stored.",
    ]
    assert len(stored(tmp_path / "chat.db", "demo").history) == 4


def test_replies_are_plain_and_cannot_command_a_terminal(cli, providers):
    done = cli("chat", "--provider", "hostile", stdin="hi\n", path=providers)
    assert done.code == 0
    assert "- **soup** [red]not markup[/red] :smile:" in done.out
    assert r"escape \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eright to left" in done.out
    assert r"half \ud800 end" in done.out
    assert not set(done.out) & {"\x1b", "\x07", "\x9b"}


def test_bytes_that_are_not_utf_8(cli, tmp_path):
    done = cli("chat", stdin="table\nJos\udce9\n")
    assert done.code == 0
    assert stored(tmp_path / "chat.db", "demo").data == {"name": "Jos\ufffd"}


def test_windows_line_ends_and_no_last_one(invoke, tmp_path):
    invoke("chat", stdin="table\r\nAna\r\n4")
    assert stored(tmp_path / "chat.db", "demo").data == {"name": "Ana", "guests": 4}


def test_nothing_is_stored_by_starting(invoke, tmp_path):
    assert invoke("chat").code == 0
    assert stored(tmp_path / "chat.db", "demo") is None


def test_a_url_with_options_a_path_with_tilde_and_memory(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert invoke("chat", "--db", f"sqlite:///{tmp_path}/u.db?durability=normal&namespace=n", stdin="table\n").code == 0
    assert invoke("sessions", "list", "u.db", "--namespace", "n", "--json").json()["id"] == "demo"
    assert invoke("chat", "--db", "~/home.db", stdin="table\n").code == 0
    assert (tmp_path / "home.db").exists()
    assert invoke("chat", "--db", "memory://", stdin="table\nAna\n4\n").out.endswith("guests 4.\n")


def test_sessions_of_others(invoke):
    assert invoke("chat", "--user", "ana", stdin="table\n").code == 0
    for arguments in (["chat"], ["chat", "--user", "bob"]):
        done = invoke(*arguments, stdin="table\n")
        assert (done.code, done.out) == (1, "")
        assert done.err == "error: session 'demo' belongs to 'ana': add --user ana, or choose another --session\n"
    assert invoke("chat", "--user", "ana", stdin="Ana\n").out == "For how many guests?\n"
    invoke("chat", "--session", "open", stdin="table\n")
    done = invoke("chat", "--session", "open", "--user", "ana", stdin="x\n")
    assert done.err == "error: session 'open' belongs to nobody: leave --user out, or choose another --session\n"


@pytest.mark.parametrize(
    ("provider", "says"),
    [
        ("gpt", "there is no provider 'gpt'"),
        ("unmade", "provider 'unmade' cannot be made: RuntimeError: set ACME_KEY"),
        ("wrong", "provider 'wrong' makes dict, which is no turnkeep Provider"),
    ],
)
def test_providers_that_cannot_be_had(cli, providers, provider, says):
    done = cli("chat", "--provider", provider, path=providers)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_ctrl_c_ends_a_pipe(tmp_path):
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, "chat"], stdin=pipe, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environ()
    ) as process:
        process.stdin.write(b"table\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == b""
