"""``turnkeep chat``: one conversation, typed into a terminal or piped in."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from turnkeep import Plugins, connect
from turnkeep.errors import CommitOutcomeUnknown, InvalidArgument, TurnkeepError
from turnkeep.ids import check_id, check_optional_id
from turnkeep.providers import Provider
from turnkeep_cli import demo
from turnkeep_cli.background import Background
from turnkeep_cli.outcomes import OK, WRONG, Problem
from turnkeep_cli.output import complain, note, safe
from turnkeep_cli.stores import show_store, to_url
from turnkeep_cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from turnkeep import Agent


def chat(db: str, *, session_id: str, provider: str, user_id: str | None) -> int:
    """Talks until the input ends, and returns the exit code."""
    with Background() as background:
        agents = _agent(db, session_id, provider, user_id)
        agent = background.run(agents.__aenter__())
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                return Terminal(background, agent, show_store(db)).talk()
            return _pipe(background, agent)
        finally:
            background.run(agents.__aexit__(None, None, None))


def _pipe(background: Background, agent: Agent) -> int:
    """Takes each line for a message and prints nothing but the replies."""
    outcome = OK
    for line in sys.stdin:
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        try:
            reply = background.run(agent.respond(text))
        except TurnkeepError as error:
            report_turn(error)
            outcome = WRONG
        else:
            print(safe(reply.message, lines=True), flush=True)  # noqa: T201 - no console: exactly the text
    return outcome


def report_turn(error: TurnkeepError) -> None:
    """Says why a turn failed, and what became of it."""
    complain(str(error))
    if not isinstance(error, CommitOutcomeUnknown):
        note("Nothing of this turn was stored.")


@asynccontextmanager
async def _agent(db: str, session_id: str, provider: str, user_id: str | None) -> AsyncGenerator[Agent]:
    """The demo agent on the open store. The session is made by its first turn, not here."""
    # Before anything is opened: opening makes the file.
    check_id(session_id, "--session")
    check_optional_id(user_id, "--user")
    model = _make_provider(provider)
    try:
        # Not bound to the user: somebody else's session would look like none until the first turn fails.
        async with connect(to_url(db)) as persistence:
            found = await persistence.find_session_by_id(session_id)
            if found is not None and found.user_id != user_id:
                owner = "nobody" if found.user_id is None else repr(found.user_id)
                fix = "leave --user out" if found.user_id is None else f"add --user {found.user_id}"
                raise Problem(f"session {session_id!r} belongs to {owner}: {fix}, or choose another --session")
            yield demo.make_agent(persistence, model, session_id=session_id, user_id=user_id)
    finally:
        await model.aclose()


def _make_provider(name: str) -> Provider:
    make = Plugins().provider_class(name)
    try:
        made = make()
    except TurnkeepError:
        raise
    except Exception as error:
        raise InvalidArgument(f"provider {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, Provider):
        raise InvalidArgument(f"provider {name!r} makes {type(made).__name__}, which is no turnkeep Provider")
    return made
