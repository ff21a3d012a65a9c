"""Plain methods made into those of the contract: in a thread, behind the lock, with errors of ours."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from functools import wraps

from turnkeep.blocking import read_in_thread, write_in_thread
from turnkeep.errors import StorageFull, StorageUnavailable
from turnkeep_jsonl.files import locked


def _made(in_thread, lock):
    def make(method):
        @wraps(method)
        async def call(self, *args, **kwargs):
            def work():
                try:
                    with lock(self.root):
                        return method(self, *args, **kwargs)
                except OSError as error:
                    kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageUnavailable
                    message = f"{self.root}: {error.strerror}"
                    raise kind(message, adapter=self.name, operation=method.__name__) from error

            return await in_thread(work)

        return call

    return make


reading = _made(read_in_thread, lambda root: locked(root, shared=True))
writing = _made(write_in_thread, locked)
alone = _made(write_in_thread, nullcontext)
"""Where there may be no directory yet, and so no lock."""
