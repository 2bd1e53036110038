"""Translate source sentences into English tokens, with the attention A between the two.

A recipe's ``translator.kind`` chooses among :mod:`~backattn.translation.fairseq`,
:mod:`~backattn.translation.marian` (transformers), :mod:`~backattn.translation.dictionary` and
:mod:`~backattn.translation.identity` (copy). :mod:`~backattn.translation.attention_merging` merges subword
attention to tokens. :mod:`~backattn.training.translator.train` trains a fairseq model on parallel text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Translation:
    """One translated sentence: n English tokens and the attention over the source tokens.

    :param english: the n English tokens; empty when the translator wrote nothing.
    :param attention: token-level attention *with* the end-of-sentence row and column last, so that
        any EOS policy can be applied later without a new translation. Each column sums to 1
        (eq. 2). It is the mean over the layers (eq. 3), or the attention of the last one.
        *Shape:* (m + 1, n + 1), float32.
    :param segments: number of parts in which the source was translated; 1 unless it was over-long.
    :param limited: number of segments whose translation was stopped at its length limit; it may lack the end
        of the sentence, or repeat itself.
    :param unknown: number of source tokens that a dictionary does not have, and that were copied.
    """

    english: tuple[str, ...]
    attention: NDArray[np.float32]
    segments: int = 1
    limited: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        if self.attention.ndim != 2 or self.attention.shape[1] != len(self.english) + 1:
            raise ValueError(
                f"attention of shape {self.attention.shape} for {len(self.english)} English tokens "
                "and the end of the sentence"
            )


class Translator(Protocol):
    """Anything that translates batches into English and returns its attention."""

    @property
    def opened(self) -> str:
        """How the model's files were opened, in words; part of the provenance of its numbers."""

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate sentences of any length, in any number; results come in the given order.

        A result does not depend on the other sentences (beyond float rounding).
        """

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """Attention of the model over given translations (forced decoding).

        :param pairs: source tokens and English tokens, at least one each.
        :return: A of each pair, EOS last on both sides, as :attr:`Translation.attention`.
            *Shape of each:* (m + 1, n + 1), float32
        """
