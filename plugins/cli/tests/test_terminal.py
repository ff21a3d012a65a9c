"""A person at a terminal."""

import time

from .conftest import stored


def test_a_conversation_is_left_and_taken_up_again(terminal, tmp_path):
    first = terminal("chat", "--session", "t1")
    first.wait_for("a new conversation: t1, kept in chat.db")
    first.wait_for("Book a table · Plan a party")
    first.say("A table please", "Under what name shall I book it?")
    first.say("Ana", "For how many guests?")
    first.wait_for("you> ")
    first.type("\x04")
    assert first.end() == 0

    second = terminal("chat", "--session", "t1")
    second.wait_for("going on with t1, 4 messages")
    second.wait_for("you> A table please\n  Under what name shall I book it?")
    second.wait_for("you> Ana\n  For how many guests?")
    second.say("4", "Thank you, that is all I need: name Ana, guests 4.")
    second.say("/history", "6 of 6 messages")
    second.wait_for("you> 4\n  Thank you, that is all I need")
    second.say("/history 2", "2 of 6 messages")
    second.say("/history many", "takes a number from 1 to 1000")
    second.say("/data", "guests  4      book-a-table")
    second.wait_for("between routes; completed: book-a-table")
    second.say("/quit", "")
    assert second.end() == 0
    assert len(stored(tmp_path / "chat.db", "t1").history) == 6

    third = terminal("chat", "--session", "t1")
    third.wait_for("going on with t1, 6 messages\n  … /history shows more")
    third.wait_for("you> Ana")


def test_commands(terminal, tmp_path):
    chat = terminal("chat")
    chat.say("/help", "forget this conversation")
    chat.say("/history", "Nothing was said yet.")
    chat.say("/data", "Nothing was collected yet.")
    chat.say("/reset", "There is nothing to forget yet.")
    chat.say("/hsitory", "There is no command /hsitory. /help lists them")
    chat.say("   ", "")
    assert stored(tmp_path / "chat.db", "demo") is None
    chat.say("//etc is a path", "What can I do for you?")
    chat.say("table", "Under what name")
    chat.say("/reset", "Forget 4 messages and what was collected? [y/N] ")
    chat.type("n\r")
    chat.wait_for("Nothing was forgotten.")
    assert stored(tmp_path / "chat.db", "demo").history[0].content == "/etc is a path"
    chat.say("/reset", "[y/N] ")
    chat.type("y\r")
    chat.wait_for("Forgotten. The next message begins anew.")
    assert stored(tmp_path / "chat.db", "demo") is None
    chat.say("table", "Under what name")
    assert len(stored(tmp_path / "chat.db", "demo").history) == 2


def test_ctrl_c_at_the_prompt(terminal):
    chat = terminal("chat")
    chat.wait_for("you> ")
    chat.type("half a line")
    chat.wait_for("half a line")
    time.sleep(0.2)  # a signal that comes while readline draws is only noticed at the next key
    chat.type("\x03")
    assert chat.end() == 130
    assert "Traceback" not in chat.text


def test_ctrl_c_in_a_turn_stores_nothing(terminal, providers, tmp_path):
    chat = terminal("chat", "--provider", "slow", path=providers)
    chat.say("hello", "one two three")
    chat.say("forever", "one two three")
    chat.type("\x03")
    assert chat.end() == 130
    assert "Traceback" not in chat.text
    assert len(stored(tmp_path / "chat.db", "demo").history) == 2


def test_a_failed_turn(terminal, providers):
    chat = terminal("chat", "--provider", "failing", path=providers)
    chat.say("fail", r"error: the model [bold]is\x1b[31m out[/bold]; try again in a minute")
    chat.wait_for("Nothing of this turn was stored.")
    chat.say("again", "heard again")


def test_markdown_and_hostile_text(terminal, providers):
    chat = terminal("chat", "--provider", "hostile", path=providers)
    chat.say(r"my [bold]text[/bold] :smile:", "Menu")
    chat.wait_for("• soup [red]not markup[/red] :smile:")
    assert "\x1b[1msoup" in chat.raw
    chat.wait_for("List<String> and <script>alert(1)</script> and List<Integer>")
    chat.wait_for(r"escape \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eright to left")
    chat.wait_for("& ")
    chat.wait_for("link (http://example.org/%1b%5B31m) half \\ud800 end")
    for forbidden in ("\x1b[31m", "\x1b]0;", "\x07", "\x9b", "\u202e", "\x1b]8;"):
        assert forbidden not in chat.raw.replace("\x1b[31merror", "")
    chat.say("/history", "you> my [bold]text[/bold] :smile:")


def test_a_pipe_on_one_side_is_no_conversation(cli):
    """No prompt, no greeting, no colour."""
    assert cli("chat", stdin="").out == ""


def test_delete_asks(terminal, full):
    answers = terminal("sessions", "delete", full, "s01", "s02")
    answers.wait_for("Delete 2 sessions with all messages? [y/N] ")
    answers.type("n\r")
    answers.wait_for("error: nothing was deleted")
    assert answers.end() == 1
    answers = terminal("sessions", "delete", full, "--status", "completed")
    answers.wait_for("Delete 5 sessions with 15 messages? [y/N] ")
    answers.type("\x03")
    assert answers.end() == 130
    answers = terminal("sessions", "delete", full, "--status", "completed")
    answers.wait_for("[y/N] ")
    answers.type("y\r")
    answers.wait_for("Deleted 5 sessions.")
    assert answers.end() == 0
