"""Databases as people name them on a command line: by URL, or by the path of an SQLite file."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turnkeep import StorageURL, connect
from turnkeep.connecting import build
from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from turnkeep import Persistence

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def to_url(store: str) -> str:
    """The URL of a store: itself, or ``sqlite:///`` and the absolute path of the file that it names.

    Raises:
        InvalidArgument: it is neither.
    """
    if "://" in store:
        return store
    if not store.strip():
        raise InvalidArgument("name a database: a URL such as sqlite:///chat.db, or the path of a file")
    scheme = _SCHEME.match(store)
    if scheme:
        raise InvalidArgument(
            f"{store!r:.80} is neither a URL nor clearly a path: "
            f"write {scheme.group()}//… for a URL, ./… or an absolute path for a file"
        )
    # The shell expands ~ only where a word begins with it: not in DB=~/chat.db for make.
    path = Path(store).expanduser() if store.startswith("~") else Path(store)
    try:
        return f"sqlite:///{quote(str(path.absolute()))}"
    except UnicodeEncodeError:
        raise InvalidArgument(f"the path {store!a:.80} is not UTF-8, so no URL can name it") from None


def show_store(store: str) -> str:
    """The store's name for messages: without password and option values."""
    return str(StorageURL(store)) if "://" in store else store


@asynccontextmanager
async def opened(store: str, **settings: Any) -> AsyncGenerator[Persistence]:
    """The store, open; nothing is made where there is none."""
    given = {name: value for name, value in settings.items() if value is not None}
    async with connect(to_url(store), auto_create=False, **given) as persistence:
        yield persistence


@asynccontextmanager
async def unopened(store: str) -> AsyncGenerator[Persistence]:
    """The store, not opened: for ``check`` and ``migrate`` of its adapter, which need no more."""
    persistence = build(to_url(store))
    try:
        yield persistence
    finally:
        await persistence.aclose()
