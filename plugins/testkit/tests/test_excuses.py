"""Who overrides, skips or excuses a test of the kit says why, or the run fails."""

from __future__ import annotations

import pytest

from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import CreateSuite
from turnkeep_testkit.excuses import UnexplainedOverride, kit_owner

pytest_plugins = "pytester"

HEAD = """
    import pytest
    from turnkeep.memory import MemoryAdapter
    from turnkeep_testkit import CreateSuite

    class Mine(CreateSuite):
        @pytest.fixture
        def make_adapter(self):
            adapter = MemoryAdapter()
            return lambda: adapter
"""
NAME = "test_g16_an_id_is_taken_once"


def run(pytester, body, *arguments):
    pytester.makepyfile(test_mine=HEAD + body)
    return pytester.runpytest_inprocess("-p", "no:asyncio", *arguments)


@pytest.mark.parametrize(
    "override",
    [
        f"def {NAME}(self): pass",
        f"async def {NAME}(self): pass",
        f"{NAME} = None",
        f"@pytest.mark.xfail\n        def {NAME}(self): pass",
        f"@pytest.mark.xfail(reason=' ')\n        def {NAME}(self): pass",
        f"@pytest.mark.skip(reason='too slow')\n        def {NAME}(self): pass",
    ],
)
def test_an_override_without_a_reason_fails_the_run(pytester, override):
    result = run(
        pytester,
        f"""
    class TestMine(Mine):
        {override}
""",
    )
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*UnexplainedOverride: TestMine.{NAME}: *@pytest.mark.xfail(reason=*"])


def test_an_override_further_up_is_found():
    class Quiet:
        def test_g16_load_creates_nothing(self):
            pass

    with pytest.raises(UnexplainedOverride, match=r"Quiet\.test_g16_load_creates_nothing"):
        type("TestMine", (Quiet, CreateSuite), {})


def test_an_override_with_a_reason_is_expected_to_fail(pytester):
    result = run(
        pytester,
        f"""
    class TestMine(Mine):
        @pytest.mark.xfail(reason="#12: two creators win", strict=True)
        def {NAME}(self):
            super().{NAME}()
            raise AssertionError

        def test_of_our_own(self):
            assert self.adapter_is_ours

        adapter_is_ours = True
        deadline = 5.0

        async def remains(self, key):
            return None
""",
        "-rx",
    )
    outcome = result.parseoutcomes()
    assert (outcome.pop("xfailed"), set(outcome)) == (1, {"passed"})
    result.stdout.fnmatch_lines(["*#12: two creators win*"])


@pytest.mark.parametrize("mark", ["skip", "skipif(True, reason='')", "xfail(True, reason='')", "xfail"])
def test_a_mark_without_a_reason_fails_the_test(pytester, mark):
    pytester.makeconftest(
        f"""
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.name == "{NAME}":
                    item.add_marker(pytest.mark.{mark})
        """
    )
    result = run(
        pytester,
        """
    class TestMine(Mine):
        pass

    @pytest.mark.skip
    def test_g16_an_id_is_taken_once():
        raise AssertionError("somebody else's test is somebody else's business")
""",
    )
    outcome = result.parseoutcomes()
    assert outcome["errors"] == 1
    result.stdout.fnmatch_lines(
        [f"*the mark `{mark.partition('(')[0]}` on a test of turnkeep-testkit needs a reason=*"]
    )


@pytest.mark.parametrize("mark", ["skip('no')", "skip(reason='no')", "skipif(True, reason='no')"])
def test_a_class_may_be_skipped_with_a_reason(pytester, mark):
    result = run(
        pytester,
        f"""
    @pytest.mark.{mark}
    class TestMine(Mine):
        pass
""",
    )
    assert set(result.parseoutcomes()) == {"skipped"}


def test_the_owner_of_a_test_is_the_suite_that_brought_it():
    class Mine(CreateSuite):
        @pytest.mark.xfail(reason="for the test")
        def test_g16_an_id_is_taken_once(self):
            pass

        def test_of_mine(self):
            pass

    assert kit_owner(Mine, NAME) is CreateSuite
    assert kit_owner(Mine, "test_of_mine") is None
    assert kit_owner(MemoryAdapter, NAME) is None
