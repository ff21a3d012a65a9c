"""What reaches the screen: text that cannot command the terminal, tables for people, JSON for programs."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from turnkeep.messages import Message
    from turnkeep.models import SessionRecord

# C0 and C1 controls, line and paragraph separators, what reorders text, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_BUT_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WIDE = 4000


def safe(text: str, *, lines: bool = False) -> str:
    r"""The text with everything that a terminal could take for a command spelled out, such as ``\x1b``.

    With ``lines``, line ends and tabs stay.
    """
    if lines:
        return _UNSAFE_BUT_LINES.sub(_spelled, text.replace("\r\n", "\n"))
    return _UNSAFE.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    return ascii(found.group())[1:-1]


@cache
def console(*, stderr: bool = False) -> Console:
    """The screen. Nothing that is printed on it is taken for markup; a pipe gets lines as long as they are."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=_WIDE)


def say(*parts: str | tuple[str, str], stderr: bool = False) -> None:
    """Prints a line made of texts, or of texts with a style."""
    made = [
        (safe(part[0], lines=True), part[1]) if isinstance(part, tuple) else safe(part, lines=True) for part in parts
    ]
    console(stderr=stderr).print(Text.assemble(*made), soft_wrap=True)


def complain(message: str) -> None:
    """Prints an error."""
    say(("error: ", "bold red"), message, stderr=True)


def note(message: str) -> None:
    """Prints what is beside the point of the command, where it does not get into its output."""
    say((message, "dim"), stderr=True)


def show(renderable: RenderableType) -> None:
    """Prints a table or the like."""
    console().print(renderable)


def make_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table whose cells wrap rather than be cut: ids are there to be copied."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def cell(value: object) -> Text:
    """The content of a cell; an empty one for None."""
    return Text(safe("" if value is None else str(value)))


def moment(value: datetime | None) -> str:
    """A time of the store, in the time zone of whoever is looking."""
    return "" if value is None else f"{value.astimezone():%Y-%m-%d %H:%M:%S}"


def count(number: int, thing: str) -> str:
    """``1 message``, ``6 messages``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def print_json(document: object, *, line: bool = False) -> None:
    """Prints one JSON document in ASCII: over several lines, or with ``line`` on one."""
    sys.stdout.write(json.dumps(plain(document), indent=None if line else 2, allow_nan=False) + "\n")


def plain(value: object) -> Any:
    """A stored value as JSON has it.

    Instants, dates and times become ISO 8601, durations seconds, bytes base64, sets and tuples lists; other types, and
    numbers that JSON lacks, their text.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Iterable[object]", value)]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in cast("Iterable[object]", value)), key=str)
    return str(value)


def as_text(value: object) -> str:
    """A stored value on one line: text, dates and the like as they are, everything else as JSON."""
    made = plain(value)
    return made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)


def session_fields(record: SessionRecord) -> dict[str, object]:
    """A session's record by the documented keys."""
    return {
        "id": record.id,
        "user_id": record.user_id,
        "agent_name": record.agent_name,
        "status": record.status,
        "current_route": record.current_route,
        "current_step": record.current_step,
        "message_count": record.message_count,
        "last_message_at": record.last_message_at,
        "completed_at": record.completed_at,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "expires_at": record.expires_at,
    }


def message_fields(message: Message) -> dict[str, object]:
    """A message by the documented keys."""
    return {
        "seq": message.seq,
        "id": message.id,
        "role": message.role,
        "name": message.name,
        "content": message.content,
        "route": message.route,
        "step": message.step,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls],
        "tool_call_id": message.tool_call_id,
        "event": message.event,
        "metadata": message.metadata,
        "created_at": message.created_at,
        "commit_id": message.commit_id,
    }
