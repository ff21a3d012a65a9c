"""A conversation in a terminal: the prompt, replies as they come, and the commands that begin with a slash."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from turnkeep.errors import TurnkeepError
from turnkeep_cli.outcomes import INTERRUPTED, OK
from turnkeep_cli.output import as_text, cell, console, count, make_table, safe, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from turnkeep import Agent, Message, Reply, SessionRecord
    from turnkeep_cli.background import Background

_SHOWN_ON_RESUME: Final = 4
_SHOWN_BY_HISTORY: Final = 50
_MOST: Final = 1000
_INDENT: Final = (0, 0, 0, 2)


class Terminal:
    """One conversation, shown to a person.

    Args:
        background: where the agent lives.
        agent: whose own session this is.
        store: what to call the database.
    """

    def __init__(self, background: Background, agent: Agent, store: str) -> None:
        self._background = background
        self._agent = agent
        self._store = store
        self._console = console()
        self._commands: dict[str, tuple[str, Callable[[str], None]]] = {
            "/history": (f"[N]  the last N messages (default {_SHOWN_BY_HISTORY})", self._history),
            "/data": ("what the conversation has collected", self._data),
            "/reset": ("forget this conversation and begin anew", self._reset),
            "/help": ("this list", self._help),
            "/quit": ("leave (or Ctrl-D); the conversation is kept", self._quit),
        }

    def talk(self) -> int:
        """Goes on until the person leaves, and returns the exit code."""
        prompt = self._prompt()
        try:
            self._greet()
            while True:
                line = input(prompt)
                if line.startswith("/") and not line.startswith("//"):
                    self._command(line)
                elif line.strip():
                    self._turn(line.removeprefix("/"))
        except EOFError:
            self._console.print()
            return OK
        except KeyboardInterrupt:
            self._console.print()
            return INTERRUPTED
        except _Left:
            return OK

    def _prompt(self) -> str:
        """What asks for input. Colours go between marks by which readline knows that they take no room."""
        try:
            import_module("readline")  # its side effect is what counts: lines can be edited and recalled
        except ImportError:
            return "you> "
        return "\001\033[1;36m\002you>\001\033[0m\002 " if self._console.color_system else "you> "

    def _greet(self) -> None:
        record = self._record()
        if record is None:
            say("a new conversation: ", (self._session_id, "bold"), f", kept in {self._store}")
            titles = " · ".join(route.title for route in self._agent._routes)
            say((f"It can: {titles}. Type /help for commands, Ctrl-D to leave.", "dim"))
            return
        say("going on with ", (self._session_id, "bold"), f", {count(record.message_count, 'message')}")
        messages = self._last(_SHOWN_ON_RESUME)
        if record.message_count > len(messages):
            say(("  … /history shows more", "dim"))
        self._show_messages(messages)

    def _turn(self, text: str) -> None:
        from turnkeep_cli.chat import report_turn

        try:
            reply = self._background.run(self._take_turn(text))
        except TurnkeepError as error:
            report_turn(error)
        else:
            self._console.print(_reply(reply.message))
        say()

    async def _take_turn(self, text: str) -> Reply:
        """The reply; until it is whole and stored, what has come of it so far is shown for the time being."""
        waiting = Padding(Spinner("dots"), _INDENT)
        async with self._agent.stream(text) as stream:
            with Live(waiting, console=self._console, transient=True) as live:
                async for chunk in stream:
                    if chunk.reply is not None:
                        return chunk.reply
                    live.update(_reply(chunk.accumulated) if chunk.accumulated else waiting)
        raise AssertionError("unreachable: a stream ends with the reply, or raises")

    # -- commands --------------------------------------------------------------------------------------------------

    def _command(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        known = self._commands.get(name)
        if known is None:
            say((f"There is no command {name}. ", "yellow"), "/help lists them; // begins a message with a slash.")
            return
        try:
            known[1](argument.strip())
        except TurnkeepError as error:
            say(("error: ", "bold red"), str(error))
        say()

    def _help(self, _: str) -> None:
        for name, (text, _run) in self._commands.items():
            say("  ", (f"{name:10}", "bold"), text)
        say(("  Everything else is said to the agent; // begins a message with a slash.", "dim"))

    def _history(self, argument: str) -> None:
        if argument and not (argument.isascii() and argument.isdigit() and 1 <= int(argument) <= _MOST):
            say((f"/history takes a number from 1 to {_MOST}.", "yellow"))
            return
        record = self._record()
        if record is None:
            say(("Nothing was said yet.", "dim"))
            return
        messages = self._last(int(argument or _SHOWN_BY_HISTORY))
        say((f"{len(messages)} of {count(record.message_count, 'message')}", "dim"))
        self._show_messages(messages)

    def _data(self, _: str) -> None:
        state = self._background.run(self._agent.persistence.load_session_state(self._session_id))
        if state is None or not state.data:
            say(("Nothing was collected yet.", "dim"))
        else:
            table = make_table("field", "value", "collected by")
            for name, value in state.data.items():
                table.add_row(cell(name), cell(as_text(value)), cell(state.collected_by.get(name)))
            self._console.print(Padding(table, _INDENT))
        if state is not None:
            now = "between routes" if state.current_route is None else f"on {state.current_route.title}"
            done = list(dict.fromkeys(visit.route for visit in state.route_history if visit.completed))
            say((f"  {now}; completed: {', '.join(done) or 'none'}", "dim"))

    def _reset(self, _: str) -> None:
        record = self._record()
        if record is None:
            say(("There is nothing to forget yet.", "dim"))
            return
        answer = input(f"Forget {count(record.message_count, 'message')} and what was collected? [y/N] ")
        if answer.strip().casefold() not in {"y", "yes"}:
            say(("Nothing was forgotten.", "dim"))
            return
        # Not reset(): that gives the new conversation an id of its own, and --session would not find it again.
        self._background.run(self._agent.session.delete())
        say(("Forgotten. The next message begins anew.", "dim"))

    def _quit(self, _: str) -> None:
        raise _Left

    # -- what is stored --------------------------------------------------------------------------------------------

    @property
    def _session_id(self) -> str:
        session_id = self._agent.session.id
        assert session_id is not None
        return session_id

    def _record(self) -> SessionRecord | None:
        return self._background.run(self._agent.persistence.find_session_by_id(self._session_id))

    def _last(self, number: int) -> tuple[Message, ...]:
        find = self._agent.persistence.find_messages_by_session_id
        return self._background.run(find(self._session_id, limit=number)).items

    def _show_messages(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            if message.role == "user":
                say(("you> ", "cyan"), message.content)
            elif message.role == "assistant" and message.content:
                self._console.print(_reply(message.content))
            else:
                calls = ", ".join(call.name for call in message.tool_calls)
                say((f"  {message.role}: {calls or message.content}", "dim"))
        self._console.print()


class _Left(Exception):
    """The person left."""


def _reply(text: str) -> RenderableType:
    """A reply's markdown. Links show where they lead, and what looks like HTML is shown as it is written."""
    if not text.strip():
        return Padding(Text("(no text)", style="dim"), _INDENT)
    shown = Markdown("", hyperlinks=False)
    parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
    shown.parsed = parser.parse(safe(text, lines=True))
    return Padding(shown, _INDENT)
