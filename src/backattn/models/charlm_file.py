"""The file format of one direction of a character language model (``forward.safetensors``, ``backward.…``).

The English tagger's file has the same format for its flair embeddings. This module does not import flair.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backattn.models.flair_config import FORMAT, CharacterModel, Shape
from backattn.models.safetensors_model import FileKind

DIRECTIONS = ("forward", "backward")
# Prefix of the names of all tensors, as in flair's embeddings.
PREFIX = "lm."


@dataclass(frozen=True, kw_only=True)
class CharacterModelFile:
    """The configuration of one direction of a character language model."""

    format: int = FORMAT
    model: CharacterModel

    def __post_init__(self) -> None:
        # Without a delimiter, the state of a first token can be before the first character.
        if not self.model.document_delimiter:
            raise ValueError("model.document_delimiter: expected at least one character")

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Names (flair's) and shapes of all tensors."""
        return self.model.shapes()


CHARACTER_MODEL = FileKind(
    CharacterModelFile, "charlm", "character language model", "with `backattn charlm train`"
)


class Alphabet:
    """Maps characters to their indices in a model's vocabulary; as in flair, all others have index 0.

    :param items: the vocabulary; an item of several characters (``<unk>``) never occurs in a text.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self._numbers = np.zeros(sys.maxunicode + 1, np.int32)
        for number, item in enumerate(items):
            if len(item) == 1:
                self._numbers[ord(item)] = number

    def read(self, text: str) -> NDArray[np.int64]:
        """The index of each character. *Shape:* (characters,)"""
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        numbers: NDArray[np.int64] = self._numbers[codes].astype(np.int64)
        return numbers
