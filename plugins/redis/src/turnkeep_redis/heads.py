"""Heads at rest: one hash each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from turnkeep.contract import Head, Token
from turnkeep.errors import CorruptRecord
from turnkeep.retention import from_microseconds
from turnkeep_redis._errors import NAME, corrupt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from turnkeep.contract import Status


def read_head(values: Sequence[Any], floor: int, session_id: str) -> Head:
    """The head whose fields these are.

    Args:
        values: as the scripts send them, in the order of their FIELDS.
        floor: with every mark that has passed applied.
        session_id: whose it is to be.

    Raises:
        CorruptRecord: a field cannot be read, or the head is another session's.
    """
    texts = [None if value is None else cast("bytes", value).decode() for value in values]
    try:
        head = Head(
            namespace=_text(texts[0]),
            session_id=_text(texts[1]),
            user_id=texts[2],
            token=Token(_text(texts[3]), int(_text(texts[4])), _text(texts[5])),
            status=cast("Status", _text(texts[6])),
            agent_name=texts[7],
            current_route=texts[8],
            current_step=texts[9],
            last_seq=int(_text(texts[10])),
            floor=floor,
            last_message_at=_instant_or_none(texts[13]),
            completed_at=_instant_or_none(texts[14]),
            created_at=from_microseconds(int(_text(texts[15]))),
            updated_at=from_microseconds(int(_text(texts[16]))),
            expires_at=_instant_or_none(texts[17]),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise corrupt(session_id, f"its head cannot be read ({error})", "load") from error
    if head.session_id != session_id:
        raise CorruptRecord(f"the head of session {session_id!r:.200} is that of another one", adapter=NAME)
    return head


def _text(text: str | None) -> str:
    if text is None:
        raise ValueError("a field is missing")
    return text


def _instant_or_none(text: str | None) -> datetime | None:
    return None if text is None else from_microseconds(int(text))
