"""Translate word by word with a bilingual dictionary, for languages without a good enough translator.

This is the "cheap translation" of Mayhew, Tsai and Roth (2017, https://aclanthology.org/D17-1269), with A
from the headwords that were found.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import RecipeError
from backattn.common.writing import blank_between, is_spaced, writes_blanks
from backattn.models.cedict import Entry, read_entries
from backattn.recipe import DictionaryFile, DictionaryRecipe
from backattn.translation import Translation
from backattn.translation.tokenisation import split_words

_INFINITIVE = "to "
# Punctuation that Unicode's compatibility forms leave as it is, but an English tagger knows in ASCII only.
_PUNCTUATION = {"。": ".", "、": ",", "“": '"', "”": '"', "‘": "'", "’": "'"}


class DictionaryTranslator:
    """Replaces the longest headwords from left to right by their first gloss (a ``Translator``).

    A headword stands for whole words: it is looked up as it is spelled, then in lower case, with a blank
    between the words of languages that have blanks (``New York``), then without one of ``endings``. What is
    in no headword is copied, and counted. In Chinese a token may be one character: adjacent letters and
    digits (``i P 8``) are one word.

    :param glosses: headword -> the English tokens for it, at least one.
    :param source: language code of the source side.
    :param endings: removed from the end of what is no headword; the first that leaves a headword counts.
    """

    opened = "plain text"

    def __init__(
        self, glosses: Mapping[str, tuple[str, ...]], source: str, endings: Sequence[str] = ()
    ) -> None:
        self._glosses = glosses
        self._endings = endings
        self._longest = max(map(len, glosses), default=0) + max(map(len, endings), default=0)
        self._spaced = writes_blanks(source)

    @classmethod
    def load(cls, recipe: DictionaryRecipe) -> "DictionaryTranslator":
        """Read the dictionary of a recipe, in the form of CC-CEDICT or of two columns.

        A headword is entered in both scripts. Of its entries the first that is no surname is taken: the
        family Wang (王) is rarer than a king. The "to" of verbs is dropped.

        :raises MissingError, CorpusError: the file is not there, or a line is no entry.
        """
        chosen: dict[str, Entry] = {}
        for entry in read_entries(DictionaryFile(path=recipe.dictionary)):
            for headword in (entry.traditional, entry.simplified):
                if entry.gloss and (headword not in chosen or chosen[headword].surname):
                    chosen[headword] = entry
        words = {entry.gloss: _gloss_words(entry.gloss) for entry in chosen.values()}
        glosses = {headword: words[entry.gloss] for headword, entry in chosen.items()}
        return cls(glosses, recipe.source, recipe.endings)

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate in source order; A divides each English token evenly over its headword's tokens."""
        return [self._translation(tokens) for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """Refuse: a dictionary has no attention over a given translation.

        :raises RecipeError: always.
        """
        raise RecipeError(
            'translator.kind: "dictionary" has no attention over a given translation; align with another kind'
        )

    def _translation(self, tokens: tuple[str, ...]) -> Translation:
        english: list[str] = []
        spans = list(self._spans(tokens))
        attention = np.zeros((len(tokens) + 1, sum(len(words) for *_, words, _ in spans) + 1), np.float32)
        unknown = 0
        for start, end, words, known in spans:
            attention[start:end, len(english) : len(english) + len(words)] = 1 / (end - start)
            english += words
            unknown += 0 if known else end - start
        attention[-1, -1] = 1
        return Translation(tuple(english), attention, unknown=unknown)

    def _spans(self, tokens: Sequence[str]) -> Iterator[tuple[int, int, Sequence[str], bool]]:
        """Iterate over spans of source tokens: start, end, English words, whether it is a headword."""
        borders = [0, *accumulate(map(len, self._words(tokens)))]
        words = ["".join(tokens[start:end]) for start, end in pairwise(borders)]
        place = 0
        while place < len(words):
            end, found = self._match(words, place) or (place + 1, None)
            yield borders[place], borders[end], found or (_to_ascii(words[place]),), found is not None
            place = end

    def _words(self, tokens: Sequence[str]) -> Iterator[Sequence[str]]:
        """The tokens of each word: one, or the single letters and digits of a corpus of characters."""
        start = 0
        while start < len(tokens):
            end = start + 1
            if not self._spaced and _is_letter(tokens[start]):
                while end < len(tokens) and _is_letter(tokens[end]):
                    end += 1
            yield tokens[start:end]
            start = end

    def _match(self, words: Sequence[str], start: int) -> tuple[int, tuple[str, ...]] | None:
        """Find the longest headword that begins with the word at ``start``: its end, its English tokens."""
        text, found = "", None
        for end, word in enumerate(words[start:], start + 1):
            text += " " + word if text and (self._spaced or blank_between(words[end - 2], word)) else word
            if len(text) > self._longest:
                break
            if gloss := self._gloss(text):
                found = end, gloss
        return found

    def _gloss(self, text: str) -> tuple[str, ...] | None:
        ends = (ending for ending in self._endings if text.lower().endswith(ending.lower()))
        stems = (text[: -len(ending)] for ending in ends)
        forms = (form for whole in (text, *stems) for form in (whole, whole.lower()))
        return next((self._glosses[form] for form in forms if form in self._glosses), None)


def _gloss_words(gloss: str) -> tuple[str, ...]:
    text = gloss.removeprefix(_INFINITIVE)
    # Moses does not change plain words, and would take seconds for 100,000 glosses.
    plain = text.isascii() and text.replace(" ", "").isalpha()
    return tuple(text.split() if plain else split_words(text, "en"))


def _is_letter(token: str) -> bool:
    """Whether a token is one letter or digit of a script that has blanks, of full width or not."""
    return len(token) == 1 and all(map(is_spaced, _to_ascii(token)))


def _to_ascii(text: str) -> str:
    """Replace full-width characters and punctuation by their ASCII forms; the text stays one token."""
    return "".join(unicodedata.normalize("NFKC", _PUNCTUATION.get(text, text)).split()) or text
