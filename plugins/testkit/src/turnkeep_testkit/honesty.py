"""G10: what a commit tells is what happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from turnkeep.contract import Committed, LoadQuery
from turnkeep.errors import CommitOutcomeUnknown, StorageTimeout, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep.contract import Commit, StorageAdapter

T = TypeVar("T")

LOST = (StorageUnavailable, StorageTimeout, CommitOutcomeUnknown)
"""The errors after which the same commit may be sent again."""

_TRIES = 20
_PAUSE = 0.05


async def outcome_of(work: Awaitable[T]) -> T | BaseException:
    """What the work returns or raises. `CancelledError` only where the work itself was cancelled."""
    (outcome,) = await asyncio.gather(work, return_exceptions=True)
    return outcome


async def insist(call: Callable[[], Awaitable[T]], *, tries: int = _TRIES) -> T:
    """What the call returns, repeated while the database cannot be reached."""
    for _ in range(tries - 1):
        try:
            return await call()
        except LOST:
            await asyncio.sleep(_PAUSE)
    return await call()


async def has_landed(adapter: StorageAdapter, commit: Commit) -> bool:
    """Whether the commit, which has messages, took effect. Fails if only a part of it did."""
    stored = await adapter.load(commit.key, LoadQuery())
    landed = [message.id for message in stored.messages if message.commit_id == commit.commit_id] if stored else []
    assert landed in ([], [message.id for message in commit.messages]), "a part of a commit took effect"
    return bool(landed)


async def expect_honest(
    commit: Commit, outcome: object, adapter: StorageAdapter, *, witness: StorageAdapter | None = None
) -> bool:
    """Whether the commit had to be sent again to land, after its outcome was compared with what happened.

    Afterwards it has landed exactly once: it is sent again, with the same commit id, through ``adapter``; ``witness``
    looks, if one is given.
    """
    witness = witness or adapter
    landed = await has_landed(witness, commit)
    match outcome:
        case Committed():
            assert landed, "the commit returned, and did not take effect"
            assert not outcome.replayed, "a commit that was sent once says `replayed`: did the driver send it again?"
        case asyncio.CancelledError():
            assert not landed, "the commit raised CancelledError, and took effect"
        case CommitOutcomeUnknown():
            assert outcome.commit_id == commit.commit_id
        case StorageUnavailable() | StorageTimeout():
            assert not landed, f"the commit raised {type(outcome).__name__}, which says that nothing was written"
        case _:
            raise AssertionError(f"the commit ended with {outcome!r}")
    again = await insist(lambda: adapter.commit(commit))
    if not isinstance(outcome, CommitOutcomeUnknown):
        assert again.replayed is isinstance(outcome, Committed), f"it ended with {outcome!r}, and took effect later"
    assert await has_landed(witness, commit)
    return not again.replayed
