"""Read English tokens with a pre-trained English NER tagger: its states R and its tags.

:mod:`~backattn.english.flair` runs a model. :mod:`~backattn.training.english.train` trains one on English
column files, :mod:`~backattn.training.english.convert` converts a flair file. A model is one safetensors
file, which :mod:`~backattn.models.flair_config` describes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class EnglishReading:
    """States and tags of one sentence of n English tokens.

    :param states: R, the BiLSTM outputs before the linear layer (eq. 4); or, in its place, the tag
        probabilities after it, or E, the embeddings before the BiLSTM (``transfer.states``). *Shape:* (n, d),
        float32.
    :param tags: the n tags that the tagger predicts, in BIOES.
    """

    states: NDArray[np.float32]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.states.ndim != 2 or len(self.states) != len(self.tags):
            raise ValueError(f"states of shape {self.states.shape} for {len(self.tags)} tags")


class EnglishTagger(Protocol):
    """Anything that reads English tokens and returns its recurrent states."""

    @property
    def opened(self) -> str:
        """How the model's file was opened, in words; part of the provenance of its numbers."""

    @property
    def width(self) -> int:
        """d, the width of a row of R, or of what stands in its place."""

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        """Read sentences of n >= 1 tokens each; results come in the given order."""
