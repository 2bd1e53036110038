"""Copy the source instead of translating it, so that the English tagger reads the source itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backattn.common.errors import RecipeError
from backattn.translation import Translation


class CopyTranslator:
    """Returns the source as its translation, with the identity as A (a ``Translator``)."""

    opened = "no model"

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Copy each sentence."""
        return [Translation(tokens, np.eye(len(tokens) + 1, dtype=np.float32)) for tokens in sentences]

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """Refuse: a copy has no attention over a given translation.

        :raises RecipeError: always.
        """
        raise RecipeError(
            'translator.kind: "copy" has no attention over a given translation; align with another kind'
        )
