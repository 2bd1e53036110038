"""A small corpus of the tests' own and vectors for it."""

import numpy as np
from numpy.typing import NDArray

from backattn.corpus import Corpus, Sentence
from backattn.recipe import TaggerRecipe

NAMES = {"PER": ["Ada", "Bo Lund", "Cem", "Dana Eck Roth"], "LOC": ["Ulm", "Bad Aal", "Rom"]}
VERBS = ["sees", "meets", "leaves"]
WIDTH = 6

# Small and fast; the settings that matter to a test are given there.
TINY = TaggerRecipe(word_dimensions=8, character_dimensions=6, hidden=8, batch=4, epochs=4)


def make_sentences(count: int, seed: int) -> tuple[Sentence, ...]:
    """Sentences like ``Bo Lund sees Ulm in 1987``, some of them more than once."""
    generator = np.random.default_rng(seed)
    return tuple(_sentence(generator) for _ in range(count))


def _sentence(generator: np.random.Generator) -> Sentence:
    tokens: list[str] = []
    tags: list[str] = []
    for kind in ("PER", "LOC")[: generator.integers(1, 3)]:
        words = str(generator.choice(NAMES[kind])).split()
        inside = ["I"] * (len(words) - 2)
        prefixes = ["S"] if len(words) == 1 else ["B", *inside, "E"]
        tokens += [*words, str(generator.choice(VERBS))]
        tags += [*(f"{prefix}-{kind}" for prefix in prefixes), "O"]
    if generator.random() < 0.5:
        tokens += ["in", str(generator.integers(1900, 2000))]
        tags += ["O", "O"]
    return Sentence(tuple(tokens), tuple(tags))


def make_corpus(train: int = 24, dev: int = 10, test: int = 10) -> Corpus:
    return Corpus(make_sentences(train, 1), make_sentences(dev, 2), make_sentences(test, 3))


class DictVectors:
    """Transfer vectors or frozen features in memory: a direction for each tag, blurred."""

    def __init__(
        self, corpus: Corpus, identity: str = "store-1", *, width: int = WIDTH, seed: int = 5
    ) -> None:
        self.identity, self.width = identity, width
        generator = np.random.default_rng(seed)
        directions: dict[str, NDArray[np.float64]] = {}
        self.rows: dict[bytes, NDArray[np.float16]] = {}
        for _, sentences in corpus.splits():
            for sentence in sentences:
                clean = [directions.setdefault(t, generator.normal(size=width)) for t in sentence.tags]
                noise = generator.normal(size=(len(sentence), width))
                self.rows[sentence.key] = (np.stack(clean) + 0.1 * noise + 2).astype(np.float16)

    def vectors(self, key: bytes) -> NDArray[np.float16]:
        return self.rows[key]
