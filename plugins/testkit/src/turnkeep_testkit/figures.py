"""What the suites measured: kept for the whole run, shown at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest


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


FIGURES: Final = pytest.StashKey[list[Figure]]()
"""Where a run keeps them: ``config.stash[FIGURES]``."""


def as_table(figures: list[Figure]) -> list[str]:
    """The figures as lines of text, by number of the plan."""
    rows = [("", "suite", "figure", ""), *(_row(figure) for figure in sorted(figures, key=_position))]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{plan:<{widths[0]}}  {suite:<{widths[1]}}  {what:<{widths[2]}}  {value}".rstrip()
        for plan, suite, what, value in rows
    ]


def _row(figure: Figure) -> tuple[str, str, str, str]:
    value = figure.value
    shown = value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return figure.plan, figure.suite, figure.what, shown


def _position(figure: Figure) -> tuple[int, str]:
    digits = figure.plan.lstrip("T")
    return int(digits) if digits.isdecimal() else 0, figure.suite
