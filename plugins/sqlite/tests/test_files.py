"""Files that cannot be used, or fail under way: a typed error that says what to do; nothing lost, nothing made."""

import errno
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from turnkeep.contract import Expect, LoadQuery, MessageQuery
from turnkeep.errors import (
    CorruptRecord,
    ForeignTable,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
)
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import files_in, opened, run_sql


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


async def refusal(path, error, says, **options):
    """Every way in refuses alike, and leaves nothing behind."""
    before = files_in(path.parent) if path.parent.is_dir() else None
    adapter = SQLiteAdapter(path, **options)
    for call in (adapter.open, adapter.migrate):
        with pytest.raises(error, match=says) as caught:
            await call()
        assert caught.value.adapter == "sqlite"
    report = await adapter.check()
    assert not report.ok
    assert (files_in(path.parent) if path.parent.is_dir() else None) == before
    return caught.value


async def test_a_missing_directory(tmp_path):
    error = await refusal(tmp_path / "no" / "such" / "store.db", StorageUnavailable, "make it first")
    assert not error.retryable
    assert files_in(tmp_path) == []


async def test_a_directory(tmp_path):
    (tmp_path / "store.db").mkdir()
    await refusal(tmp_path / "store.db", StorageRefused, "is a directory")


async def test_a_pipe(path):
    os.mkfifo(path)
    await refusal(path, StorageRefused, "not a regular file")


async def test_a_file_as_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    await refusal(tmp_path / "file" / "store.db", StorageUnavailable, "cannot be looked at")


async def test_a_loop_of_links(path):
    path.symlink_to(path)
    await refusal(path, StorageUnavailable, "cannot be looked at")


async def test_a_read_only_file(path):
    async with opened(path):
        pass
    path.chmod(0o444)
    before = path.read_bytes()
    await refusal(path, StorageRefused, "read-only.*chmod")
    assert path.read_bytes() == before


async def test_a_file_of_somebody_else(path, monkeypatch):
    """Root is not bound by permissions, so the answer of the system is given here."""
    async with opened(path):
        pass
    monkeypatch.setattr(os, "access", lambda place, mode: os.fspath(place) != os.fspath(path))
    await refusal(path, StorageRefused, "read-only")


async def test_a_read_only_directory(path, monkeypatch):
    async with opened(path):
        pass
    monkeypatch.setattr(os, "access", lambda place, mode: os.fspath(place) != os.fspath(path.parent))
    await refusal(path, StorageRefused, "read-only directory")


async def test_a_directory_in_which_nothing_can_be_made(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    await refusal(path, StorageRefused, "cannot be made: Permission denied")


async def test_a_read_only_connection(path):
    async with opened(path):
        pass
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
    try:
        async with opened(connection) as adapter:
            key = new_key()
            with pytest.raises(StorageRefused, match="read-only") as caught:
                await adapter.commit(new_commit(key, "x"))
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert await adapter.load(key, LoadQuery()) is None
    finally:
        connection.close()


@pytest.mark.parametrize("content", [b"x", b"hello, this is a text file\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(5000)])
async def test_a_file_of_another_kind(path, content):
    path.write_bytes(content)
    await refusal(path, ForeignTable, "not a SQLite database; choose another path")
    assert path.read_bytes() == content


async def test_only_the_owner_may_read_a_new_file(path):
    mask = os.umask(0)
    try:
        async with opened(path):
            for file in path.parent.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    finally:
        os.umask(mask)


async def test_closing_leaves_one_file(path):
    async with opened(path) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
        assert files_in(path.parent) == ["store.db", "store.db-shm", "store.db-wal"]
    assert files_in(path.parent) == ["store.db"]


async def test_links_are_followed_to_one_file(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "here" / "store.db")
    async with opened(tmp_path / "link.db") as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, "x"))
        async with opened(tmp_path / "here" / "store.db") as other:
            assert await other.load(key, LoadQuery()) is not None
    assert (tmp_path / "link.db").is_symlink()


@pytest.mark.parametrize("name", ["a b.db", "a?mode=memory", "a#b.db", "50%41.db", "ä€😀.db", "-x.db", "a\nb.db"])
async def test_any_file_name(tmp_path, name):
    async with opened(tmp_path / name) as adapter:
        await adapter.commit(new_commit(new_key(), "x"))
    assert files_in(tmp_path) == [name]


@pytest.mark.parametrize("replace", [False, True])
async def test_a_file_that_vanishes_takes_no_acknowledged_commit(path, replace):
    async with opened(path) as adapter:
        key = new_key()
        token = (await adapter.commit(new_commit(key, "x"))).token
        path.unlink()
        if replace:
            path.touch()
            await adapter.migrate()
            assert (await adapter.check()).ok
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            await adapter.commit(new_commit(key, "y", expect=token))
        await adapter.aclose()
        await adapter.open()
        await adapter.commit(new_commit(key, "x"))


# A full disk


async def test_a_full_disk_keeps_what_was_acknowledged(path):
    async with opened(path, max_page_count=60) as adapter:
        key = new_key()
        token = (await adapter.commit(new_commit(key, "first"))).token
        with pytest.raises(StorageFull, match="max_page_count") as caught:  # noqa: PT012 - some commit does not fit
            for _ in range(200):
                token = (await adapter.commit(new_commit(key, "x" * 1000, "y", expect=token))).token
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        stored = await adapter.load(key, LoadQuery())
        assert stored.head.token == token
        assert await adapter.delete(key)
        await adapter.commit(new_commit(key, "there is room again"))
    assert run_sql(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_full_disk_fails_only_the_turn_that_does_not_fit(path):
    async with opened(path, max_page_count=60) as adapter:
        import asyncio

        keys = [new_key() for _ in range(10)]
        commits = [new_commit(key, "x" * (600_000 if number == 4 else 10)) for number, key in enumerate(keys)]
        outcomes = await asyncio.gather(*map(adapter.commit, commits), return_exceptions=True)
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)] == [4]
        assert isinstance(outcomes[4], StorageFull)
        for number, key in enumerate(keys):
            assert (await adapter.load(key, LoadQuery()) is not None) == (number != 4)


