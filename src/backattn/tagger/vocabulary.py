"""Vocabulary of words, characters and tags, fixed by the training sample."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backattn.corpus import Sentence
from backattn.corpus.normalisation import digits_to_zero, normalised_forms

UNKNOWN = 0
# Character 0 is padding and character 1 is every character that training has not seen.
PADDING_CHARACTER = 0
UNKNOWN_CHARACTER = 1
_FIRST_CHARACTER = 2


@dataclass(frozen=True)
class TaggerVocabulary:
    """Words, characters and tags of a tagger, by number.

    :param words: word forms; number i + 1 is ``words[i]``, 0 is every other word.
    :param characters: number i + 2 is ``characters[i]``.
    :param tags: ``O``, then B-, I-, E-, S- of every entity type, whether seen or not: with the full set
        a legal path exists for a sentence of any length.
    """

    words: tuple[str, ...]
    characters: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def n_words(self) -> int:
        """Number of words, the unknown word included."""
        return len(self.words) + 1

    @property
    def n_characters(self) -> int:
        """Number of characters, padding and the unknown character included."""
        return len(self.characters) + _FIRST_CHARACTER

    def word(self, token: str) -> int:
        """Return the number of a token, by the first of its normalised forms that is known."""
        return next((self._words[form] for form in normalised_forms(token) if form in self._words), UNKNOWN)

    def spell(self, token: str) -> list[int]:
        """Return the numbers of a token's characters."""
        return [self._characters.get(character, UNKNOWN_CHARACTER) for character in token]

    def tag(self, tag: str) -> int:
        """Return the number of a tag.

        :raises KeyError: no training sentence has its entity type.
        """
        return self._tags[tag]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence[str]]) -> "TaggerVocabulary":
        """The inverse of :meth:`to_json`."""
        return cls(tuple(value["words"]), tuple(value["characters"]), tuple(value["tags"]))

    @cached_property
    def _words(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, UNKNOWN + 1)}

    @cached_property
    def _characters(self) -> dict[str, int]:
        return {character: number for number, character in enumerate(self.characters, _FIRST_CHARACTER)}

    @cached_property
    def _tags(self) -> dict[str, int]:
        return {tag: number for number, tag in enumerate(self.tags)}


def build_vocabulary(sample: Sequence[Sentence]) -> TaggerVocabulary:
    """Build the vocabulary of a training sample; words keep their case, digits become 0."""
    tokens = [token for sentence in sample for token in sentence.tokens]
    types = sorted({tag[2:] for sentence in sample for tag in sentence.tags if tag != "O"})
    return TaggerVocabulary(
        words=tuple(sorted({digits_to_zero(token) for token in tokens})),
        characters=tuple(sorted({character for token in tokens for character in token})),
        tags=("O", *(f"{prefix}-{name}" for name in types for prefix in "BIES")),
    )


def singletons(vocabulary: TaggerVocabulary, sample: Sequence[Sentence]) -> NDArray[np.bool_]:
    """Mask the words that occur exactly once in the sample; training replaces some by the unknown word.

    :returns: *Shape:* (n_words,)
    """
    counts = Counter(vocabulary.word(token) for sentence in sample for token in sentence.tokens)
    once = np.zeros(vocabulary.n_words, dtype=np.bool_)
    once[[number for number, count in counts.items() if count == 1 and number != UNKNOWN]] = True
    return once
