"""Running a test of the kit without pytest, for tests of the kit itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


def parameters_of(test: object) -> list[dict[str, Any]]:
    """Every set of arguments that pytest would run the test with."""
    sets: list[dict[str, Any]] = [{}]
    marks: list[pytest.Mark] = getattr(test, "pytestmark", [])
    for mark in marks:
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.split(",") if isinstance(names, str) else list(names)
            sets = [
                known | dict(zip(names, value if len(names) > 1 else [value], strict=True))
                for known in sets
                for value in values
            ]
    return sets
