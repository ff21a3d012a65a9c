from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeep.errors import InvalidArgument
from turnkeep.words import (
    DROPPED,
    EXCERPT_LENGTH,
    MOST_WANTED,
    MOST_WORDS,
    PARTING,
    SINGLE,
    WORD_LENGTH,
    Terms,
    fold,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  ...  ", []),
        ("A table, please", ["a", "table", "please"]),
        ("don't", ["don", "t"]),
        ("snake_case and kebab-case", ["snake", "case", "and", "kebab", "case"]),
        ("Café ÉCLAIR nai\u0308ve", ["cafe", "eclair", "naive"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδοσ"]),
        ("Straße STRASSE", ["straße", "strasse"]),
        ("İstanbul", ["istanbul"]),
        ("東京に行く", ["東", "京", "に", "行", "く"]),
        ("が か\u3099", ["が", "が"]),
        ("한국어", ["한", "국", "어"]),
        ("👍🏽👩\u200d💻", ["👍", "👩", "💻"]),
        ("½ ① ﬁ ｗｉｄｅ", ["1", "2", "1", "fi", "wide"]),
        ("a\x00b\ud800c", ["a", "b", "c"]),
    ],
)
def test_words_of_a_text(text, words):
    assert split_words(text) == words


def test_words_are_bounded():
    assert len(split_words("x " * 100_000)) == MOST_WORDS
    assert split_words("x" * 100) == ["x" * WORD_LENGTH]


@pytest.mark.parametrize("before", range(65_530, 65_538))
def test_words_of_a_long_text_are_never_cut(before):
    text = f"{'.' * before}e\u0301te\u0301 Ã\u0327 ΟΣ日本 end"
    assert split_words(text) == ["ete", "a", "οσ", "日", "本", "end"]


def test_only_the_beginning_of_a_long_text_is_folded(monkeypatch):
    folded = []
    monkeypatch.setattr("turnkeep.words.fold", lambda text: folded.append(len(text)) or text)
    split_words("word " * 1_000_000)
    assert sum(folded) < 100_000


@given(st.text(st.characters()))
def test_folding_twice_changes_nothing_more_and_words_stay_words(text):
    words = split_words(text)
    assert all(word and not re.search(r"\s", word) for word in words)
    assert [again for word in words for again in split_words(word)] == words


def test_the_classes_do_not_overlap():
    ranges = sorted((*DROPPED, *SINGLE, *PARTING))
    for (first, last), (following, _) in pairwise(ranges):
        assert first <= last < following, f"{first:#x} to {last:#x} meets {following:#x}"


def test_white_space_parts_words():
    spaces = [chr(code) for code in range(0x110000) if re.match(r"\s", chr(code))]
    assert [char for char in spaces if split_words(f"a{char}b") != ["a", "b"]] == []


def test_letters_and_digits_part_nothing():
    parting = [chr(code) for first, last in PARTING for code in range(first, last + 1)]
    assert [char for char in parting if (char.isalpha() or char.isdecimal()) and fold(char) == char] == []


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("refund", [("refund",)], []),
        ("Refund  ORDER", [("refund",), ("order",)], []),
        ('"my order" refund', [("my", "order"), ("refund",)], []),
        ('refund -order -"my cat"', [("refund",)], [("order",), ("my", "cat")]),
        ("e-mail", [("e", "mail")], []),
        ('a"b c"d', [("a",), ("b", "c"), ("d",)], []),
        ('"never closed', [("never",), ("closed",)], []),
        ("x x x", [("x",)], []),
        ("x - -", [("x",)], []),
        ("x --y", [("x",)], [("y",)]),
        ("“curly quotes”", [("curly", "quotes")], []),
        ("field:x OR 1=1", [("field", "x"), ("or",), ("1", "1")], []),
    ],
)
def test_terms(text, wanted, unwanted):
    assert Terms.parse(text) == Terms(tuple(wanted), tuple(unwanted))


@pytest.mark.parametrize("text", ["", "  ", "*", '"', "-refund", '-"a b"', "/.*/"])
def test_nothing_to_search_for_is_refused(text):
    with pytest.raises(InvalidArgument, match="name at least one"):
        Terms.parse(text)


def test_too_much_to_search_for_is_refused():
    Terms.parse("x " * MOST_WANTED)
    with pytest.raises(InvalidArgument, match=f"at most {MOST_WANTED} words"):
        Terms.parse("x " * (MOST_WANTED + 1))


def test_a_score_rises_with_what_is_found_and_falls_with_length():
    terms = Terms.parse("refund order")
    best, good, poor = (
        terms.score("refund order refund"),
        terms.score("refund order"),
        terms.score("refund order " + "x " * 50),
    )
    assert best > good > poor > 0
    assert Terms.parse('"a b"').score("a b a b") > Terms.parse('"a b"').score("a b a c")


@given(st.lists(st.sampled_from(["refund", "Order", "東京", "café", "e-mail", "x"]), max_size=12).map(" ".join))
def test_what_scores_is_what_matches_where_one_word_is_wanted(content):
    for word in ("refund", "東京", "cafe", "mail"):
        terms = Terms.parse(word)
        assert terms.match(content) == (terms.score(content) > 0)
        assert terms.match(content) == ("**" in terms.excerpt(content))


@pytest.mark.parametrize(
    ("asked", "content", "excerpt"),
    [
        ("refund", "I want a Refund.", "I want a **Refund**."),
        ('"my order"', "my order, my last order", "**my** **order**, my last order"),
        ("cafe", "un CAFÉ\n\nnoir", "un **CAFÉ** noir"),
        ("東京", "私は東京に行く", "私は**東京**に行く"),
        ("nothing", "", ""),
        ("other", "says something else", "says something else"),
    ],
)
def test_excerpts(asked, content, excerpt):
    assert Terms.parse(asked).excerpt(content) == excerpt


def test_an_excerpt_of_a_long_text_is_around_the_first_match():
    shown = Terms.parse("refund").excerpt("before " * 500 + "the refund comes " + "after " * 500)
    assert shown.startswith("…before")
    assert "the **refund** comes after" in shown
    assert shown.endswith("…")
    assert len(shown) < 2 * EXCERPT_LENGTH


def test_a_match_beyond_what_is_searched_is_not_marked():
    assert Terms.parse("last").excerpt("x " * MOST_WORDS + "last").startswith("x x x")
