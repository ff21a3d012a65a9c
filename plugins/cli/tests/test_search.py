import json

import pytest


@pytest.fixture
def talked(invoke):
    invoke("chat", "--session", "t1", "--user", "ana", stdin="A table, please\nAna\n4\n")
    invoke("chat", "--session", "t2", "--user", "bob", stdin="A table, please\nBob\n")
    return "chat.db"


def test_what_is_found_is_printed(invoke, talked):
    done = invoke("sessions", "search", talked, "ana")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert (first.startswith("t1 3 "), first.endswith(" user: Ana")) == (True, True)
    assert (second.startswith("t1 6 "), " assistant: Thank you" in second) == (True, True)


def test_as_json_it_is_one_object_per_line(invoke, talked):
    done = invoke("sessions", "search", talked, "table please", "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert sorted(one["session_id"] for one in found) == ["t1", "t2"]
    assert list(found[0]) == ["session_id", "score", "highlight", "message"]
    assert found[0]["highlight"] == "A **table**, **please**"
    assert found[0]["message"]["content"] == "A table, please"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--user", "ana"], ["t1"]),
        (["--session", "t2"], ["t2"]),
        (["--role", "user"], ["t1", "t2"]),
        (["--role", "tool"], []),
        (["--since", "1h"], ["t1", "t2"]),
        (["--until", "1h"], []),
        (["--since", "2999-01-01"], []),
        (["--namespace", "other"], []),
    ],
)
def test_conditions(invoke, talked, options, expected):
    done = invoke("sessions", "search", talked, '"a table"', "--json", *options)
    assert sorted(json.loads(line)["session_id"] for line in done.out.splitlines()) == expected
    assert done.code == (0 if expected else 1)
    assert ("No message says that." in done.err) == (not expected)


def test_more_than_the_limit_is_said(invoke, talked):
    done = invoke("sessions", "search", talked, "table", "--limit", "1")
    assert len(done.out.splitlines()) == 1
    assert "These are the best 1 of more; --limit N shows others." in done.err


def test_text_with_a_minus(invoke, talked):
    assert invoke("sessions", "search", talked, "table -please", "--role", "user").code == 1
    refused = invoke("sessions", "search", talked, "--", "-please")
    assert refused.code == 2
    assert "name at least one" in refused.err


def test_what_is_wrong_is_said(invoke, talked):
    refused = invoke("sessions", "search", talked, "table", "--since", "yesterday")
    assert (refused.code, "neither an age" in refused.err) == (2, True)
    unable = invoke("sessions", "search", talked, "*")
    assert (unable.code, "there is no word to search for" in unable.err) == (2, True)


def test_a_message_cannot_command_the_terminal(invoke):
    invoke("chat", "--session", "t1", stdin="red \x1b[31malert\n")
    assert "\x1b" not in invoke("sessions", "search", "chat.db", "alert").out
