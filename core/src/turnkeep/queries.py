"""The conditions of a list of sessions, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_optional_id
from turnkeep.models import check_status

if TYPE_CHECKING:
    from turnkeep.contract import Order, Status


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
            if age.utcoffset() is None:
                raise InvalidArgument("older_than must be an aware datetime: give it a timezone")
        elif isinstance(age, timedelta):
            if age < timedelta(0):
                raise InvalidArgument("older_than must not be a negative timedelta")
        elif age is not None:
            raise InvalidArgument(f"older_than must be an aware datetime or a timedelta, not {age!r:.80}")


def check_order(order: object) -> Order:
    """``order`` itself.

    Raises:
        InvalidArgument: it is none.
    """
    if order not in ("activity", "created"):
        raise InvalidArgument(f"order must be 'activity' or 'created', not {order!r:.80}")
    return order
