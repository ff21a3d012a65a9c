"""What a run showed of each adapter is told at its end, and written where it is asked for."""

from __future__ import annotations

import json
import re

import pytest

import turnkeep_testkit.suites  # noqa: F401 - or each run within this process would import it, and hypothesis, anew

pytest_plugins = "pytester"

HEAD = """
    import pytest
    from turnkeep.contract import Capability, Level, Support
    from turnkeep.memory import MemoryAdapter
    from turnkeep_testkit import AtomicTurnSuite, CapabilitySuite, CreateSuite, FakeClock, SchemaSuite

    class Other(MemoryAdapter):
        name = "other"

        async def stats(self, query):
            raise RuntimeError("a pipe | broke\\nin the middle")

    def of(kind):
        class Mine(AtomicTurnSuite, CapabilitySuite):
            @pytest.fixture
            def fake_clock(self):
                return FakeClock()

            @pytest.fixture
            def make_adapter(self, fake_clock):
                adapter = kind(clock=fake_clock)
                return lambda: adapter

        return Mine
"""
TWO = """
    class TestMemory(of(MemoryAdapter)):
        pass

    class TestOther(of(Other)):
        pass
"""


@pytest.fixture
def run(pytester):
    def run(body, *arguments):
        pytester.makepyfile(test_mine=HEAD + body)
        return pytester.runpytest_inprocess("-p", "no:asyncio", *arguments)

    return run


@pytest.fixture
def report(run, pytester):
    """The adapters of the JSON report, by label."""

    def report(body, *arguments):
        run(body, "--turnkeep-report=report.json", *arguments)
        found = json.loads((pytester.path / "report.json").read_text("utf-8"))
        return {adapter["label"]: adapter for adapter in found["adapters"]}

    return report


def test_the_terminal_shows_a_column_per_adapter(run):
    result = run(TWO)
    result.stdout.fnmatch_lines(
        [
            "*turnkeep: what was shown of each adapter*",
            "* memory * other*",
            "ATOMIC_TURN *full, proved *full, proved*",
            "DURABLE *none *none*",
            "SEARCH *full, proved *full, proved*",
            "STATS *full, proved *full, failed*",
            "tests *passed*3 failed*",
            "memory: DURABLE is none: the store ends with its process",
        ]
    )
    assert "written to" not in result.stdout.str()


def test_a_run_without_a_suite_says_nothing(run, pytester):
    pytester.makepyfile(test_else="def test_it(): pass")
    result = pytester.runpytest_inprocess("-p", "no:asyncio")
    assert "turnkeep:" not in result.stdout.str()


def test_json_tells_everything(report):
    found = report(TWO)
    assert list(found) == ["memory", "other"]
    memory, other = found.values()
    assert memory["test_classes"] == ["TestMemory"]
    assert memory["capabilities"]["DURABLE"] == {
        "level": "none",
        "reason": "the store ends with its process",
        "proof": "not proved",
        "tests": {},
    }
    assert other["capabilities"]["STATS"]["proof"] == "failed"
    assert set(other["capabilities"]["STATS"]["tests"].values()) == {"failed"}
    assert sorted(other["suites"]) == ["AtomicTurnSuite", "CapabilitySuite"]
    assert other["suites"]["AtomicTurnSuite"]["counts"]["failed"] == 0
    failed = other["suites"]["CapabilitySuite"]["not_passed"]
    assert [each["outcome"] for each in failed if each["outcome"] != "skipped"] == ["failed"] * 3
    assert failed[0] == {
        "test": "test_capability_stats",
        "class": "TestOther",
        "outcome": "failed",
        "reason": "RuntimeError: a pipe | broke",
    }


@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("all.json", ["all.json"]),
        ("all.md", ["all.md"]),
        ("all", ["all.json", "all.md"]),
        ("all.v1", ["all.v1.json", "all.v1.md"]),
    ],
)
def test_the_suffix_says_what_is_written(run, pytester, target, written):
    result = run(TWO, f"--turnkeep-report={target}", "-k", "capability")
    assert sorted(file.name for file in pytester.path.glob("all*")) == written
    result.stdout.fnmatch_lines([f"the report was written to *{name}" for name in written])


def test_markdown_is_a_table_that_holds_together(run, pytester):
    run(TWO, "--turnkeep-report=report.md")
    text = (pytester.path / "report.md").read_text("utf-8")
    assert re.findall(r"^## .*", text, re.MULTILINE) == ["## Capabilities", "## Suites", "## Failed", "## Skipped"]
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
    assert "| `DURABLE` | none: the store ends with its process | none: the store ends with its process |" in table
    assert "- other: test_capability_stats and 2 more: RuntimeError: a pipe | broke" in text


def test_a_report_that_cannot_be_written_stops_the_run_before_it_begins(run):
    result = run(TWO, "--turnkeep-report=nowhere/report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no directory*nowhere*"])


