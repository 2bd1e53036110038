"""Source tokens -> frozen word features: fastText vectors, character language models, BERT-like models.

Each kind has a file and a store of its own, computed once for each sentence, as T is.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Anything that gives each token of a sentence a vector."""

    @property
    def opened(self) -> str:
        """How its file was opened, in words: for the provenance of its numbers."""

    @property
    def width(self) -> int:
        """Width of a vector."""

    def embed(self, sentences: Sequence[tuple[str, ...]]) -> list[NDArray[np.float32]]:
        """Vectors of sentences of m >= 1 tokens each, in the given order. *Shape:* (m, width) each

        A result does not depend on its neighbours (beyond float rounding).
        """
