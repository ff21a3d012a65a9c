"""An adapter that keeps account of what is asked of another one."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from turnkeep.codec import utf8_length
from turnkeep_testkit.wrapping import WrappedAdapter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep.contract import Commit, StorageAdapter

T = TypeVar("T")


@dataclass(slots=True)
class RecordedCall:
    """One call of an adapter.

    Attributes:
        operation: the method's name.
        arguments: its arguments, in order.
        sent: bytes of text that it was given: contents, documents, ids.
        received: bytes of text that it gave back; 0 as long as it has not.
        error: what it raised, if it did.
        ended: whether it is over.
    """

    operation: str
    arguments: tuple[Any, ...]
    sent: int
    received: int = 0
    error: BaseException | None = None
    ended: bool = False


class RecordingAdapter(WrappedAdapter):
    """Wraps any adapter and notes every call, from its begin: how often which, and how many bytes.

    Attributes:
        calls: in the order they began.
    """

    def __init__(self, inner: StorageAdapter) -> None:
        super().__init__(inner)
        self.calls: list[RecordedCall] = []

    @property
    def operations(self) -> list[str]:
        """The names of the operations called, in order; opening and closing left out."""
        return [call.operation for call in self.calls if call.operation not in {"open", "aclose"}]

    @property
    def commits(self) -> list[Commit]:
        """Every commit that was sent, as often as it was."""
        return [call.arguments[0] for call in self.calls if call.operation == "commit"]

    @property
    def sent(self) -> int:
        """Bytes of text given in all calls together."""
        return sum(call.sent for call in self.calls)

    @property
    def received(self) -> int:
        """Bytes of text got back in all calls together."""
        return sum(call.received for call in self.calls)

    def count(self, operation: str) -> int:
        """How often an operation was called."""
        return sum(call.operation == operation for call in self.calls)

    def reset(self) -> None:
        """Begins anew."""
        self.calls.clear()

    async def pass_on(self, operation: str, call: Callable[[], Awaitable[T]], *arguments: Any) -> T:
        """Makes the call, and notes it."""
        record = RecordedCall(operation, arguments, _text_size(arguments))
        self.calls.append(record)
        try:
            result = await call()
        except BaseException as error:
            record.error = error
            raise
        finally:
            record.ended = True
        record.received = _text_size(result)
        return result


def _text_size(value: object) -> int:
    """Bytes in UTF-8 of all text within a value of the contract."""
    if isinstance(value, str):
        return utf8_length(value)
    if isinstance(value, (tuple, list)):
        return sum(map(_text_size, cast("tuple[object, ...]", value)))
    if is_dataclass(value) and not isinstance(value, type):
        return sum(_text_size(getattr(value, field.name)) for field in fields(value))
    return 0
