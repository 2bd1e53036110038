"""English tokens -> the states R of a pre-trained English NER tagger.

:mod:`~backattn.english.flair` runs a model,
:mod:`~backattn.training.english.train` makes such a model from English column files,
:mod:`~backattn.training.english.convert` from a flair file. A model is one safetensors file:
:mod:`~backattn.models.flair_config` says what it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class EnglishReading:
    """What the English tagger made of one sentence of n tokens.

    :param states: R, the BiLSTM outputs before the linear layer (eq. 4), or the probabilities of the tags
        that this layer makes of them, as ``transfer.states`` says. *Shape:* (n, d), float32.
    :param tags: the n tags that the tagger predicts, in BIOES.
    """

    states: NDArray[np.float32]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.states.ndim != 2 or len(self.states) != len(self.tags):
            raise ValueError(f"states of shape {self.states.shape} for {len(self.tags)} tags")


class EnglishTagger(Protocol):
    """Anything that reads English tokens and shows its recurrent states."""

    @property
    def opened(self) -> str:
        """How its file was opened, in words: for the provenance of its numbers."""

    @property
    def width(self) -> int:
        """d, the width of a row of R."""

    def read(self, sentences: Sequence[tuple[str, ...]]) -> list[EnglishReading]:
        """Read sentences of n >= 1 tokens each; results come in the given order."""
