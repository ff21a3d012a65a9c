"""What a search looks for, and the words of a text, the same on every database.

Letters and digits that stand together are a word. Scripts that are written without spaces (Chinese, Japanese, Korean,
Thai, Lao, Khmer, Burmese, Tibetan) have no such runs: there each character is a word, and so is each emoji and symbol.
Everything else parts words. Case and accents do not count. No word is left out for being short or common.

The classes are ranges of code points and not properties of Unicode, so that SQL and other languages can say the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from unicodedata import normalize

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_WORDS: Final = 5000
"""A message is found by so many words from its beginning (about 30 KB of English)."""

_MOSTLY_ENOUGH: Final = 64 * 1024
"""Characters from the beginning of a text, in which there mostly are as many words as are taken."""

WORD_LENGTH: Final = 32
"""A word is told from another by so many characters; what follows does not count."""

MOST_WANTED: Final = 64
"""So many words a search may be made of."""

EXCERPT_LENGTH: Final = 160
"""About so many characters around the first match are shown."""

Ranges = tuple[tuple[int, int], ...]

DROPPED: Final[Ranges] = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
"""Accents, once they were taken apart from their letters."""

SINGLE: Final[Ranges] = (
    (0x0E01, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # Hangul
    (0x1780, 0x17FF),  # Khmer
    (0x25A0, 0x27BF),  # symbols
    (0x2B00, 0x2BFF),
    (0x2E80, 0x2FDF),  # Chinese, Japanese, Korean
    (0x3005, 0x3007),
    (0x3021, 0x302F),
    (0x3031, 0x303C),
    (0x3041, 0x309F),
    (0x30A1, 0x30FA),
    (0x30FC, 0xA4CF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0x16FE0, 0x1B16F),
    (0x1F000, 0x1F3FA),  # emoji; between these two the tones of skin, which are left out
    (0x1F400, 0x1FAFF),
    (0x20000, 0x3FFFF),
)
"""Each of these is a word by itself."""

PARTING: Final[Ranges] = (
    (0x0000, 0x002F),
    (0x003A, 0x0040),
    (0x005B, 0x0060),
    (0x007B, 0x00A9),
    (0x00AB, 0x00B4),
    (0x00B6, 0x00B9),
    (0x00BB, 0x00BF),
    (0x00D7, 0x00D7),
    (0x00F7, 0x00F7),
    (0x055A, 0x055F),  # Armenian, Hebrew, Arabic, Syriac, Devanagari, Ethiopic
    (0x0589, 0x058A),
    (0x05BE, 0x05BE),
    (0x05C0, 0x05C0),
    (0x05C3, 0x05C3),
    (0x05F3, 0x05F4),
    (0x060C, 0x060D),
    (0x061B, 0x061F),
    (0x066A, 0x066D),
    (0x06D4, 0x06D4),
    (0x0700, 0x070D),
    (0x0964, 0x0965),
    (0x0970, 0x0970),
    (0x1361, 0x1368),
    (0x1680, 0x1680),
    (0x2000, 0x206F),  # general punctuation, joiners and marks of direction among them
    (0x20A0, 0x20CF),  # currencies
    (0x2190, 0x259F),  # arrows, mathematics, boxes
    (0x27C0, 0x2AFF),
    (0x2E00, 0x2E2E),
    (0x2E30, 0x2E7F),
    (0x3000, 0x3004),
    (0x3008, 0x3020),
    (0x3030, 0x3030),
    (0x303D, 0x3040),
    (0x30A0, 0x30A0),
    (0x30FB, 0x30FB),
    (0xD800, 0xDFFF),
    (0xFD3E, 0xFD3F),
    (0xFE00, 0xFE1F),
    (0xFE30, 0xFE6F),
    (0xFFF0, 0xFFFF),
    (0x1F3FB, 0x1F3FF),
    (0xE0000, 0xE0FFF),
)
"""These stand between words."""


def _class(*ranges: Ranges) -> str:
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for each in ranges for first, last in each)


_DROPPED: Final = re.compile(f"[{_class(DROPPED)}]+")
_WORD: Final = re.compile(f"[{_class(SINGLE)}]|[^{_class(SINGLE, PARTING)}]+")
_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_CHUNK: Final = re.compile(r'(-?)(?:"([^"]*)"|([^\s"]+))')
_QUOTES: Final = str.maketrans("“”„‟", '""""')

Run = tuple[str, ...]
"""Words that stand next to each other, in this order."""


