"""``forward.safetensors``, ``backward.safetensors``: one direction of a character language model. No flair.

The format is that of the English tagger's file, whose flair embeddings are the same thing.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backattn.models.flair_config import FORMAT, CharacterModel, Shape
from backattn.models.safetensors_model import FileKind

DIRECTIONS = ("forward", "backward")
# Of the names of all tensors, as in flair's embeddings.
PREFIX = "lm."


@dataclass(frozen=True, kw_only=True)
class CharacterModelFile:
    """One direction of a character language model, but for its tensors."""

    format: int = FORMAT
    model: CharacterModel

    def __post_init__(self) -> None:
        # Without it the state of a first token may stand before any character.
        if not self.model.document_delimiter:
            raise ValueError("model.document_delimiter: expected what a sentence begins with")

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names and shapes of all tensors, as flair names them."""
        return self.model.shapes()


CHARACTER_MODEL = FileKind(
    CharacterModelFile, "charlm", "character language model", "with `backattn charlm train`"
)


class Alphabet:
    """Characters -> their numbers in a model's vocabulary; flair reads every other one as number 0.

    :param items: what stands at each number; an item of several characters (``<unk>``) is never read.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self._numbers = np.zeros(sys.maxunicode + 1, np.int32)
        for number, item in enumerate(items):
            if len(item) == 1:
                self._numbers[ord(item)] = number

    def read(self, text: str) -> NDArray[np.int64]:
        """The number of each character. *Shape:* (characters,)"""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        numbers: NDArray[np.int64] = self._numbers[codes].astype(np.int64)
        return numbers
