"""A held session as lines of text, a line per commit: for stores that keep a log, or a session as one document.

A line is JSON in UTF-8 without a line end in it. Adding up the lines of a session, in order, gives the session; one
line that holds all of it may take the place of those before it. That a line is missing is told, unless it is the last.
What is in a line is this module's affair: a later version reads what an earlier one wrote.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from turnkeep import codec
from turnkeep.contract import PAST_COMMITS, Head, StoredMessage, Token
from turnkeep.errors import CorruptRecord, DataTooNew
from turnkeep.held import HeldSession
from turnkeep.judge import PastCommit

if TYPE_CHECKING:
    from turnkeep.contract import Committed

_FORMAT: Final = 1


def write_line(session: HeldSession, last: Committed | None = None) -> bytes:
    """A line with what the session's last commit changed, or with all of the session. It has no line end."""
    commit_id = None if last is None else last.token.commit_id
    messages = [message for message in session.messages if commit_id in {None, message.commit_id}]
    past = [past for past in session.past.values() if commit_id in {None, past.commit_id}]
    document: dict[str, Any] = {
        "v": _FORMAT,
        "head": asdict(session.head),
        "data": session.data,
        "state": session.state,
        "messages": [list(message) for message in messages],
        "marks": session.marks,
        "past": [asdict(commit) for commit in past],
    }
    return codec.encode(document).encode()


def add_line(session: HeldSession | None, line: bytes, *, adapter: str) -> HeldSession:
    """The session once this line is added to it; None: the line is the first, and may hold all of a session.

    Raises:
        CorruptRecord: it is no such line, or not the next one: lines are missing, doubled or in another order; or it
            does not hold every message of the history that the lines before it lack.
        DataTooNew: it was written by a later version.
    """
    try:
        found: Any = codec.decode(line.decode())
        if found["v"] > _FORMAT:
            raise DataTooNew(f"a line of version {found['v']} was found: upgrade turnkeep", adapter=adapter)
        added = _add(session, found)
        _expect_next(session, added)
    except (CorruptRecord, UnicodeDecodeError, LookupError, TypeError) as error:
        raise CorruptRecord(f"a line of a session cannot be read: {error}"[:300], adapter=adapter) from error
    return added


def _add(session: HeldSession | None, found: Any) -> HeldSession:
    fields: dict[str, Any] = {**found["head"]}
    fields["token"] = Token(**fields["token"])
    head = Head(**fields)
    messages = [] if session is None else [message for message in session.messages if message.seq > head.floor]
    messages += [StoredMessage(*message) for message in found["messages"]]
    past = [] if session is None else list(session.past.values())
    past += [PastCommit(**commit) for commit in found["past"]]
    remembered = {commit.commit_id: commit for commit in past[-PAST_COMMITS:]}
    return HeldSession(head, found["data"], found["state"], messages, found["marks"], remembered)


def _expect_next(before: HeldSession | None, after: HeldSession) -> None:
    """Looks whether what a line gave can be what was written.

    Raises:
        CorruptRecord: it cannot.
    """
    head, version = after.head, after.head.token.version
    if before is not None and head.token.incarnation != before.head.token.incarnation:
        raise CorruptRecord("it is of another session, or of another life of it")
    if before is not None and version != before.head.token.version + 1:
        raise CorruptRecord(f"it is of version {version}, and follows version {before.head.token.version}")
    # Each version was made by one commit, and the last of them are remembered.
    if [commit.version for commit in after.past.values()] != list(
        range(max(version - PAST_COMMITS, 0) + 1, version + 1)
    ):
        raise CorruptRecord(f"lines before that of version {version} are missing")
    if [message.seq for message in after.messages] != list(range(head.floor + 1, head.last_seq + 1)):
        raise CorruptRecord(f"of the messages {head.floor + 1} to {head.last_seq} not each is there once")
