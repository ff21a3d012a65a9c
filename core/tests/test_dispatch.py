"""How implementations of hooks are called: colours, order, failures, deadlines."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from functools import partial

import pytest

from turnkeep._binding import Listener, Rank, implementations
from turnkeep._dispatch import Dispatcher
from turnkeep.errors import HookError
from turnkeep.hookspecs import hookimpl

RANKS = {"first": Rank.FIRST, "normal": Rank.NORMAL, "last": Rank.LAST, "application": Rank.APPLICATION}


def listener(function, hook="on_session_created", *, plugin="p", rank="normal"):
    return Listener.of(function, hook, plugin=plugin, rank=RANKS[rank])


def dispatcher(*listeners, timeout=30.0, offload=None):
    return Dispatcher(listeners, timeout=timeout, offload=offload)


async def test_plain_and_async_implementations_are_mixed_and_run_in_order():
    seen = []

    async def late(session):
        await asyncio.sleep(0.001)
        seen.append(("late", session))

    calls = dispatcher(
        listener(late), listener(lambda session: seen.append(("plain", session))), listener(partial(late))
    )
    await calls.notify("on_session_created", {"session": 1})
    assert seen == [("late", 1), ("plain", 1), ("late", 1)]


async def test_a_plain_function_may_return_any_awaitable():
    async def inner():
        return {"from": "coroutine"}

    def future(context):
        made = asyncio.get_running_loop().create_future()
        made.set_result({**context, "and": "future"})
        return made

    calls = dispatcher(listener(lambda context: inner(), "before_respond"), listener(future, "before_respond"))
    found = await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert found == {"from": "coroutine", "and": "future"}


async def test_a_hook_without_implementations_does_nothing():
    calls = dispatcher()
    assert "on_startup" not in calls.listeners
    await calls.notify("on_startup", {"persistence": None})
    assert await calls.transform("before_respond", "context", {"context": {"a": 1}, "session": None}) == {"a": 1}


async def test_order_is_first_normal_last_application_and_within_a_rank_that_of_registration():
    seen = []
    ranks = ["application", "last", "normal", "first", "first", "normal", "last", "application"]
    given = [
        listener(lambda session, label=f"{rank}{index}": seen.append(label), rank=rank)
        for index, rank in enumerate(ranks)
    ]
    await dispatcher(*given).notify("on_session_created", {"session": None})
    assert seen == ["first3", "first4", "normal2", "normal5", "last1", "last6", "application0", "application7"]


async def test_extending_leaves_the_original_alone_and_keeps_the_order():
    seen = []
    base = dispatcher(
        listener(lambda: seen.append("plugin")), listener(lambda: seen.append("hooks"), rank="application")
    )
    more = base.extended(
        [listener(lambda: seen.append("later plugin")), listener(lambda: seen.append("other"), "on_startup")],
        offload=None,
    )
    await more.notify("on_session_created", {"session": None})
    assert seen == ["plugin", "later plugin", "hooks"]
    assert "on_startup" in more.listeners
    assert "on_startup" not in base.listeners
    seen.clear()
    await base.notify("on_session_created", {"session": None})
    assert seen == ["plugin", "hooks"]


async def test_each_transformation_sees_the_result_of_the_one_before_and_none_keeps_it():
    async def second(context, session):
        assert context == {"n": 1}
        assert session == "s"

    calls = dispatcher(
        *(
            listener(function, "before_respond")
            for function in (
                lambda context: {"n": context["n"] + 1},
                second,
                lambda context: {**context, "third": True},
            )
        )
    )
    found = await calls.transform("before_respond", "context", {"context": {"n": 0}, "session": "s"})
    assert found == {"n": 1, "third": True}


@pytest.mark.parametrize("empty", [{}, (), 0, False, ""])
async def test_a_false_value_is_a_value(empty):
    calls = dispatcher(listener(lambda: empty, "before_respond"))
    assert await calls.transform("before_respond", "context", {"context": {"n": 0}, "session": None}) == empty


@pytest.mark.parametrize("colour", ["plain", "async"])
async def test_refusing_raises_the_applications_own_error_with_a_note_and_stops(colour):
    class Refused(Exception):
        pass

    error = Refused("no")
    ran = []

    def plain():
        raise error

    async def later():
        raise error

    calls = dispatcher(
        listener(plain if colour == "plain" else later, "before_respond", plugin="guard"),
        listener(lambda: ran.append(1), "before_respond"),
    )
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await calls.transform("before_respond", "context", {"context": {}, "session": None})
        assert caught.value is error
    assert error.__notes__ == ["raised by hook before_respond of plugin 'guard'"]
    assert ran == []


async def test_the_note_of_an_application_function_says_so():
    calls = dispatcher(listener(lambda: 1 / 0, "before_respond", plugin="Hooks", rank="application"))
    with pytest.raises(ZeroDivisionError) as caught:
        await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert caught.value.__notes__ == ["raised by hook before_respond of the application's Hooks"]


async def test_a_value_of_no_use_is_refused_by_name():
    def accept(value):
        if not isinstance(value, dict):
            raise TypeError("str, where a dict was expected")
        return value

    calls = dispatcher(listener(lambda: "oops", "before_respond", plugin="clumsy"))
    with pytest.raises(HookError, match=r"before_respond of plugin 'clumsy' returned .* str, where a dict") as caught:
        await calls.transform("before_respond", "context", {"context": {}, "session": None}, accept)
    assert (caught.value.plugin, caught.value.hook) == ("clumsy", "before_respond")


@pytest.mark.parametrize("colour", ["plain", "async"])
async def test_a_failing_plugin_is_logged_by_name_and_stops_nobody(caplog, colour):
    ran = []

    def plain():
        raise ValueError("broken inside")

    async def later():
        raise ValueError("broken inside")

    calls = dispatcher(
        listener(plain if colour == "plain" else later, plugin="fragile"), listener(lambda: ran.append("plugin"))
    )
    await calls.notify("on_session_created", {"session": None})
    assert ran == ["plugin"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("turnkeep.hooks", logging.ERROR)
    assert "on_session_created of plugin 'fragile' failed: broken inside" in record.getMessage()
    assert isinstance(record.exc_info[1], ValueError)


async def test_a_failing_application_function_is_raised_after_all_have_run(caplog):
    ran = []
    calls = dispatcher(
        listener(lambda: 1 / 0, plugin="Hooks", rank="application"),
        listener([].pop, plugin="Hooks", rank="application"),
        listener(lambda: ran.append("hooks"), plugin="Hooks", rank="application"),
        listener(lambda: ran.append("plugin")),
    )
    with pytest.raises(ZeroDivisionError) as caught:
        await calls.notify("on_session_created", {"session": None})
    assert ran == ["plugin", "hooks"]
    assert caught.value.__notes__ == ["raised by hook on_session_created of the application's Hooks"]
    (record,) = caplog.records
    assert "application's Hooks failed: pop from empty list" in record.getMessage()


async def hang(**arguments):
    await asyncio.Event().wait()


async def test_a_transformation_that_hangs_is_ended_and_named():
    calls = dispatcher(listener(hang, "before_respond", plugin="slow"), timeout=0.01)
    with pytest.raises(
        HookError, match=r"before_respond of plugin 'slow' did not finish within 0\.01 seconds"
    ) as caught:
        await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert (caught.value.plugin, caught.value.hook) == ("slow", "before_respond")


async def test_an_observer_that_hangs_is_logged_for_a_plugin_and_raised_for_the_application(caplog):
    ran = []
    calls = dispatcher(listener(hang, plugin="slow"), listener(lambda: ran.append(1)), timeout=0.01)
    await calls.notify("on_session_created", {"session": None})
    assert ran == [1]
    assert "plugin 'slow' did not finish within 0.01 seconds" in caplog.text
    calls = dispatcher(listener(hang, plugin="Hooks", rank="application"), timeout=0.01)
    with pytest.raises(HookError, match="the application's Hooks did not finish"):
        await calls.notify("on_session_created", {"session": None})


async def test_an_error_raised_on_the_way_out_of_a_hang_does_not_hide_the_hang():
    async def clumsy():
        try:
            await hang()
        except asyncio.CancelledError:
            raise ConnectionError("lost") from None

    calls = dispatcher(listener(clumsy, "before_respond"), timeout=0.01)
    with pytest.raises(HookError, match="did not finish") as caught:
        await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_timeout_of_the_implementations_own_is_not_ours():
    async def impatient():
        async with asyncio.timeout(0.001):
            await hang()

    calls = dispatcher(listener(impatient, "before_respond"), timeout=5)
    with pytest.raises(TimeoutError):
        await calls.transform("before_respond", "context", {"context": {}, "session": None})


async def test_without_a_timeout_nothing_is_ended():
    async def slow():
        await asyncio.sleep(0.02)
        return {"done": True}

    calls = dispatcher(listener(slow, "before_respond"), timeout=None)
    assert await calls.transform("before_respond", "context", {"context": {}, "session": None}) == {"done": True}


@pytest.mark.parametrize("hook", ["on_session_created", "before_data_update"])
@pytest.mark.parametrize("seconds", [30.0, None])
async def test_cancelling_the_caller_goes_through(hook, seconds):
    ran = []
    calls = dispatcher(listener(hang, hook), listener(lambda: ran.append(1), hook, rank="application"), timeout=seconds)
    arguments = {"session": None, "data": {}, "previous": {}}
    call = calls.notify(hook, {"session": None}) if hook[:3] == "on_" else calls.transform(hook, "data", arguments)
    task = asyncio.create_task(call)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ran == []


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_what_ends_a_process_or_task_is_never_swallowed(fatal):
    def stop():
        raise fatal

    with pytest.raises(fatal):
        await dispatcher(listener(stop)).notify("on_session_created", {"session": None})


REQUEST = contextvars.ContextVar("REQUEST", default="none")


async def test_plain_functions_are_offloaded_with_the_callers_context():
    seen = []

    def plain(context):
        seen.append((threading.current_thread() is threading.main_thread(), REQUEST.get()))
        return {**context, "plain": True}

    async def coloured(context):
        seen.append((threading.current_thread() is threading.main_thread(), REQUEST.get()))
        return {**context, "async": True}

    def offload(function):
        # Unlike asyncio.to_thread, an executor carries no context of its own.
        return asyncio.get_running_loop().run_in_executor(None, function)

    REQUEST.set("r1")
    calls = dispatcher(listener(plain, "before_respond"), listener(coloured, "before_respond"), offload=offload)
    found = await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert found == {"plain": True, "async": True}
    assert seen == [(False, "r1"), (True, "r1")]


async def test_offloaded_functions_fail_and_hang_as_others_do(caplog):
    release = threading.Event()

    def fails():
        raise ValueError("in the thread")

    calls = dispatcher(
        listener(fails, plugin="fails"),
        listener(lambda: release.wait(5), plugin="hangs"),
        offload=asyncio.to_thread,
        timeout=0.05,
    )
    try:
        await calls.notify("on_session_created", {"session": None})
    finally:
        release.set()
    assert "plugin 'fails' failed: in the thread" in caplog.text
    assert "plugin 'hangs' did not finish within 0.05 seconds" in caplog.text


async def test_what_an_offloaded_function_returns_is_awaited_on_the_loop():
    async def inner():
        return {"loop": asyncio.get_running_loop()}

    def inner_by_hand():
        return inner()

    calls = dispatcher(listener(inner_by_hand, "before_respond"), offload=asyncio.to_thread)
    found = await calls.transform("before_respond", "context", {"context": {}, "session": None})
    assert found == {"loop": asyncio.get_running_loop()}


async def test_methods_of_a_plugin_are_called_on_it():
    class Counting:
        def __init__(self):
            self.count = 0

        @hookimpl
        def on_session_created(self):
            self.count += 1

        @hookimpl
        async def on_startup(self, **everything):
            self.everything = everything

    one, two = Counting(), Counting()
    calls = dispatcher(*implementations(one, "one"), *implementations(two, "two"))
    await calls.notify("on_session_created", {"session": None})
    await calls.notify("on_startup", {"persistence": 1})
    assert (one.count, two.count) == (1, 1)
    assert one.everything == two.everything == {"persistence": 1}