def fold(text: str) -> str:
    """The text in lower case, without accents, with one form for what can be written in several."""
    if text.isascii():
        return text.lower()
    bare = _DROPPED.sub("", normalize("NFKD", text)).lower().replace("\u03c2", "\u03c3")  # one sigma
    return normalize("NFC", bare)


def split_words(text: str) -> list[str]:
    """The words of a text in order, folded; at most ``MOST_WORDS``, each at most ``WORD_LENGTH`` long."""
    length = _MOSTLY_ENOUGH
    while True:  # what follows the word after the last is not looked at: folding megabytes would hold everybody up
        part = text[:length]
        words = (_ASCII_WORD if part.isascii() else _WORD).findall(fold(part))
        if len(words) > MOST_WORDS or length >= len(text):
            return [word[:WORD_LENGTH] for word in words[:MOST_WORDS]]
        length *= 8


@dataclass(frozen=True, slots=True)
class Terms:
    """What to search for: every wanted run has to occur, and no unwanted one.

    Attributes:
        wanted: at least one.
        unwanted: may be empty.
    """

    wanted: tuple[Run, ...]
    unwanted: tuple[Run, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what a person typed: words, ``"words in this order"``, and ``-`` before what must not occur.

        Nothing else means anything, and nothing is an error of syntax. What is written together and is several words
        (``e-mail``, ``東京``) has to stand together.

        Raises:
            InvalidArgument: nothing is wanted, or there are more than ``MOST_WANTED`` words.
        """
        wanted: list[Run] = []
        unwanted: list[Run] = []
        for minus, quoted, plain in _CHUNK.findall(text.translate(_QUOTES)):
            run = tuple(split_words(quoted or plain))
            if run:
                (unwanted if minus else wanted).append(run)
        if sum(map(len, wanted)) + sum(map(len, unwanted)) > MOST_WANTED:
            raise InvalidArgument(f"a search is made of at most {MOST_WANTED} words; leave some out")
        if not wanted:
            raise InvalidArgument(
                f"there is no word to search for in {text!r:.80}: name at least one; -word only leaves messages out"
            )
        return cls(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(unwanted)))

    def match(self, content: str) -> bool:
        """Whether a text has all that is wanted and nothing unwanted."""
        said = _spaced(split_words(content))
        return all(_spaced(run) in said for run in self.wanted) and not any(
            _spaced(run) in said for run in self.unwanted
        )

    def score(self, content: str) -> float:
        """How well a text matches, above 0: the more often and the shorter, the better."""
        words = split_words(content)
        # A word that ends one run begins the next: both count, so each space is doubled.
        said = _spaced(words).replace(" ", "  ")
        found = sum(said.count(_spaced(run).replace(" ", "  ")[1:-1]) for run in self.wanted)
        return found / (len(words) + 10)

    def excerpt(self, content: str) -> str:
        """The part of a text where it matches first, on one line, with what matches between ``**``.

        A text that is cut has ``…`` where it goes on.
        """
        words = list(_places(content))
        marked = _marked([word for word, _, _ in words], self.wanted)
        first = min(marked, default=0)
        begin = _beginning(words, first)
        pieces: list[str] = ["…"] if begin else []
        at = begin
        for index in range(first, len(words)):
            _, start, end = words[index]
            if end - begin > EXCERPT_LENGTH:
                break
            if index in marked:
                pieces += [content[at:start], "**", content[start:end], "**"]
                at = end
        stop = min(len(content), max(at, begin + EXCERPT_LENGTH))
        pieces += [content[at:stop], "…" if stop < len(content) else ""]
        return " ".join("".join(pieces).replace("****", "").split())


def _spaced(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


def _places(content: str) -> Iterator[tuple[str, int, int]]:
    """The words of a text with where they begin and end."""
    for number, found in enumerate(_WORD.finditer(content)):
        if number == MOST_WORDS:
            return
        yield fold(found[0])[:WORD_LENGTH], found.start(), found.end()


def _marked(words: list[str], runs: tuple[Run, ...]) -> set[int]:
    """The indexes of the words that are part of a run."""
    marked: set[int] = set()
    for run in runs:
        for index in range(len(words) - len(run) + 1):
            if words[index] == run[0] and tuple(words[index : index + len(run)]) == run:
                marked.update(range(index, index + len(run)))
    return marked


def _beginning(words: list[tuple[str, int, int]], first: int) -> int:
    """Where an excerpt begins: a few words before the first match, or at the beginning of the text."""
    if not words or words[first][2] <= EXCERPT_LENGTH:
        return 0
    begin = words[first][1]
    while first and words[first][1] > begin - EXCERPT_LENGTH // 3:
        first -= 1
    return words[first][1]
