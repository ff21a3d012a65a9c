"""Running the kit's tests without pytest."""

from __future__ import annotations


def parameters_of(test):
    """Every set of arguments that pytest would run the test with."""
    sets = [{}]
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.split(",") if isinstance(names, str) else list(names)
            sets = [
                known | dict(zip(names, value if len(names) > 1 else [value], strict=True))
                for known in sets
                for value in values
            ]
    return sets
