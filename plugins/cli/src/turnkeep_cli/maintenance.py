"""Looking after a database and what is installed: doctor, migrate, plugins, stats."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from rich.text import Text

from turnkeep import Plugins
from turnkeep.contract import YOURS
from turnkeep.errors import StorageTimeout
from turnkeep_cli.outcomes import OK, WRONG
from turnkeep_cli.output import cell, count, make_table, moment, print_json, safe, say, show
from turnkeep_cli.stores import opened, show_store, unopened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnkeep import Check, Stats
    from turnkeep.plugins import PluginReport

_CHECK_SECONDS: Final = 60.0
_DAYS: Final = 14
"""So many days are shown to people, the last ones."""
_STYLES: Final = {"ok": "green", "warning": "yellow", "WRONG": "bold red"}


async def doctor(store: str, *, as_json: bool) -> int:
    """Prints what was checked about a database; the exit code says whether something is wrong."""
    async with unopened(store) as persistence:
        try:
            report = await asyncio.wait_for(persistence.adapter.check(), _CHECK_SECONDS)
        except TimeoutError as error:
            said = f"{show_store(store)} did not answer within {_CHECK_SECONDS:g} s; is it reachable from here?"
            raise StorageTimeout(said, operation="check") from error
    if as_json:
        checks = [
            {"name": check.name, "status": _status(check).lower(), "detail": check.detail, "fix": check.fix or None}
            for check in report.checks
        ]
        print_json({"store": show_store(store), "adapter": report.adapter, "ok": report.ok, "checks": checks})
        return OK if report.ok else WRONG
    for check in report.checks:
        status = _status(check)
        say((f"{status:9}", _STYLES[status]), (check.name, "bold"), f": {check.detail}")
        if check.fix:
            say(f"{'':9}→ {check.fix}")
    wrong = sum(_status(check) == "WRONG" for check in report.checks)
    warnings = sum(_status(check) == "warning" for check in report.checks)
    if wrong:
        say((f"{count(wrong, 'thing')} wrong: this database cannot be used as it is.", "bold red"))
    else:
        say(("All is well" + (f", with {count(warnings, 'warning')}." if warnings else "."), "bold green"))
    return OK if report.ok else WRONG


def _status(check: Check) -> str:
    if check.ok:
        return "ok"
    return "warning" if check.warning else "WRONG"


async def migrate(store: str, *, dry_run: bool, as_json: bool) -> int:
    """Brings the tables to the version of the installed adapter, or says what that would do.

    The exit code says whether the user has something to do first.
    """
    async with unopened(store) as persistence:
        found = await persistence.adapter.migrate(dry_run=dry_run)
    steps = [step for step in found if not step.startswith(YOURS)]
    yours = [step.removeprefix(YOURS) for step in found if step.startswith(YOURS)]
    if as_json:
        print_json({"store": show_store(store), "dry_run": dry_run, "steps": steps, "yours": yours})
        return WRONG if yours else OK
    for step in steps:
        say(f"{'would do' if dry_run else 'done'}  {step}")
    for step in yours:
        say(("not done  ", "bold red"), step)
    if dry_run and steps:
        say(("Nothing was changed. Without --dry-run it is done.", "dim"))
    if yours:
        say((f"Yours to run, because it alters tables of your own: {count(len(yours), 'step')} above.", "bold red"))
    elif not steps:
        say("Nothing to do: the tables are of the version that is installed.")
    return WRONG if yours else OK


def plugins(*, as_json: bool, strict: bool) -> int:
    """Prints every plugin found, what it offers, and why it does not work where it does not."""
    # What is wrong with a plugin stands in the table.
    logging.getLogger("turnkeep.plugins").setLevel(logging.CRITICAL)
    reports = Plugins().report()
    broken = [report for report in reports if report.error is not None]
    if as_json:
        print_json([_fields(report) for report in reports])
    else:
        table = make_table("name", "distribution", "version", "kind", "offers", "hooks")
        for report in reports:
            row = (report.name, report.distribution, report.version, _kind(report), _offers(report), _hooks(report))
            table.add_row(*map(cell, row), style="red" if report.error else ("dim" if report.blocked else None))
        show(table)
        for report in broken:
            say((report.error or "", "bold red"))
    return WRONG if strict and broken else OK


def _fields(report: PluginReport) -> dict[str, object]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "kind": report.kind,
        "schemes": report.schemes,
        "providers": report.providers,
        "payload_filter": report.payload_filter,
        "hooks": report.hooks,
        "blocked": report.blocked,
        "error": report.error,
    }


def _kind(report: PluginReport) -> str:
    if report.error is not None:
        return f"{report.kind}, broken"
    return f"{report.kind}, blocked" if report.blocked else report.kind


def _offers(report: PluginReport) -> str:
    offers = [*(f"{scheme}://" for scheme in report.schemes), *(f"provider {name}" for name in report.providers)]
    if report.payload_filter is not None:
        offers.append(f"payload filter {report.payload_filter}")
    return ", ".join(offers)


def _hooks(report: PluginReport) -> str:
    # The two by which a plugin offers what stands in the column before say nothing more.
    return ", ".join(name for name in report.hooks if not name.startswith("register_"))


async def stats(store: str, *, namespace: str | None, as_json: bool) -> int:
    """Prints how much is stored."""
    async with opened(store, namespace=namespace) as persistence:
        found = await persistence.stats()
    if as_json:
        print_json(_stats_fields(found))
        return OK
    table = make_table("what", "how much", right=["how much"])
    table.show_header = False
    rows = [("sessions", f"{found.sessions:,}"), ("messages", f"{found.messages:,}"), ("bytes", f"{found.bytes:,}")]
    if found.oldest is not None:
        rows += [("oldest", moment(found.oldest)), ("newest", moment(found.newest))]
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(value))
    for title, counts in (("status", found.by_status), ("agent", found.by_agent), ("route", found.by_route)):
        _add_counts(table.add_row, title, counts)
    show(table)
    if found.by_day:
        say()
        days = make_table("created on", "sessions", "messages", "bytes", right=["sessions", "messages", "bytes"])
        for day, counted in list(found.by_day.items())[-_DAYS:]:
            days.add_row(str(day), f"{counted.sessions:,}", f"{counted.messages:,}", f"{counted.bytes:,}")
        show(days)
    return OK


def _add_counts(add_row: object, title: str, counts: Mapping[str, int] | Mapping[str | None, int]) -> None:
    assert callable(add_row)
    for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")):
        add_row(Text(f"{title} {safe(name) if name is not None else '(none)'}"), Text(f"{number:,}"))


def _stats_fields(found: Stats) -> dict[str, object]:
    def listed(name: str, counts: Mapping[str, int] | Mapping[str | None, int]) -> list[dict[str, object]]:
        # Not an object: None is a key here, and JSON has no such.
        return [{name: key, "sessions": number} for key, number in counts.items()]

    return {
        "sessions": found.sessions,
        "messages": found.messages,
        "bytes": found.bytes,
        "by_status": listed("status", found.by_status),
        "by_agent": listed("agent_name", found.by_agent),
        "by_route": listed("route", found.by_route),
        "by_day": [
            {"day": day, "sessions": counted.sessions, "messages": counted.messages, "bytes": counted.bytes}
            for day, counted in found.by_day.items()
        ],
        "oldest": found.oldest,
        "newest": found.newest,
    }
