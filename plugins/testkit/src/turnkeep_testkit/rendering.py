"""A report as text for the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from turnkeep_testkit.report import OUTCOMES, capability_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from turnkeep_testkit.report import Column, Result

FORMAT: Final = 1


def write(path: Path, columns: list[Column], run: dict[str, Any]) -> list[Path]:
    """Writes the report; the suffix says as what, any other suffix (or none) means: ``path.json`` and ``path.md``."""
    as_text = {".json": lambda: to_json(columns, run), ".md": lambda: to_markdown(columns)}
    targets = [path] if path.suffix in as_text else [path.with_name(path.name + suffix) for suffix in as_text]
    for target in targets:
        target.write_text(as_text[target.suffix](), encoding="utf-8")
    return targets


def to_json(columns: list[Column], run: dict[str, Any]) -> str:
    """The whole report, for programs."""
    document = {"format": FORMAT, "run": run, "adapters": [_as_dict(column) for column in columns]}
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def to_markdown(columns: list[Column]) -> str:
    """What each adapter declares and what was shown of it, then how the suites went, then why tests did not pass."""
    lines = ["## Capabilities", "", *capability_table(columns), "", "## Suites", "", *_suite_table(columns), ""]
    for title, outcome in (("Failed", "failed"), ("Known to fail", "xfailed"), ("Skipped", "skipped")):
        reasons = _by_reason(columns, outcome)
        if reasons:
            lines += [f"## {title}", "", *(f"- {line}" for line in reasons), ""]
    return "\n".join(lines)


def capability_table(columns: list[Column]) -> list[str]:
    """The capabilities as a table in Markdown: level, whether it was proved, and why it goes no further."""
    head = ["Capability", *(column.label for column in columns)]
    rows = [
        [f"`{name}`", *(_cell(column, name, with_reason=True) for column in columns)]
        for name in capability_names(columns)
    ]
    return _markdown([head, *rows])


def to_lines(columns: list[Column]) -> list[str]:
    """For the terminal: the capabilities, the counts, and why not more."""
    rows = [["", *(column.label for column in columns)]]
    rows += [[name, *(_cell(column, name) for column in columns)] for name in capability_names(columns)]
    rows += [["tests", *(_counts(column) for column in columns)]]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for column in columns:
        limits = [(name, *column.capabilities[name]) for name in column.capabilities]
        lines += [f"{column.label}: {name} is {level}: {reason}" for name, level, reason in limits if reason]
    for outcome in ("xfailed", "skipped"):
        lines += [f"{outcome}: {line}" for line in _by_reason(columns, outcome)]
    return lines


def _cell(column: Column, capability: str, *, with_reason: bool = False) -> str:
    level, reason = column.capabilities.get(capability, ("unknown", ""))
    proof = column.proof(capability)
    # Where nothing is declared there is nothing to prove but a refusal.
    shown = "" if level in {"none", "unknown"} and proof == "not proved" else f", {proof}"
    return f"{level}{shown}{f': {reason}' if with_reason and reason else ''}"


def _counts(column: Column, suite: str | None = None) -> str:
    counts = [(column.count(outcome, suite), outcome) for outcome in OUTCOMES]
    return ", ".join(f"{number} {outcome}" for number, outcome in counts if number)


def _suite_table(columns: list[Column]) -> list[str]:
    suites = dict.fromkeys(suite for column in columns for suite in column.suites)
    head = ["Suite", *(column.label for column in columns)]
    return _markdown([head, *([f"`{suite}`", *(_counts(column, suite) for column in columns)] for suite in suites)])


def _markdown(rows: list[list[str]]) -> list[str]:
    rows.insert(1, ["---"] * len(rows[0]))
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _by_reason(columns: Iterable[Column], outcome: str) -> list[str]:
    """One line per adapter and reason: which tests."""
    found: dict[tuple[str, str], list[Result]] = {}
    for column in columns:
        for result in column.results:
            if result.outcome == outcome:
                found.setdefault((column.label, result.reason), []).append(result)
    return [f"{label}: {_tests(results)}: {reason or 'no reason'}" for (label, reason), results in found.items()]


def _tests(results: list[Result]) -> str:
    names = list(dict.fromkeys(result.test.partition("[")[0] for result in results))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _as_dict(column: Column) -> dict[str, Any]:
    return {
        "adapter": column.adapter,
        "label": column.label,
        "test_classes": column.test_classes,
        "capabilities": {
            name: {
                "level": level,
                "reason": reason,
                "proof": column.proof(name),
                "tests": {result.test: result.outcome for result in column.looking_at(name)},
            }
            for name, (level, reason) in column.capabilities.items()
        },
        "suites": {
            suite: {
                "counts": {outcome: column.count(outcome, suite) for outcome in OUTCOMES},
                "not_passed": [
                    _explained(result)
                    for result in column.results
                    if result.suite == suite and result.outcome != "passed"
                ],
            }
            for suite in column.suites
        },
    }


def _explained(result: Result) -> dict[str, str]:
    return {
        "test": result.test,
        "class": result.test_class,
        "outcome": result.outcome,
        "reason": result.reason,
    }
