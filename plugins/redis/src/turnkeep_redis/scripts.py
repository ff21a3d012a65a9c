"""The scripts: constant texts, never built from input."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Argument = str | bytes | int


class Call(NamedTuple):
    """A command that concerns one slot: which key decides the slot, what is sent, and the text where it is a script."""

    slot: str
    command: tuple[bytes, ...]
    source: bytes | None = None

    def in_full(self) -> Call:
        """The same call with the script's text instead of its hash, for a server that does not know it yet."""
        return self._replace(command=(b"EVAL", self.source or b"", *self.command[2:]), source=None)


def to_bytes(argument: Argument) -> bytes:
    """As it is sent. A client that was handed in may have another encoding of its own."""
    return argument if isinstance(argument, bytes) else str(argument).encode()


class Script:
    """A script with its hash.

    Args:
        names: the files it consists of.
    """

    def __init__(self, *names: str) -> None:
        folder = files("turnkeep_redis") / "lua"
        self.source = b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)
        self._hash = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], *arguments: Argument) -> Call:
        """A call of it; all keys lie in one slot."""
        command = ("EVALSHA", self._hash, len(keys), *keys, *arguments)
        return Call(keys[0], tuple(map(to_bytes, command)), self.source)


def plain(*command: Argument) -> Call:
    """A command whose first argument is its key."""
    return Call(str(command[1]), tuple(map(to_bytes, command)))


COMMIT: Final = Script("common", "index", "commit")
LOAD: Final = Script("common", "load")
PAGE: Final = Script("common", "page")
DELETE: Final = Script("common", "index", "delete")
HEAD: Final = Script("common", "head")
SWEEP: Final = Script("common", "sweep")
LIST: Final = Script("common", "list")
TOUCH: Final = Script("common", "index", "touch")
PLACE: Final = Script("common", "index", "place")
REMIND: Final = Script("common", "remind")
