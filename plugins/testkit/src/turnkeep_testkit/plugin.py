"""The pytest plugin: options, and plain asserts in the suites that explain themselves.

It imports nothing of the kit until a test asks for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from turnkeep_testkit.making import FakeClock

# Not the package itself: it is imported by now, and pytest would warn.
pytest.register_assert_rewrite("turnkeep_testkit.suites", "turnkeep_testkit.stateful", "turnkeep_testkit.faults")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--turnkeep-campaign``."""
    group = parser.getgroup("turnkeep", "Turnkeep adapters")
    group.addoption(
        "--turnkeep-campaign",
        dest="turnkeep_campaign",
        action="store_true",
        default=False,
        help="run the adapter suites at full size (minutes to hours) instead of the everyday one",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lifts the limits of pytest-timeout from a campaign: the suites have deadlines of their own."""
    if config.getoption("turnkeep_campaign") and config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Prepares a place for what the suites measure."""
    # Not when pytest is configured: the module that knows the key would be imported in every run.
    if "turnkeep_testkit.figures" in sys.modules:
        from turnkeep_testkit.figures import FIGURES

        item.config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows what a campaign measured."""
    if not config.getoption("turnkeep_campaign") or "turnkeep_testkit.figures" not in sys.modules:
        return
    from turnkeep_testkit.figures import FIGURES, as_table

    figures = config.stash.get(FIGURES, None)
    if figures:
        terminalreporter.section("Turnkeep campaign")
        for line in as_table(figures):
            terminalreporter.line(line)


@pytest.fixture
def turnkeep_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from turnkeep_testkit.making import FakeClock

    return FakeClock()
