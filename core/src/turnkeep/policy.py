"""What an application decides once for all its sessions, on every database alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnkeep.errors import InvalidArgument
from turnkeep.ids import check_namespace, check_optional_id
from turnkeep.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    UpgradeData = Callable[[dict[str, Any], int], dict[str, Any] | Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of a persistence that ``turnkeep.connect`` takes. It explains them."""

    namespace: str = "default"
    user_id: str | None = None
    session_ttl: timedelta | None = None
    message_ttl: timedelta | None = None
    limits: Limits = field(default_factory=Limits)
    timeout: float = 5.0
    slow_threshold: float = 1.0
    window: int | None = None
    data_version: int | None = None
    upgrade_data: UpgradeData | None = None

    def __post_init__(self) -> None:
        check_namespace(self.namespace)
        check_optional_id(self.user_id, "user_id", limit=self.limits.id_bytes)
        check_window(self.window)
        for name in ("timeout", "slow_threshold"):
            value = getattr(self, name)
            if type(value) not in {int, float} or not 0 < value < float("inf"):
                raise InvalidArgument(f"{name} must be a positive number of seconds, not {value!r:.40}")
        if self.data_version is not None and (type(self.data_version) is not int or self.data_version < 1):
            raise InvalidArgument(f"data_version must be a positive int, not {self.data_version!r:.40}")
        if self.upgrade_data is not None and not callable(self.upgrade_data):
            raise InvalidArgument(f"upgrade_data must be a function, not {type(self.upgrade_data).__name__}")
        if self.upgrade_data is not None and self.data_version is None:
            raise InvalidArgument("upgrade_data needs a data_version: the version it upgrades to")


def check_window(window: object) -> int | None:
    """``window`` itself: a number of messages, 0 or more, or None for all.

    Raises:
        InvalidArgument: it is neither.
    """
    if window is None:
        return None
    if type(window) is not int or not 0 <= window < 2**31:
        raise InvalidArgument(f"window must be a number of messages, 0 or more, or None for all, not {window!r:.40}")
    return window
