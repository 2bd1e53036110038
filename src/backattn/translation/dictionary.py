"""Translate word by word with a bilingual dictionary, for languages without a good enough translator.

This is the "cheap translation" of Mayhew, Tsai and Roth (2017, https://aclanthology.org/D17-1269), with A
from the headwords that were found.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import RecipeError
from backattn.models.cedict import Entry, read_entries
from backattn.recipe import DictionaryFile
from backattn.translation import Translation
from backattn.translation.tokenisation import split_words

_INFINITIVE = "to "
# Punctuation that Unicode's compatibility forms leave as it is, but an English tagger knows in ASCII only.
_PUNCTUATION = {"。": ".", "、": ",", "“": '"', "”": '"', "‘": "'", "’": "'"}


class DictionaryTranslator:
    """Replaces the longest headwords from left to right by their first gloss (a ``Translator``).

    A token in no headword is copied; adjacent ASCII letters and digits are one word.

    :param glosses: headword -> the English tokens for it, at least one.
    """

    opened = "plain text"

    def __init__(self, glosses: Mapping[str, tuple[str, ...]]) -> None:
        self._glosses = glosses
        self._longest = max(map(len, glosses), default=0)

    @classmethod
    def load(cls, path: str) -> "DictionaryTranslator":
        """Read a dictionary in the form of CC-CEDICT.

        A headword is entered in both scripts. Of its entries the first that is no surname is taken: the
        family Wang (王) is rarer than a king. The "to" of verbs is dropped.

        :raises MissingError, CorpusError: the file is not there, or a line is no entry.
        """
        chosen: dict[str, Entry] = {}
        for entry in read_entries(DictionaryFile(path=path)):
            for headword in (entry.traditional, entry.simplified):
                if entry.gloss and (headword not in chosen or chosen[headword].surname):
                    chosen[headword] = entry
        words = {entry.gloss: _gloss_words(entry.gloss) for entry in chosen.values()}
        return cls({headword: words[entry.gloss] for headword, entry in chosen.items()})

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate in source order; A divides each English token evenly over its headword's tokens."""
        return [self._translation(tokens) for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """:raises RecipeError: always; a dictionary has no attention over a given translation."""
        raise RecipeError(
            'translator.kind: "dictionary" has no attention over a given translation; align with another kind'
        )

    def _translation(self, tokens: tuple[str, ...]) -> Translation:
        english: list[str] = []
        spans = list(self._words(tokens))
        attention = np.zeros((len(tokens) + 1, sum(len(words) for *_, words in spans) + 1), np.float32)
        for start, end, words in spans:
            attention[start:end, len(english) : len(english) + len(words)] = 1 / (end - start)
            english += words
        attention[-1, -1] = 1
        return Translation(tuple(english), attention)

    def _words(self, tokens: Sequence[str]) -> Iterator[tuple[int, int, Sequence[str]]]:
        """Spans of source tokens from left to right: start, end, English words."""
        start = 0
        while start < len(tokens):
            end = self._match(tokens, start) or _ascii_word_end(tokens, start) or start + 1
            text = "".join(tokens[start:end])
            yield start, end, self._glosses.get(text) or (_to_ascii(text),)
            start = end

    def _match(self, tokens: Sequence[str], start: int) -> int:
        """End of the longest headword that begins at ``start``; 0 if there is none."""
        text, found = "", 0
        for end in range(start + 1, len(tokens) + 1):
            text += tokens[end - 1]
            if len(text) > self._longest:
                break
            if text in self._glosses:
                found = end
        return found


def _gloss_words(gloss: str) -> tuple[str, ...]:
    text = gloss.removeprefix(_INFINITIVE)
    # Moses does not change plain words, and would take seconds for 100,000 glosses.
    plain = text.isascii() and text.replace(" ", "").isalpha()
    return tuple(text.split() if plain else split_words(text, "en"))


def _ascii_word_end(tokens: Sequence[str], start: int) -> int:
    """End of the ASCII letters and digits from ``start`` on, in one or many tokens; 0 if there are none."""
    end = start
    while end < len(tokens) and _to_ascii(tokens[end]).isascii() and _to_ascii(tokens[end]).isalnum():
        end += 1
    return end if end > start else 0


def _to_ascii(text: str) -> str:
    """Text with full-width characters and punctuation as English has them, still one token."""
    return "".join(unicodedata.normalize("NFKC", _PUNCTUATION.get(text, text)).split()) or text