def test_reasons_for_what_did_not_pass(report):
    (memory,) = report(
        """
    class TestMemory(of(MemoryAdapter), SchemaSuite, CreateSuite):
        no_schema = "a process has none"

        @pytest.mark.xfail(reason="#12: it fails")
        def test_g16_an_id_is_taken_once(self):
            raise AssertionError

        @pytest.mark.xfail(reason="#13: it does not fail any more")
        def test_g16_load_creates_nothing(self):
            super().test_g16_load_creates_nothing()

        @pytest.mark.xfail(reason="#14: it fails", strict=True)
        def test_capability_large_values(self):
            raise AssertionError
"""
    ).values()
    create = {each["test"]: (each["outcome"], each["reason"]) for each in memory["suites"]["CreateSuite"]["not_passed"]}
    assert create == {
        "test_g16_an_id_is_taken_once": ("xfailed", "#12: it fails"),
        "test_g16_load_creates_nothing": ("xpassed", "#13: it does not fail any more"),
    }
    assert {each["reason"] for each in memory["suites"]["SchemaSuite"]["not_passed"]} == {"a process has none"}
    assert memory["capabilities"]["LARGE_VALUES"]["proof"] == "failed", "a known failure proves nothing"


def test_an_adapter_with_other_settings_is_another_column(report):
    found = report(
        """
    class Lasting(MemoryAdapter):
        capabilities = {**MemoryAdapter().capabilities, Capability.DURABLE: Support(Level.FULL)}

    class TestOne(of(MemoryAdapter)):
        pass

    class TestTwo(of(MemoryAdapter)):
        pass

    class TestLasting(of(Lasting)):
        pass
"""
    )
    assert {label: found[label]["test_classes"] for label in found} == {
        "memory (TestOne, TestTwo)": ["TestOne", "TestTwo"],
        "memory (TestLasting)": ["TestLasting"],
    }
    assert found["memory (TestLasting)"]["capabilities"]["DURABLE"]["proof"] == "not proved"


def test_an_adapter_that_could_not_be_made_has_a_column_all_the_same(report):
    found = report(
        """
    class TestAway(CreateSuite):
        @pytest.fixture
        def make_adapter(self):
            pytest.skip("no server: set TURNKEEP_TEST_AWAY_URL")
"""
    )
    (suite,) = found["(TestAway)"]["suites"].values()
    assert suite["counts"]["passed"] == 0
    assert {each["reason"] for each in suite["not_passed"]} == {"no server: set TURNKEEP_TEST_AWAY_URL"}


def test_an_error_around_a_test_counts_as_failed(report):
    (memory,) = report(
        """
    class TestMemory(CreateSuite):
        @pytest.fixture
        def make_adapter(self):
            adapter = MemoryAdapter()
            yield lambda: adapter
            raise LookupError("left something behind")
"""
    ).values()
    counts = memory["suites"]["CreateSuite"]["counts"]
    assert (counts["passed"], counts["failed"] > 5) == (0, True)


@pytest.mark.parametrize("without", ["terminal", "cacheprovider", "skipping", "junitxml"])
def test_it_needs_no_other_plugin(report, without):
    arguments = ["-k", "g1_a_turn"]
    assert list(report(TWO, "-p", f"no:{without}", *arguments)) == ["memory", "other"]


def test_without_the_plugin_the_suites_run_all_the_same(pytester):
    pytester.makepyfile(test_mine=HEAD + TWO)
    result = pytester.runpytest_subprocess("-p", "no:turnkeep", "-p", "no:asyncio", "-k", "g1_a_turn")
    assert result.parseoutcomes()["passed"] == 2


def test_reports_from_worker_processes_are_gathered(pytester):
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    pytester.makepyfile(test_mine=HEAD + TWO)
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-n", "2", "--turnkeep-report=report.json")
    result.stdout.fnmatch_lines(["ATOMIC_TURN *full, proved *full, proved*"])
    found = json.loads((pytester.path / "report.json").read_text("utf-8"))
    assert [adapter["label"] for adapter in found["adapters"]] == ["memory", "other"]


def test_whoever_only_has_it_installed_pays_for_nothing(pytester):
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = ("hypothesis", "turnkeep.", "turnkeep_testkit.", "pydantic")
            print("LOADED", sorted(name for name in sys.modules if name.startswith(heavy)))
        """
    )
    # Those two import hypothesis themselves.
    result = pytester.runpytest_subprocess("--co", "-p", "no:asyncio", "-p", "no:hypothesispytest")
    result.stdout.fnmatch_lines(["LOADED ['turnkeep_testkit.plugin']"])


def test_an_adapter_that_cannot_declare_itself_fails_tests_and_not_the_run(run):
    result = run(
        """
    class Broken(MemoryAdapter):
        @property
        def capabilities(self):
            raise LookupError("no such table")

    class TestBroken(of(Broken)):
        pass
"""
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*memory*", "tests *failed*"])


@pytest.mark.parametrize(
    "options",
    [["--tb=short"], ["--tb=long"], ["--tb=native"], ["--tb=line"], ["--tb=no"], ["--show-capture=no"], ["-q"]],
    ids=" ".join,
)
def test_a_failed_test_says_what_to_check(run, options):
    said = run(TWO, "-k", "test_capability_stats and Other and not gone", *options).stdout.str()
    assert re.search(r"On failure\b[^\n]*\n?[^\n]*compare with `MemoryAdapter.stats`", said)


def test_what_to_check_goes_with_the_report_as_a_section(run, pytester):
    run(TWO, "-k", "test_capability_stats and Other")
    sections = []

    class Watch:
        def pytest_runtest_logreport(self, report):
            sections.extend(report.sections)

    pytester.inline_run("-p", "no:asyncio", "-k", "test_capability_stats and Other", plugins=[Watch()])
    assert ("On failure", "compare with `MemoryAdapter.stats`.") in sections


def test_what_passes_says_nothing_of_failures(run):
    assert "On failure" not in run(TWO, "-k", "test_capability_stats and Memory").stdout.str()
