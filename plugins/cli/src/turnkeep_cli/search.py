"""``turnkeep sessions search``: finding what was said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from turnkeep_cli.outcomes import OK, WRONG
from turnkeep_cli.output import message_fields, moment, note, print_json, say
from turnkeep_cli.stores import opened

if TYPE_CHECKING:
    from turnkeep import FoundMessage

_PAGE: Final = 100
_MARKED: Final = re.compile(r"\*\*(.+?)\*\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where to look: every condition that is given must hold."""

    user_id: str | None = None
    session_id: str | None = None
    role: Any = None
    since: timedelta | datetime | None = None
    until: timedelta | datetime | None = None

    def as_arguments(self) -> dict[str, Any]:
        """The conditions as ``search_messages`` takes them; an age is counted from now."""
        return {
            "user_id": self.user_id,
            "session_id": self.session_id,
            "role": self.role,
            "since": _instant(self.since),
            "until": _instant(self.until),
        }


def _instant(age: timedelta | datetime | None) -> datetime | None:
    return datetime.now(UTC) - age if isinstance(age, timedelta) else age


async def search(store: str, text: str, where: Where, *, namespace: str | None, limit: int, as_json: bool) -> int:
    """Prints the messages that match, best first; the exit code says whether there are any."""
    found, more = 0, False
    async with opened(store, namespace=namespace) as persistence:
        page = await persistence.search_messages(text, limit=min(limit + 1, _PAGE), **where.as_arguments())
        async for hit in page:
            if found == limit:
                more = True
                break
            found += 1
            if as_json:
                print_json(_fields(hit), line=True)
            else:
                _print(hit)
    if not found:
        note("No message says that.")
    elif more:
        note(f"These are the best {found} of more; --limit N shows others.")
    return OK if found else WRONG


def _fields(hit: FoundMessage) -> dict[str, object]:
    return {
        "session_id": hit.session_id,
        "score": hit.score,
        "highlight": hit.highlight,
        "message": message_fields(hit.message),
    }


def _print(hit: FoundMessage) -> None:
    message = hit.message
    where = f"{hit.session_id} {message.seq} "
    said = _MARKED.split(hit.highlight)
    # Every second part is what stood between the marks.
    parts = [(part, "bold yellow") if index % 2 else part for index, part in enumerate(said)]
    say((where, "dim"), (f"{moment(message.created_at)} ", "dim"), (message.name or message.role, "bold"), ": ", *parts)
