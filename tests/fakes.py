"""Two models of ten lines each: the whole chain of stage one in milliseconds, counting what it costs."""

from collections.abc import Sequence

import numpy as np

from backattn.corpus import Corpus, Sentence
from backattn.english import EnglishReading
from backattn.recipe import Recipe, from_json
from backattn.translation import Translation


class FakeTranslator:
    """Says every second word backwards; the word "nothing" alone has no translation."""

    opened = "made up"

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[tuple[str, ...]] = []
        self._stop_after = stop_after

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        if self._stop_after is not None and len(self.seen) >= self._stop_after:
            raise KeyboardInterrupt
        self.seen += sentences
        return [self._one(tokens) for tokens in sentences]

    def _one(self, tokens: tuple[str, ...]) -> Translation:
        english = () if tokens == ("nothing",) else tuple(token[::-1] for token in tokens[::2])
        rng = np.random.default_rng(len(" ".join(tokens)))
        attention = rng.random((len(tokens) + 1, len(english) + 1), dtype=np.float32)
        long = len(tokens)
        return Translation(
            english, attention / attention.sum(0), segments=1 + (long > 8), limited=int(long > 5)
        )


class FakeEnglishTagger:
    """A word's state is made of its letters."""

    opened = "made up"
    width = 5

    def __init__(self, scale: float = 1.0) -> None:
        self.seen: list[tuple[str, ...]] = []
        self._scale = scale

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        self.seen += sentences
        return [EnglishReading(self._states(tokens), ("O",) * len(tokens)) for tokens in sentences]

    def _states(self, tokens: tuple[str, ...]) -> np.ndarray:
        letters = [[ord(c) % 7 for c in (token * 5)[:5]] for token in tokens]
        return np.array(letters, dtype=np.float32) * np.float32(self._scale)


def make_sentence(text: str, tag: str = "O") -> Sentence:
    tokens = tuple(text.split())
    return Sentence(tokens, (tag,) * len(tokens))


def make_corpus(
    train: Sequence[str], dev: Sequence[str] = ("a b",), test: Sequence[str] = ("c d",)
) -> Corpus:
    train_, dev_, test_ = (tuple(map(make_sentence, texts)) for texts in (train, dev, test))
    return Corpus(train_, dev_, test_)


def make_recipe(**sections: object) -> Recipe:
    """A recipe with the least that is needed; ``sections`` replaces tables."""
    tables: dict[str, object] = {
        "name": "toy",
        "corpus": {"train": "a", "dev": "b", "test": "c", "source": "made here"},
        "translator": {"kind": "fairseq", "checkpoint": "toy/translator", "source": "de"},
        "english": {"checkpoint": "toy/english/tagger.pt"},
    }
    return from_json({**tables, **sections}, "toy")
