"""A session held in Python, for adapters whose atomic step can read a whole session, change it and write it back.

``MemoryAdapter`` holds its sessions for good; an adapter over files holds one for the length of a call. What is decided
here is what every adapter decides: which commit takes effect, what it makes of the session, what a read shows of it,
what is counted when it goes. Each function lets time pass, up to the ``now`` it is given, for the sessions it is
handed: as the store has them, whosever they are and however old.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from turnkeep.contract import (
    PAST_COMMITS,
    WIDEN_LIMIT,
    Erased,
    MessagePage,
    SearchHit,
    SearchPage,
    SessionPage,
    StoredSession,
    Swept,
)
from turnkeep.cursors import page_of_heads, page_of_hits, position_of, rank_of, read_cursor, read_rank
from turnkeep.ids import new_id
from turnkeep.judge import (
    committed,
    find_visible,
    is_live,
    judge,
    next_head,
    number_messages,
    past_commit,
    session_conflict,
    session_not_found,
)
from turnkeep.retention import Marks, add_mark, floor_at
from turnkeep.tallies import Group, add_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from turnkeep.contract import (
        Commit,
        Committed,
        Head,
        LoadQuery,
        MessageQuery,
        SearchQuery,
        SessionKey,
        SessionQuery,
        Stats,
        StatsQuery,
        StoredMessage,
        Token,
    )
    from turnkeep.judge import PastCommit


@dataclass(slots=True)
class HeldSession:
    """A session with all that is remembered of it. It changes in place.

    Attributes:
        head: as the last commit left it, the floor raised by what ``pass_time`` applied.
        data: the collected data's document.
        state: the state's document.
        messages: those above the floor, in order.
        marks: when which messages leave.
        past: what is remembered of the last commits, oldest first, by commit id.
    """

    head: Head
    data: str = "{}"
    state: str = "{}"
    messages: list[StoredMessage] = field(default_factory=list["StoredMessage"])
    marks: Marks = ()
    past: dict[str, PastCommit] = field(default_factory=dict[str, "PastCommit"])

    def pass_time(self, now: datetime) -> int:
        """Lets the messages leave whose time has come; says how many."""
        before, floor = len(self.messages), floor_at(self.head.floor, self.marks, now)
        if floor > self.head.floor:
            self.head = replace(self.head, floor=floor)
            self.messages = [message for message in self.messages if message.seq > floor]
        return before - len(self.messages)

    def is_due(self, now: datetime) -> bool:
        """Whether a part of it, or all, has passed and is still held."""
        return not is_live(self.head, now) or floor_at(self.head.floor, self.marks, now) > self.head.floor


def load_from(session: HeldSession | None, key: SessionKey, query: LoadQuery, now: datetime) -> StoredSession | None:
    """What ``StorageAdapter.load`` gives, of what the store has under the key's id."""
    if session is None or not _is_visible(session, key, now):
        return None
    past = session.past.get(query.commit_id) if query.commit_id is not None else None
    replay = None
    if past is not None:
        replay = past.replay(
            session.head, tuple(message for message in session.messages if message.commit_id == past.commit_id)
        )
    return StoredSession(session.head, session.data, session.state, _window(session.messages, query.window), replay)


def read_from(
    session: HeldSession | None, key: SessionKey, query: MessageQuery, now: datetime, *, adapter: str
) -> MessagePage:
    """What ``StorageAdapter.read_messages`` gives, of what the store has under the key's id.

    Raises:
        SessionNotFound: there is none for this key.
    """
    if session is None or not _is_visible(session, key, now):
        raise session_not_found(key.session_id, adapter, "read_messages")
    if query.after is not None:
        found = [message for message in session.messages if message.seq > query.after]
        return MessagePage(tuple(found[: query.limit]), more=len(found) > query.limit)
    found = [message for message in session.messages if query.before is None or message.seq < query.before]
    return MessagePage(tuple(found[-query.limit :]), more=len(found) > query.limit)


def commit_to(
    session: HeldSession | None, commit: Commit, now: datetime, *, adapter: str
) -> tuple[HeldSession, Committed]:
    """Makes a commit take effect, and gives the session it belongs to, and its result.

    The session is the one that was handed in, changed; or a new one, where there was none or it had expired: then the
    result is ``created``. Where the result is ``replayed`` there is nothing to write. Where its floor has risen,
    messages left the history: what is written must not hold them any more.

    Args:
        session: what the store has under the commit's id, whoever's and however old.
        commit: the commit.
        now: the time.
        adapter: the adapter's name, for errors.

    Raises:
        CommitIdReused, SessionExists, SessionNotFound, SessionConflict: it may not take effect; nothing changed.
    """
    if session is not None:
        session.pass_time(now)
    before = session.head if session else None
    past = session.past.get(commit.commit_id) if session else None
    replayed = judge(commit, before, past, now, adapter=adapter)
    if replayed is not None and session is not None:
        return session, replayed
    if not is_live(before, now):
        session, before = None, None
    after = next_head(commit, before, before.token.incarnation if before else new_id(), now)
    result = committed(commit, before, after)
    session = session or HeldSession(after)
    _apply(commit, session, after, result, now)
    return session, result


def may_delete(
    session: HeldSession | None, key: SessionKey, expect: Token | None, now: datetime, *, adapter: str
) -> bool:
    """Whether ``StorageAdapter.delete`` is to remove what the store has under the key's id. False: there is none.

    Raises:
        SessionConflict: it is not at the token that is expected.
    """
    if session is None or not _is_visible(session, key, now):
        return False
    if expect is not None and session.head.token != expect:
        raise session_conflict(key.session_id, expect, session.head.token, adapter, "delete")
    return True


