"""What ``check`` looks at: the file, the tables, and whether the settings keep the promises."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from turnkeep.contract import Check
from turnkeep.errors import TurnkeepError
from turnkeep_sqlite._errors import translate
from turnkeep_sqlite.connections import DatabaseFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnkeep_sqlite.connections import Source
    from turnkeep_sqlite.schema import Schema

_WAL_RESET_FIXED: Final = (3, 51, 3)
_CHECK_SECONDS: Final = 2.0
_CHECK_STEPS: Final = 10_000
_ROOM: Final = 64 * 1024 * 1024
_SYNCHRONOUS: Final = ("off", "normal", "full", "extra")
_NETWORK: Final = {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}


def examine(source: Source, schema: Schema) -> Iterator[Check]:
    """Line by line; what cannot be looked at because of an earlier line is left out. Changes nothing."""
    yield _library()
    try:
        connection = source.connect(create=False)
    except (sqlite3.Error, TurnkeepError) as error:
        yield _failed("file", error)
        return
    try:
        if isinstance(source, DatabaseFile):
            yield from _file(source.path)
        with source.in_use(connection):
            yield from _database(connection, schema)
    except (sqlite3.Error, TurnkeepError) as error:
        yield _failed("database", error)
    finally:
        source.release(connection)


def _library() -> Check:
    detail = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info >= _WAL_RESET_FIXED:
        return Check("library", ok=True, detail=detail)
    return Check(
        "library",
        ok=False,
        warning=True,
        detail=f"{detail}: several processes writing to one file can, very rarely, damage it (the WAL-reset bug)",
        fix="use SQLite 3.51.3 or newer, or let one process write",
    )


def _file(path: Path) -> Iterator[Check]:
    yield Check("file", ok=True, detail=f"{path}, {path.stat().st_size} bytes")
    free = shutil.disk_usage(path.parent).free
    enough = free > _ROOM
    yield Check("room", ok=enough, warning=True, detail=f"{free >> 20} MB free", fix="" if enough else "make room")
    kind = _file_system(path)
    if kind in _NETWORK:
        yield Check(
            "file system",
            ok=False,
            detail=f"{kind}: SQLite's locks do not hold across machines there",
            fix="put the file on a local disk, or use a database server",
        )


def _database(connection: sqlite3.Connection, schema: Schema) -> Iterator[Check]:
    try:
        version = schema.find_version(connection)
        schema.require(version)
    except (sqlite3.Error, TurnkeepError) as error:
        yield _failed("schema", error)
        return
    yield Check("schema", ok=True, detail=f"version {version}")
    yield from _settings(connection)
    yield _integrity(connection)


def _settings(connection: sqlite3.Connection) -> Iterator[Check]:
    mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    yield Check(
        "journal_mode",
        ok=mode == "wal",
        warning=True,
        detail=mode,
        fix="" if mode == "wal" else "PRAGMA journal_mode = WAL lets reads and writes go on beside each other",
    )
    level = int(connection.execute("PRAGMA synchronous").fetchone()[0])
    durable = level >= _SYNCHRONOUS.index("full")
    yield Check(
        "synchronous",
        ok=durable,
        warning=True,
        detail=_SYNCHRONOUS[level],
        fix="" if durable else "a power cut may take the last turns along; durability=full keeps them",
    )
    (enforced,) = connection.execute("PRAGMA foreign_keys").fetchone()
    yield Check("foreign_keys", ok=True, detail="on" if enforced else "off")


def _integrity(connection: sqlite3.Connection) -> Check:
    deadline = time.monotonic() + _CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _CHECK_STEPS)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return Check("integrity", ok=True, detail=f"nothing wrong in {_CHECK_SECONDS:g} s, the rest was not looked at")
    finally:
        connection.set_progress_handler(None, 0)
    sound = found == "ok"
    return Check("integrity", ok=sound, detail=found, fix="" if sound else "restore the file from a backup")


def _file_system(path: Path) -> str:
    """The type of file system, where the machine tells it as Linux does."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    places = [(place, kind) for _, place, kind, *_ in map(str.split, mounts) if path.resolve().is_relative_to(place)]
    return max(places, key=lambda found: len(found[0]), default=("", "unknown"))[1]


def _failed(name: str, error: Exception) -> Check:
    found = translate(error, "check")
    driver = f" ({found.__cause__})" if found.__cause__ is not None else ""
    said, _, fix = str(found).removesuffix(driver).partition("; ")
    return Check(name, ok=False, detail=said + driver, fix=fix)
