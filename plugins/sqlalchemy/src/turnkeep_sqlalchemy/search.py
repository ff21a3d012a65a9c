"""Words at rest: a table beside the messages, which holds for each its words and whose they are.

A commit leaves it alone: it would carry each text twice. A search first reads what was said since the last one, of the
sessions it may look into; where the row of a session's newest message is there, so are all before it.

The index of the database gives the messages that have all words; whether they stand next to each other, and how good
that is, the same row says. Words are written so that every full-text parser takes each for one: ``w_`` before those of
ASCII, so that none is too short or too common, and ``x_`` before a digest of any other.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from sqlalchemy import BigInteger, Text, and_, bindparam, func, insert, or_, select, update
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
    from turnkeep_sqlalchemy.statements import Statements

_PORTION: Final = 500
"""So many messages are read in one transaction, which keeps writers of their sessions waiting (50 ms)."""
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
        self._has_arrays = statements.dialect == "postgresql"
        self._text = func.array_to_string(w.words, " ", type_=Text()).concat(" ") if self._has_arrays else w.words
        place: ColumnElement[Any] = bindparam("new_place", type_=Text())
        text: ColumnElement[Any] = place.concat(func.substr(self._text, _PLACE_LENGTH + 1, type_=Text()))
        self._move = (
            update(self._w)
            .where(*statements.life(self._w), moved)
            .values(
                user_id=bindparam("of_user", type_=Id()),
                words=func.string_to_array(func.rtrim(text), " ") if self._has_arrays else text,
            )
        )
        self._insert = insert(self._w)
        # To build them takes longer than the database takes to answer.
        self._behind, self._page = lru_cache(64)(self._make_behind), lru_cache(64)(self._make_page)

    # Reading on

    async def behind(self, connection: AsyncConnection, query: SearchQuery) -> list[str]:
        """Sessions that a search may look into whose words were not all read yet, or are another owner's; some."""
        statement = self._behind(_shape(query)[:2])
        found = await connection.execute(statement, self._given(query, self._time()))
        return list(found.scalars())

    def _make_behind(self, whose: tuple[Owner, bool]) -> Select[Any]:
        newest = and_(*self._q.same_life(self._w), self._w.c.seq == self._s.c.last_seq)
        return (
            select(self._s.c.id)
            .select_from(self._s.outerjoin(self._w, newest))
            .where(
                *self._sessions(*whose),
                self._s.c.last_seq > self._s.c.floor,
                or_(self._w.c.seq.is_(None), self._w.c.user_id.is_distinct_from(self._s.c.user_id)),
            )
            .limit(_SESSIONS)
        )

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
        now = self._time()
        given = self._given(query, now) | _asked(query, "" if self._has_arrays else "+")
        rows = (await connection.execute(self._page(_shape(query)), given)).fetchall()
        page = page_of_hits([_hit(row) for row in rows], query)
        shown = tuple(
            hit
            for hit, row in zip(page.items, rows, strict=False)
            if hit.message.seq > _floor(row, now) and is_wanted(hit.message, query)
        )
        return SearchPage(shown, page.next_cursor)

    def _make_page(self, shape: Shape) -> Select[Any]:
        m, s = self._m.c, self._s.c
        found, score, conditions = self._candidates(shape)
        same = (found.c[column.key] == m[column.key] for column in self._w.primary_key)
        statement = (
            select(
                *self._q.message,
                m.session_id.label("found_session"),
                score.label("score"),
                self._q.moment(),
                s.floor,
                s.marks,
            )
            .select_from(found.join(self._m, and_(*same)).join(self._s, and_(*self._q.same_life(self._m))))
            .where(
                *conditions,
                *self._sessions(shape.owner, shape.one_session),
                *self._conditions(shape),
                m.seq > s.floor,
            )
            .order_by(score.desc(), m.session_id, m.seq)
            .limit(bindparam("of_limit"))
        )
        for dialect in MYSQL:  # from sessions on, it would walk through all that the index gave for each of them
            statement = statement.prefix_with("STRAIGHT_JOIN", dialect=dialect)
        if not shape.goes_on:
            return statement
        last, last_id = bindparam("of_score", type_=BigInteger()), bindparam("of_last_id", type_=Id())
        later = or_(m.session_id > last_id, and_(m.session_id == last_id, m.seq > bindparam("of_last_seq")))
        return statement.where(or_(score < last, and_(score == last, later)))

    def _candidates(self, shape: Shape) -> tuple[Any, ColumnElement[Any], list[ColumnElement[bool]]]:
        """Rows of words to be joined to messages, their score, and what is still to be asked of them."""
        counts = [self._count(f"wanted_{number}") for number in range(shape.wanted)]
        score = self._score(counts)
        conditions = [
            self._has_all(),
            *(count > 0 for count in counts),
            *(self._count(f"unwanted_{number}") == 0 for number in range(shape.unwanted)),
        ]
        if not self._has_arrays:
            return self._w, score, conditions
        # PostgreSQL guesses too few rows of what it joins, and would rather read all messages than ask the index.
        found = select(*self._w.primary_key, score.label("score")).where(*conditions).cte("found")
        found = found.prefix_with("MATERIALIZED", dialect="postgresql")
        return found, found.c.score, []

    def _has_all(self) -> ColumnElement[bool]:
        """That a row has all tokens of the search, as the index is asked. No token has syntax in it."""
        words = self._w.c.words
        if self._has_arrays:
            return words.bool_op("@>")(bindparam("of_tokens", type_=words.type))
        return cast("Any", mysql.match(words, against=bindparam("of_tokens", type_=Text()))).in_boolean_mode()

    def _conditions(self, shape: Shape) -> Iterable[ColumnElement[bool]]:
        m = self._m.c
        if shape.role:
            yield m.role == bindparam("of_role")
        if shape.since:
            yield m.created_at >= bindparam("of_since", type_=m.created_at.type)
        if shape.until:
            yield m.created_at < bindparam("of_until", type_=m.created_at.type)

    def _score(self, counts: list[ColumnElement[Any]]) -> ColumnElement[Any]:
        """As ``Terms.score``: how often the runs occur among how many words."""
        size = func.length(self._text) - func.length(func.replace(self._text, " ", ""))
        return sum(counts[1:], counts[0]) * _SCALE // (size + 10 - _PLACES)

    def _count(self, name: str) -> ColumnElement[Any]:
        """How often the words of a run stand next to each other.

        No token has in it what another begins with, so none is found in the middle of one.
        """
        without = func.replace(self._text, bindparam(name, type_=Text()), "")
        removed = func.length(self._text, type_=BigInteger()) - func.length(without, type_=BigInteger())
        return removed // bindparam(f"{name}_length", type_=BigInteger())

    # Parts

    def _time(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    def _sessions(self, owner: Owner, one_session: bool) -> list[ColumnElement[bool]]:
        """Sessions that are there and may be looked into; of which owner, the parameters say."""
        user_id, session_id = self._s.c.user_id, self._s.c.id
        conditions = [*self._q.in_namespace(), *self._q.living()]
        if owner is not ANYONE:
            whose = bindparam("of_owner", type_=Id())
            conditions.append(user_id.is_(None) if owner is None else user_id == whose)
        return [*conditions, session_id == bindparam("of_session", type_=Id())] if one_session else conditions

    def _given(self, query: SearchQuery, now: datetime | None) -> dict[str, Any]:
        chosen = {"of_owner": query.scope.owner, "of_session": query.session_id}
        return self._q.in_scope(query.scope.namespace) | self._q.at(now) | chosen

    def _within(self, columns: Any) -> list[ColumnElement[bool]]:
        if not self._q.has_namespace:
            return []
        return [columns.namespace == bindparam("of_namespace", type_=Id())]


class Shape(NamedTuple):
    """What a search asks, so far as its statement depends on it."""

    owner: Owner
    """``""`` for whoever has an id."""
    one_session: bool
    role: bool
    since: bool
    until: bool
    goes_on: bool
    wanted: int
    unwanted: int


def _shape(query: SearchQuery) -> Shape:
    owner = query.scope.owner
    return Shape(
        owner if owner is ANYONE or owner is None else "",
        query.session_id is not None,
        query.role is not None,
        query.since is not None,
        query.until is not None,
        query.cursor is not None,
        len(query.terms.wanted),
        len(query.terms.unwanted),
    )


def _asked(query: SearchQuery, sign: str) -> dict[str, Any]:
    """The parameters of a page that no other statement has."""
    terms, scope = query.terms, query.scope
    tokens = [to_token(word) for run in terms.wanted for word in run]
    asked: dict[str, Any] = {
        "of_tokens": " ".join(
            f"{sign}{token}" for token in dict.fromkeys([_name(scope.namespace, scope.owner), *tokens])
        ),
        "of_role": query.role,
        "of_since": query.since,
        "of_until": query.until,
        "of_limit": query.limit + 1,
    }
    if query.cursor is not None:
        score, asked["of_last_id"], asked["of_last_seq"] = read_rank(query.cursor)
        asked["of_score"] = int(score)
    for kind, runs in (("wanted", terms.wanted), ("unwanted", terms.unwanted)):
        for number, run in enumerate(runs):
            text = _spaced(map(to_token, run))
            asked |= {f"{kind}_{number}": text, f"{kind}_{number}_length": len(text)}
    return asked


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