def erased(sessions: Iterable[HeldSession], now: datetime) -> Erased:
    """What ``StorageAdapter.delete_owner`` gives, of all sessions that it removes: those that expired do not count."""
    histories = [session.head.message_count for session in _live(sessions, now)]
    return Erased(len(histories), sum(histories))


def swept(due: Sequence[HeldSession], limit: int, now: datetime) -> Swept:
    """What ``StorageAdapter.sweep`` gives, of all sessions of the store for which ``is_due`` holds.

    It takes the first ``limit``: of those that live on it lets the messages go whose time has come, to be written back;
    the others are to be removed.
    """
    sessions = messages = 0
    for session in due[:limit]:
        if is_live(session.head, now):
            messages += session.pass_time(now)
        else:
            sessions, messages = sessions + 1, messages + len(session.messages)
    return Swept(sessions, messages, more=len(due) > limit)


def page_of(sessions: Iterable[HeldSession], query: SessionQuery, now: datetime) -> SessionPage:
    """What ``StorageAdapter.find_sessions`` gives, of all sessions of the query's namespace.

    Raises:
        InvalidArgument: the cursor is not one of this order.
    """
    heads = [session.head for session in _live(sessions, now) if _matches(session.head, query, now)]
    heads.sort(key=lambda head: position_of(head, query.order))
    if query.cursor is not None:
        stamp, session_id = read_cursor(query.cursor, query.order, int, str)
        heads = [head for head in heads if position_of(head, query.order) > (stamp, session_id)]
    return page_of_heads(heads, query)


def count(sessions: Iterable[HeldSession], query: StatsQuery, now: datetime) -> Stats:
    """What ``StorageAdapter.stats`` gives, of all sessions of the query's namespace."""
    return add_up(_group(session) for session in _live(sessions, now) if query.scope.sees(session.head.user_id))


def _group(session: HeldSession) -> Group:
    head = session.head
    return Group(
        status=head.status,
        agent_name=head.agent_name,
        route=head.current_route,
        day=head.created_at.date(),
        sessions=1,
        messages=head.message_count,
        bytes=_size(session),
        oldest=head.created_at,
        newest=head.updated_at,
    )


def search(sessions: Iterable[HeldSession], query: SearchQuery, now: datetime) -> SearchPage:
    """What ``StorageAdapter.search_messages`` gives, of all sessions of the query's namespace: by reading all of them.

    Raises:
        InvalidArgument: the cursor is not one of a search.
    """
    hits = [hit for session in _live(sessions, now) for hit in _hits(session, query)]
    if query.cursor is not None:
        score, session_id, seq = read_rank(query.cursor)
        hits = [hit for hit in hits if rank_of(hit) > (-score, session_id, seq)]
    hits.sort(key=rank_of)
    return page_of_hits(hits, query)


def _hits(session: HeldSession, query: SearchQuery) -> Iterator[SearchHit]:
    head = session.head
    if query.scope.sees(head.user_id) and query.session_id in {None, head.session_id}:
        for message in session.messages:
            if is_wanted(message, query):
                yield SearchHit(head.session_id, message, query.terms.score(message.content))


def is_wanted(message: StoredMessage, query: SearchQuery) -> bool:
    """Whether a message is what a search asks for: its text, role and time, whosever it is."""
    return (
        message.encoding == "plain"
        and (query.role is None or message.role == query.role)
        and (query.since is None or message.created_at >= query.since)
        and (query.until is None or message.created_at < query.until)
        and query.terms.match(message.content)
    )


def _live(sessions: Iterable[HeldSession], now: datetime) -> Iterator[HeldSession]:
    for session in sessions:
        session.pass_time(now)
        if is_live(session.head, now):
            yield session


def _is_visible(session: HeldSession, key: SessionKey, now: datetime) -> bool:
    session.pass_time(now)
    return find_visible(session.head, key, now) is not None


def _apply(commit: Commit, session: HeldSession, after: Head, result: Committed, now: datetime) -> None:
    session.head = after
    if commit.drop_history:
        session.messages = []
    session.messages += number_messages(commit, result)
    if commit.data is not None:
        session.data = commit.data
    if commit.state is not None:
        session.state = commit.state
    if commit.message_ttl is not None and commit.messages:
        session.marks = add_mark(session.marks, after.floor, after.last_seq, now + commit.message_ttl)
    session.past[commit.commit_id] = past_commit(commit, result)
    if len(session.past) > PAST_COMMITS:
        del session.past[next(iter(session.past))]


def _window(messages: list[StoredMessage], window: int | None) -> tuple[StoredMessage, ...]:
    if window is None or window >= len(messages):
        return tuple(messages)
    if window == 0:
        return ()
    start = len(messages) - window
    wanted = messages[start].turn_seq
    while start > 0 and messages[start - 1].seq >= wanted and len(messages) - start < window + WIDEN_LIMIT:
        start -= 1
    return tuple(messages[start:])


def _matches(head: Head, query: SessionQuery, now: datetime) -> bool:
    before = now - query.older_than if isinstance(query.older_than, timedelta) else query.older_than
    return (
        query.scope.sees(head.user_id)
        and (query.status is None or head.status == query.status)
        and (query.agent_name is None or head.agent_name == query.agent_name)
        and (query.route is None or head.current_route == query.route)
        and (before is None or head.updated_at < before)
    )


def _size(session: HeldSession) -> int:
    texts = [session.data, session.state]
    for message in session.messages:
        texts += [part for part in (message.content, message.tool_calls, message.event, message.metadata) if part]
    return sum(len(text.encode()) for text in texts)
