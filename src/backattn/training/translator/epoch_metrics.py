"""Metrics of an epoch of translator training."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TranslatorEpoch:
    """Metrics of one epoch. Losses are in bits per target piece, end of sentence included.

    :param loss: training loss with label smoothing.
    :param perplexity, valid_perplexity: of the training and the held-out pieces, without smoothing.
    :param pieces_per_second: target pieces that were trained on per second, without validation.
    :param seconds: time of the epoch's training steps.
    :param precision: that the steps were computed in; of a resumed epoch, the last one.
    """

    epoch: int
    learning_rate: float
    updates: int
    pieces: int
    loss: float
    perplexity: float
    valid_perplexity: float
    pieces_per_second: float
    seconds: float
    precision: str


@dataclass
class EpochSums:
    """Running sums of an epoch, in bits and target pieces, with which a killed epoch resumes."""

    loss: float = 0.0
    nll: float = 0.0
    pieces: int = 0
    seconds: float = 0.0

    def add(self, output: dict[str, Any]) -> None:
        """Add what fairseq's criterion logged for one batch, in nats."""
        self.loss += float(output["loss"]) / math.log(2)
        self.nll += float(output["nll_loss"]) / math.log(2)
        self.pieces += int(output["ntokens"])

    @property
    def perplexity(self) -> float:
        """Perplexity of a target piece, without label smoothing."""
        return float(2.0 ** min(self.nll / max(self.pieces, 1), 100.0))
