"""The conditions of a list of sessions, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from turnkeep.checks import take_instant
from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_optional_id
from turnkeep.models import check_status

if TYPE_CHECKING:
    from turnkeep.contract import Order, Status


_OLDEST = timedelta(days=365_000)
"""More would reach before the year 1, where no clock can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What sessions must meet to be listed; every one that is given."""

    status: Status | None = None
    older_than: datetime | timedelta | None = None
    agent_name: str | None = None
    route: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None:
            check_status(self.status)
        check_optional_id(self.agent_name, "agent_name")
        check_optional_id(self.route, "route")
        age = self.older_than
        if isinstance(age, datetime):
            object.__setattr__(self, "older_than", take_instant(age, "older_than"))
        elif isinstance(age, timedelta):
            if not timedelta(0) <= age <= _OLDEST:
                raise InvalidArgument(f"older_than must be a timedelta of 0 to {_OLDEST.days} days, not {age!r:.80}")
        elif age is not None:
            raise InvalidArgument(f"older_than must be an aware datetime or a timedelta, not {age!r:.80}")


def check_order(order: object) -> Order:
    """``order`` itself.

    Raises:
        InvalidArgument: it is none.
    """
    if type(order) is not str or order not in ("activity", "created"):
        raise InvalidArgument(f"order must be 'activity' or 'created', not {order!r:.80}")
    return order


def check_cursor(cursor: object) -> str | None:
    """``cursor`` itself, if it is text or None; whether it is one of ours only the adapter can tell.

    Raises:
        InvalidArgument: it is neither.
    """
    if cursor is not None and type(cursor) is not str:
        raise InvalidArgument(f"a cursor is the next_cursor of a page, not {cursor!r:.80}")
    return cursor
