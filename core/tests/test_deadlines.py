"""Deadlines under one timer: each call has its own seconds, and is cancelled as by ``asyncio.timeout``."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from turnkeep._deadlines import Deadlines


def run(main) -> None:
    asyncio.run(asyncio.wait_for(main(), 30))


async def never() -> None:
    await asyncio.Event().wait()


def test_a_block_that_takes_too_long_is_cancelled_and_raises():
    async def main() -> None:
        deadline = Deadlines(0.01).begin()
        with pytest.raises(TimeoutError) as caught, deadline:
            await never()
        assert deadline.expired
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)


def test_a_timeout_of_the_block_itself_is_not_the_deadline():
    async def main() -> None:
        deadline = Deadlines(30).begin()
        with pytest.raises(TimeoutError, match="its own"), deadline:
            raise TimeoutError("its own")
        assert not deadline.expired

    run(main)


def test_a_block_that_ends_all_the_same_gives_its_result():
    async def main() -> None:
        deadline = Deadlines(0.01).begin()
        with deadline, suppress(asyncio.CancelledError):
            await never()
        assert deadline.expired

    run(main)


@pytest.mark.parametrize("seconds", [0.01, 30])
def test_who_cancels_the_task_too_is_not_answered_with_a_timeout(seconds: float):
    async def main() -> None:
        begun = asyncio.Event()

        async def call() -> None:
            with Deadlines(seconds).begin():
                begun.set()
                try:
                    await never()
                except asyncio.CancelledError:
                    if seconds < 1:  # expired: now somebody else cancels as well
                        task = asyncio.current_task()
                        assert task is not None
                        task.cancel()
                    raise

        task = asyncio.create_task(call())
        await begun.wait()
        if seconds > 1:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_each_of_several_has_its_own_time():
    async def main() -> None:
        loop, deadlines = asyncio.get_running_loop(), Deadlines(0.05)
        resolution = 0.01

        async def call(wait: float) -> float:
            await asyncio.sleep(wait)
            deadline = deadlines.begin()
            try:
                with deadline:
                    await never()
            except TimeoutError:
                return loop.time() - deadline.due
            raise AssertionError("it ended before its time")

        with deadlines.begin():
            pass  # over before the others begin; its timer must not be taken for theirs
        late = await asyncio.gather(*(call(number * 0.02) for number in range(5)))
        assert min(late) >= -resolution
        assert await call(0) >= -resolution  # once more, after the timer was at rest

    run(main)


def test_they_serve_one_loop_after_the_other():
    deadlines = Deadlines(0.01)

    async def main() -> None:
        with deadlines.begin():
            pass  # leaves a timer on its loop
        with pytest.raises(TimeoutError), deadlines.begin():
            await never()

    run(main)
    run(main)

    async def leave() -> None:
        with deadlines.begin():
            pass

    run(leave)  # its timer never comes
    run(main)
