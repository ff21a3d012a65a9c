"""The pytest plugin: options, and plain asserts in the suites that explain themselves.

It imports nothing of the kit until a test asks for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from turnkeep.persistence import Persistence
    from turnkeep_testkit.faulty import FaultyAdapter
    from turnkeep_testkit.making import FakeClock
    from turnkeep_testkit.recording import RecordingAdapter

# Not the package itself: it is imported by now, and pytest would warn.
pytest.register_assert_rewrite(
    *(f"turnkeep_testkit.{name}" for name in ("suites", "stateful", "faults", "honesty", "processes"))
)


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


@pytest.fixture
def turnkeep_faults(turnkeep_clock: FakeClock) -> FaultyAdapter:
    """A store in memory, by ``turnkeep_clock``, that fails when it is told to."""
    from turnkeep.memory import MemoryAdapter
    from turnkeep_testkit.faulty import FaultyAdapter

    return FaultyAdapter(MemoryAdapter(clock=turnkeep_clock))


@pytest.fixture
def turnkeep_recorder(turnkeep_faults: FaultyAdapter) -> RecordingAdapter:
    """The store of ``turnkeep_faults``, with account kept of every call."""
    from turnkeep_testkit.recording import RecordingAdapter

    return RecordingAdapter(turnkeep_faults)


@pytest.fixture
def memory_persistence(turnkeep_recorder: RecordingAdapter) -> Persistence:
    """A persistence over ``turnkeep_recorder``. It opens itself at the first call, on the loop that makes it."""
    from turnkeep.connecting import build

    return build(turnkeep_recorder)
