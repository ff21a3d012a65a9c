"""The suites look synchronous to pytest, whatever else is installed, and say what they hung at."""

from __future__ import annotations

import asyncio
import contextlib
import inspect

import pytest

from turnkeep_testkit.bridge import Loop, Synchronous, expect_no_tasks, synchronous
from turnkeep_testkit.suites.cancel import run_cancelled

pytest_plugins = "pytester"


async def hang_here():
    await asyncio.get_running_loop().create_future()


class TestRunning(Synchronous):
    """Collected by pytest itself: coroutine tests with parameters and fixtures."""

    seen: list[int] = []  # noqa: RUF012 - shared by the parameter sets on purpose

    @pytest.fixture
    def number(self):
        return 40

    @pytest.mark.parametrize("more", [1, 2])
    async def test_parameters_and_fixtures(self, number, more):
        await asyncio.sleep(0)
        self.seen.append(number + more)

    def test_both_parameter_sets_ran(self):
        assert self.seen == [41, 42]

    async def test_runs_on_a_loop_of_its_own(self):
        assert asyncio.get_running_loop().is_running()

    def test_pytest_sees_no_coroutine(self):
        assert not inspect.iscoroutinefunction(type(self).test_parameters_and_fixtures)


def test_failures_pass_through():
    class Case(Synchronous):
        async def test_it(self):
            await asyncio.sleep(0)
            raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        Case().test_it()


def test_inherited_and_overridden_tests_are_synchronous():
    ran = []

    class Base(Synchronous):
        async def test_one(self):
            ran.append("base one")

        async def test_two(self):
            ran.append("base two")

    class Derived(Base):
        async def test_two(self):
            ran.append("derived two")
            super().test_one  # noqa: B018 - reachable

    Derived().test_one()
    Derived().test_two()
    assert ran == ["base one", "derived two"]


def test_around_is_entered_and_left_in_the_same_task():
    steps = []

    class Case(Synchronous):
        @contextlib.asynccontextmanager
        async def around(self, test):
            task = asyncio.current_task()
            steps.append("in")
            async with asyncio.timeout(10):  # refuses to be left by another task
                yield
            assert asyncio.current_task() is task
            steps.append("out")

        async def test_it(self):
            steps.append("test")

    Case().test_it()
    assert steps == ["in", "test", "out"]


def test_the_deadline_names_the_await():
    class Case(Synchronous):
        deadline = 0.05

        async def test_it(self):
            await hang_here()

    with pytest.raises(AssertionError, match=r"not done after 0\.05 s") as caught:
        Case().test_it()
    message = str(caught.value)
    assert "test_it" in message
    assert "in hang_here" in message
    assert "test_bridge.py:" in message


def test_the_deadline_names_awaits_of_other_tasks():
    async def work():
        async with asyncio.TaskGroup() as group:
            group.create_task(hang_here(), name="the one that hangs")

    with Loop() as loop, pytest.raises(AssertionError, match="the one that hangs") as caught:
        loop.run(work(), deadline=0.05)
    assert "in hang_here" in str(caught.value)


def test_a_task_that_ignores_cancellation_is_told(monkeypatch):
    monkeypatch.setattr("turnkeep_testkit.bridge._GRACE", 0.05)
    release = []

    async def stubborn():
        while not release:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    loop = Loop()
    with pytest.raises(AssertionError, match="cancelled, it did not end"):
        loop.run(stubborn(), deadline=0.05)
    loop.close()  # leaves it alone
    release.append(True)
    runner = loop._runner
    runner.run(asyncio.sleep(0.05))
    runner.close()


def test_a_task_that_is_left_over_fails_the_test():
    class Case(Synchronous):
        async def test_it(self):
            self.task = asyncio.create_task(hang_here(), name="forgotten")

    with pytest.raises(AssertionError, match="left over when the test ended") as caught:
        Case().test_it()
    assert "forgotten" in str(caught.value)
    assert "in hang_here" in str(caught.value)


def test_a_task_that_is_about_to_end_may_end():
    class Case(Synchronous):
        async def test_it(self):
            self.task = asyncio.create_task(asyncio.sleep(0.01))

    Case().test_it()


def test_synchronous_tests_can_use_the_loop():
    closed = []

    class Case(Synchronous):
        @contextlib.asynccontextmanager
        async def around(self, test):
            yield
            closed.append(True)

        def test_it(self):
            with self.running(self.test_it) as loop:
                for number in range(3):
                    assert loop.run(asyncio.sleep(0, number)) == number

    Case().test_it()
    assert closed == [True]


