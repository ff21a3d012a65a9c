"""Finds the plugins that installed distributions announce in the entry-point group ``turnkeep``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GROUP: Final = "turnkeep"


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A plugin that is announced, and not loaded.

    Attributes:
        name: the plugin's name.
        distribution: that announces it.
        version: of the distribution.
        load: imports it.
    """

    name: str
    distribution: str | None
    version: str | None
    load: Callable[[], object]


@functools.cache
def find_entry_points() -> tuple[EntryPoint, ...]:
    """Every plugin announced, by name. Looked up once per process: a scan reads each installed distribution."""
    import importlib_metadata

    # Its ``entry_points`` has no annotation.
    points = cast("Iterable[Any]", cast("Any", importlib_metadata).entry_points(group=GROUP))
    found = [
        EntryPoint(
            name=point.name,
            distribution=None if point.dist is None else point.dist.name.lower().replace("_", "-"),
            version=None if point.dist is None else point.dist.version,
            load=point.load,
        )
        for point in points
    ]
    return tuple(sorted(found, key=lambda point: (point.name, point.distribution or "")))


def own_version() -> str | None:
    """The version of Turnkeep, as installed; None where it runs from a bare source tree."""
    import importlib_metadata

    try:
        return importlib_metadata.version("turnkeep")
    except importlib_metadata.PackageNotFoundError:
        return None
