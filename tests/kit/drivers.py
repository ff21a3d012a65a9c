"""A memory adapter behind a driver whose calls can fail, and careless ones."""

from __future__ import annotations

from turnkeep.errors import CommitOutcomeUnknown, StorageUnavailable
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit.faults import DriverCalls

from .mutants import Mutant, caught_by


class Driven(Mutant):
    """Every call of the contract is one call of the driver."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = DriverCalls(lambda: ConnectionResetError("made up"))

    async def ask(self, operation, *args, **kwargs):
        try:
            with self.calls.call(operation):
                return await getattr(MemoryAdapter, operation)(self, *args, **kwargs)
        except ConnectionResetError as error:
            return self.failed(operation, error)

    def failed(self, operation, error):
        if operation in {"commit", "delete", "delete_owner", "sweep"}:
            raise CommitOutcomeUnknown("lost", commit_id="", adapter=self.name) from error
        raise StorageUnavailable("lost", adapter=self.name) from error

    async def load(self, key, query):
        return await self.ask("load", key, query)

    async def commit(self, commit):
        return await self.ask("commit", commit)

    async def read_messages(self, key, query):
        return await self.ask("read_messages", key, query)

    async def find_sessions(self, query):
        return await self.ask("find_sessions", query)

    async def delete(self, key, *, expect=None):
        return await self.ask("delete", key, expect=expect)

    async def delete_owner(self, scope):
        return await self.ask("delete_owner", scope)

    async def stats(self, query):
        return await self.ask("stats", query)

    async def sweep(self, limit):
        return await self.ask("sweep", limit)


Driven.correct = Driven


@caught_by("test_t7_the_nth_driver_call_fails[load]")
class ReadErrorsAreAbsence(Driven):
    def failed(self, operation, error):
        return None if operation == "load" else super().failed(operation, error)


@caught_by("test_t7_the_nth_driver_call_fails[commit]")
class SaysNothingWasWritten(Driven):
    def failed(self, operation, error):
        raise StorageUnavailable("lost", adapter=self.name) from error


@caught_by("test_t7_the_nth_driver_call_fails[append]")
class LetsDriverErrorsOut(Driven):
    def failed(self, operation, error):
        raise error
