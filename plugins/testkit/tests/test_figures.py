"""What the suites measured is in the report, and shown after a campaign."""

from __future__ import annotations

import json

import turnkeep_testkit.faults  # noqa: F401 - or each run within this process would import it, and hypothesis, anew
from turnkeep_testkit.figures import Figure, as_table

pytest_plugins = "pytester"


def test_figures_are_in_the_report_and_shown_after_a_campaign(pytester):
    pytester.makepyfile(
        test_mine="""
        import pytest
        from turnkeep.memory import MemoryAdapter
        from turnkeep_testkit import DriverCalls, DriverFaultSuite

        class TestDriver(DriverFaultSuite):
            @pytest.fixture
            def driver_calls(self):
                self.own = DriverCalls(lambda: OSError("made up"))
                return self.own

            @pytest.fixture
            def make_adapter(self):
                class Counted(MemoryAdapter):
                    async def stats(counted, query):
                        from turnkeep.errors import StorageUnavailable
                        try:
                            with self.own.call("count"):
                                return await super().stats(query)
                        except OSError as error:
                            raise StorageUnavailable("made up", adapter="memory") from error

                one = Counted()
                return lambda: one
        """
    )
    arguments = ("-p", "no:asyncio", "-k", "count-before", "--turnkeep-report=out")
    everyday = pytester.runpytest_inprocess(*arguments)
    everyday.assert_outcomes(passed=1, deselected=21)
    everyday.stdout.no_fnmatch_line("*what the campaign measured*")
    (adapter,) = json.loads((pytester.path / "out.json").read_text())["adapters"]
    what = "driver calls of count that failed, before"
    assert adapter["figures"] == [{"plan": "T7", "class": "TestDriver", "what": what, "value": 1}]
    assert f"| T7 | memory | TestDriver | {what} | 1 |" in (pytester.path / "out.md").read_text()
    campaign = pytester.runpytest_inprocess(*arguments, "--turnkeep-campaign")
    campaign.stdout.fnmatch_lines(["*what the campaign measured*", f"T7*TestDriver*{what}*1"])


def test_figures_are_in_the_order_of_the_plan_and_written_for_people():
    figures = [
        Figure("T10", "TestA", "turns per second", 1234.56),
        Figure("T4", "TestB", "turns", 4000),
        Figure("wire", "TestA", "round trips", 1),
        Figure("T4", "TestA", "cuts", "none"),
    ]
    assert as_table(figures) == [
        "      suite  figure",
        "wire  TestA  round trips       1",
        "T4    TestA  cuts              none",
        "T4    TestB  turns             4,000",
        "T10   TestA  turns per second  1,234.6",
    ]
