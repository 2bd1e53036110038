"""Frozen word features of source tokens: fastText vectors, character language models, BERT-like models.

Each kind has a module and a store of its own; like T, features are computed once for each sentence.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Anything that embeds each token of a sentence."""

    @property
    def opened(self) -> str:
        """How the model's file was opened, in words; part of the provenance of its numbers."""

    @property
    def width(self) -> int:
        """Width of a vector."""

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Vectors of sentences of m >= 1 tokens each, in the given order. *Shape:* (m, width) each

        A result does not depend on the other sentences (beyond float rounding).
        """
