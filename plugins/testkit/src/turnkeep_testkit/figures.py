"""What the suites measured: it travels with the report of its test, and is shown at the end of a campaign."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured.

    Attributes:
        plan: the test's number in the plan of faults and load, for example ``"T4"``.
        suite: the class that measured it: the name of the adapter's own test class.
        what: what was counted or timed, with its unit.
        value: how much.
    """

    plan: str
    suite: str
    what: str
    value: int | float | str

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if isinstance(self.value, str):
            return self.value
        return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:,.1f}"


def as_table(figures: list[Figure]) -> list[str]:
    """The figures as lines of text, by number of the plan."""
    rows = [("", "suite", "figure", ""), *(_row(figure) for figure in sorted(figures, key=position))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{plan:<{widths[0]}}  {suite:<{widths[1]}}  {what:<{widths[2]}}  {value}".rstrip()
        for plan, suite, what, value in rows
    ]


def _row(figure: Figure) -> tuple[str, str, str, str]:
    return figure.plan, figure.suite, figure.what, figure.shown


def position(figure: Figure) -> tuple[int, str]:
    """By the plan's numbers; what has none comes first."""
    digits = figure.plan.lstrip("T")
    return int(digits) if digits.isdecimal() else 0, figure.suite
