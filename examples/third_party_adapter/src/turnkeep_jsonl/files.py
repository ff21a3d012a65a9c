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
    """Where a session is. An id may have any characters and be too long for a file's name; no namespace has a ``~``."""
    name = hashlib.sha256(key.session_id.encode()).hexdigest()
    return root / f"{key.scope.namespace}~{name}.jsonl"


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
        _settle(file.fileno(), result.token.commit_id)


def rewrite(path, session):
    """Makes the file one line, all of the session as it is now: at once, or not at all."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(write_line(session) + b"\n")
        file.flush()
        os.fsync(file)
    draft.replace(path)
    _settle_names(path.parent, session.head.token.commit_id)


def remove(path):
    """Removes a session, for good once this returns."""
    path.with_suffix(".draft").unlink(missing_ok=True)  # of a rewrite that died
    path.unlink()
    _settle_names(path.parent)


def _settle_names(directory, commit_id=""):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        _settle(descriptor, commit_id)
    finally:
        os.close(descriptor)


def _settle(descriptor, commit_id):
    try:
        os.fsync(descriptor)
    except OSError as error:  # it is done already, and may not last
        raise CommitOutcomeUnknown(str(error), commit_id=commit_id, adapter="jsonl") from error
