"""The adapter: each call of the contract, done on files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from turnkeep.contract import Capability, Check, Erased, HealthReport, Level, StorageAdapter, Support, Swept
from turnkeep.errors import InvalidArgument, SchemaMissing
from turnkeep.held import commit_to, count, page_of
from turnkeep.judge import is_live, session_conflict, session_not_found
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
        url.finish()
        return cls(url.path[1:])

    # Opening

    async def open(self, *, auto_create=True):
        if await self.migrate(dry_run=not auto_create) and not auto_create:
            raise SchemaMissing(f"make the directory: turnkeep migrate jsonl:///{self.root}", adapter=self.name)

    async def aclose(self):
        """Nothing stays open between two calls."""

    async def check(self):
        good = os.access(self.root, os.W_OK)
        detail = f"{self.root} {'can' if good else 'cannot'} be written to"
        return HealthReport(self.name, (Check("directory", good, detail, "" if good else "open() makes it"),))

    @alone
    def migrate(self, *, dry_run=False):
        if self.root.is_dir():
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
        session = self._visible(key)
        return session.load(query) if session else None

    @reading
    def read_messages(self, key, query):
        session = self._visible(key)
        if session is None:
            raise session_not_found(key.session_id, self.name, "read_messages")
        return session.read(query)

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
        session, result = commit_to(self._session(path), commit, self._clock(), adapter=self.name)
        if result.created or commit.drop_history:
            rewrite(path, session)  # nothing of a former life, or of what was dropped, stays in the file
        elif not result.replayed:
            append(path, session, result)
        return result

    @writing
    def delete(self, key, *, expect=None):
        session = self._visible(key)
        if session is None:
            return False
        if expect is not None and session.head.token != expect:
            raise session_conflict(key.session_id, expect, session.head.token, self.name, "delete")
        remove(path_of(self.root, key))
        return True

    @writing
    def delete_owner(self, scope):
        found = {path: held for path, held in self._all(scope.namespace).items() if scope.sees(held.head.user_id)}
        for path in found:
            remove(path)
        live = [session.head for session in found.values() if is_live(session.head, self._clock())]
        return Erased(len(live), sum(head.message_count for head in live))

    @writing
    def sweep(self, limit):
        sessions = messages = 0
        for path, session in self._all("*").items():
            left = len(read(path).messages) - len(session.messages)  # by age, and they are still in the file
            if is_live(session.head, self._clock()):
                if left:
                    rewrite(path, session)
                messages += left
            elif sessions == limit:
                return Swept(sessions, messages, more=True)
            else:
                remove(path)
                sessions, messages = sessions + 1, messages + left + len(session.messages)
        return Swept(sessions, messages, more=False)

    # How it is done

    def _session(self, path):
        if session := read(path):
            session.pass_time(self._clock())
        return session

    def _visible(self, key):
        session = self._session(path_of(self.root, key))
        return session if session and session.visible_to(key, self._clock()) else None

    def _all(self, namespace):
        found = {path: self._session(path) for path in sorted(self.root.glob(f"in-{namespace}/*.jsonl"))}
        return {path: session for path, session in found.items() if session}