def test_a_failing_synchronous_test_still_closes():
    closed = []

    class Case(Synchronous):
        @contextlib.asynccontextmanager
        async def around(self, test):
            yield
            closed.append(True)

        def test_it(self):
            with self.running(self.test_it):
                raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        Case().test_it()
    assert closed == [True]


def test_marks_and_names_stay():
    @pytest.mark.parametrize("x", [1])
    async def test_it(self, x):
        """Says it."""

    plain = synchronous(test_it)
    assert (plain.__name__, plain.__doc__) == ("test_it", "Says it.")
    assert [mark.name for mark in plain.pytestmark] == ["parametrize"]
    assert list(inspect.signature(plain).parameters) == ["self", "x"]


def test_no_tasks_is_quiet():
    with Loop() as loop:
        loop.run(expect_no_tasks())


@pytest.mark.parametrize(("times", "expected"), [((1,), "c1"), ((2,), "c2"), ((3,), "done")])
def test_cancelling_at_each_await(times, expected):
    reached_at = []

    async def work():
        for step in (1, 2):
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                reached_at.append(f"c{step}")
                raise
        reached_at.append("done")
        return 7

    with Loop() as loop:
        reached, outcome = loop.run(run_cancelled(work(), *times))
    assert reached_at == [expected]
    assert reached is (expected != "done")
    assert outcome == 7 if expected == "done" else isinstance(outcome, asyncio.CancelledError)


CONFORMANCE = """
    import pytest
    from turnkeep.memory import MemoryAdapter
    from turnkeep_testkit import CreateSuite, LifecycleSuite

    class TestMine(CreateSuite, LifecycleSuite):
        @pytest.fixture
        def make_adapter(self, tmp_path):
            adapter = MemoryAdapter()
            return lambda: adapter
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no:asyncio"],
        ["-o", "asyncio_mode=strict"],
        ["-o", "asyncio_mode=auto"],
        ["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session"],
    ],
    ids=["no plugin", "strict", "auto", "session loop"],
)
def test_an_outsiders_configuration(pytester, arguments):
    pytester.makepyfile(test_mine=CONFORMANCE)
    scope = ["-o", "asyncio_default_fixture_loop_scope=function"] if "no:asyncio" not in arguments else []
    result = pytester.runpytest_inprocess("-W", "error", *arguments, *scope)
    outcome = result.parseoutcomes()
    assert set(outcome) == {"passed"}, result.stdout.str()
    assert outcome["passed"] > 20


def test_a_class_without_an_adapter_says_how(pytester):
    pytester.makepyfile(
        test_mine="""
            from turnkeep_testkit import CreateSuite

            class TestMine(CreateSuite):
                pass
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-x")
    result.stdout.fnmatch_lines(["*Override the fixture `make_adapter`*"])


def test_asserts_of_the_suites_explain_themselves(pytester):
    pytester.makepyfile(
        test_mine="""
            import pytest
            from dataclasses import replace
            from turnkeep.memory import MemoryAdapter
            from turnkeep_testkit import OrderSuite

            class Wrong(MemoryAdapter):
                async def load(self, key, query):
                    stored = await super().load(key, query)
                    return replace(stored, messages=stored.messages[::-1])

            class TestMine(OrderSuite):
                @pytest.fixture
                def make_adapter(self):
                    adapter = Wrong()
                    return lambda: adapter
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-k", "test_g4_message_ids_order_nothing")
    result.stdout.fnmatch_lines(["*AssertionError: assert ?'4', '3', '2', '1'? == ?'1', '2', '3', '4'?*"])


def test_an_async_context_manager_makes_an_adapter_too(pytester):
    pytester.makepyfile(
        test_mine="""
            import contextlib
            import pytest
            from turnkeep.memory import MemoryAdapter
            from turnkeep_testkit import CreateSuite, LifecycleSuite

            class TestMine(CreateSuite, LifecycleSuite):
                @pytest.fixture
                def make_adapter(self):
                    adapter = MemoryAdapter()

                    @contextlib.asynccontextmanager
                    async def opened():
                        await adapter.open()
                        yield adapter
                        await adapter.aclose()

                    return opened
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:asyncio", "-W", "error")
    assert set(result.parseoutcomes()) == {"passed"}, result.stdout.str()


def test_importing_the_plugin_loads_nothing():
    import subprocess
    import sys

    code = "import sys, turnkeep_testkit.plugin; print([m for m in sys.modules if m.startswith(('turnkeep', 'hypo'))])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['turnkeep_testkit', 'turnkeep_testkit.plugin']"


def test_exported_names_exist():
    import turnkeep_testkit

    for name in turnkeep_testkit.__all__:
        assert getattr(turnkeep_testkit, name).__name__ == name
    assert dir(turnkeep_testkit) == turnkeep_testkit.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = turnkeep_testkit.nothing
