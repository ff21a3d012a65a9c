"""Memory adapters that search, or count by day, with one defect each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from unicodedata import combining, normalize

from turnkeep.contract import Capability, Level, SearchHit, SearchPage, StoredMessage, Support
from turnkeep.cursors import make_cursor, page_of_hits, rank_of, read_cursor, read_rank
from turnkeep.errors import InvalidArgument
from turnkeep.held import count
from turnkeep.judge import is_live

from .mutants import Mutant, caught_by


class Unsearchable(Mutant):
    """Declares that it cannot search, and refuses."""

    @property
    def capabilities(self):
        return {**super().capabilities, Capability.SEARCH: Support(Level.NONE, "it has no index")}

    async def search_messages(self, query):
        raise self._lacks(Capability.SEARCH, "search_messages")


Unsearchable.correct = Unsearchable


@caught_by("test_capability_search")
class FindsNothingInsteadOfRefusing(Unsearchable):
    async def search_messages(self, query):
        return SearchPage((), None)


class Searching(Mutant):
    """Goes through all that is there, in steps each of which can be done wrong."""

    async def search_messages(self, query):
        hits = [
            SearchHit(record.head.session_id, self.given(message), query.terms.score(message.content))
            for record in self._records.values()
            if self.is_within(record, query) and self.is_owned(record, query) and self.lives(record)
            for message in self.said(record)
            if self.is_wanted(message, query) and self.matches(query.terms, message)
        ]
        return self.page(sorted(hits, key=self.rank), query)

    def is_within(self, record, query):
        return record.head.namespace == query.scope.namespace

    def is_owned(self, record, query):
        return query.scope.sees(record.head.user_id)

    def lives(self, record):
        return is_live(record.head, self._clock())

    def said(self, record):
        record.pass_time(self._clock())
        return list(record.messages)

    def is_wanted(self, message, query):
        return query.role in {None, message.role} and self.is_of_the_time(message, query.since, query.until)

    def is_of_the_time(self, message, since, until):
        return (since is None or message.created_at >= since) and (until is None or message.created_at < until)

    def matches(self, terms, message):
        return message.encoding == "plain" and terms.match(message.content)

    def given(self, message):
        return message

    def rank(self, hit):
        return rank_of(hit)

    def page(self, hits, query):
        if query.session_id is not None:
            hits = [hit for hit in hits if hit.session_id == query.session_id]
        if query.cursor is not None:
            score, *place = read_rank(query.cursor)
            hits = [hit for hit in hits if rank_of(hit) > (-score, *place)]
        return page_of_hits(hits, query)


Searching.correct = Searching


@caught_by("test_search_finds[a word]")
class SearchesSilently(Searching):
    async def search_messages(self, query):
        return SearchPage((), None)


# Whose, and whether it is there


@caught_by("test_search_stays_with_the_owner")
class FindsForeignMessages(Searching):
    def is_owned(self, record, query):
        return True


@caught_by("test_search_stays_with_the_owner")
class FindsInEveryNamespace(Searching):
    def is_within(self, record, query):
        return True


@caught_by("test_search_follows_a_claim")
class FindsForTheFirstOwner(Searching):
    async def commit(self, commit):
        result = await super().commit(commit)
        if result.created:
            self.__dict__.setdefault("_owners", {})[commit.key.session_id] = commit.user_id
        return result

    def is_owned(self, record, query):
        return query.scope.sees(self._owners[record.head.session_id])


@caught_by("test_search_never_finds_what_is_gone")
class FindsTheExpired(Searching):
    def lives(self, record):
        return True


@caught_by("test_search_never_finds_what_is_gone")
class FindsBelowTheFloor(Searching):
    def said(self, record):
        return list(record.messages)


@caught_by("test_search_never_finds_what_was_refused")
class IndexesBeforeItJudges(Searching):
    async def commit(self, commit):
        early = [
            StoredMessage(*message, seq=1000, turn_seq=1000, commit_id=commit.commit_id) for message in commit.messages
        ]
        self.__dict__.setdefault("_early", {})[commit.key.session_id, commit.commit_id] = early
        return await super().commit(commit)

    def said(self, record):
        refused = (
            messages
            for (session_id, commit_id), messages in self._early.items()
            if session_id == record.head.session_id and commit_id not in record.past
        )
        return super().said(record) + [message for messages in refused for message in messages]


@caught_by("test_search_sees_other_adapters_commits")
class FindsWhatItsOwnProcessWrote(Searching):
    def __init__(self, *, clock, records=None):
        super().__init__(clock=clock)
        self._records = records if records is not None else {}
        self._own = set()

    def sibling(self):
        return type(self)(clock=self._clock, records=self._records)

    async def commit(self, commit):
        self._own.add(commit.commit_id)
        return await super().commit(commit)

    def said(self, record):
        return [message for message in super().said(record) if message.commit_id in self._own]


# Words


@caught_by("test_search_finds[a phrase]")
class TakesPhrasesForWords(Searching):
    def matches(self, terms, message):
        words = tuple((word,) for run in terms.wanted for word in run)
        return super().matches(replace(terms, wanted=words), message)


@caught_by("test_search_finds[without a word]")
class IgnoresTheMinus(Searching):
    def matches(self, terms, message):
        return super().matches(replace(terms, unwanted=()), message)


@caught_by("test_search_finds[every word]")
class AnyWordWillDo(Searching):
    def matches(self, terms, message):
        return any(super(AnyWordWillDo, self).matches(replace(terms, wanted=(run,)), message) for run in terms.wanted)


@caught_by("test_search_finds[accents not asked for]")
class AccentsCount(Searching):
    def matches(self, terms, message):
        return super().matches(terms, message) and not any(map(combining, normalize("NFD", message.content)))


@caught_by("test_search_finds[case]")
class CaseCounts(Searching):
    def matches(self, terms, message):
        return super().matches(terms, message) and message.content.lower() == message.content


@caught_by("test_search_finds[stop words]")
class LeavesCommonWordsOut(Searching):
    def matches(self, terms, message):
        wanted = tuple(run for run in terms.wanted if run not in {("the",), ("to",), ("is",)})
        return bool(wanted) and super().matches(replace(terms, wanted=wanted), message)


@caught_by("test_search_finds[Chinese]")
class KnowsWordsBetweenSpacesOnly(Searching):
    def matches(self, terms, message):
        said = re.findall(r"\w+", message.content)
        return super().matches(terms, message) and (message.content.isascii() or "".join(terms.wanted[0]) in said)


@caught_by("test_search_takes_no_syntax[secre*]")
class FindsBeginningsOfWords(Searching):
    def matches(self, terms, message):
        begun = re.sub(r"\b(secre)t\b", r"\1 \g<0>", message.content)
        return super().matches(terms, message) or super().matches(terms, message._replace(content=begun))


@caught_by("test_search_reads_long_messages")
class ReadsTheBeginningOnly(Searching):
    def matches(self, terms, message):
        return super().matches(terms, message._replace(content=message.content[:10_000]))


@caught_by("test_search_reads_plain_texts_only")
class SearchesSealedContents(Searching):
    def matches(self, terms, message):
        return terms.match(message.content)


# Conditions, order, pages


@caught_by("test_search_keeps_conditions")
class SwapsSinceAndUntil(Searching):
    def is_of_the_time(self, message, since, until):
        return super().is_of_the_time(message, until, since)


@caught_by("test_search_keeps_conditions")
class UntilIsInclusive(Searching):
    def is_of_the_time(self, message, since, until):
        return super().is_of_the_time(message, since, until and until + timedelta(microseconds=1))


@caught_by("test_search_gives_whole_messages")
class GivesWhatTheIndexHolds(Searching):
    def given(self, message):
        return message._replace(name=None, event=None)


@caught_by("test_search_ranks")
class WorstFirst(Searching):
    def rank(self, hit):
        return hit.score, hit.session_id, hit.message.seq


@caught_by("test_search_pages_show_each_once")
class SkipsEqualScores(Searching):
    def page(self, hits, query):
        if query.cursor is not None:
            score, *_ = read_rank(query.cursor)
            hits = [hit for hit in hits if hit.score < score]
        return page_of_hits(hits, query)


@caught_by("test_search_pages_show_each_once")
class RepeatsTheLastOfAPage(Searching):
    def page(self, hits, query):
        (start,) = read_cursor(query.cursor, "search", int) if query.cursor is not None else (0,)
        end = start + query.limit
        more = end < len(hits)
        return SearchPage(tuple(hits[max(start - 1, 0) : end]), make_cursor("search", end) if more else None)


@caught_by("test_search_refuses_a_cursor_that_is_none")
class BeginsAgainWithAnyCursor(Searching):
    async def search_messages(self, query):
        try:
            return await super().search_messages(query)
        except InvalidArgument:
            return await super().search_messages(replace(query, cursor=None))


# By day


class CountingByDay(Mutant):
    """Counts each session on a day of its own choice."""

    def created(self, head):
        return head.created_at

    async def stats(self, query):
        records = [
            replace(record, head=replace(record.head, created_at=self.created(record.head)))
            for record in self._in(query.scope)
        ]
        found = await super().stats(query)
        return replace(found, by_day=count(records, query, self._clock()).by_day)


CountingByDay.correct = CountingByDay


@caught_by("test_capability_stats_by_day")
class CountsOnTheDayOfTheLastCommit(CountingByDay):
    def created(self, head):
        return head.updated_at


@caught_by("test_capability_stats_by_day")
class CountsDaysOfTheServersZone(CountingByDay):
    def created(self, head):
        return head.created_at + timedelta(hours=2)


@caught_by("test_capability_stats_by_day")
class DaysComeInNoOrder(CountingByDay):
    async def stats(self, query):
        found = await super().stats(query)
        return replace(found, by_day=dict(reversed(found.by_day.items())))
