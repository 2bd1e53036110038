"""Split raw text into sentences and tokens, each with its exact place in the text.

Words are those of Moses (sacremoses), as the translators of stage one read them. Moses sometimes changes
text; its words are therefore looked up in the text again, so that ``text[start:end]`` is always the token.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from backattn.common.writing import base_language, writes_blanks
from backattn.recipe import Unit

if TYPE_CHECKING:
    from sacremoses import MosesTokenizer

# Characters between tokens: white space, control characters, and the zero-width space and byte order mark,
# which no reader can see.
_BLANK = re.compile("[\\s\0-\x1f\x7f-\x9f\u200b\ufeff]")
_WORD = re.compile("[^\\s\0-\x1f\x7f-\x9f\u200b\ufeff]+")
# Most characters of a word that Moses gets: real words are shorter, and the time of its patterns may grow
# with the square of the length.
_LONGEST_WORD = 1000
# A joiner holds an emoji together, or letters of Persian and Hindi.
_JOINERS = "\u200c\u200d"
# Vowels and final consonants, which follow the first consonant of a syllable in decomposed Korean.
_LATER_JAMO = range(0x1160, 0x1200)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_CLOSING = "\"'»”’)\\]}」』）"
# The end of a sentence: its mark and closing quotes, before white space. Chinese needs no space.
# The quantifiers are possessive, and a match begins only at the first mark of several: a page of dots would
# take long otherwise.
_SENTENCE_END = re.compile(
    f"(?<![.!?…؟۔।])[.!?…؟۔।]++[{_CLOSING}]*+(?=\\s)|(?<![。！？])[。！？]++[{_CLOSING}]*+"
)
_LINE = re.compile("[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_OPENING = "\"'«“„‘([{¿¡「『（-–—"


class RawToken(NamedTuple):
    """A token of a text: ``text[start:end] == token``."""

    token: str
    start: int
    end: int


def unit_of(language: str) -> Unit:
    """Return the unit of a language: characters if it is written without spaces, else words."""
    return "word" if writes_blanks(language) else "character"


def tokenise(text: str, language: str, unit: Unit | None = None) -> list[RawToken]:
    """Split text into tokens, in order; everything between them is blank.

    :param language: language code, for Moses; one that it does not know is split as English is.
    :param unit: words, or single characters as in the Weibo corpus; None: as :func:`unit_of` the language.
    :raises ModuleNotFoundError: sacremoses, which splits words, is not installed.
    """
    if (unit or unit_of(language)) == "character":
        return [RawToken(c, place, place + 1) for place, c in enumerate(text) if not _BLANK.match(c)]
    chunks = [(found[0], found.start()) for found in _WORD.finditer(text)]
    if not chunks:
        return []
    composed = [_Composed.of(chunk) for chunk, _ in chunks]
    words = _moses_words([one.text for one in composed], base_language(language))
    return [
        RawToken(word, start, start + len(word))
        for (_, place), one, own in zip(chunks, composed, words, strict=True)
        for word, start in _placed(one.as_written(own), place)
    ]


class _Composed(NamedTuple):
    """A chunk whose letters are composed with their marks (NFC), if that makes it shorter.

    Moses cuts words behind a mark that is a character of its own, as in file names of macOS.
    """

    chunk: str
    text: str
    letters: Sequence[tuple[str, str]] = ()  # as written, composed; empty where the text is the chunk

    @classmethod
    def of(cls, chunk: str) -> "_Composed":
        """Compose a chunk."""
        if unicodedata.is_normalized("NFC", chunk):
            return cls(chunk, chunk)
        letters = [(letter, unicodedata.normalize("NFC", letter)) for letter in _letters(chunk)]
        text = "".join(composed for _, composed in letters)
        return cls(chunk, text, letters) if len(text) < len(chunk) else cls(chunk, chunk)

    def as_written(self, words: Sequence[str]) -> Sequence[str]:
        """Convert words of the composed text to the characters of the chunk; no word ends inside a letter."""
        if not self.letters:
            return words
        ends = dict(  # of letters: place in the text -> place in the chunk
            zip(
                accumulate((len(composed) for _, composed in self.letters), initial=0),
                accumulate((len(written) for written, _ in self.letters), initial=0),
                strict=True,
            )
        )
        places = [ends[end] for end in accumulate(map(len, words), initial=0) if end in ends]
        return [self.chunk[start:end] for start, end in pairwise(places)]


def _letters(text: str) -> Iterator[str]:
    """Yield the characters of a text, each with the marks that follow it; a Korean syllable as a whole."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not (_is_mark(text[place]) or ord(text[place]) in _LATER_JAMO):
            yield text[start:place]
            start = place


