"""What a run showed of each adapter: a column per adapter, gathered from pytest's reports.

Facts about a test travel with pytest's own report of it, as texts and numbers, so that they also arrive from the worker
processes of pytest-xdist.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from turnkeep_testkit.figures import Figure, position

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from turnkeep_testkit.suites.base import Suite

Outcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]
Proof = Literal["proved", "failed", "not proved"]

OUTCOMES: Final[tuple[Outcome, ...]] = ("passed", "failed", "skipped", "xfailed", "xpassed")

_LONGEST: Final = 300


class Facts(TypedDict):
    """What the kit knows of a test; texts and numbers only."""

    test_class: str
    suite: str
    """The class of the kit that brought it."""
    test: str
    proves: list[str]
    """Names of the capabilities it looks at."""
    adapter: str
    """"" where no adapter was made."""
    capabilities: dict[str, tuple[str, str]]
    """By name: level and reason, as the adapter declares them."""
    figures: list[tuple[str, str, int | float | str]]
    """What it measured: number of the plan, what, how much."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one test went, and why it did not pass."""

    test_class: str
    suite: str
    test: str
    proves: tuple[str, ...]
    outcome: Outcome
    reason: str = ""
    figures: tuple[Figure, ...] = ()


@dataclass(slots=True)
class Column:
    """One adapter, as it declares itself, and what was shown of it."""

    adapter: str
    capabilities: dict[str, tuple[str, str]]
    label: str = ""
    results: list[Result] = field(default_factory=list[Result])

    @property
    def test_classes(self) -> list[str]:
        """The classes that looked at it, in order of appearance."""
        return list(dict.fromkeys(result.test_class for result in self.results))

    @property
    def suites(self) -> list[str]:
        """The suites that were run on it, in order of appearance."""
        return list(dict.fromkeys(result.suite for result in self.results))

    @property
    def figures(self) -> list[Figure]:
        """What was measured, by the numbers of the plan."""
        return sorted((figure for result in self.results for figure in result.figures), key=position)

    def count(self, outcome: Outcome, suite: str | None = None) -> int:
        """How many tests went so; of one suite, or of all."""
        return sum(result.outcome == outcome and suite in {None, result.suite} for result in self.results)

    def looking_at(self, capability: str) -> list[Result]:
        """The tests that look at a capability."""
        return [result for result in self.results if capability in result.proves]

    def proof(self, capability: str) -> Proof:
        """Whether what is declared was shown: some test that looks at it passed, and none failed, known or not."""
        outcomes = {result.outcome for result in self.looking_at(capability)}
        if outcomes & {"failed", "xfailed"}:
            return "failed"
        return "proved" if outcomes & {"passed", "xpassed"} else "not proved"


def describe(suite: Suite, owner: type, test: str, name: str) -> Facts:
    """The facts about a test that a class of the kit brought, once it has run or was skipped.

    Args:
        suite: the instance it ran on.
        owner: the class that brought it.
        test: its function's name.
        name: its name with parameters.
    """
    from turnkeep.contract import Capability

    looked_at: dict[str, Capability] = {}
    for marked in (vars(owner)[test], owner):
        looked_at |= {each.name: each for each in vars(marked).get("proves", ())}
    adapter, declared = suite.seen, {}
    with suppress(Exception):  # an adapter that cannot even declare itself fails tests, not the run
        declared = {} if adapter is None else {each.name: adapter.supports(each) for each in Capability}
    return Facts(
        test_class=type(suite).__name__,
        suite=owner.__name__,
        test=name,
        proves=list(looked_at),
        adapter=adapter.name if adapter is not None else "",
        capabilities={each: (support.level.value, support.reason) for each, support in declared.items()},
        figures=[(figure.plan, figure.what, figure.value) for figure in getattr(suite, "figures", ())],
    )


def what_to_check(owner: type, test: str) -> str:
    """What the docstring of a test that a class of the kit brought ends with; on one line, without "On failure:"."""
    said = inspect.getdoc(vars(owner)[test]) or ""
    return " ".join(said.rpartition("On failure:")[2].split())


class Report:
    """Gathers the results of a run."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Facts, Result]] = {}

    def add(self, report: pytest.TestReport, facts: Facts) -> None:
        """Takes pytest's report of one phase of a test of the kit."""
        outcome = _outcome(report)
        if outcome is None:
            return
        known = self._found.get(report.nodeid)
        if known is not None and known[1].outcome == "failed":
            return  # what failed in one phase is not mended by another
        result = Result(
            facts["test_class"],
            facts["suite"],
            facts["test"],
            tuple(facts["proves"]),
            outcome,
            _reason(report),
            tuple(Figure(plan, facts["test_class"], what, value) for plan, what, value in facts["figures"]),
        )
        self._found[report.nodeid] = (facts if facts["adapter"] or known is None else known[0], result)

    def columns(self) -> list[Column]:
        """A column per adapter. One that declares itself in two ways, by its settings, has two.

        Tests that got no adapter (its server is not there) go with the other tests of their class.
        """
        columns: list[Column] = []
        of_class: dict[str, Column] = {}
        nameless: list[Result] = []
        for facts, result in self._found.values():
            if not facts["adapter"]:
                nameless.append(result)
                continue
            declared = {name: (level, reason) for name, (level, reason) in facts["capabilities"].items()}
            same = (each for each in columns if (each.adapter, each.capabilities) == (facts["adapter"], declared))
            column = next(same, None)
            if column is None:
                column = Column(facts["adapter"], declared)
                columns.append(column)
            column.results.append(result)
            of_class.setdefault(result.test_class, column)
        for result in nameless:
            if result.test_class not in of_class:
                of_class[result.test_class] = Column("", {})
                columns.append(of_class[result.test_class])
            of_class[result.test_class].results.append(result)
        return _labelled(columns)


def _labelled(columns: list[Column]) -> list[Column]:
    names = [column.adapter for column in columns]
    for column in columns:
        classes = ", ".join(column.test_classes)
        alone = names.count(column.adapter) == 1
        column.label = column.adapter if column.adapter and alone else f"{column.adapter} ({classes})".strip()
    return columns


def capability_names(columns: Iterable[Column]) -> list[str]:
    """Every capability that is declared, in the order of the contract."""
    return list(dict.fromkeys(name for column in columns for name in column.capabilities))


def _outcome(report: pytest.TestReport) -> Outcome | None:
    """None for a phase that decides nothing."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed" if report.passed else "failed"
    if report.failed:
        return "failed"
    if report.skipped:
        return "skipped"
    return "passed" if report.when == "call" and report.passed else None


def _reason(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return report.wasxfail.removeprefix("reason: ")
    found: Any = report.longrepr
    if report.skipped and isinstance(found, (tuple, list)):
        return str(found[-1]).removeprefix("Skipped: ")  # pyright: ignore[reportUnknownArgumentType] - pytest's triple
    if report.failed:
        message: str = getattr(getattr(found, "reprcrash", None), "message", "") or str(found)
        return next(iter(message.splitlines()), "")[:_LONGEST]
    return ""
