"""Memory adapters with one defect each. The kit has to fail every one of them, and to pass the adapter without defects.

``CAUGHT_BY`` names for each the test whose name tells the defect; others may catch it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from turnkeep.contract import (
    ANYONE,
    NO_CHANGE,
    Expect,
    MessagePage,
    SessionKey,
    SessionPage,
    Stats,
    Swept,
    Token,
)
from turnkeep.cursors import make_cursor, read_cursor
from turnkeep.errors import (
    CommitIdReused,
    InvalidArgument,
    SessionConflict,
    SessionExists,
    SessionNotFound,
    StorageUnavailable,
)
from turnkeep.memory import MemoryAdapter
from turnkeep.retention import to_microseconds

if TYPE_CHECKING:
    from collections.abc import Callable

CAUGHT_BY: dict[type[MemoryAdapter], str] = {}


def caught_by(test: str) -> Callable[[type[MemoryAdapter]], type[MemoryAdapter]]:
    def register(mutant: type[MemoryAdapter]) -> type[MemoryAdapter]:
        CAUGHT_BY[mutant] = test
        return mutant

    return register


class Mutant(MemoryAdapter):
    """Short cuts to the record behind a key."""

    correct: ClassVar[type[MemoryAdapter]] = MemoryAdapter
    """The adapter that the defect is one of."""

    def record(self, key):
        return self._records.get((key.scope.namespace, key.session_id))


# Compare and swap


@caught_by("test_g2_a_stale_token_conflicts")
class LastWriterWins(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if isinstance(commit.expect, Token) and record:
            commit = replace(commit, expect=record.head.token)
        return await super().commit(commit)


@caught_by("test_g2_a_token_of_a_former_life_conflicts")
class ComparesVersionsOnly(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if isinstance(commit.expect, Token) and record and record.head.token.version == commit.expect.version:
            commit = replace(commit, expect=record.head.token)
        return await super().commit(commit)


@caught_by("test_g2_of_many_swaps_exactly_one_wins")
class ChecksThenWrites(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if isinstance(commit.expect, Token) and record and record.head.token == commit.expect:
            await asyncio.sleep(0)
            commit = replace(commit, expect=record.head.token)
        return await super().commit(commit)


@caught_by("test_g2_appends_never_conflict")
class AppendsConflict(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if commit.expect is Expect.ANY and commit.seen and record and commit.seen != record.head.token:
            raise SessionConflict("stale", session_id=commit.key.session_id, expected=commit.seen, adapter=self.name)
        return await super().commit(commit)


@caught_by("test_g2_an_append_tells_whether_something_was_in_between")
class AlwaysContiguous(Mutant):
    async def commit(self, commit):
        return replace(await super().commit(commit), contiguous=True)


@caught_by("test_g1_a_status_change_raises_the_version")
class StatusKeepsTheVersion(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        record = self.record(commit.key)
        if not commit.messages and not result.created and not result.replayed and commit.head != NO_CHANGE:
            token = replace(record.head.token, version=record.head.token.version - 1)
            record.head = replace(record.head, token=token)
            result = replace(result, token=token)
        return result


# Idempotency


@caught_by("test_g3_an_append_sent_again_lands_once")
class ForgetsCommits(Mutant):
    async def commit(self, commit):
        if record := self.record(commit.key):
            record.past.clear()
        return await super().commit(commit)


@caught_by("test_g3_a_commit_is_recognised_by_another_adapter")
class KnowsCommitsOfItsOwnProcessOnly(Mutant):
    def __init__(self, *, clock, records=None):
        super().__init__(clock=clock)
        self._records = records if records is not None else {}
        self._own = set()

    def sibling(self):
        return type(self)(clock=self._clock, records=self._records)

    async def commit(self, commit):
        record = self.record(commit.key)
        if record and commit.commit_id not in self._own:
            record.past.pop(commit.commit_id, None)
        result = await super().commit(commit)
        self._own.add(commit.commit_id)
        return result


@caught_by("test_g3_another_request_under_a_used_id_is_refused")
class IgnoresTheDigest(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if record and commit.commit_id in record.past:
            commit = replace(commit, digest=record.past[commit.commit_id].digest)
        return await super().commit(commit)


@caught_by("test_g3_a_repeated_commit_may_carry_another_outcome")
class ComparesThePayload(Mutant):
    _payloads: dict

    async def commit(self, commit):
        payload = (commit.data, [message.content for message in commit.messages])
        known = self.__dict__.setdefault("_payloads", {}).setdefault((commit.key, commit.commit_id), payload)
        if known != payload:
            raise CommitIdReused("another payload", commit_id=commit.commit_id, adapter=self.name)
        return await super().commit(commit)


@caught_by("test_g3_sessions_do_not_share_commit_ids")
class RepliesFromAnotherSession(Mutant):
    async def commit(self, commit):
        for record in self._records.values():
            past = record.past.get(commit.commit_id)
            if past and past.digest == commit.digest:
                return past.replay(record.head).committed
        return await super().commit(commit)


@caught_by("test_g3_at_least_32_commits_are_recognised")
class ShortMemory(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        past = self.record(commit.key).past
        while len(past) > 8:
            del past[next(iter(past))]
        return result


@caught_by("test_g3_the_first_result_survives_later_commits")
class RepliesWithTheHead(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        if result.replayed:
            head = self.record(commit.key).head
            result = replace(result, token=head.token, message_count=head.message_count)
        return result


@caught_by("test_g3_a_replay_has_only_messages_still_in_the_history")
class RepliesWithClearedMessages(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        kept = self.__dict__.setdefault("_kept", {})
        kept.update({message.commit_id: (message,) for message in self.record(commit.key).messages})
        return result

    async def load(self, key, query):
        stored = await super().load(key, query)
        if stored and stored.replay:
            stored = replace(stored, replay=replace(stored.replay, messages=self._kept.get(query.commit_id, ())))
        return stored


# Create


@caught_by("test_g16_load_creates_nothing")
class LoadCreates(Mutant):
    async def load(self, key, query):
        from turnkeep_testkit import new_commit

        stored = await super().load(key, query)
        if stored is None and self.record(key) is None:
            await super().commit(new_commit(key))
            stored = await super().load(key, query)
        return stored


@caught_by("test_g16_an_id_is_taken_once")
class CreateOverwrites(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if commit.expect is Expect.NEW and record and commit.commit_id not in record.past:
            del self._records[commit.key.scope.namespace, commit.key.session_id]
        return await super().commit(commit)


@caught_by("test_g16_a_foreign_id_is_taken_too")
class ForeignIdsAreFree(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if commit.expect is Expect.NEW and record and not commit.key.scope.sees(record.head.user_id):
            del self._records[commit.key.scope.namespace, commit.key.session_id]
        return await super().commit(commit)


@caught_by("test_g16_only_new_creates")
class Upserts(Mutant):
    async def commit(self, commit):
        if self.record(commit.key) is None:
            commit = replace(commit, expect=Expect.NEW)
        return await super().commit(commit)


@caught_by("test_g16_user_id_counts_at_creation_only")
class TheOwnerChanges(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        if commit.user_id:
            record = self.record(commit.key)
            record.head = replace(record.head, user_id=commit.user_id)
        return result


@caught_by("test_g16_reading_messages_of_nobody_raises")
class NobodyHasAnEmptyHistory(Mutant):
    async def read_messages(self, key, query):
        try:
            return await super().read_messages(key, query)
        except SessionNotFound:
            return MessagePage((), more=False)


# Atomic turn, order, history


@caught_by("test_g1_readers_never_see_half_a_turn")
class AppendsInTwoCommits(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        record = self.record(commit.key)
        if len(commit.messages) > 1 and not result.replayed:
            last = record.messages.pop()
            await asyncio.sleep(0)
            record.messages.append(last)
        return result


@caught_by("test_g1_readers_never_see_half_a_turn")
class StateBeforeMessages(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if record and commit.expect == record.head.token and commit.data is not None:
            record.data = commit.data
            await asyncio.sleep(0)
        return await super().commit(commit)


@caught_by("test_g1_a_refused_turn_leaves_nothing")
class WritesBeforeItRefuses(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if record and commit.data is not None and commit.key.scope.sees(record.head.user_id):
            record.data = commit.data
        return await super().commit(commit)


@caught_by("test_g1_head_fields_can_be_cleared")
class NoneLeavesTheField(Mutant):
    async def commit(self, commit):
        head = commit.head
        for field in ("agent_name", "current_route", "current_step"):
            if getattr(head, field) is None:
                head = replace(head, **{field: getattr(NO_CHANGE, field)})
        return await super().commit(replace(commit, head=head))


@caught_by("test_g4_numbers_do_not_restart")
class NumbersRestart(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        if record and commit.drop_history:
            record.head = replace(record.head, last_seq=0, floor=0)
        return await super().commit(commit)


@caught_by("test_g4_client_clocks_order_nothing")
class OrdersByClock(Mutant):
    async def load(self, key, query):
        stored = await super().load(key, query)
        return stored and replace(stored, messages=tuple(sorted(stored.messages, key=lambda item: item.created_at)))


@caught_by("test_g4_time_never_runs_backwards_within_a_session")
class TimeRunsBackwards(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        record = self.record(commit.key)
        record.head = replace(record.head, updated_at=self._clock(), last_message_at=self._clock())
        return replace(result, time=self._clock())


@caught_by("test_window_widens_to_whole_turns")
class WindowSplitsTurns(Mutant):
    async def load(self, key, query):
        stored = await super().load(key, query)
        if stored and query.window:
            stored = replace(stored, messages=stored.messages[-query.window :])
        return stored


@caught_by("test_page_newest_by_default")
class NewestAreLost(Mutant):
    async def read_messages(self, key, query):
        if query.before is None and query.after is None:
            query = replace(query, after=0)
        return await super().read_messages(key, query)


@caught_by("test_page_respects_the_floor")
class PagesBelowTheFloor(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        old = list(record.messages) if record else []
        result = await super().commit(commit)
        if commit.drop_history:
            self.__dict__.setdefault("_dropped", {})[commit.key.session_id] = old
        return result

    async def read_messages(self, key, query):
        page = await super().read_messages(key, query)
        dropped = self.__dict__.get("_dropped", {}).get(key.session_id, [])
        found = [message for message in dropped if query.before is not None and message.seq < query.before]
        return MessagePage((*found, *page.items)[-query.limit :], page.more)


@caught_by("test_long_histories")
class ThousandRowsAtMost(Mutant):
    async def load(self, key, query):
        stored = await super().load(key, query)
        return stored and replace(stored, messages=stored.messages[:1000])


# Lists


@caught_by("test_list_pages_at_equal_times")
class PageSkipsEqualTimes(Mutant):
    async def find_sessions(self, query):
        everything = await super().find_sessions(replace(query, cursor=None, limit=10**6))

        def at(head):
            moment = to_microseconds(head.updated_at if query.order == "activity" else head.created_at)
            return -moment if query.order == "activity" else moment

        items = list(everything.items)
        if query.cursor is not None:
            (stamp, _) = read_cursor(query.cursor, query.order, int, str)
            items = [head for head in items if at(head) > stamp]
        more = len(items) > query.limit
        items = items[: query.limit]
        return SessionPage(tuple(items), make_cursor(query.order, at(items[-1]), "") if more else None)


@caught_by("test_list_by_activity_while_sessions_are_touched")
class PagesByOffset(Mutant):
    async def find_sessions(self, query):
        everything = await super().find_sessions(replace(query, cursor=None, limit=10**6))
        (start,) = read_cursor(query.cursor, query.order, int) if query.cursor is not None else (0,)
        end = start + query.limit
        more = end < len(everything.items)
        return SessionPage(everything.items[start:end], make_cursor(query.order, end) if more else None)


@caught_by("test_list_of_one_order_refuses_a_cursor_of_the_other")
class AnyCursorWillDo(Mutant):
    async def find_sessions(self, query):
        try:
            return await super().find_sessions(query)
        except InvalidArgument:
            return await super().find_sessions(replace(query, cursor=None))


@caught_by("test_list_conditions_all_hold")
class IgnoresTheRoute(Mutant):
    async def find_sessions(self, query):
        return await super().find_sessions(replace(query, route=None))


@caught_by("test_list_older_than_an_instant")
class OlderThanIsInclusive(Mutant):
    async def find_sessions(self, query):
        if isinstance(query.older_than, datetime) and query.older_than.year < 9999:
            query = replace(query, older_than=query.older_than + timedelta(microseconds=1))
        return await super().find_sessions(query)


@caught_by("test_list_ties_are_broken_byte_by_byte")
class SortsByCollation(Mutant):
    async def find_sessions(self, query):
        page = await super().find_sessions(query)
        items = sorted(page.items, key=lambda head: head.session_id.casefold())
        return replace(page, items=tuple(items))


@caught_by("test_g11_a_deleted_session_is_absent_everywhere")
class ListsTheDeleted(Mutant):
    async def delete(self, key, *, expect=None):
        if record := self.record(key):
            self.__dict__.setdefault("_ghosts", []).append(record.head)
        return await super().delete(key, expect=expect)

    async def find_sessions(self, query):
        page = await super().find_sessions(query)
        ghosts = [head for head in self.__dict__.get("_ghosts", []) if head.namespace == query.scope.namespace]
        return replace(page, items=(*page.items, *ghosts)) if query.cursor is None else page


# Delete


@caught_by("test_g11_a_new_life_inherits_nothing")
class DeleteLeavesMessages(Mutant):
    async def delete(self, key, *, expect=None):
        record = self.record(key)
        deleted = await super().delete(key, expect=expect)
        if deleted:
            self.__dict__.setdefault("_left", {})[key.session_id] = record.messages
        return deleted

    async def commit(self, commit):
        result = await super().commit(commit)
        record = self.record(commit.key)
        if result.created and not result.replayed:
            record.messages = self.__dict__.get("_left", {}).pop(commit.key.session_id, []) + record.messages
        return result


@caught_by("test_g12_an_expired_id_can_be_created_again")
class MessageKeysLackTheIncarnation(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        old = {message.seq: message for message in record.messages} if record else {}
        result = await super().commit(commit)
        if result.created and not result.replayed and old:
            record = self.record(commit.key)
            # The key is (session, seq): the row of the former life is there already.
            record.messages = [old.get(message.seq, message) for message in record.messages]
        return result


@caught_by("test_g11_a_late_commit_cannot_resurrect")
class LateCommitResurrects(Mutant):
    async def delete(self, key, *, expect=None):
        deleted = await super().delete(key, expect=expect)
        if deleted:
            self.__dict__.setdefault("_deleted", set()).add(key.session_id)
        return deleted

    async def commit(self, commit):
        if self.record(commit.key) is None and commit.key.session_id in self.__dict__.get("_deleted", ()):
            commit = replace(commit, expect=Expect.NEW)
        return await super().commit(commit)


@caught_by("test_g16_each_life_has_its_own_incarnation")
class OneIncarnationForEver(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        record = self.record(commit.key)
        token = replace(result.token, incarnation=commit.key.session_id)
        record.head = replace(record.head, token=token if not result.replayed else record.head.token)
        return replace(result, token=token)


@caught_by("test_g11_an_owner_can_be_erased")
class ErasesTheFirstPageOnly(Mutant):
    async def delete_owner(self, scope):
        kept = [
            item
            for item in self._records.items()
            if item[0][0] == scope.namespace and item[1].head.user_id == scope.owner
        ][10:]
        erased = await super().delete_owner(scope)
        self._records.update(kept)
        return erased


@caught_by("test_g11_an_owner_can_be_erased")
class ErasesTooMuch(Mutant):
    async def delete_owner(self, scope):
        erased = await super().delete_owner(scope)
        for identity, record in list(self._records.items()):
            if identity[0] == scope.namespace and (record.head.user_id or "").strip() == scope.owner:
                del self._records[identity]
        return erased


@caught_by("test_g11_a_delete_may_expect_a_token")
class DeletesWhateverItIsAt(Mutant):
    async def delete(self, key, *, expect=None):
        return await super().delete(key)


@caught_by("test_g11_of_a_delete_and_a_swap_one_wins")
class ChecksThenDeletes(Mutant):
    async def delete(self, key, *, expect=None):
        record = self.record(key)
        if expect is not None and record and record.head.token == expect:
            await asyncio.sleep(0)
            expect = None
        return await super().delete(key, expect=expect)


# Expiry


@caught_by("test_g12_an_expired_session_is_absent_everywhere")
class ExpiryIsIgnored(Mutant):
    async def commit(self, commit):
        return await super().commit(replace(commit, ttl=None))


@caught_by("test_g12_an_expired_session_is_absent_everywhere")
class MessagesOutliveTheirSession(Mutant):
    async def read_messages(self, key, query):
        record = self.record(key)
        if record and record.head.expires_at and record.head.expires_at <= self._clock():
            return MessagePage(tuple(record.messages[-query.limit :]), more=False)
        return await super().read_messages(key, query)


@caught_by("test_g12_a_load_does_not_renew")
class LoadRenews(Mutant):
    async def load(self, key, query):
        stored = await super().load(key, query)
        if stored and stored.head.expires_at:
            record = self.record(key)
            ttl = record.head.expires_at - record.head.updated_at
            record.head = replace(record.head, expires_at=self._clock() + ttl)
        return stored


@caught_by("test_g12_a_commit_renews")
class CommitDoesNotRenew(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        before = record.head.expires_at if record else None
        result = await super().commit(commit)
        if before and not result.created:
            record = self.record(commit.key)
            record.head = replace(record.head, expires_at=before)
            result = replace(result, expires_at=before)
        return result


@caught_by("test_g12_messages_leave_by_age")
class MessagesNeverAge(Mutant):
    async def commit(self, commit):
        return await super().commit(replace(commit, message_ttl=None))


@caught_by("test_g12_an_expired_id_can_be_created_again")
class ExpiredIdsStayTaken(Mutant):
    async def commit(self, commit):
        record = self.record(commit.key)
        expires_at = record.head.expires_at if record else None
        if commit.expect is Expect.NEW and expires_at and expires_at <= self._clock():
            raise SessionExists("taken", session_id=commit.key.session_id, adapter=self.name)
        return await super().commit(commit)


@caught_by("test_g12_sweep_removes_what_is_expired")
class SweepsTheLiving(Mutant):
    async def sweep(self, limit):
        doomed = [identity for identity, record in self._records.items() if record.head.expires_at][:limit]
        for identity in doomed:
            del self._records[identity]
        return Swept(len(doomed), 0, more=False)


@caught_by("test_sweep_erases_what_left_by_age")
class SweepWaitsForAReader(Mutant):
    async def sweep(self, limit):
        marks = {identity: record.marks for identity, record in self._records.items()}
        for record in self._records.values():
            record.marks = ()
        swept = await super().sweep(limit)
        for identity, record in self._records.items():
            record.marks = marks[identity]
        return swept


@caught_by("test_sweep_counts_what_it_removes")
class SweepCountsNothingInTheEnd(Mutant):
    async def sweep(self, limit):
        swept = await super().sweep(limit)
        return swept if swept.more else Swept(0, 0, more=False)


@caught_by("test_sweep_counts_what_it_removes")
class SweepCountsNothing(Mutant):
    async def sweep(self, limit):
        return Swept(0, 0, more=(await super().sweep(limit)).more)


@caught_by("test_g12_an_expired_session_of_an_owner_is_erased_too")
class ErasureCountsTheExpired(Mutant):
    async def delete_owner(self, scope):
        gone = [record for record in self._in(scope) if scope.sees(record.head.user_id)]
        return replace(await super().delete_owner(scope), sessions=len(gone))


@caught_by("test_sweep_is_bounded_and_ends")
class SweepNeverEnds(Mutant):
    async def sweep(self, limit):
        return replace(await super().sweep(limit), more=True)


# Isolation: the foreign owner is served by one method only


def _everybody(key):
    return SessionKey(replace(key.scope, owner=ANYONE), key.session_id)


@caught_by("test_g13_foreign_owner[load]")
class ServesForeignLoads(Mutant):
    async def load(self, key, query):
        return await super().load(_everybody(key), query)


@caught_by("test_g13_foreign_owner[commit]")
class ServesForeignCommits(Mutant):
    async def commit(self, commit):
        if commit.expect is Expect.ANY and commit.claim is None:
            commit = replace(commit, key=_everybody(commit.key))
        return await super().commit(commit)


@caught_by("test_g13_foreign_owner[read_messages]")
class ServesForeignPages(Mutant):
    async def read_messages(self, key, query):
        return await super().read_messages(_everybody(key), query)


@caught_by("test_g13_foreign_owner[find_sessions]")
class ServesForeignLists(Mutant):
    async def find_sessions(self, query):
        return await super().find_sessions(replace(query, scope=replace(query.scope, owner=ANYONE)))


@caught_by("test_g13_foreign_owner[delete]")
class ServesForeignDeletes(Mutant):
    async def delete(self, key, *, expect=None):
        return await super().delete(_everybody(key), expect=expect)


@caught_by("test_g13_foreign_owner[delete_owner]")
class ErasesForeignOwners(Mutant):
    async def delete_owner(self, scope):
        return await super().delete_owner(replace(scope, owner=ANYONE))


@caught_by("test_g13_foreign_owner[stats]")
class CountsForeignSessions(Mutant):
    async def stats(self, query):
        return await super().stats(replace(query, scope=replace(query.scope, owner=ANYONE)))


@caught_by("test_g13_a_session_without_an_owner_can_be_claimed_once")
class ClaimsTwice(Mutant):
    async def commit(self, commit):
        if commit.claim is not None and (record := self.record(commit.key)):
            record.head = replace(record.head, user_id=None)
        return await super().commit(commit)


# Exactness


def _with_ids(fold):
    class FoldsIds(Mutant):
        def _fold(self, key):
            return SessionKey(key.scope, fold(key.session_id) or key.session_id)

        async def load(self, key, query):
            return await super().load(self._fold(key), query)

        async def commit(self, commit):
            return await super().commit(replace(commit, key=self._fold(commit.key)))

        async def read_messages(self, key, query):
            return await super().read_messages(self._fold(key), query)

        async def delete(self, key, *, expect=None):
            return await super().delete(self._fold(key), expect=expect)

    return FoldsIds


@caught_by("test_g13_ids_are_compared_byte_by_byte")
class LowerCaseIds(_with_ids(str.lower)):
    pass


@caught_by("test_g13_ids_are_compared_byte_by_byte")
class TrimmedIds(_with_ids(str.rstrip)):
    pass


def _with_messages(change):
    class ChangesMessages(Mutant):
        async def commit(self, commit):
            return await super().commit(replace(commit, messages=tuple(map(change, commit.messages))))

    return ChangesMessages


@caught_by("test_g14_instants")
class Milliseconds(
    _with_messages(
        lambda message: message._replace(
            created_at=message.created_at.replace(microsecond=message.created_at.microsecond // 1000 * 1000)
        )
    )
):
    pass


@caught_by("test_g14_instants")
class LosesTheZone(
    _with_messages(lambda message: message._replace(created_at=message.created_at.replace(tzinfo=None)))
):
    pass


@caught_by("test_g14_hostile_texts[1 MiB message]")
class CutsAt64Kilobytes(_with_messages(lambda message: message._replace(content=message.content[:65535]))):
    pass


@caught_by("test_g14_absent_is_not_empty")
class EmptyIsNull(_with_messages(lambda message: message._replace(name=message.name or None))):
    pass


@caught_by("test_g14_roles_and_encodings")
class GuessesTheEncoding(
    _with_messages(lambda message: message._replace(encoding="json" if message.content[:1] == '"' else "plain"))
):
    pass


@caught_by("test_g14_documents_are_texts")
class RewritesDocuments(Mutant):
    async def commit(self, commit):
        data = commit.data and json.dumps(json.loads(commit.data), ensure_ascii=False)
        return await super().commit(replace(commit, data=data))


def _with_json(change):
    """Changes the texts that a database would not hold as text, and that are handed over as JSON therefore."""

    def changed(message):
        if message.encoding != "json":
            return message
        return message._replace(content=json.dumps(change(json.loads(message.content))))

    return _with_messages(changed)


@caught_by("test_g14_hostile_texts[nul in text]")
class CutsAtNul(_with_json(lambda text: text.partition("\0")[0])):
    pass


@caught_by("test_g14_hostile_texts[high surrogate]")
class ReplacesLoneSurrogates(_with_json(lambda text: text.encode("utf-8", "replace").decode())):
    pass


def _with_documents(change):
    class ChangesDocuments(Mutant):
        async def commit(self, commit):
            return await super().commit(replace(commit, data=commit.data and change(commit.data)))

    return ChangesDocuments


@caught_by("test_g14_hostile_texts[2**63]")
class BigIntegersAreFloats(
    _with_documents(
        lambda text: (
            re.sub(r"(?<![\w.])\d{16,}(?![\w.])", lambda number: repr(float(number[0])), text) if "{" in text else text
        )
    )
):
    pass


def _no_operators(text):
    if re.search(r'"\$\w*":', text.replace('"$tk":', "")):
        raise InvalidArgument("keys that begin with $ are operators here")
    return text


@caught_by("test_g14_hostile_texts[key '$where']")
class RefusesOperatorKeys(_with_documents(_no_operators)):
    pass


@caught_by("test_answers_have_the_types_of_the_contract")
class SharesItsLists(Mutant):
    async def load(self, key, query):
        stored = await super().load(key, query)
        return stored and replace(stored, messages=self.record(key).messages)


# Capabilities, cancellation, tasks, lifecycle


@caught_by("test_capability_stats_leave_out_what_is_gone")
class CountsTheExpired(Mutant):
    async def stats(self, query):
        found = await super().stats(query)
        return replace(found, sessions=sum(identity[0] == query.scope.namespace for identity in self._records))


@caught_by("test_capability_stats")
class InventsStats(Mutant):
    async def stats(self, query):
        return Stats(0, 0, 0, {}, {}, {}, None, None, {})


@caught_by("test_g10_a_cancelled_commit_settles")
class CancelledAfterTheWrite(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        await asyncio.sleep(0)
        return result


@caught_by("test_g10_a_cancelled_delete_settles")
class CancelledAfterTheDelete(Mutant):
    async def delete(self, key, *, expect=None):
        deleted = await super().delete(key, expect=expect)
        await asyncio.sleep(0)
        return deleted


@caught_by("test_g10_a_commit_cancelled_twice_settles")
class SettlesOnce(Mutant):
    async def commit(self, commit):
        result = await super().commit(commit)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return result


@caught_by("test_g10_a_cancelled_read_lets_go")
class ReadsTheReplyOfAnother(Mutant):
    _replies: list

    async def load(self, key, query):
        replies = self.__dict__.setdefault("_replies", [])
        replies.append(await super().load(key, query))
        await asyncio.sleep(0)
        return replies.pop(0)


@caught_by("test_g10_a_cancelled_read_lets_go")
class CancellationLeaksAConnection(Mutant):
    async def load(self, key, query):
        pool = self.__dict__.setdefault("_pool", asyncio.Semaphore(1))
        await pool.acquire()
        await asyncio.sleep(0)
        stored = await super().load(key, query)
        pool.release()
        return stored


@caught_by("test_g10_a_deadline_is_a_cancellation")
class IgnoresTheDeadline(Mutant):
    async def commit(self, commit):
        if commit.messages and not self.__dict__.get("_hung"):
            self._hung = True
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            await asyncio.sleep(3600)
        return await super().commit(commit)


@caught_by("test_g1_a_turn_lands_whole")
class LeavesATask(Mutant):
    async def commit(self, commit):
        self._task = asyncio.create_task(asyncio.sleep(3600))
        return await super().commit(commit)


@caught_by("test_what_was_committed_is_there_after_reopening")
class ForgetsWhenClosed(Mutant):
    async def aclose(self):
        self.clear()


@caught_by("test_migrate_of_a_current_store_does_nothing")
class MigratesForEver(Mutant):
    async def migrate(self, *, dry_run=False):
        return ["make everything new"]


@caught_by("test_g9_a_second_adapter_sees_whole_turns")
class KeepsItToItself(Mutant):
    def sibling(self):
        return type(self)(clock=self._clock)


# Cancelled calls


@caught_by("test_g10_a_cancelled_erasure_can_be_repeated")
class ErasesMessagesFirst(Mutant):
    async def delete_owner(self, scope):
        for record in self._records.values():
            if scope.sees(record.head.user_id):
                record.messages.clear()
        await asyncio.sleep(0)
        return await super().delete_owner(scope)


@caught_by("test_g10_a_cancelled_sweep_can_be_repeated")
class KeepsTheLockOfACancelledSweep(Mutant):
    async def sweep(self, limit):
        self.sweeping = getattr(self, "sweeping", None) or asyncio.Lock()
        await self.sweeping.acquire()
        await asyncio.sleep(0)
        self.sweeping.release()
        return await super().sweep(limit)


@caught_by("test_g10_a_cancelled_open_can_be_repeated")
class TakesItselfForOpening(Mutant):
    opening = False

    async def open(self, *, auto_create=True):
        if self.opening:
            raise StorageUnavailable("it is being opened", adapter=self.name, operation="open")
        self.opening = True
        await asyncio.sleep(0)
        self.opening = False
