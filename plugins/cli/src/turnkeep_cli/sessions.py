"""``turnkeep sessions``: listing, showing and deleting what is stored."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from turnkeep import hookimpl
from turnkeep_cli.outcomes import OK, USAGE, WRONG, Problem
from turnkeep_cli.output import (
    as_text,
    cell,
    complain,
    console,
    count,
    make_table,
    message_fields,
    moment,
    note,
    print_json,
    safe,
    say,
    session_fields,
    show,
)
from turnkeep_cli.stores import opened, show_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnkeep import Message, Page, Persistence, SessionRecord, SessionState

_PAGE: Final = 100
_AGE: Final = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which sessions: every condition that is given must hold."""

    user_id: str | None = None
    status: Any = None
    older_than: timedelta | datetime | None = None
    agent_name: str | None = None
    route: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The conditions that are given, as Persistence takes them."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    async def find(self, persistence: Persistence, **order: Any) -> Page[SessionRecord, str]:
        """The first page of them."""
        conditions = self.given
        user_id = conditions.pop("user_id", None)
        if user_id is None:
            return await persistence.find_sessions(**conditions, **order)
        return await persistence.find_sessions_by_user_id(user_id, **conditions, **order)


def parse_age(text: str) -> timedelta | datetime:
    """An age such as ``30d``, or the instant of an ISO date or time; UTC where it names no zone.

    Raises:
        ValueError: it is neither.
    """
    age = _AGE.fullmatch(text.strip().lower())
    try:
        if age is not None:
            return timedelta(**{_UNITS[age[2]]: int(age[1])})
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r:.40} is neither an age such as 45m, 12h, 30d or 2w, nor a date such as 2026-01-31"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


async def list_sessions(
    store: str, which: Which, *, namespace: str | None, limit: int | None, order: str, as_json: bool
) -> int:
    """Prints the sessions that meet the conditions, at most ``limit`` of them."""
    table = make_table("id", "status", "user", "agent", "route", "messages", "last commit", right=["messages"])
    listed, more = 0, False
    async with opened(store, namespace=namespace) as persistence:
        page = await which.find(persistence, order=order, limit=_PAGE if limit is None else min(limit + 1, _PAGE))
        async for record in page:
            if listed == limit:
                more = True
                break
            listed += 1
            if as_json:
                print_json(session_fields(record), line=True)
            else:
                table.add_row(*map(cell, _row(record)))
    if not as_json and listed:
        show(table)
    if not listed:
        note("No sessions" + (" that meet these conditions." if which.given else " here."))
    elif more:
        note(f"These are {listed} of more; --limit N or --all shows the others.")
    return OK


def _row(record: SessionRecord) -> tuple[object, ...]:
    route = record.current_route
    if record.current_step is not None:
        route = f"{route} / {record.current_step}"
    updated = moment(record.updated_at)
    return (record.id, record.status, record.user_id, record.agent_name, route, f"{record.message_count:,}", updated)


async def show_session(store: str, session_id: str, *, namespace: str | None, messages: int, as_json: bool) -> int:
    """Prints one session with its newest messages."""
    async with opened(store, namespace=namespace, window=0) as persistence:
        record = await persistence.find_session_by_id(session_id)
        state = await persistence.load_session_state(session_id)
        if record is None or state is None:
            raise Problem(_no_session(session_id, store))
        history = await _last(persistence, session_id, messages)
    if as_json:
        print_json(_document(record, state, history))
    else:
        _print_session(record, state, history)
    return OK


def _no_session(session_id: str, store: str) -> str:
    shown = show_store(store)
    return f"there is no session {session_id!r} in {shown}; those there are: turnkeep sessions list {shown}"


async def _last(persistence: Persistence, session_id: str, number: int) -> list[Message]:
    """The newest messages, oldest first."""
    found: list[Message] = []
    before: int | None = None
    while len(found) < number:
        limit = min(number - len(found), _PAGE)
        page = await persistence.find_messages_by_session_id(session_id, limit=limit, before=before)
        found[:0] = page.items
        if page.next_cursor is None:
            break
        before = page.next_cursor
    return found


def _document(record: SessionRecord, state: SessionState, history: list[Message]) -> dict[str, object]:
    visits = [
        {
            "route": visit.route,
            "entered_at": visit.entered_at,
            "exited_at": visit.exited_at,
            "completed": visit.completed,
        }
        for visit in state.route_history
    ]
    return session_fields(record) | {
        "data": state.data,
        "collected_by": state.collected_by,
        "data_version": state.data_version,
        "metadata": state.metadata.custom,
        "route_history": visits,
        "messages": [message_fields(message) for message in history],
    }


