"""Sources of the vectors that stage two reads but does not train: T, and frozen word features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from backattn.common.digests import sentence_key
from backattn.common.errors import StaleError

# What the CRF reads: the rows of Table 5.
Inputs = Literal["words", "words+transfer", "transfer", "random"]
Rows = NDArray[np.float16] | NDArray[np.float32]


class StoredFeatures(Protocol):
    """One store of stage one: the transfer vectors T (eq. 5) of a corpus, or frozen features of its words."""

    @property
    def width(self) -> int:
        """Width of a vector; d for T."""

    @property
    def identity(self) -> str:
        """Id of the store: it changes whenever the numbers do."""

    def vectors(self, key: bytes) -> Rows:
        """The vectors of the sentence of this key. *Shape:* (m, width)

        :raises KeyError: the store does not hold the sentence.
        """


class RowSource(Protocol):
    """Gives each token of a sentence a vector: stored ones, or random ones in their place."""

    @property
    def width(self) -> int:
        """Width of a vector; d for T."""

    def rows(self, tokens: tuple[str, ...]) -> Rows:
        """One row for each token. *Shape:* (m, width)"""


@dataclass(frozen=True)
class StoredRows:
    """Rows from a store, checked against the sentence."""

    features: StoredFeatures

    @property
    def width(self) -> int:
        """Width of a vector."""
        return self.features.width

    def rows(self, tokens: tuple[str, ...]) -> Rows:
        """The vectors of a sentence. *Shape:* (m, width)

        :raises StaleError: the store does not hold this sentence, or holds vectors of another shape.
        """
        remedy = "run `backattn features LANG` with this recipe, then train again"
        start = " ".join(tokens[:6])
        try:
            found = self.features.vectors(sentence_key(tokens))
        except KeyError:
            raise StaleError(
                f"store {self.features.identity}: no vectors for the sentence `{start} ...`; {remedy}"
            ) from None
        if found.shape != (len(tokens), self.width):
            raise StaleError(
                f"store {self.features.identity}: vectors of shape {found.shape} for the sentence "
                f"`{start} ...`, expected {(len(tokens), self.width)}; {remedy}"
            )
        return found


@dataclass(frozen=True)
class RandomRows:
    """Fixed random vectors in place of T (Table 5): the same for a sentence in every epoch and run.

    They are standard normal; the network's standardisation brings them and T to one scale.
    """

    width: int

    def rows(self, tokens: tuple[str, ...]) -> NDArray[np.float32]:
        """The random vectors of a sentence. *Shape:* (m, width)"""
        seed = int.from_bytes(sentence_key(tokens)[:16])
        generator = np.random.Generator(np.random.SFC64(seed))
        return generator.standard_normal((len(tokens), self.width), dtype=np.float32)


@dataclass(frozen=True)
class Sources:
    """All sources of vectors that the network reads but does not train.

    :param transfer: T, or random rows in its place; None for words alone.
    :param embeddings: frozen word features by name, in the order in which the BiLSTM reads them.
    """

    transfer: RowSource | None = None
    embeddings: Mapping[str, RowSource] = field(default_factory=dict)


def make_sources(
    inputs: Inputs,
    transfer: StoredFeatures | None,
    embeddings: Mapping[str, StoredFeatures],
    random_width: int,
) -> Sources:
    """Make the sources of the vectors for these inputs.

    :param random_width: width of random vectors.
    :raises ValueError: the inputs need transfer vectors and there are none.
    """
    frozen = {name: StoredRows(features) for name, features in embeddings.items()}
    if inputs == "words":
        return Sources(None, frozen)
    if inputs == "random":
        return Sources(RandomRows(random_width), frozen)
    if transfer is None:
        raise ValueError(f"inputs {inputs} need transfer vectors")
    return Sources(StoredRows(transfer), frozen)
