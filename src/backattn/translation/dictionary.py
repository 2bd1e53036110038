"""Translation by a dictionary, word by word: what Back Attention needs where no translator is good enough.

"Cheap translation" (Mayhew, Tsai and Roth 2017, https://aclanthology.org/D17-1269), brought home through A.
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
# What has no compatibility form in ASCII, and an English tagger has learnt to lean on.
_PUNCTUATION = {"。": ".", "、": ",", "“": '"', "”": '"', "‘": "'", "’": "'"}


class DictionaryTranslator:
    """The longest headwords from the left, each said by its first gloss (a ``Translator``).

    What no headword covers is said as it is; letters and digits that stand together are one word.

    :param glosses: headword -> the English tokens for it, at least one.
    """

    opened = "plain text"

    def __init__(self, glosses: Mapping[str, tuple[str, ...]]) -> None:
        self._glosses = glosses
        self._longest = max(map(len, glosses), default=0)

    @classmethod
    def load(cls, path: str) -> "DictionaryTranslator":
        """Read a dictionary in the form of CC-CEDICT.

        Headwords count in both scripts, and of the entries of one the first that is no surname: the family
        Wang (王) is rarer than a king. Verbs lose their "to".

        :raises MissingError, CorpusError: the file is not there, or a line is no entry.
        """
        chosen: dict[str, Entry] = {}
        for entry in read_entries(DictionaryFile(path=path)):
            for headword in (entry.traditional, entry.simplified):
                if entry.gloss and (headword not in chosen or chosen[headword].surname):
                    chosen[headword] = entry
        said = {entry.gloss: _said(entry.gloss) for entry in chosen.values()}
        return cls({headword: said[entry.gloss] for headword, entry in chosen.items()})

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Each sentence, in the order of its own words; A spreads an English token over its headword."""
        return [self._translation(tokens) for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """:raises RecipeError: always; it cannot be made to write another sentence."""
        raise RecipeError('translator.kind: "dictionary" says its own glosses, so there is no A to measure')

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
        """Spans of tokens, from the left, and what each is in English."""
        start = 0
        while start < len(tokens):
            end = self._match(tokens, start) or _latin(tokens, start) or start + 1
            text = "".join(tokens[start:end])
            yield start, end, self._glosses.get(text) or (_as_it_is(text),)
            start = end

    def _match(self, tokens: Sequence[str], start: int) -> int:
        """Where the longest headword from ``start`` on ends; 0 where there is none."""
        text, found = "", 0
        for end in range(start + 1, len(tokens) + 1):
            text += tokens[end - 1]
            if len(text) > self._longest:
                break
            if text in self._glosses:
                found = end
        return found


def _said(gloss: str) -> tuple[str, ...]:
    text = gloss.removeprefix(_INFINITIVE)
    # Moses leaves plain words as they are; 100,000 glosses would take it seconds.
    plain = text.isascii() and text.replace(" ", "").isalpha()
    return tuple(text.split() if plain else split_words(text, "en"))


def _latin(tokens: Sequence[str], start: int) -> int:
    """Where the letters and digits of ASCII, each of them a token or not, end; 0 where there are none."""
    end = start
    while end < len(tokens) and _as_it_is(tokens[end]).isascii() and _as_it_is(tokens[end]).isalnum():
        end += 1
    return end if end > start else 0


def _as_it_is(text: str) -> str:
    """In the form that English text has (full width becomes half), still one token."""
    return "".join(unicodedata.normalize("NFKC", _PUNCTUATION.get(text, text)).split()) or text
