"""The command line: commands, options and exit codes. What a command does is imported when it runs."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turnkeep_cli import logs

_EXIT_CODES = (
    "Exit codes: 0 all is well · 1 what was asked about is wrong or not there · 2 the command line or the set-up is"
    " wrong · 3 the database cannot be reached or used · 130 interrupted (Ctrl-C)"
)


class Status(StrEnum):
    """Of a session."""

    active = "active"
    completed = "completed"
    abandoned = "abandoned"


class Order(StrEnum):
    """Of a list of sessions."""

    activity = "activity"
    created = "created"


class Role(StrEnum):
    """Of a message."""

    user = "user"
    assistant = "assistant"
    system = "system"
    tool = "tool"


class _Commands(TyperGroup):
    """Ends every command with one of our exit codes, and says in a line what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            from turnkeep.errors import TurnkeepError
            from turnkeep_cli.outcomes import mask, report

            if isinstance(error, TurnkeepError):
                in_full = bool(ctx.params.get("traceback") or os.environ.get("TURNKEEP_TRACEBACK"))
                raise typer.Exit(report(error, in_full=in_full)) from error
            # A usage error quotes what was typed. (Newer typer has click inside itself, so the class cannot be named.)
            if getattr(error, "exit_code", None) == 2 and isinstance(message := getattr(error, "message", None), str):
                error.message = mask(message)  # pyright: ignore[reportAttributeAccessIssue] - it has one: see above
            raise


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_CODES,
)
sessions_app = typer.Typer(no_args_is_help=True, help="List, show, search and delete stored sessions.")
app.add_typer(sessions_app, name="sessions")

_Store = Annotated[
    str, typer.Argument(metavar="URL", help="The database: a URL such as sqlite:///chat.db, or the path of a file.")
]
_Namespace = Annotated[str | None, typer.Option(help="The application's namespace. Default: the URL's, or 'default'.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_User = Annotated[str | None, typer.Option("--user", help="Only sessions of this owner.")]
_Status = Annotated[Status | None, typer.Option("--status", help="Only sessions of this status.")]
_OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only sessions last committed to before: 30d, 12h, 45m, 2026-01-31.")
]
_Agent = Annotated[str | None, typer.Option(help="Only sessions that this agent last took a turn of.")]
_Route = Annotated[str | None, typer.Option(help="Only sessions that are on this route (its id).")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"turnkeep-cli {version('turnkeep-cli')}, turnkeep {version('turnkeep')}")
        raise typer.Exit


@app.callback()
def turnkeep(
    traceback: Annotated[bool, typer.Option("--traceback", hidden=True)] = False,  # noqa: ARG001 - read by _Commands
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the versions and leave.")
    ] = False,
) -> None:
    """Conversations of AI agents: talk, look at what is stored, check and migrate a database."""
    logs.set_up()


@app.command()
def chat(
    db: Annotated[
        str, typer.Option(metavar="URL", help="Where the conversation is kept: a URL, or the path of an SQLite file.")
    ] = "chat.db",
    session: Annotated[str, typer.Option(metavar="ID", help="Which conversation; made by its first message.")] = "demo",
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Who answers; 'turnkeep plugins' lists the names.")
    ] = "guided",
    user: Annotated[str | None, typer.Option(metavar="ID", help="Whose conversation it is. Default: nobody's.")] = None,
) -> None:
    """Talk to a demo agent that books tables. Leave, and type the same again: the conversation goes on.

    Piped input is taken line by line, each line a message; only the replies are printed.
    """
    from turnkeep_cli.chat import chat as run

    raise typer.Exit(run(db, session_id=session, provider=provider, user_id=user))


@app.command()
def plugins(
    as_json: _Json = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 if a plugin is broken.")] = False,
) -> None:
    """List the installed plugins, what they offer, and which are broken."""
    from turnkeep_cli import maintenance

    raise typer.Exit(maintenance.plugins(as_json=as_json, strict=strict))


@app.command()
def doctor(store: _Store, as_json: _Json = False) -> None:
    """Check a database, line by line, and say what to do. Changes nothing. Ends with 1 if something is wrong."""
    from turnkeep_cli import maintenance

    _run(maintenance.doctor(store, as_json=as_json))


