"""The live session, blocking. What each call promises stands with the same name in ``turnkeep.session``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from turnkeep import session
from turnkeep.errors import InvalidArgument
from turnkeep.models import UNSET
from turnkeep.sync._bound import Bound, Made
from turnkeep.sync.persistence import Persistence
from turnkeep.turn import Joinable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from turnkeep import session_turn
    from turnkeep.messages import Message, Role
    from turnkeep.models import SessionState, Unset
    from turnkeep.sync._bound import Source
    from turnkeep.sync._door import Door
    from turnkeep.turn import OpenTurn

M = TypeVar("M")


class SessionManager(Bound[session.SessionManager]):
    """As ``turnkeep.SessionManager``, blocking. After a fork the child's has nothing loaded or staged."""

    def __init__(
        self,
        persistence: Persistence,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        auto_save: bool = True,
        window: int | Unset | None = UNSET,
    ) -> None:
        if not isinstance(persistence, Persistence):
            raise InvalidArgument("a blocking SessionManager needs a persistence of turnkeep.sync.connect")

        async def make(_: Door, before: session.SessionManager | None) -> session.SessionManager:
            known = session_id if before is None else before._id
            saves = auto_save if before is None else before.auto_save
            return session.SessionManager(
                persistence._inner, session_id=known, user_id=user_id, auto_save=saves, window=window
            )

        self._bind(Made(make, what="SessionManager", again=True, upon=persistence._source), persistence)

    def _bind(self, source: Source[session.SessionManager], persistence: Persistence) -> None:
        super().__init__(source)
        self._persistence = persistence

    @classmethod
    def _of(cls, source: Source[session.SessionManager], persistence: Persistence) -> SessionManager:
        """The door to a session that is there already: an agent's own."""
        self = cls.__new__(cls)
        self._bind(source, persistence)
        return self

    @property
    def auto_save(self) -> bool:
        """As there."""
        return self._inner.auto_save

    @auto_save.setter
    def auto_save(self, auto_save: bool) -> None:
        self._inner.auto_save = auto_save

    def turn(self, *, commit_id: str | None = None) -> SessionTurn:
        """As there, for ``with``."""
        turn = self._inner.turn(commit_id=commit_id)
        return SessionTurn(turn, self._source.door)

    @property
    def id(self) -> str | None:
        """As there."""
        return self._inner.id

    @property
    def current(self) -> SessionState:
        """As there."""
        return self._inner.current

    @property
    def persistence(self) -> Persistence:
        """As there."""
        return self._persistence

    @property
    def has_more(self) -> bool:
        """As there."""
        return self._inner.has_more

    def get_history(self) -> tuple[Message, ...]:
        """As there."""
        return self._inner.get_history()

    @property
    def data(self) -> dict[str, Any]:
        """As there."""
        return self._inner.data

    @overload
    def get_data(self) -> dict[str, Any]: ...
    @overload
    def get_data(self, model: type[M]) -> M: ...
    def get_data(self, model: type[Any] | None = None) -> Any:
        """As there."""
        return self._inner.get_data() if model is None else self._inner.get_data(model)

    def validate(self) -> list[str]:
        """As there."""
        return self._inner.validate()

    def get_or_create(self, session_id: str | None = None) -> SessionState:
        """As there."""
        return self._run(lambda it: it.get_or_create(session_id))

    def earlier(self, count: int = 50) -> tuple[Message, ...]:
        """As there."""
        return self._run(lambda it: it.earlier(count))

    def add_message(self, role: Role, content: str, **fields: Any) -> Message:
        """As there."""
        return self._run(lambda it: it.add_message(role, content, **fields))

    def set_history(self, messages: Iterable[Message | Mapping[str, Any]]) -> None:
        """As there."""
        return self._run(lambda it: it.set_history(messages))

    def clear_history(self) -> None:
        """As there."""
        return self._run(lambda it: it.clear_history())

    def set_data(self, changes: Mapping[str, Any] | None) -> None:
        """As there."""
        return self._run(lambda it: it.set_data(changes))

    def clear_data(self) -> None:
        """As there."""
        return self._run(lambda it: it.clear_data())

    def save(self) -> None:
        """As there."""
        return self._run(lambda it: it.save())

    def delete(self) -> bool:
        """As there."""
        return self._run(lambda it: it.delete())

    def reset(self, preserve_history: bool = False) -> SessionState:
        """As there."""
        return self._run(lambda it: it.reset(preserve_history))


class SessionTurn:
    """What ``SessionManager.turn`` returns: ``with session.turn() as turn``."""

    def __init__(self, turn: session_turn.SessionTurn, door: Door) -> None:
        self._turn = turn
        self._door = door

    def __enter__(self) -> OpenTurn:
        # Joined by what this thread calls: the variable must be set here, not in a task of the door.
        try:
            self._joinable = Joinable(self._door.run(self._turn.start))
            return self._joinable.__enter__()
        except BaseException:
            if self._door.is_ours:
                self._door.run(self._turn._abandon)  # interrupted as it was opened: nobody would end it
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None or self._door.is_ours:  # a forked child that ends inside has nothing to undo
                self._door.run(lambda: self._turn.finish(error))
        finally:
            self._joinable.__exit__()
