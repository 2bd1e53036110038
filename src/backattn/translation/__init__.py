"""Source sentence -> English tokens and the attention A between the two.

:mod:`~backattn.translation.fairseq` runs a model,
:mod:`~backattn.translation.attention_merging` brings its subword attention to tokens,
:mod:`~backattn.training.translator.train` makes such a model from parallel text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Translation:
    """One translated sentence: n English tokens and the attention over the source tokens.

    :param english: the n English tokens; empty when the translator gave nothing.
    :param attention: token-level attention *with* the end-of-sentence row and column last, so that
        every EOS policy can be applied later without a new translation. Each column sums to 1
        (eq. 2); layers are averaged (eq. 3), or it is the last one's. *Shape:* (m + 1, n + 1), float32.
    :param segments: in how many parts the source was translated; 1 unless it was over-long.
    :param limited: how many of these translations went on to their length limit, where the translator
        made them end; they may lack the end of the sentence, or run in circles.
    """

    english: tuple[str, ...]
    attention: NDArray[np.float32]
    segments: int = 1
    limited: int = 0

    def __post_init__(self) -> None:
        if self.attention.ndim != 2 or self.attention.shape[1] != len(self.english) + 1:
            raise ValueError(
                f"attention of shape {self.attention.shape} for {len(self.english)} English tokens "
                "and the end of the sentence"
            )


class Translator(Protocol):
    """Anything that translates batches into English and says where it looked.

    ``opened`` says, for the provenance of its numbers, how its files were opened.
    """

    @property
    def opened(self) -> str:
        """How its files were opened, in words."""

    def translate(self, sentences: Sequence[tuple[str, ...]]) -> list[Translation]:
        """Translate sentences of any length, in any number; results come in the given order.

        The implementation sorts by length and cuts batches counted in tokens; a result does not
        depend on its neighbours (beyond float rounding).
        """

    def align(self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[NDArray[np.float32]]:
        """Where the model looks when it must write a given translation (forced decoding).

        :param pairs: source tokens and English tokens, at least one each.
        :return: A of each pair, EOS last on both sides, as :attr:`Translation.attention`.
            *Shape of each:* (m + 1, n + 1), float32
        """
