"""Observers of what has happened already: all are told, whatever one of them raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Notices = list[Callable[[], Awaitable[None]]]
"""Observers that are still to be told of what has happened."""


async def tell(notices: Notices) -> None:
    """Tells everybody; the first failure is raised when all were told, because nothing can be undone any more."""
    failure: Exception | None = None
    for notice in notices:
        try:
            await notice()
        except Exception as error:  # noqa: BLE001 - the others are told all the same
            failure = failure or error
    if failure is not None:
        raise failure
