"""What the adapter is told: paths, URLs, options."""

import os
import pathlib
import sqlite3
from datetime import timedelta

import pytest

from turnkeep.errors import ConfigurationError, InvalidArgument
from turnkeep.urls import StorageURL
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_sqlite.statements import Tables


def from_url(text):
    url = StorageURL(text)
    adapter = SQLiteAdapter.from_url(url)
    url.finish()
    return adapter


def path_of(adapter):
    return adapter._source.path


def test_a_relative_path_is_of_the_directory_it_was_given_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adapter = from_url("sqlite:///some.db")
    monkeypatch.chdir("/")
    assert path_of(adapter) == tmp_path / "some.db"


def test_an_absolute_path():
    assert path_of(from_url("sqlite:////var/lib/app/some.db")) == pathlib.Path("/var/lib/app/some.db")


def test_percent_encoded_paths():
    assert path_of(from_url("sqlite:////tmp/a%20b%3Fc%23d.db")).name == "a b?c#d.db"


def test_every_option():
    adapter = from_url(
        "sqlite:///x.db?durability=normal&tables.sessions=agent_sessions&tables.messages=agent_messages"
        "&tables.commits=agent_commits&shared=true&busy_timeout=1.5&readers=4&max_page_count=100"
    )
    settings = adapter._settings
    assert (settings.durability, settings.busy_timeout, settings.readers, settings.max_page_count) == (
        "normal",
        1.5,
        4,
        100,
    )
    assert adapter._schema._tables == Tables(
        "agent_sessions", "agent_messages", "agent_commits", "agent_schema", "agent_history", "agent_words"
    )
    assert adapter._schema._shared


def test_defaults():
    adapter = from_url("sqlite:///x.db")
    assert (adapter._settings.durability, adapter._settings.busy_timeout, adapter._settings.readers) == ("full", 5.0, 2)
    assert adapter._schema._tables == Tables()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "names a file"),
        ("sqlite:///", "names a file"),
        ("sqlite:////", "names a file"),
        ("sqlite:///some/directory/", "names a file"),
        ("sqlite://relative.db", "three slashes"),
        ("sqlite://host/relative.db", "three slashes"),
        ("sqlite://user:secret@host/relative.db", "three slashes"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///file:x.db?mode=memory", "memory://"),
        ("sqlite:///~/x.db", "not expanded"),
        ("sqlite:///x.db?durabilty=full", "did you mean durability"),
        ("sqlite:///x.db?durability=extra", "full or normal"),
        ("sqlite:///x.db?readers=0", "readers"),
        ("sqlite:///x.db?readers=many", "whole number"),
        ("sqlite:///x.db?busy_timeout=0", "positive"),
        ("sqlite:///x.db?busy_timeout=90000", "busy_timeout"),
        ("sqlite:///x.db?shared=perhaps", "true or false"),
        ("sqlite:///x.db?max_page_count=0", "max_page_count"),
        ("sqlite:///x.db?tables.sessions=a%20b", "letters, digits"),
        ("sqlite:///x.db?tables.sessions=", "must not be empty"),
        ("sqlite:///x.db?tables.sessions=sqlite_x", "SQLite's own"),
        ("sqlite:///x.db?tables.sessions=X&tables.messages=x", "different names"),
        ("sqlite:///x.db?tables.users=x", "no option"),
    ],
)
def test_refused_urls(url, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "\0", b"x.db", 7, None, ":memory:", "file:x.db", "~/x.db"])
def test_refused_paths(path):
    with pytest.raises(InvalidArgument):
        SQLiteAdapter(path)


@pytest.mark.parametrize("name", ["a b", 'a"b', "a.b", "1a", "x" * 64, "", "a;--", "ä", 3])
def test_refused_table_names(name):
    with pytest.raises(InvalidArgument):
        SQLiteAdapter("x.db", tables={"sessions": name})


def test_unknown_table_is_refused():
    with pytest.raises(InvalidArgument, match="sessions, messages and commits"):
        SQLiteAdapter("x.db", tables={"message": "x"})


def test_names_that_are_not_given_follow_the_sessions_table():
    assert Tables.named({"sessions": "chats"}).schema == "chats_schema"
    assert Tables.named({"sessions": "sessions"}).schema == "schema"
    assert Tables.named({"sessions": "agent_sessions"}).history == "agent_history"
    assert Tables.named({"messages": "m"}) == Tables(messages="m")


def test_a_path_like_object(tmp_path):
    class Somewhere(os.PathLike):
        def __fspath__(self):
            return str(tmp_path / "x.db")

    assert path_of(SQLiteAdapter(Somewhere())) == tmp_path / "x.db"


def test_options_of_files_are_refused_for_connections():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    with pytest.raises(InvalidArgument, match="keeps its own settings"):
        SQLiteAdapter(connection, durability="normal")
    with pytest.raises(InvalidArgument, match="keeps its own settings"):
        SQLiteAdapter(connection, busy_timeout=timedelta(seconds=1))
    connection.close()


@pytest.mark.skipif(
    not hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"), reason="connections have autocommit from 3.12 on"
)
def test_a_connection_that_always_has_a_transaction_is_refused():
    connection = sqlite3.connect(":memory:", autocommit=False, check_same_thread=False)
    with pytest.raises(ConfigurationError, match="autocommit"):
        SQLiteAdapter(connection)
    connection.close()