@app.command()
def migrate(
    store: _Store,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: _Json = False,
) -> None:
    """Make the tables, or bring older ones to the installed version. Twice does no harm."""
    from turnkeep_cli import maintenance

    _run(maintenance.migrate(store, dry_run=dry_run, as_json=as_json))


@app.command()
def stats(store: _Store, namespace: _Namespace = None, as_json: _Json = False) -> None:
    """Count what is stored: sessions, messages, bytes; by status, agent, route and day."""
    from turnkeep_cli import maintenance

    _run(maintenance.stats(store, namespace=namespace, as_json=as_json))


@sessions_app.command("list")
def list_sessions(
    store: _Store,
    user: _User = None,
    status: _Status = None,
    older_than: _OlderThan = None,
    agent: _Agent = None,
    route: _Route = None,
    namespace: _Namespace = None,
    order: Annotated[Order, typer.Option(help="Last committed to first, or oldest first.")] = Order.activity,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: _Json = False,
) -> None:
    """List sessions that meet every given condition. With --json, one object per line."""
    from turnkeep_cli import sessions

    _run(
        sessions.list_sessions(
            store,
            _which(user, status, older_than, agent, route),
            namespace=namespace,
            limit=None if everything else limit,
            order=order.value,
            as_json=as_json,
        )
    )


@sessions_app.command("show")
def show_session(
    store: _Store,
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session.")],
    messages: Annotated[int, typer.Option(min=0, help="So many of its newest messages.")] = 20,
    namespace: _Namespace = None,
    as_json: _Json = False,
) -> None:
    """Show one session: where it stands, what it collected, its newest messages."""
    from turnkeep_cli import sessions

    _run(sessions.show_session(store, session_id, namespace=namespace, messages=messages, as_json=as_json))


@sessions_app.command("search")
def search_sessions(
    store: _Store,
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help='What has to be said: words, "words in this order"; -word must not occur.'),
    ],
    user: _User = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="Only in this session.")] = None,
    role: Annotated[Role | None, typer.Option("--role", help="Only messages of this role.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only messages made since then: 30d, 12h, 2026-01-31.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="AGE", help="Only messages made before then.")] = None,
    namespace: _Namespace = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: _Json = False,
) -> None:
    """Find messages, best first. With --json, one object per line. Ends with 1 where there is none."""
    from turnkeep_cli.search import Where, search

    where = Where(
        user_id=user,
        session_id=session,
        role=None if role is None else role.value,
        since=_age(since, "--since"),
        until=_age(until, "--until"),
    )
    _run(search(store, text, where, namespace=namespace, limit=limit, as_json=as_json))


@sessions_app.command("delete")
def delete_sessions(
    store: _Store,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="The sessions; or give conditions.")] = None,
    user: _User = None,
    status: _Status = None,
    older_than: _OlderThan = None,
    agent: _Agent = None,
    route: _Route = None,
    namespace: _Namespace = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: _Json = False,
) -> None:
    """Delete sessions by id, or all that meet every given condition. Says how many, and asks before."""
    from turnkeep_cli import sessions

    which = _which(user, status, older_than, agent, route)
    if bool(ids) == bool(which.given):
        raise typer.BadParameter(
            "give ids, or conditions (--user, --status, --older-than, --agent, --route), not both"
            if ids
            else "give the ids of sessions, or at least one condition such as --older-than 30d"
        )
    if ids:
        raise typer.Exit(sessions.delete_ids(store, ids, namespace=namespace, yes=yes, as_json=as_json))
    raise typer.Exit(sessions.delete_matching(store, which, namespace=namespace, yes=yes, as_json=as_json))


def _which(
    user: str | None, status: Status | None, older_than: str | None, agent: str | None, route: str | None
) -> Any:
    from turnkeep_cli.sessions import Which

    return Which(
        user_id=user,
        status=None if status is None else status.value,
        older_than=_age(older_than, "--older-than"),
        agent_name=agent,
        route=route,
    )


def _age(text: str | None, option: str) -> Any:
    from turnkeep_cli.sessions import parse_age

    try:
        return None if text is None else parse_age(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def _run(command: Any) -> None:
    """Runs a command to its end and leaves with its exit code."""
    import asyncio

    raise typer.Exit(asyncio.run(command))