def _placed(words: Sequence[str], place: int) -> Iterator[tuple[str, int]]:
    for word in words:
        yield word, place
        place += len(word)


def _moses_words(chunks: Sequence[str], language: str) -> list[list[str]]:
    """Split each chunk, the text between two blanks, into words.

    Moses gets the chunks together, since its treatment of a full stop depends on the next word. If its words
    do not add up to the text, it gets them one by one, and a chunk that it still changes stays whole.
    """
    moses = _tokeniser(language)
    if max(map(len, chunks)) <= _LONGEST_WORD:
        words: list[str] = moses.tokenize(" ".join(chunks), escape=False)
        if (divided := _divided(chunks, words)) is not None:
            return [_glued(own) for own in divided]
    found = []
    for chunk in chunks:
        own = moses.tokenize(chunk, escape=False) if len(chunk) <= _LONGEST_WORD else [chunk]
        found.append(_glued(own) if "".join(own) == chunk else [chunk])
    return found


def _divided(chunks: Sequence[str], words: Sequence[str]) -> list[list[str]] | None:
    """Group words by the chunk that they are part of; None if they do not add up to the chunks."""
    rest, divided = iter(words), []
    for chunk in chunks:
        own: list[str] = []
        place = 0
        while place < len(chunk):
            word = next(rest, "")
            if not word or not chunk.startswith(word, place):
                return None
            own.append(word)
            place += len(word)
        divided.append(own)
    return divided if next(rest, None) is None else None


def _glued(words: Sequence[str]) -> list[str]:
    """Join words that Moses has cut inside a letter with its marks, or inside an emoji."""
    glued: list[str] = []
    for word in words:
        if glued and (_continues(word[0]) or glued[-1][-1] in _JOINERS or _cut_at_mark(glued[-1], word)):
            glued[-1] += word
        else:
            glued.append(word)
    return glued


def _continues(character: str) -> bool:
    return character in _JOINERS or ord(character) in _SKIN_TONES or _is_mark(character)


def _cut_at_mark(before: str, word: str) -> bool:
    """Return whether two words are one that was cut behind a letter and its mark, in decomposed text."""
    letter = next((character for character in reversed(before) if not _is_mark(character)), "")
    return _is_mark(before[-1]) and letter.isalpha() and word[0].isalnum()


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def split_sentences(text: str, language: str) -> list[tuple[int, int]]:
    """Find the places (start, end) of the sentences of a text, without the blanks around them.

    The end of a line (LF, CR or CR LF) ends a sentence. So does ``.``, ``!`` or ``?`` before a blank and a
    word that does not begin with a small letter; except for the full stop of an abbreviation that Moses
    knows, or of an initial.
    """
    prefixes = _prefixes(base_language(language)) if unit_of(language) == "word" else frozenset()
    found, start = [], 0
    for end in _ends(text, prefixes):
        if tokens := _WORD.search(text, start, end):
            last = end
            while _BLANK.match(text[last - 1]):
                last -= 1
            found.append((tokens.start(), last))
        start = end
    return found


def _ends(text: str, prefixes: frozenset[str]) -> Iterator[int]:
    place = 0
    for line in _LINE.findall(text):
        for mark in _SENTENCE_END.finditer(line):
            if _ends_sentence(line, mark, prefixes):
                yield place + mark.end()
        place += len(line)
        yield place


def _ends_sentence(line: str, mark: re.Match[str], prefixes: frozenset[str]) -> bool:
    following = _WORD.search(line, mark.end())
    if following is None:
        return False  # the end of the line comes anyway
    if mark[0][0] in "。！？":
        return True
    first = following[0].lstrip(_OPENING)[:1]
    if first.islower():
        return False
    if mark[0] != ".":
        return True
    before = re.search(r"[^\s]*\Z", line[max(0, mark.start() - _LONGEST_WORD) : mark.start()])
    word = before[0].lstrip(_OPENING) if before else ""
    initial = len(word) == 1 and word.isupper()
    return not (initial or word in prefixes or ("." in word and word.replace(".", "").isalpha()))


@lru_cache
def _tokeniser(language: str) -> "MosesTokenizer":
    from sacremoses import MosesTokenizer  # a package of stage one: reading a corpus does not need it

    return MosesTokenizer(language)


@lru_cache
def _prefixes(language: str) -> frozenset[str]:
    return frozenset(_tokeniser(language).NONBREAKING_PREFIXES)
