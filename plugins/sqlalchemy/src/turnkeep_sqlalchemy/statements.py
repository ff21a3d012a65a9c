"""Every statement the adapter runs, built once for the names and the database at hand.

Parameters are named ``of_…`` where they choose rows and ``new_…`` where they are written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Date,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)

from turnkeep.contract import WIDEN_LIMIT
from turnkeep_sqlalchemy.clauses import Clauses
from turnkeep_sqlalchemy.columns import MYSQL, Body, Id, Instant, number, utc

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.sql.base import Executable

    from turnkeep.contract import Owner, SessionQuery
    from turnkeep_sqlalchemy.tables import Tables

HEAD: Final = (
    "user_id",
    "agent_name",
    "status",
    "current_route",
    "current_step",
    "last_message_at",
    "completed_at",
    "created_at",
    "updated_at",
    "expires_at",
    "incarnation",
    "version",
    "last_commit",
    "last_seq",
    "floor",
    "marks",
    "namespace",
    "id",
)
"""The fields of a head, in the order in which they are selected."""
DOCUMENTS: Final = ("collected_data", "state")
MESSAGE: Final = (
    "id",
    "role",
    "content",
    "encoding",
    "name",
    "tool_calls",
    "tool_call_id",
    "route",
    "step",
    "event",
    "metadata",
    "reply",
    "created_at",
    "seq",
    "turn_seq",
    "commit_id",
)
"""As in ``StoredMessage``."""
PAST: Final = ("commit_id", "digest", "version", "created", "first_seq", "last_seq", "message_count", "committed_at")
"""As in ``PastCommit``."""
_WRITTEN: Final = (
    "agent_name",
    "status",
    "current_route",
    "current_step",
    "last_message_at",
    "completed_at",
    "updated_at",
    "expires_at",
    "version",
    "last_commit",
    "last_seq",
    "floor",
    "trim_at",
    "marks",
    "user_id",
)
"""What a commit writes into the head of a session that is there."""
_STATUSES: Final = ("active", "completed", "abandoned")


@lru_cache(maxsize=32)
def statements_for(tables: Tables, dialect: str, *, counts: bool, client_clock: bool) -> Statements:
    """The statements of adapters over the same tables: they are built, and compiled by an engine, once."""
    return Statements(tables, dialect, counts=counts, client_clock=client_clock)


class Statements(Clauses):
    """The statements for these tables on this database.

    Args:
        tables: the tables.
        dialect: SQLAlchemy's name of the database.
        counts: ``message_count`` is a plain column of the user's, so it has to be written.
        client_clock: the time is a parameter, ``now``, and not the server's.
    """

    def __init__(self, tables: Tables, dialect: str, *, counts: bool, client_clock: bool) -> None:
        super().__init__(tables, dialect, client_clock=client_clock)
        self.counts = counts
        self._head = [self.selected(self._s, field) for field in HEAD]
        self.message = [self.selected(self._m, field) for field in MESSAGE]
        self.load_head = self._load(None)
        self.load_all = self._load(self._m.c.seq > self._s.c.floor)
        self.load_window = self._load(self._m.c.seq >= self._window_start())
        self.find = self._find()
        self.lock = self._find().with_for_update(of=None if dialect in MYSQL else self._s, key_share=True)
        self.past = select(*(self.selected(self._c, field) for field in PAST)).where(
            *self.life(self._c), self._c.c.commit_id == bindparam("of_commit", type_=Id())
        )
        self.insert_session = insert(self._s)
        self.update_session = self._update()
        self.insert_messages = insert(self._m)
        self.insert_commit = insert(self._c)
        self.set_floor = (
            update(self._s)
            .where(*self._is_session(self._s.c.id))
            .values(self._new("floor", "trim_at", "marks") | self._counted(bindparam("new_last_seq", type_=number())))
        )
        self.read_messages = (
            select(*self.message)
            .where(*self.life(self._m), self._m.c.seq.between(bindparam("of_low"), bindparam("of_high")))
            .order_by(self._m.c.seq)
        )
        self.erase_messages = delete(self._m).where(*self.life(self._m), self._m.c.seq <= bindparam("of_high"))
        self.delete_messages = delete(self._m).where(*self._is_session(self._m.c.session_id))
        self.delete_commits = delete(self._c).where(*self._is_session(self._c.c.session_id))
        self.delete_session = delete(self._s).where(*self._is_session(self._s.c.id))
        self.expired = (
            select(self._namespace(), self._s.c.id)
            .where(self._s.c.expires_at <= self.now)
            .order_by(self._s.c.expires_at)
            .limit(bindparam("of_limit"))
        )
        self.trimmable = (
            select(*self._head, self.moment())
            .where(self._s.c.trim_at <= self.now)
            .order_by(self._s.c.trim_at)
            .limit(bindparam("of_limit"))
        )
        self.clock = select(self.moment())

    # Parameters

    def of(self, namespace: str, session_id: str, incarnation: str | None = None) -> dict[str, Any]:
        """The parameters that choose a session, or one of its lives."""
        found: dict[str, Any] = {"of_session": session_id}
        if self.has_namespace:
            found["of_namespace"] = namespace
        if incarnation is not None:
            found["of_incarnation"] = incarnation
        return found

    def in_scope(self, namespace: str) -> dict[str, str]:
        """The parameter that chooses the namespace, where tables have one."""
        return {"of_namespace": namespace} if self.has_namespace else {}

    def at(self, now: datetime | None) -> dict[str, Any]:
        """The parameter for the time, where it is one."""
        return {"now": now} if self.client_clock else {}

    def counted(self, last_seq: int, floor: int) -> dict[str, int]:
        """``message_count``, where it has to be written."""
        return {"message_count": last_seq - floor} if self.counts else {}

    # Lists

    def page(self, query: SessionQuery, position: tuple[datetime, str] | None) -> Select[Any]:
        """The heads that follow ``position``, one more than asked for."""
        by_activity = query.order == "activity"
        moment = self._s.c.updated_at if by_activity else self._s.c.created_at
        conditions = [*self.living(), *self._matching(query), *self.owned_by(query.scope.owner)]
        if position is not None:
            conditions += _after(moment, self._s.c.id, position, descending=by_activity)
        order = (moment.desc() if by_activity else moment.asc(), self._s.c.id)
        statuses = [query.status] if query.status or not by_activity else _STATUSES
        parts = [
            select(*self._head, self.moment(), moment.label("position"))
            .where(*conditions, *([self._s.c.status == status] if status else []))
            .order_by(*order)
            .limit(query.limit + 1)
            for status in statuses
        ]
        if len(parts) == 1:
            return parts[0]
        # Each status walks its own index; what they yield is merged.
        merged = union_all(*(select(part.subquery()) for part in parts)).subquery()
        last = merged.c.position.desc()
        return select(merged).order_by(last, merged.c.id).limit(query.limit + 1)

    def owned(self, owner: Owner) -> Select[Any]:
        """Every head of one owner, expired ones included."""
        return select(*self._head, self.moment()).where(*self.in_namespace(), *self.owned_by(owner))

    def count(self, owner: Owner) -> Any:
        """Living sessions by status, agent, route and day, as stored: marks that have passed are not applied."""
        c, groups = self._s.c, self._groups()
        return (
            select(
                *groups,
                func.count(),
                func.sum(c.last_seq - c.floor),
                func.sum(self._bytes(c.collected_data) + self._bytes(c.state)),
                utc(func.min(c.created_at, type_=Instant()), self.dialect),
                utc(func.max(c.updated_at, type_=Instant()), self.dialect),
            )
            .where(*self.in_namespace(), *self.living(), *self.owned_by(owner))
            .group_by(*groups)
        )

    def _groups(self) -> tuple[ColumnElement[Any], ...]:
        """Status, agent, route, and the day of creation in UTC: a date, or its text."""
        c = self._s.c
        if self.dialect == "postgresql":
            day: ColumnElement[Any] = cast(utc(c.created_at, self.dialect), Date())
        elif self.dialect in MYSQL:
            day = func.date(c.created_at, type_=Date())
        else:
            day = func.substr(c.created_at, 1, 10, type_=Text())
        return c.status, c.agent_name, c.current_route, day

    def count_bytes(self, owner: Owner) -> Select[Any]:
        """Bytes of the messages of living sessions, for the same groups."""
        m, groups = self._m.c, self._groups()
        sizes = [self._bytes(m.content)]
        sizes += [func.coalesce(self._bytes(part), 0) for part in (m.tool_calls, m.event, m.metadata)]
        joined = self._m.join(self._s, and_(*self.same_life(self._m)))
        return (
            select(*groups, func.sum(sum(sizes[1:], sizes[0])))
            .select_from(joined)
            .where(*self.in_namespace(), *self.living(), *self.owned_by(owner), m.seq > self._s.c.floor)
            .group_by(*groups)
        )

    def overdue(self, owner: Owner) -> Select[Any]:
        """Heads of living sessions with marks that have passed."""
        conditions = (*self.in_namespace(), *self.living(), *self.owned_by(owner), self._s.c.trim_at <= self.now)
        return select(*self._head, self.moment()).where(*conditions)

    # Loading and finding

    def _load(self, wanted: ColumnElement[bool] | None) -> Select[Any]:
        """The head, the documents, what a commit did, and the messages that are wanted, newest first.

        One statement, so that all of it is of one version. The head stands in the row of the newest message only: the
        documents may be large.
        """
        columns = [*self._head, *(self.selected(self._s, field) for field in DOCUMENTS)]
        commits = self._c
        found = self._s.outerjoin(
            commits,
            and_(*self.same_life(commits), commits.c.commit_id == bindparam("of_commit", type_=Id())),
        )
        past = [self.selected(commits, field).label(f"past_{field}") for field in PAST]
        mine = or_(bindparam("of_anyone", type_=number()) == 1, self._owner_is())
        if wanted is None:
            return (
                select(*columns, self.moment(), *past).select_from(found).where(*self._is_session(self._s.c.id), mine)
            )
        newest = or_(self._m.c.seq.is_(None), self._m.c.seq == self._s.c.last_seq)
        heads = [case((newest, _bare(column)), else_=null()).label(column.key) for column in columns]
        messages = [column.label(f"message_{column.key}") for column in map(_bare_named, self.message, MESSAGE)]
        return (
            select(*messages, *heads, self.moment(), *past)
            .select_from(found.outerjoin(self._m, and_(*self._same_life_fixed(), wanted)))
            .where(*self._is_session(self._s.c.id), mine)
            .order_by(self._m.c.seq.desc())
        )

    def _same_life_fixed(self) -> list[ColumnElement[bool]]:
        """As ``_same_life``, with the session's id as it was given: an index is then read from one end."""
        return [*self._is_session(self._m.c.session_id), self._m.c.incarnation == self._s.c.incarnation]

    def _owner_is(self) -> ColumnElement[bool]:
        return self._s.c.user_id.is_not_distinct_from(bindparam("of_owner", type_=Id()))

    def _window_start(self) -> ColumnElement[Any]:
        """The first seq of the window: the newest so many, widened to begin where a commit began.

        It depends on parameters only, so a database finds it before it reads messages.
        """
        head, first = self._s.alias("head"), self._m.alias("first_message")
        size = bindparam("of_window", type_=number())
        bottom = head.c.floor + 1
        start = self._greatest(bottom, head.c.last_seq - size + 1)
        begins = func.coalesce(first.c.turn_seq, start)
        joined = head.outerjoin(first, and_(*self._same_life_of(first, head), first.c.seq == start))
        return (
            select(self._greatest(self._greatest(bottom, start - WIDEN_LIMIT), begins))
            .select_from(joined)
            .where(*self._is_session(head.c.id, head))  # pyright: ignore[reportArgumentType] - an alias is a table here
            .scalar_subquery()
        )

    def _same_life_of(self, table: Any, sessions: Any) -> list[ColumnElement[bool]]:
        return self.same_life(table, sessions)

    def _find(self) -> Select[Any]:
        """What decides about a commit: the head, the time, and whether this commit id was seen before.

        The commit id is looked up in a subquery, which no lock of the outer statement reaches: InnoDB would lock the
        gap where it is not, and two writers that do so wait for each other.
        """
        c = self._c.c
        one, none = literal_column("1", number()), literal_column("0", number())
        seen = exists(select(one).where(*self.same_life(self._c), c.commit_id == bindparam("of_commit", type_=Id())))
        known = case((seen, one), else_=none).label("seen")
        return select(*self._head, self.moment(), known).where(*self._is_session(self._s.c.id))

    # Writing

    def _new(self, *fields: str) -> dict[str, Any]:
        return {field: bindparam(f"new_{field}", type_=self._s.c[field].type) for field in fields}

    def _counted(self, last_seq: ColumnElement[Any]) -> dict[str, Any]:
        if not self.counts:
            return {}
        return {"message_count": last_seq - bindparam("new_floor", type_=number())}

    def _update(self) -> Executable:
        """The head after a commit, if it is still where it was found; documents stay where none is given."""
        s = self._s.c
        documents = {field: func.coalesce(bindparam(f"new_{field}", type_=Body()), s[field]) for field in DOCUMENTS}
        unmoved = (
            s.incarnation == bindparam("of_incarnation", type_=Id()),
            s.version == bindparam("of_version", type_=number()),
            s.last_commit == bindparam("of_last_commit", type_=Id()),
        )
        values = self._new(*_WRITTEN) | documents | self._counted(bindparam("new_last_seq", type_=number()))
        return update(self._s).where(*self._is_session(s.id), *unmoved).values(values)


def _bare(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A labelled column without its label."""
    return getattr(column, "element", column)


def _bare_named(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return _bare(column).label(name)


def _after(
    moment: ColumnElement[Any], session_id: ColumnElement[Any], position: tuple[datetime, str], *, descending: bool
) -> list[ColumnElement[bool]]:
    """The rows that follow a position; the first condition is one that an index can begin at."""
    last, last_id = position
    if descending:
        return [moment <= last, or_(moment < last, session_id > last_id)]
    return [moment >= last, or_(moment > last, session_id > last_id)]
