"""A file per session, a line per commit. Whoever calls holds the lock of the directory."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager

from turnkeep.errors import CommitOutcomeUnknown
from turnkeep.lines import add_line, write_line


@contextmanager
def locked(root, *, shared=False):
    """Keeps other processes and threads from writing meanwhile; and from reading, unless it is ``shared``."""
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)  # a process that dies lets go of it
        yield


def path_of(root, key):
    """Where a session is. An id may be longer than the name of a file, and a namespace may be called ``..``."""
    name = hashlib.sha256(key.session_id.encode()).hexdigest()
    return root / f"in-{key.scope.namespace}" / f"{name}.jsonl"


def read(path):
    """What the lines add up to. A line without an end was being written when its process died: it is not there."""
    session = None
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            session = add_line(session, line, adapter="jsonl")
    return session


def append(path, session, result):
    """Adds the line of a commit; once this returns it is on the disk."""
    line = write_line(session, result) + b"\n"
    with path.open("r+b", buffering=0) as file:
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)  # what a process that died has left
        file.seek(end)
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, "the line does not fit")  # it has no end, so it is not there
        try:
            os.fsync(file)
        except OSError as error:
            raise CommitOutcomeUnknown(str(error), commit_id=result.token.commit_id, adapter="jsonl") from error


def rewrite(path, session):
    """Makes the file one line, all of the session as it is now: at once, or not at all."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(write_line(session) + b"\n")
        file.flush()
        os.fsync(file)
    draft.replace(path)
    _sync(path.parent)


def remove(path):
    """Removes a session, for good once this returns."""
    path.unlink()
    _sync(path.parent)


def _sync(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
