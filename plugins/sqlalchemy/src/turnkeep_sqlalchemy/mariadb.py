"""MariaDB: three messages to the server make a commit: read with a lock, write, COMMIT.

MariaDB takes several statements as one where they stand in a compound statement; MySQL does not, and gets them one by
one. (This is not the protocol's multi-statement mode, which an injected semicolon could use.)
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import bindparam, column, text
from sqlalchemy.types import NullType

from turnkeep_sqlalchemy.columns import from_naive
from turnkeep_sqlalchemy.loading import Loaded, split
from turnkeep_sqlalchemy.statements import MESSAGE
from turnkeep_sqlalchemy.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import BindParameter, Dialect, TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.selectable import TextualSelect

    from turnkeep.contract import Commit, Committed, LoadQuery, SessionKey
    from turnkeep_sqlalchemy.connections import Attempt, Connections
    from turnkeep_sqlalchemy.statements import Statements

_MOST_TOGETHER: Final = 64
"""Rows that travel in one compound statement; more of them go by themselves."""

_PARAMETER: Final = re.compile(r":(\w+)")
_BEGIN: Final = "START TRANSACTION"
_UNMOVED: Final = "IF ROW_COUNT() = 0 THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1020; END IF"
"""After the gate; 1020 is what the server itself says of a record that has changed since it was read."""


class MariaDBStore(Store):
    """The store whose writes travel together."""

    def __init__(self, statements: Statements, dialect: Dialect, clock: Callable[[], datetime] | None) -> None:
        super().__init__(statements, clock)
        self._dialect = cast("Callable[..., Dialect]", type(dialect))(paramstyle="named")
        self._loads: dict[Any, TextualSelect] = {}
        self._together: dict[tuple[int, ...], TextClause] = {}
        lock = self._compile(statements.lock)
        begin_and_lock = _compound([_BEGIN, str(lock)], lock.binds.items())
        self._lock = begin_and_lock.columns(*statements.lock.selected_columns)

    async def commit_through(self, connections: Connections, attempt: Attempt, commit: Commit) -> Committed:
        """Commits in a transaction that begins with the first statement that needs it."""
        async with connections.writing(attempt, begin=False) as connection:
            return await self.commit(connection, commit)

    async def _loaded(self, connection: AsyncConnection, key: SessionKey, query: LoadQuery) -> Loaded | None:
        """Without the types of columns, which would be a call for each field of each message."""
        statement, parameters = self._loading(key, query)
        untyped = self._loads.get(statement)
        if untyped is None:
            untyped = self._loads[statement] = self._untyped(statement)
        found = split((await connection.execute(untyped, parameters)).fetchall(), key, query)
        if found is None:
            return None
        head, documents, (moment,), past = map(_values, (found.head, found.documents, [found.moment], found.past))
        return Loaded(head, documents, moment, past, [_values(row[: len(MESSAGE)]) for row in found.messages])

    def _untyped(self, statement: Any) -> TextualSelect:
        """The statement as text, of whose columns SQLAlchemy knows nothing."""
        compiled = self._compile(statement)
        names = compiled.bind_names.items()
        given = [bindparam(name, bind.value, bind.type) for bind, name in names if not bind.required]
        columns = [column(f"column_{number}", NullType()) for number in range(len(statement.selected_columns))]
        return text(str(compiled)).bindparams(*given).columns(*columns)

    def _finding(self, *, lock: bool) -> Any:
        return self._lock if lock else super()._finding(lock=False)

    async def _write(self, connection: AsyncConnection, writes: list[tuple[Any, Any]]) -> None:
        """As one statement, unless a commit is so large that the round trips do not matter."""
        rows: list[list[Mapping[str, Any]]] = [given if isinstance(given, list) else [given] for _, given in writes]
        if max(map(len, rows)) > _MOST_TOGETHER:
            if writes[0][0] is self._q.insert_session:
                await connection.exec_driver_sql(_BEGIN)
            await super()._write(connection, writes)
            return
        statement = self._statement([statement for statement, _ in writes], rows)
        parameters = {
            f"{name}_{place}_{number}": value
            for place, given in enumerate(rows)
            for number, row in enumerate(given)
            for name, value in row.items()
        }
        await connection.execute(statement, parameters)

    def _statement(self, statements: list[Any], rows: list[list[Mapping[str, Any]]]) -> TextClause:
        """The compound of these statements, for so many rows each."""
        shape = (*(id(statement) for statement in statements), *map(len, rows))
        found = self._together.get(shape)
        if found is None:
            found = self._together[shape] = self._build(statements, rows)
        return found

    def _build(self, statements: list[Any], rows: list[list[Mapping[str, Any]]]) -> TextClause:
        parts: list[str] = []
        binds: list[tuple[str, BindParameter[Any]]] = []
        if statements[0] is self._q.insert_session:
            parts.append(_BEGIN)  # nothing had to be locked before
        for place, (statement, given) in enumerate(zip(statements, rows, strict=True)):
            compiled = self._compile(statement, given[0])
            head, values, tuple_ = str(compiled).partition(" VALUES ")
            copies: list[str] = []
            for number in range(len(given)):
                names = {name: f"{name}_{place}_{number}" for name in compiled.binds}
                copies.append(_rename(tuple_ or head, names))
                binds += [(names[name], bind) for name, bind in compiled.binds.items()]
            parts.append(f"{head}{values}{', '.join(copies)}" if values else copies[0])
            if place == 0 and statement is self._q.update_session:
                parts.append(_UNMOVED)
        return _compound(parts, binds)

    def _compile(self, statement: Any, row: Mapping[str, Any] | None = None) -> SQLCompiler:
        return statement.compile(dialect=self._dialect, column_keys=None if row is None else list(row))


def _values(fields: Iterable[Any]) -> list[Any]:
    """Fields as the driver gives them, as they were given to it: text in a binary column, and instants."""
    return [
        field.decode() if field.__class__ is bytes else from_naive(field) if field.__class__ is datetime else field
        for field in fields
    ]


def _rename(sql: str, names: Mapping[str, str]) -> str:
    """The statement with these names for its parameters."""
    return _PARAMETER.sub(lambda found: f":{names[found[1]]}", sql)


def _compound(statements: list[str], binds: Iterable[tuple[str, BindParameter[Any]]]) -> TextClause:
    """Several statements as one."""
    joined = text(f"BEGIN NOT ATOMIC {'; '.join(statements)}; END")
    return joined.bindparams(*(bindparam(name, type_=bind.type) for name, bind in binds))
