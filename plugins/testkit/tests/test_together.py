"""Threads in step: a race of two lines is lost in every run, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading

import pytest

from turnkeep_testkit.together import Together


def go(number, work):
    """What ``work`` gives in so many threads of an executor for four."""

    async def main():
        threads = Together(4)
        asyncio.get_running_loop().set_default_executor(threads)
        with threads.in_step():
            return await asyncio.gather(*(asyncio.to_thread(work) for _ in range(number)))

    return asyncio.run(main())


@pytest.mark.parametrize("attempt", range(10))
def test_who_looks_and_then_does_is_always_late(attempt):
    made = []

    def make():
        if made:
            return False
        made.append(1)
        return True

    assert go(4, make) == [True] * 4


def test_who_holds_a_lock_is_not_disturbed():
    made, lock = [], threading.Lock()

    def make():
        with lock:
            if made:
                return False
            made.append(1)
            return True

    assert sorted(go(4, make)) == [False, False, False, True]


def test_one_that_comes_alone_goes_alone():
    assert go(1, lambda: "done") == ["done"]


def test_what_is_raised_arrives():
    def fail():
        raise OSError("made up")

    with pytest.raises(OSError, match="made up"):
        go(4, fail)
