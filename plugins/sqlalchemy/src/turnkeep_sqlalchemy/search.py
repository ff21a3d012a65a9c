"""Words at rest: a table beside the messages, which holds for each its words and whose they are.

A commit leaves it alone: it would carry each text twice. A search first reads what was said since the last one, of the
sessions it may look into; where the row of a session's newest message is there, so are all before it.

The index of the database gives the messages that have all words; whether they stand next to each other, and how good
that is, the same row says. Words are written so that every full-text parser takes each for one: ``w_`` before those of
ASCII, so that none is too short or too common, and ``x_`` before a digest of any other.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import BigInteger, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import mysql

from turnkeep.contract import ANYONE, SearchHit, SearchPage, StoredMessage
from turnkeep.cursors import page_of_hits, read_rank
from turnkeep.errors import CorruptRecord
from turnkeep.held import is_wanted
from turnkeep.retention import floor_at, read_marks
from turnkeep.words import split_words
from turnkeep_sqlalchemy._errors import NAME
from turnkeep_sqlalchemy.columns import MYSQL, Id
from turnkeep_sqlalchemy.statements import MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from turnkeep.contract import Owner, SearchQuery
    from turnkeep.words import Run
    from turnkeep_sqlalchemy.statements import Statements

_PORTION: Final = 500
"""So many messages are read in one transaction, which keeps writers of their sessions waiting."""
_SESSIONS: Final = 50
"""They are of so many sessions at most."""
_PLACES: Final = 2
"""Words of a row that are none of the message: its namespace and its owner."""
_SCALE: Final = 1_000_000
"""Scores are whole numbers, which every database and driver gives back as they are."""


class Search:
    """The statements of searches over these tables, and what they find.

    Args:
        statements: of the adapter.
        words: the table of words.
        clock: the time, aware, where it is not the server's.
    """

    def __init__(self, statements: Statements, words: Table, clock: Callable[[], datetime] | None) -> None:
        self._q, self._w, self._clock = statements, words, clock
        self._s, self._m = statements.tables.sessions, statements.tables.messages
        w = self._w.c
        self._read = (
            select(w.session_id, w.incarnation, func.max(w.seq))
            .where(*self._within(w), w.session_id.in_(bindparam("of_sessions", type_=Id(), expanding=True)))
            .group_by(w.session_id, w.incarnation)
        )
        self._lock = (
            select(*(self._s.c[field] for field in ("id", "incarnation", "user_id", "floor", "last_seq")))
            .where(*statements.in_namespace(), self._s.c.id.in_(bindparam("of_sessions", type_=Id(), expanding=True)))
            .order_by(self._s.c.id)
            .with_for_update()
        )
        self._said = (
            select(self._m.c.seq, self._m.c.content, self._m.c.encoding)
            .where(*statements.life(self._m), self._m.c.seq > bindparam("of_low"))
            .order_by(self._m.c.seq)
            .limit(bindparam("of_limit"))
        )
        moved = w.user_id.is_distinct_from(bindparam("of_user", type_=Id()))
        place = bindparam("new_place", type_=self._w.c.words.type)
        self._move = (
            update(self._w)
            .where(*statements.life(self._w), moved)
            .values(user_id=bindparam("of_user", type_=Id()), words=place + func.substr(w.words, _PLACE_LENGTH + 1))
        )
        self._insert = insert(self._w)

    # Reading on

    async def behind(self, connection: AsyncConnection, query: SearchQuery) -> list[str]:
        """Sessions that a search may look into whose words were not all read yet, or are another owner's; some."""
        newest = and_(*self._q.same_life(self._w), self._w.c.seq == self._s.c.last_seq)
        statement = (
            select(self._s.c.id)
            .select_from(self._s.outerjoin(self._w, newest))
            .where(
                *self._sessions(query),
                self._s.c.last_seq > self._s.c.floor,
                or_(self._w.c.seq.is_(None), self._w.c.user_id.is_distinct_from(self._s.c.user_id)),
            )
            .limit(_SESSIONS)
        )
        found = await connection.execute(statement, self._given(query, self._time()))
        return list(found.scalars())

    async def read_on(self, connection: AsyncConnection, namespace: str, sessions: list[str]) -> None:
        """Reads the words of these sessions, as far as a portion goes. They stay locked meanwhile: the owner is theirs.

        In the order of their ids, so that two who do this wait for each other and not each for the other.
        """
        chosen = self._q.in_scope(namespace) | {"of_sessions": sessions}
        locked: Sequence[Any] = (await connection.execute(self._lock, chosen)).fetchall()
        read: dict[Any, int] = {
            (session_id, incarnation): seq
            for session_id, incarnation, seq in (await connection.execute(self._read, chosen)).fetchall()
        }
        rows: list[dict[str, Any]] = []
        for session_id, incarnation, user_id, floor, last_seq in locked:
            life = self._q.of(namespace, session_id, incarnation)
            place = place_of(namespace, user_id)
            low = read.get((session_id, incarnation))
            if low is not None:
                await connection.execute(self._move, life | {"of_user": user_id, "new_place": place})
            low = max(floor, low or 0)
            if low >= last_seq or len(rows) == _PORTION:
                continue
            said = await connection.execute(self._said, life | {"of_low": low, "of_limit": _PORTION - len(rows)})
            key: dict[str, Any] = {"session_id": session_id, "incarnation": incarnation, "user_id": user_id}
            if "namespace" in self._w.c:
                key["namespace"] = namespace
            rows += [
                key | {"seq": seq, "words": place + words_of(content, encoding)}
                for seq, content, encoding in said.fetchall()
            ]
        if rows:
            await connection.execute(self._insert, rows)

    # Searching

    async def search(self, connection: AsyncConnection, query: SearchQuery) -> SearchPage:
        """The hits that follow the cursor."""
        statement, now = self._page(query), self._time()
        rows = (await connection.execute(statement, self._given(query, now))).fetchall()
        hits = [_hit(row) for row in rows]
        page = page_of_hits(hits, query)
        shown = tuple(
            hit
            for hit, row in zip(page.items, rows, strict=False)
            if hit.message.seq > _floor(row, now) and is_wanted(hit.message, query)
        )
        return SearchPage(shown, page.next_cursor)

    def _page(self, query: SearchQuery) -> Select[Any]:
        m, s = self._m.c, self._s.c
        score = self._score(query.terms.wanted)
        statement = (
            select(
                *self._q.message,
                m.session_id.label("found_session"),
                score.label("score"),
                self._q.moment(),
                s.floor,
                s.marks,
            )
            .select_from(
                self._w.join(self._m, and_(*self._same_message())).join(self._s, and_(*self._q.same_life(self._m)))
            )
            .where(
                self._q_has_all(query),
                *(self._count(run) > 0 for run in query.terms.wanted),
                *(self._count(run) == 0 for run in query.terms.unwanted),
                *self._sessions(query),
                m.seq > s.floor,
            )
        )
        if query.role is not None:
            statement = statement.where(m.role == query.role)
        if query.since is not None:
            statement = statement.where(m.created_at >= query.since)
        if query.until is not None:
            statement = statement.where(m.created_at < query.until)
        if query.cursor is not None:
            last, last_id, last_seq = read_rank(query.cursor)
            later = or_(m.session_id > last_id, and_(m.session_id == last_id, m.seq > last_seq))
            statement = statement.where(or_(score < int(last), and_(score == int(last), later)))
        return statement.order_by(score.desc(), m.session_id, m.seq).limit(query.limit + 1)

    def _q_has_all(self, query: SearchQuery) -> ColumnElement[bool]:
        """What the index is asked: every wanted word, and the place."""
        scope = query.scope
        words = [_name(scope.namespace, scope.owner), *(to_token(word) for run in query.terms.wanted for word in run)]
        return has_all(self._w.c.words, list(dict.fromkeys(words)), self._q.dialect)

    def _score(self, runs: Iterable[Run]) -> ColumnElement[Any]:
        """As ``Terms.score``: how often the runs occur among how many words."""
        found = [self._count(run) for run in runs]
        size = func.length(self._w.c.words) - func.length(func.replace(self._w.c.words, " ", ""))
        return sum(found[1:], found[0]) * _SCALE // (size + 10 - _PLACES)

    def _count(self, run: Run) -> ColumnElement[Any]:
        """How often these words stand next to each other. A token begins as none goes on, so each is found whole."""
        text = _spaced(map(to_token, run))
        words = self._w.c.words
        without = func.length(func.replace(words, text, ""), type_=BigInteger())
        return (func.length(words, type_=BigInteger()) - without) // len(text)

    # Parts

    def _time(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    def _sessions(self, query: SearchQuery) -> list[ColumnElement[bool]]:
        """Sessions that are there and may be looked into."""
        conditions = [*self._q.in_namespace(), *self._q.owned_by(query.scope.owner), *self._q.living()]
        return conditions if query.session_id is None else [*conditions, self._s.c.id == query.session_id]

    def _given(self, query: SearchQuery, now: datetime | None) -> dict[str, Any]:
        return self._q.in_scope(query.scope.namespace) | self._q.at(now)

    def _within(self, columns: Any) -> list[ColumnElement[bool]]:
        if not self._q.has_namespace:
            return []
        return [columns.namespace == bindparam("of_namespace", type_=Id())]

    def _same_message(self) -> list[ColumnElement[bool]]:
        fields = [field for field in ("namespace", "session_id", "incarnation", "seq") if field in self._w.c]
        return [self._w.c[field] == self._m.c[field] for field in fields if field in self._m.c]


def has_all(column: ColumnElement[Any], tokens: Sequence[str], dialect: str) -> ColumnElement[bool]:
    """That a text of tokens has all of these, as the index of this database is asked. No token has syntax in it."""
    if dialect in MYSQL:
        return cast("Any", mysql.match(column, against=" ".join(f"+{token}" for token in tokens))).in_boolean_mode()
    return func.string_to_array(column, " ").bool_op("@>")(func.string_to_array(" ".join(tokens), " "))


def words_of(content: str, encoding: str) -> str:
    """The words of a content as the table holds them; none where it is no plain text."""
    return _spaced(map(to_token, split_words(content))) if encoding == "plain" else ""


def to_token(word: str) -> str:
    """A word as the table holds it: letters and digits of ASCII."""
    return f"w_{word}" if word.isascii() else f"x_{blake2b(word.encode(), digest_size=10).hexdigest()}"


def place_of(namespace: str, owner: str | None) -> str:
    """What only a search in this namespace, or for this owner in it, asks for; always of one length."""
    return _spaced([_name(namespace, ANYONE), _name(namespace, owner)])


def _name(namespace: str, owner: Owner) -> str:
    whose = "" if owner is ANYONE else "\0" if owner is None else f"\0\0{owner}"
    return f"p_{blake2b(f'{namespace}{whose}'.encode(), digest_size=10).hexdigest()}"


def _spaced(tokens: Iterable[str]) -> str:
    """With a space behind each, so that what is looked for ends where a word does."""
    return "".join(f"{token} " for token in tokens)


_PLACE_LENGTH: Final = len(place_of("", None))


def _hit(row: Sequence[Any]) -> SearchHit:
    message = StoredMessage._make(row[: len(MESSAGE)])
    return SearchHit(row[len(MESSAGE)], message, float(row[len(MESSAGE) + 1]))


def _floor(row: Sequence[Any], now: datetime | None) -> int:
    """Below which the session's messages have passed their age, applied or not."""
    moment, floor, marks = row[-3:]
    moment = moment if now is None else now
    try:
        return floor_at(floor, read_marks(marks), moment) if marks else floor
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"the marks of a session that was found cannot be read: {error}", adapter=NAME) from error
