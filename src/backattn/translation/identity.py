"""No translation: what Back Attention brings home when the English tagger reads the source as it is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import RecipeError
from backattn.translation import Translation


class CopyTranslator:
    """Says the source again, and A is the identity (a ``Translator``)."""

    opened = "no model"

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Each sentence as its own translation."""
        return [Translation(tokens, np.eye(len(tokens) + 1, dtype=np.float32)) for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """:raises RecipeError: always; it cannot be made to write another sentence."""
        raise RecipeError('translator.kind: "copy" says the source again, so there is no A to measure')
