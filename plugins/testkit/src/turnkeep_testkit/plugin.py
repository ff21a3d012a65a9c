"""The pytest plugin: options, the report at the end, and plain asserts in the suites that explain themselves.

It imports nothing of the kit until a test asks for it.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from turnkeep.persistence import Persistence
    from turnkeep_testkit.faulty import FaultyAdapter
    from turnkeep_testkit.making import FakeClock
    from turnkeep_testkit.recording import RecordingAdapter
    from turnkeep_testkit.report import Column, Report
    from turnkeep_testkit.suites.base import Suite

# Not the package itself: it is imported by now, and pytest would warn.
pytest.register_assert_rewrite(
    *(f"turnkeep_testkit.{name}" for name in ("suites", "stateful", "faults", "honesty", "processes"))
)

_SUITES: Final = "turnkeep_testkit.suites.base"
_FACTS: Final = "turnkeep_facts"
"""The attribute of a report that says what the kit knows of the test: it passes between processes with the report."""

_TO_CHECK: Final = "On failure"
"""The section of a report that says what to check, as the docstring of the test does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--turnkeep-campaign`` and ``--turnkeep-report``."""
    group = parser.getgroup("turnkeep", "Turnkeep adapters")
    group.addoption(
        "--turnkeep-campaign",
        dest="turnkeep_campaign",
        action="store_true",
        default=False,
        help="run the adapter suites at full size (minutes to hours) instead of the everyday one",
    )
    group.addoption(
        "--turnkeep-report",
        dest="turnkeep_report",
        metavar="FILE",
        default=None,
        help="write what was shown of each adapter: FILE.json, FILE.md, or both if FILE has neither suffix",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses a report that could not be written, before the tests run and not after."""
    target: str | None = config.getoption("turnkeep_report")
    if target is not None and not _path(config, target).parent.is_dir():
        raise pytest.UsageError(f"--turnkeep-report={target}: there is no directory {_path(config, target).parent}")
    config.pluginmanager.register(_Reporter(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets the facts about a test of the kit travel with its report, also from a worker process; and what to check."""
    report = yield
    if (owner := _owner(item)) is not None:
        from turnkeep_testkit.report import describe, what_to_check

        test = cast("pytest.Function", item)
        setattr(report, _FACTS, describe(cast("Suite", test.instance), owner, test.originalname, test.name))
        if report.when == "call" and report.failed:
            report.sections.append((_TO_CHECK, what_to_check(owner, test.originalname)))
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lifts the limits of pytest-timeout from a campaign: the suites have deadlines of their own."""
    if config.getoption("turnkeep_campaign") and config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuses what is skipped or excused by a mark without a reason."""
    if _owner(item) is not None:
        from turnkeep_testkit.excuses import missing_reason

        if mark := missing_reason(item.iter_markers()):  # before the mark takes effect
            pytest.fail(f"the mark `{mark}` on a test of turnkeep-testkit needs a reason=…", pytrace=False)


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


class _Reporter:
    """Gathers what the tests of the kit showed, and says it at the end. In a worker process there is nothing to say."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._report: Report | None = None
        self._written: list[Path] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, _FACTS):
            return
        if self._report is None:
            from turnkeep_testkit.report import Report

            self._report = Report()
        self._report.add(report, getattr(report, _FACTS))

    def pytest_sessionfinish(self) -> None:
        target: str | None = self._config.getoption("turnkeep_report")
        if target is None or hasattr(self._config, "workerinput"):
            return
        from turnkeep_testkit.rendering import write

        self._written = write(_path(self._config, target), self._columns(), self._run())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not _shows_sections(self._config):
            for report in terminalreporter.getreports("failed"):
                for text in [text for name, text in report.sections if name == _TO_CHECK]:
                    terminalreporter.write_line(f"{_TO_CHECK} of {report.nodeid}: {text}")
        if columns := self._columns():
            from turnkeep_testkit.rendering import to_lines

            terminalreporter.section("turnkeep: what was shown of each adapter")
            for line in to_lines(columns):
                terminalreporter.write_line(line)
            figures = [figure for column in columns for figure in column.figures]
            if figures and self._config.getoption("turnkeep_campaign"):
                from turnkeep_testkit.figures import as_table

                terminalreporter.section("turnkeep: what the campaign measured")
                for line in as_table(figures):
                    terminalreporter.write_line(line)
        for path in self._written:
            terminalreporter.write_line(f"the report was written to {path}")

    def _columns(self) -> list[Column]:
        return self._report.columns() if self._report is not None else []

    def _run(self) -> dict[str, Any]:
        return {
            "campaign": bool(self._config.getoption("turnkeep_campaign")),
            "versions": {
                "python": ".".join(map(str, sys.version_info[:3])),
                **{name: metadata.version(name) for name in ("turnkeep", "turnkeep-testkit")},
            },
        }


def _shows_sections(config: pytest.Config) -> bool:
    """Whether pytest itself shows the sections of a report."""
    return config.getoption("tbstyle") not in {"line", "no"} and config.getoption("showcapture") == "all"


def _owner(item: pytest.Item) -> type | None:
    """The class of the kit that brought a test. Where no suite was imported there is none, and nothing to import."""
    if _SUITES not in sys.modules or not isinstance(item, pytest.Function):
        return None
    from turnkeep_testkit.excuses import kit_owner
    from turnkeep_testkit.suites.base import Suite

    owner: type | None = item.cls
    return kit_owner(owner, item.originalname) if owner is not None and issubclass(owner, Suite) else None


def _path(config: pytest.Config, target: str) -> Path:
    return config.invocation_params.dir / target