def _print_session(record: SessionRecord, state: SessionState, history: list[Message]) -> None:
    table = make_table("", "")
    table.show_header = False
    visits = [f"{visit.route} ({'completed' if visit.completed else 'left'})" for visit in state.route_history]
    rows = {
        "session": record.id,
        "user": record.user_id,
        "agent": record.agent_name,
        "status": record.status,
        "route": record.current_route,
        "step": record.current_step,
        "routes taken": ", ".join(
            visits[:-1] + ([record.current_route or ""] if record.current_route else visits[-1:])
        ),
        "created": moment(record.created_at),
        "last commit": moment(record.updated_at),
        "completed": moment(record.completed_at),
        "expires": moment(record.expires_at),
        "messages": f"{record.message_count:,}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(cell(name), cell(value))
    for name, value in state.data.items():
        table.add_row(cell(f"data.{name}"), cell(as_text(value)))
    show(table)
    if history:
        say()
    for message in history:
        said = safe(message.content, lines=True)
        calls = "".join(f" → {call.name}({as_text(call.arguments)})" for call in message.tool_calls)
        say((f"{message.seq:>5} ", "dim"), (message.name or message.role, "bold"), f": {said}", (calls, "dim"))


def delete_ids(store: str, ids: list[str], *, namespace: str | None, yes: bool, as_json: bool) -> int:
    """Removes the named sessions; the exit code says whether all of them were there."""
    ids = list(dict.fromkeys(ids))
    _confirm(f"{count(len(ids), 'session')} with all messages", yes=yes)
    missing: list[str] = []

    async def delete() -> None:
        async with opened(store, namespace=namespace) as persistence:
            with _Bar(len(ids)) as bar:
                for session_id in ids:
                    if not await persistence.delete_session(session_id):
                        missing.append(session_id)
                    bar.advance()

    asyncio.run(delete())
    _print_deleted(len(ids) - len(missing), missing, as_json=as_json)
    for session_id in missing:
        complain(_no_session(session_id, store))
    return WRONG if missing else OK


def delete_matching(store: str, which: Which, *, namespace: str | None, yes: bool, as_json: bool) -> int:
    """Removes the sessions that meet the conditions, and that nobody commits to meanwhile."""

    async def look() -> list[int]:
        async with opened(store, namespace=namespace) as persistence:
            page = await which.find(persistence, order="created", limit=_PAGE)
            return [record.message_count async for record in page]

    async def delete(total: int) -> int:
        with _Bar(total) as bar:
            async with opened(store, namespace=namespace, plugins=[_Watch(bar.advance)]) as persistence:
                # Not one by one by id: what was committed to since it was counted stays.
                return await persistence.delete_sessions(**which.given)

    # The question is asked between two event loops: a running one would keep Ctrl-C from it.
    counts = asyncio.run(look())
    deleted = 0
    if counts:
        _confirm(f"{count(len(counts), 'session')} with {count(sum(counts), 'message')}", yes=yes)
        deleted = asyncio.run(delete(len(counts)))
    elif not as_json:
        say("No session meets these conditions.")
        return OK
    _print_deleted(deleted, [], as_json=as_json)
    return OK


def _print_deleted(deleted: int, missing: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"deleted": deleted, "not_found": missing})
    else:
        say(f"Deleted {count(deleted, 'session')}.")


def _confirm(what: str, *, yes: bool) -> None:
    """Asks before that is deleted, unless it was answered beforehand.

    Raises:
        Problem: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Problem(f"this would delete {what}, and there is no terminal to ask on: add --yes", code=USAGE)
    console(stderr=True).print(f"Delete {what}? [y/N] ", end="")
    if sys.stdin.readline().strip().casefold() not in {"y", "yes"}:
        raise Problem("nothing was deleted")


class _Watch:
    """Told of each session that goes, by hook."""

    name = "turnkeep-cli"

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told

    @hookimpl
    def on_session_deleted(self) -> None:
        """One more is gone."""
        self._told()


class _Bar:
    """A progress bar on the terminal, where there is one and enough to do."""

    def __init__(self, total: int) -> None:
        screen = console(stderr=True)
        columns = (TextColumn("deleting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=screen, transient=True, disable=total < 2 or not screen.is_terminal)
        self._task = self._progress.add_task("deleting", total=total)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """One more is gone."""
        self._progress.advance(self._task)