async def test_no_room_for_the_tables(path):
    with pytest.raises(StorageFull):
        await SQLiteAdapter(path, max_page_count=5).open()
    async with opened(path):
        pass


def test_a_file_size_limit(path):
    """The system refuses to let the file grow; what was acknowledged before stays."""
    program = """
import asyncio, resource, signal, sys
from turnkeep_sqlite import SQLiteAdapter
from turnkeep_testkit import new_commit, new_key
from turnkeep.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    adapter = SQLiteAdapter(sys.argv[1]); await adapter.open()
    key = new_key(session_id="s")
    token = (await adapter.commit(new_commit(key, "x"))).token
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        for _ in range(500):
            token = (await adapter.commit(new_commit(key, "x" * 5000, expect=token))).token
    except StorageError as error:
        print(type(error).__name__, token.version)
    await adapter.aclose()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    name, version = done.stdout.split()
    assert name in {"StorageUnavailable", "StorageFull", "CommitOutcomeUnknown"}, done.stderr
    assert run_sql(path, "SELECT version, last_seq FROM turnkeep_sessions") == [(int(version), int(version))]
    assert run_sql(path, "PRAGMA integrity_check") == [("ok",)]


# Damage


@pytest.fixture
async def key(path):
    key = new_key(session_id="damaged")
    async with opened(path) as adapter:
        await adapter.commit(new_commit(key, *(f"message {number} " + "x" * 900 for number in range(60))))
    return key


async def test_a_message_that_is_missing_is_noticed(path, key):
    run_sql(path, "DELETE FROM turnkeep_messages WHERE seq = 30")
    async with opened(path) as adapter:
        for window in (None, 50):
            with pytest.raises(CorruptRecord, match="damaged"):
                await adapter.load(key, LoadQuery(window))
        with pytest.raises(CorruptRecord):
            await adapter.read_messages(key, MessageQuery(100))
        assert len((await adapter.read_messages(key, MessageQuery(20))).items) == 20


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE turnkeep_sessions SET created_at = 'yesterday'",
        "UPDATE turnkeep_sessions SET marks = '[1'",
        "UPDATE turnkeep_sessions SET marks = '[[1]]'",
        "UPDATE turnkeep_sessions SET last_seq = 99",
        "UPDATE turnkeep_messages SET created_at = 'yesterday' WHERE seq = 7",
        "UPDATE turnkeep_messages SET content = CAST(x'ff' AS TEXT) WHERE seq = 7",
        "UPDATE turnkeep_sessions SET state = CAST(x'22ff' AS TEXT)",
    ],
)
async def test_damaged_rows_are_errors_and_quote_nothing(path, key, damage):
    run_sql(path, damage)
    async with opened(path) as adapter:
        with pytest.raises(CorruptRecord) as caught:
            await adapter.load(key, LoadQuery())
        causes = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert not any("message 6" in str(cause) or "\\xff" in repr(cause) for cause in causes)


async def test_flipped_bytes_never_read_as_nothing(path, key):
    """Every page of the file in turn: the session comes back whole, or the answer is an error."""
    sound = path.read_bytes()
    size = 4096
    errors = []
    for page in range(len(sound) // size):
        broken = bytearray(sound)
        broken[page * size : page * size + 400] = bytes(byte ^ 0xA5 for byte in broken[page * size : page * size + 400])
        path.write_bytes(broken)
        adapter = SQLiteAdapter(path)
        try:
            await adapter.open()
            stored = await adapter.load(key, LoadQuery())
            assert stored is not None, f"page {page}: the session is absent"
            assert [message.seq for message in stored.messages] == list(range(1, 61))
        except StorageError as error:
            errors.append(type(error))
        finally:
            await adapter.aclose()
        report = await SQLiteAdapter(path).check()
        assert report.checks
    assert len(errors) > 15
    assert set(errors) <= {CorruptRecord, ForeignTable}


async def test_a_later_commit_does_not_hide_damage(path, key):
    run_sql(path, "DELETE FROM turnkeep_messages WHERE seq > 50")
    async with opened(path) as adapter:
        await adapter.commit(new_commit(key, new_message("more"), expect=Expect.ANY))
        with pytest.raises(CorruptRecord):
            await adapter.load(key, LoadQuery(20))


async def test_tables_that_vanish_while_open(path, key):
    async with opened(path) as adapter:
        run_sql(path, "DROP VIEW turnkeep_history", "DROP TABLE turnkeep_messages")
        with pytest.raises(StorageError, match="tables are gone"):
            await adapter.load(key, LoadQuery())
