"""The adapter: each call of the contract, done on files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from turnkeep.contract import Capability, Check, HealthReport, Level, StorageAdapter, Support
from turnkeep.errors import ForeignTable, InvalidArgument, SchemaMissing
from turnkeep.held import commit_to, count, erased, load_from, may_delete, page_of, read_from, swept
from turnkeep.judge import is_live
from turnkeep_jsonl.calls import alone, reading, writing
from turnkeep_jsonl.files import append, path_of, read, remove, rewrite

CAPABILITIES = {
    Capability.ATOMIC_TURN: Support(Level.FULL),
    Capability.DURABLE: Support(Level.PARTIAL, "each line is synced, but no power was ever cut to see"),
    Capability.IMMEDIATE_LISTS: Support(Level.FULL),
    Capability.SEARCH: Support(Level.NONE, "files have no full-text index"),
    Capability.STATS: Support(Level.FULL),
    Capability.IDEMPOTENT_FOREVER: Support(Level.PARTIAL, "the last 32 commits of a session"),
    Capability.LARGE_VALUES: Support(Level.FULL),
}


class JsonlAdapter(StorageAdapter):
    """Keeps sessions in a directory, which several processes of one machine may use at the same time."""

    name = "jsonl"
    capabilities = CAPABILITIES

    def __init__(self, directory, *, clock=lambda: datetime.now(UTC)):
        self.root = Path(directory).absolute()
        self._clock = clock

    @classmethod
    def from_url(cls, url):
        """``jsonl:///relative/directory`` or ``jsonl:////absolute/directory``."""
        if url.host or url.username or url.password or not url.path.strip("/"):
            raise InvalidArgument("write jsonl:///relative/directory or jsonl:////absolute/directory")
        return cls(url.path[1:])

    # Opening

    async def open(self, *, auto_create=True):
        if await self.migrate(dry_run=not auto_create) and not auto_create:
            raise SchemaMissing(f"make the directory: turnkeep migrate jsonl:///{self.root}", adapter=self.name)

    async def aclose(self):
        """Nothing stays open between two calls."""

    @alone
    def check(self):
        good = self.root.is_dir() and os.access(self.root, os.W_OK)
        detail = f"{self.root} {'can' if good else 'cannot'} be written to"
        return HealthReport(self.name, (Check("directory", good, detail, "" if good else "open() makes it"),))

    @alone
    def migrate(self, *, dry_run=False):
        if self.root.exists():
            if not self.root.is_dir():
                raise ForeignTable(f"{self.root} is no directory", adapter=self.name)
            return []
        if not dry_run:
            self.root.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.root.mkdir(mode=0o700)
            except FileExistsError:
                return []  # another process was faster
        return ["make the directory"]

    # Reading

    @reading
    def load(self, key, query):
        return load_from(read(path_of(self.root, key)), key, query, self._clock())

    @reading
    def read_messages(self, key, query):
        return read_from(read(path_of(self.root, key)), key, query, self._clock(), adapter=self.name)

    @reading
    def find_sessions(self, query):
        return page_of(self._all(query.scope.namespace).values(), query, self._clock())

    @reading
    def stats(self, query):
        return count(self._all(query.scope.namespace).values(), query, self._clock())

    # Writing

    @writing
    def commit(self, commit):
        path = path_of(self.root, commit.key)
        session = read(path)
        floor = session.head.floor if session else 0
        session, result = commit_to(session, commit, self._clock(), adapter=self.name)
        if result.created or session.head.floor > floor:
            rewrite(path, session)  # nothing of a former life, or of what left the history, stays in the file
        elif not result.replayed:
            append(path, session, result)
        return result

    @writing
    def delete(self, key, *, expect=None):
        path = path_of(self.root, key)
        found = may_delete(read(path), key, expect, self._clock(), adapter=self.name)
        if found:
            remove(path)
        return found

    @writing
    def delete_owner(self, scope):
        gone = {path: held for path, held in self._all(scope.namespace).items() if scope.sees(held.head.user_id)}
        for path in gone:
            remove(path)
        return erased(gone.values(), self._clock())

    @writing
    def sweep(self, limit):
        now = self._clock()
        due = {path: session for path, session in self._all("*").items() if session.is_due(now)}
        result = swept(list(due.values()), limit, now)
        for path, session in list(due.items())[:limit]:
            if is_live(session.head, now):
                rewrite(path, session)
            else:
                remove(path)
        return result

    def _all(self, namespace):
        found = {path: read(path) for path in sorted(self.root.glob(f"{namespace}~*.jsonl"))}
        return {path: session for path, session in found.items() if session}
