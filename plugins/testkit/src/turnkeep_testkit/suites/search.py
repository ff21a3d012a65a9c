"""Searching: the same words find the same messages on every database, and nothing that is not the asker's to see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from turnkeep.contract import ANYONE, Capability, Level, Scope, SearchQuery, SessionKey
from turnkeep.cursors import make_cursor
from turnkeep.errors import InvalidArgument, SessionConflict
from turnkeep.words import MOST_WORDS, WORD_LENGTH, Terms
from turnkeep_testkit.making import SOME_DAY, new_commit, new_key, new_message
from turnkeep_testkit.suites.base import Suite, proves

if TYPE_CHECKING:
    from turnkeep.contract import Owner, SearchHit

CASES: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "a word": ("refund", ("I want a refund!",), ("I want refunds", "prerefund", "re fund")),
    "every word": ("refund order", ("The order: a refund.",), ("a refund", "an order")),
    "words in any order": ("order refund", ("refund my order", "order a refund"), ()),
    "a word twice": ("refund refund", ("a refund",), ()),
    "case": ("ReFund", ("REFUND", "refund", "Refund"), ()),
    "case of other scripts": ("привет", ("Привет!", "ПРИВЕТ"), ("приветы",)),
    "case of Greek": ("οδός", ("ΟΔΟΣ", "οδός", "Οδος"), ()),
    "accents asked for": ("café", ("a cafe", "a café", "un CAFÉ"), ("caf",)),
    "accents not asked for": ("cafe naive", ("naïve café", "nai\u0308ve cafe\u0301"), ()),
    "an accent of its own": ("cafe\u0301", ("café",), ()),
    "wide letters": ("abc123", ("ａｂｃ１２３",), ()),
    "a ligature": ("file", ("ﬁle",), ()),
    "short words": ("4", ("4", "table for 4"), ("44", "4a")),
    "one letter": ("a", ("a", "this is a test"), ("an", "ab")),
    "stop words": ("the to is", ("the answer is to wait",), ("answer wait",)),
    "only stop words": ("to be or not to be", ("To be, or not to be!",), ("be or not",)),
    "numbers": ("2026", ("in 2026-11-22",), ("20261122",)),
    "punctuation parts words": ("mail", ("e-mail", "mail.example.com", "(mail)", "x_mail"), ("email",)),
    "what is written together": ("e-mail", ("an e-mail", "an e mail"), ("mail e", "e some mail")),
    "an address": ("ana@example.com", ("write to ana@example.com.",), ("example.com, ana",)),
    "a phrase": ('"my order"', ("about my order", "My, order"), ("order my", "my last order")),
    "two phrases": ('"my order" "no refund"', ("no refund for my order",), ("my order: refund, no",)),
    "a phrase and a word": ('cat "my order"', ("my order of a cat",), ("my cat order",)),
    "phrases that meet": ('"a b" "b c"', ("a b c",), ("a b d c",)),
    "curly quotes": ("“my order”", ("my order",), ("order my",)),
    "without a word": ("refund -order", ("a refund",), ("refund my order",)),
    "without a phrase": ('refund -"my order"', ("a refund for this order", "refund order my"), ("refund my order",)),
    "a minus within": ("twenty-one", ("twenty-one", "twenty one"), ("one twenty",)),
    "Chinese": ("東京", ("私は東京に行く", "東京"), ("京東", "東の京", "東 西 京")),
    "Japanese": ("カフェ", ("あのカフェで", "カフェ"), ("フェカ",)),
    "Japanese with a mark": ("が", ("これが", "これか\u3099"), ("これか",)),
    "Korean": ("한국", ("한국어를",), ("국한",)),
    "Thai": ("ไทย", ("ภาษาไทย",), ("ยทไ",)),
    "Hindi": ("हिन्दी", ("मुझे हिन्दी आती है",), ("हिन्दु",)),
    "Arabic": ("مرحبا", ("مرحبا، كيف الحال؟",), ("مرحب",)),
    "an emoji": ("🎉", ("done 🎉", "🎉🎉", "done🎉"), ("🎈",)),
    "emoji with a tone": ("👍", ("👍🏽", "👍"), ("👎🏽",)),
    "a flag": ("🇩🇪", ("from 🇩🇪",), ("from 🇪🇩", "🇫🇷")),
    "a keycap": ("4", ("4\ufe0f\u20e3",), ()),
    "emoji and a word": ("party 🎉", ("party 🎉", "🎉 party"), ("party",)),
    "code": ("foo()", ("call foo() now",), ("food",)),
    "a path": ("etc/passwd", ("cat /etc/passwd",), ("passwd of etc",)),
    "a very long word": ("x" * 100, ("x" * 100, "x" * WORD_LENGTH), ("x" * (WORD_LENGTH - 1),)),
}
"""What is searched for, what has to be found by it, and what must not be."""

ATTACKS: Final = (
    "*",
    '"',
    "'",
    "-",
    "--",
    "()",
    '""',
    '"" ""',
    "field:x OR 1=1",
    "content:secret",
    "/.*/",
    "secre*",
    "secre?",
    "secret~2",
    "secret^9",
    "sec* -zzz",
    "NEAR(secret x)",
    "secret AND NOT secret",
    "NOT secret",
    "+secret -secret",
    '"secret',
    "secret')); DROP TABLE turnkeep_messages; --",
    "secret' OR '1'='1",
    "secret' & 'x",
    "secret:* | x",
    "secret <-> !x",
    "\\secret",
    "secret\\",
    "{secret}",
    "[secret TO z]",
    '{"$where": "1"}',
    "%secret%",
    "_ecret",
    "@@ secret",
    ">secret",
    "<secret",
    "(secret",
    "secret)",
    "secret\x00x",
    "secret\ud800x",
    "secret\r\nx",
    "$1 secret",
    ":secret",
    "?",
    "secret " * 1428,
    "w" * 10_000,
)
"""What people type who want more than words, or hit a key too often."""


@proves(Capability.SEARCH)
class SearchSuite(Suite):
    """Where SEARCH is FULL or PARTIAL: `turnkeep.words.Terms` says what has to be found."""

    async def search_settle(self) -> None:
        """Waits until searches find what was committed, where they do not at once.

        Override it where something better can be done than to wait.
        """
        if self.level(Capability.SEARCH) is not Level.FULL:
            await self._waits_for_lists()

    @pytest.mark.parametrize("case", CASES)
    async def test_search_finds(self, case: str) -> None:
        """What a person means by words, phrases and `-word` is found, and nothing else.

        On failure: compare what the database makes of words with `turnkeep.words.split_words`; ask it for more than is
        wanted and let `Terms.match` decide, but never for less.
        """
        self._needs_search()
        asked, wanted, others = CASES[case]
        await self.create(*wanted, *others)
        await self.search_settle()
        assert sorted(await self._said(asked)) == sorted(wanted)

    @pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
    async def test_search_takes_no_syntax(self, attack: str) -> None:
        """Whatever was typed is words or nothing: no error of the database, and nothing that does not say them.

        On failure: text of a person's reached a query language; build the query from `Terms` alone.
        """
        self._needs_search()
        await self.create("the secret word", "field x or 1 1", "x secret", "nothing")
        await self.search_settle()
        try:
            terms = Terms.parse(attack)
        except InvalidArgument:
            return
        found = await self._said(terms)
        expected = [said for said in ("the secret word", "field x or 1 1", "x secret", "nothing") if terms.match(said)]
        assert sorted(found) == sorted(expected)

    async def test_search_gives_whole_messages(self) -> None:
        """A hit is the message as a load gives it, with its session and a score.

        On failure: the index holds a copy of its own; read the message itself.
        """
        self._needs_search()
        key, _ = await self.create("one", new_message("a Refund", role="assistant", name="ana", event='{"a":1}'))
        await self.search_settle()
        (hit,) = await self._hits("refund")
        assert (hit.session_id, hit.message) == (key.session_id, (await self.load(key)).messages[1])
        assert hit.score > 0

    async def test_search_ranks(self) -> None:
        """What says a word more often comes first, and scores fall along the page.

        On failure: hits are in the order of the index; ask for the rank.
        """
        self._needs_search()
        filling = "and a lot of other things that nobody asked for are said here as well " * 3
        await self.create(f"{filling} refund {filling}", "refund refund refund refund", f"{filling}")
        await self.search_settle()
        hits = await self._hits("refund")
        assert [hit.message.seq for hit in hits] == [2, 1]
        assert hits[0].score > hits[1].score

    async def test_search_pages_show_each_once(self) -> None:
        """Walking the pages shows every message that matches exactly once, best first, whatever the size of a page.

        On failure: page by (score, session id, seq), not by an offset; equal scores need the other two.
        """
        self._needs_search()
        expected: set[tuple[str, int]] = set()
        for number in range(5):
            key, _ = await self.create(*["a refund", "refund refund", "no such word", "a refund"], f"refund {number}")
            expected |= {(key.session_id, seq) for seq in (1, 2, 4, 5)}
        await self.search_settle()
        for limit in (1, 3, 7, 100):
            hits = await self._hits("refund", limit=limit)
            places = [(hit.session_id, hit.message.seq) for hit in hits]
            assert len(places) == len(set(places))
            assert set(places) == expected
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    async def test_search_keeps_conditions(self) -> None:
        """Session, role and time narrow a search, each alone and all together; `until` itself is not in.

        On failure: the time is the message's `created_at`, from `since` on and before `until`.
        """
        self._needs_search()
        times = [SOME_DAY + timedelta(microseconds=number) for number in range(3)]
        said = [new_message(f"refund {number}", created_at=time) for number, time in enumerate(times)]
        key, _ = await self.create(*said, new_message("refund", role="assistant", created_at=times[1]))
        await self.create("refund elsewhere")
        await self.search_settle()
        elsewhere = {"refund elsewhere"}
        for conditions, expected in (
            ({"session_id": key.session_id}, {"refund 0", "refund 1", "refund 2", "refund"}),
            ({"role": "assistant"}, {"refund"}),
            ({"role": "tool"}, set[str]()),
            ({"since": times[1]}, {"refund 1", "refund 2", "refund"}),
            ({"until": times[1]}, {"refund 0"} | elsewhere),
            ({"since": times[1], "until": times[2]}, {"refund 1", "refund"}),
            ({"session_id": key.session_id, "role": "user", "since": times[1], "until": times[2]}, {"refund 1"}),
            ({"session_id": "nobody"}, set[str]()),
        ):
            assert set(await self._said("refund", **conditions)) == expected, conditions

    @pytest.mark.parametrize(
        ("owner", "expected"),
        [
            (ANYONE, {"ana", "bob", "nobody"}),
            ("ana", {"ana"}),
            ("bob", {"bob"}),
            (None, {"nobody"}),
            ("eve", set[str]()),
        ],
        ids=["anyone", "ana", "bob", "nobody", "eve"],
    )
    async def test_search_stays_with_the_owner(self, owner: Owner, expected: set[str]) -> None:
        """Another owner's messages are never found, nor those of another namespace.

        On failure: the owner and the namespace belong into the search itself, checked against the session's head.
        """
        self._needs_search()
        for user_id in ("ana", "bob", None):
            await self.create(f"refund for {user_id or 'nobody'}", user_id=user_id)
        await self.create("refund abroad", key=new_key(Scope(f"{self.scope.namespace}-abroad")))
        await self.search_settle()
        found = await self._said("refund", scope=self.owned(owner))
        assert {said.removeprefix("refund for ") for said in found} == expected

    async def test_search_follows_a_claim(self) -> None:
        """A session that was claimed is found by its new owner, and no longer by who has none.

        On failure: the owner was copied to each message; ask the session, or change the copies.
        """
        self._needs_search()
        key, _ = await self.create("my refund")
        await self.append(SessionKey(self.owned(None), key.session_id), claim="ana")
        await self.search_settle()
        assert await self._said("refund", scope=self.owned("ana")) == ["my refund"]
        assert await self._said("refund", scope=self.owned(None)) == []

    async def test_search_never_finds_what_is_gone(self) -> None:
        """Deleted, cleared, expired, erased and aged messages are not found from that moment on.

        On failure: check each hit against its session's head, in the same statement where there is one.
        """
        self._needs_search()
        deleted, _ = await self.create("refund deleted")
        cleared, _ = await self.create("refund cleared")
        await self.create("refund expired", ttl=self.moment)
        aged, _ = await self.create("refund aged", message_ttl=self.moment)
        await self.create("refund erased", user_id="ana")
        reborn, _ = await self.create("refund of a former life")
        await self.create("refund kept")
        await self.search_settle()
        assert len(await self._said("refund")) == 7
        await self.adapter.delete(deleted)
        assert len(await self._said("refund")) == 6
        await self.append(cleared, "nothing", drop_history=True)
        assert len(await self._said("refund")) == 5
        await self.adapter.delete_owner(self.owned("ana"))
        assert len(await self._said("refund")) == 4
        await self.adapter.delete(reborn)
        await self.create("another life", key=reborn)
        assert len(await self._said("refund")) == 3
        await self.wait(self.moment)
        assert await self._said("refund") == ["refund kept"]
        await self.append(aged, "refund later")
        await self.search_settle()
        assert sorted(await self._said("refund")) == ["refund kept", "refund later"]

    async def test_search_never_finds_what_was_refused(self) -> None:
        """A commit that lost a race, and one that was sent twice, leave nothing more to find.

        On failure: words are written before the commit is judged, or once per attempt.
        """
        self._needs_search()
        key, first = await self.create("one")
        commit = new_commit(key, "a refund", expect=first.token)
        await self.adapter.commit(commit)
        assert (await self.adapter.commit(commit)).replayed
        with pytest.raises(SessionConflict):
            await self.adapter.commit(new_commit(key, "another refund", expect=first.token))
        await self.search_settle()
        assert await self._said("refund") == ["a refund"]

    async def test_search_reads_plain_texts_only(self) -> None:
        """What a filter sealed, and JSON of what is no text, is never looked into.

        On failure: leave contents alone whose encoding is not plain.
        """
        self._needs_search()
        sealed = new_message("refund")._replace(encoding="sealed")
        odd = new_message("refund \ud800")
        assert odd.encoding == "json"
        await self.create(sealed, odd, "a refund")
        await self.search_settle()
        assert await self._said("refund") == ["a refund"]

    async def test_search_reads_long_messages(self) -> None:
        """So many words of a message are searched as `words.MOST_WORDS` says, and it may be of any length.

        On failure: an index refuses or cuts long texts; give it so many words only.
        """
        self._needs_search()
        words = " ".join(f"word{number}" for number in range(MOST_WORDS - 1))
        await self.create(f"{words} last beyond {'x ' * 100_000}", "x" * 300_000, "last")
        await self.search_settle()
        assert {hit.message.seq for hit in await self._hits("last")} == {1, 3}
        assert [hit.message.seq for hit in await self._hits("word0 word4321")] == [1]
        assert await self._hits("beyond") == []

    async def test_search_sees_other_adapters_commits(self) -> None:
        """What one adapter committed, another finds, also after both were closed.

        On failure: an index is kept in memory.
        """
        self._needs_search()
        key, _ = await self.create("a refund")
        other = await self.another()
        await self.search_settle()
        terms = Terms.parse("refund")
        for adapter in (other, await self.another()):
            page = await adapter.search_messages(SearchQuery(self.scope, terms, 10))
            assert [hit.session_id for hit in page.items] == [key.session_id]

    @pytest.mark.parametrize(
        "cursor",
        [
            "",
            "x",
            make_cursor("activity", 1, "x"),
            make_cursor("search", "nan", "x", 1),
            make_cursor("search", "0", "x", -1),
        ],
        ids=range(5),
    )
    async def test_search_refuses_a_cursor_that_is_none(self, cursor: str) -> None:
        """A cursor that no search gave is `InvalidArgument`.

        On failure: read it with `turnkeep.cursors.read_rank`.
        """
        self._needs_search()
        await self.create("a refund")
        with pytest.raises(InvalidArgument):
            await self.adapter.search_messages(SearchQuery(self.scope, Terms.parse("refund"), 10, cursor=cursor))

    def _needs_search(self) -> None:
        support = self.adapter.supports(Capability.SEARCH)
        if support.level is Level.NONE:
            pytest.skip(f"SEARCH is NONE here: {support.reason}")

    async def _hits(
        self, asked: str | Terms, *, scope: Scope | None = None, limit: int = 100, **conditions: Any
    ) -> list[SearchHit]:
        """All pages of a search, walked to the end."""
        terms = Terms.parse(asked) if isinstance(asked, str) else asked
        found: list[SearchHit] = []
        cursor: str | None = None
        for _ in range(1000):
            query = SearchQuery(scope or self.scope, terms, limit, cursor=cursor, **conditions)
            page = await self.adapter.search_messages(query)
            assert len(page.items) <= limit, "a page has more items than its limit"
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise AssertionError("the search did not end within 1,000 pages")

    async def _said(self, asked: str | Terms, **conditions: Any) -> list[str]:
        """The contents of what is found."""
        return [hit.message.content for hit in await self._hits(asked, **conditions)]
