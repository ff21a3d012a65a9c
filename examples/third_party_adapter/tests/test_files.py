"""What only this adapter has: files, as a process that died leaves them, and processes that share them."""

import asyncio
import errno
import multiprocessing
import os
from datetime import timedelta

import pytest

from turnkeep import CommitOutcomeUnknown, CorruptRecord, Expect, LoadQuery, connect, create_session
from turnkeep_jsonl.adapter import JsonlAdapter
from turnkeep_jsonl.files import path_of
from turnkeep_testkit import FakeClock, new_commit, new_key

KEY = new_key()


@pytest.fixture
def run(tmp_path):
    """Runs one call of an adapter that has just started over the same directory."""
    adapter = JsonlAdapter(tmp_path)
    asyncio.run(adapter.commit(new_commit(KEY, "one")))
    return lambda name, *args: asyncio.run(getattr(JsonlAdapter(tmp_path), name)(*args))


@pytest.fixture
def path(tmp_path, run):
    return path_of(tmp_path, KEY)


def texts(run):
    return [message.content for message in run("load", KEY, LoadQuery()).messages]


def append(run, text):
    return run("commit", new_commit(KEY, text, expect=Expect.ANY))


def test_a_line_that_was_cut_anywhere_is_not_there_and_the_next_takes_its_place(run, path):
    whole = path.read_bytes()
    append(run, "two")
    line = path.read_bytes()[len(whole) :]
    for end in range(0, len(line), 25):
        path.write_bytes(whole + line[:end])
        assert texts(run) == ["one"]
        append(run, "three")
        assert texts(run) == ["one", "three"]


def test_a_line_that_is_whole_and_damaged_is_told(run, path):
    append(run, "two")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"one"', b'"one', 1))
    for call in (("load", KEY, LoadQuery()), ("commit", new_commit(KEY, "three", expect=Expect.ANY))):
        with pytest.raises(CorruptRecord):
            run(*call)


@pytest.mark.parametrize("change", [lambda lines: lines[1:], lambda lines: [*lines, lines[1]]], ids=["lost", "twice"])
def test_a_line_that_is_lost_or_there_twice_is_told(run, path, change):
    append(run, "two")
    append(run, "three")
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(CorruptRecord):
        run("load", KEY, LoadQuery())


def test_a_message_that_left_by_age_leaves_the_file_with_the_next_commit(tmp_path):
    clock, key = FakeClock(), new_key()
    adapter = JsonlAdapter(tmp_path, clock=clock)
    asyncio.run(adapter.commit(new_commit(key, "an old secret", message_ttl=timedelta(hours=1))))
    clock.advance(timedelta(hours=1))
    asyncio.run(adapter.commit(new_commit(key, "new", expect=Expect.ANY)))
    assert b"an old secret" not in path_of(tmp_path, key).read_bytes()


def test_an_outcome_that_nobody_knows_is_told(run, path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "made up")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CommitOutcomeUnknown) as caught:
        append(run, "two")
    assert caught.value.commit_id
    with pytest.raises(CommitOutcomeUnknown) as caught:
        run("delete", KEY)
    assert caught.value.commit_id == ""
    assert not path.exists()


def test_a_file_that_was_begun_and_has_no_line_is_no_session(run, path):
    path.write_bytes(path.read_bytes()[:-1])
    assert run("load", KEY, LoadQuery()) is None
    run("commit", new_commit(KEY, "new"))
    assert texts(run) == ["new"]


def test_a_draft_that_was_left_is_no_session(run, path):
    path.with_suffix(".draft").write_bytes(path.read_bytes())
    append(run, "two")
    run("delete", KEY)
    assert run("load", KEY, LoadQuery()) is None


def write_many(root, key, name):
    async def main():
        adapter = JsonlAdapter(root)
        for number in range(20):
            await adapter.commit(new_commit(key, f"{name} {number}", expect=Expect.ANY))

    asyncio.run(main())


def test_several_processes_lose_nothing(run, tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(tmp_path, KEY, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    messages = run("load", KEY, LoadQuery()).messages
    assert [message.seq for message in messages] == list(range(1, 62))
    for name in "abc":
        assert [m.content for m in messages if m.content.startswith(name)] == [f"{name} {n}" for n in range(20)]


def test_it_is_opened_by_url(tmp_path):
    async def talk(text):
        async with connect(f"jsonl:///{tmp_path}/conversations") as persistence:
            if await persistence.find_session_by_id("s1") is None:
                await persistence.save_session_state("s1", create_session("s1"))
            await persistence.save_message("s1", "user", text)
            return [message.content for message in await persistence.load_session_history("s1")]

    assert asyncio.run(talk("Hello")) == ["Hello"]
    assert asyncio.run(talk("Again")) == ["Hello", "Again"]
