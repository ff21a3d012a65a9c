"""Whether what lies below a prefix is ours, and of which version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from turnkeep.errors import ForeignTable, SchemaMissing, SchemaTooNew
from turnkeep_redis._errors import NAME
from turnkeep_redis.scripts import plain

if TYPE_CHECKING:
    from turnkeep_redis.keys import Keys
    from turnkeep_redis.wire import Wire

VERSION: Final = 1
_MARK: Final = "turnkeep"
_STEPS: Final = ("0001_initial: note that this prefix holds Turnkeep's keys, in their first form",)


class Schema:
    """The version record below a prefix: a text such as ``turnkeep 1``."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._key = keys.schema
        self._prefix = keys.prefix

    async def find_version(self) -> int:
        """The version of our keys, 0 where there is no record of them.

        Raises:
            SchemaTooNew: this code does not know the version.
            ForeignTable: the record is somebody else's.
        """
        try:
            record = cast("bytes | None", await self._wire.ask(plain("GET", self._key)))
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            record = b""
        if record is None:
            return 0
        mark, _, version = record.partition(b" ")
        if mark != _MARK.encode() or not version.isdigit():
            raise ForeignTable(
                f"the key {self._key!r} is not of turnkeep's making; choose another key_prefix", adapter=NAME
            )
        if int(version) > VERSION:
            raise SchemaTooNew(
                f"the keys below {self._prefix!r} are of version {int(version)}, this package knows {VERSION}; "
                "upgrade it: pip install --upgrade turnkeep-redis",
                adapter=NAME,
            )
        return int(version)

    async def require(self) -> None:
        """Refuses to work where there is no record.

        Raises:
            SchemaMissing: there is none; the message names the command.
        """
        if not await self.find_version():
            raise SchemaMissing(
                f"nothing of turnkeep's lies below {self._prefix!r}; begin with: turnkeep migrate URL", adapter=NAME
            )

    async def steps(self) -> list[str]:
        """What ``migrate`` would do."""
        return list(_STEPS[await self.find_version() :])

    async def migrate(self) -> list[str]:
        """Makes the record where there is none; of several that do so at once one reports it."""
        steps = await self.steps()
        if not steps or not await self._wire.ask(plain("SETNX", self._key, f"{_MARK} {VERSION}")):
            return []
        return steps
